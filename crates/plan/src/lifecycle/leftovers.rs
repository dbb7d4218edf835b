//! Files that may be left by calls without an answer.
//!
//! A call that got no answer may take effect minutes later: on a hung storage pool, or on a host that was frozen. Until
//! then its file name is not free. What is made anew gets another name, and a name that such a call may still make a
//! file of is remembered for a day after its volume is gone: a file that is seen under it is deleted.

use ashlar_api::*;
use jiff::SignedDuration;

use super::facts::is_seen_absent;
use crate::draft::{Draft, Unit};
use crate::{HostSeen, Ids, fence, names};

/// How long a leftover is remembered after it was recorded: no call is under way for so long.
pub(crate) const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// Gives volumes whose file was found half made another file.
pub(super) fn rename_half_made(draft: &mut Draft<'_>, ids: &mut dyn Ids) {
    let half_made: Vec<Volume> = draft
        .snapshot
        .volumes
        .values()
        .filter(|volume| volume.record.half_made && !volume.metadata.is_deleting())
        .cloned()
        .collect();
    for mut volume in half_made {
        let mut unit = Unit::default();
        let left = leftover(draft, &volume, ids.uuid(&format!("leftover/{}", volume.spec.file_name)));
        let id = ids.uuid(&format!("volume/{}/{}/again", volume.key(), volume.spec.file_name));
        volume.spec.file_name = names::another_file(&volume.spec.file_name, id);
        let VolumeRecord { unused_since, wipe, .. } = volume.record;
        volume.record = VolumeRecord { unused_since, wipe, ..VolumeRecord::default() };
        unit.create(left.clone());
        draft.volumes.insert(left.key(), left);
        unit.update(volume.clone());
        draft.volumes.insert(volume.key(), volume);
        draft.commit(unit);
    }
}

/// Takes a volume out of the store. What a call may still make of it is remembered.
pub(super) fn remove(draft: &mut Draft<'_>, unit: &mut Unit, volume: &Volume) {
    unit.remove(volume.object_ref(), &volume.metadata.resource_version);
    draft.volumes.remove(&volume.key());
    if volume.record.unanswered
        && let Some(uid) = volume.metadata.uid
    {
        // The same file, and for who looks the same thing: it keeps the identity of what it was.
        let left = leftover(draft, volume, uid);
        unit.create(left.clone());
        draft.volumes.insert(left.key(), left);
    }
}

/// What a call may still define of a machine that leaves the store is remembered by its host; and by hosts that are off what
/// somebody migrated there.
pub(super) fn remember_domain(draft: &mut Draft<'_>, unit: &mut Unit, machine: &Machine) {
    if machine.record.define_unanswered {
        remember(draft, unit, &machine.spec.host, machine, false);
    }
    let is_off = |host: &&String| fence::proof(draft.snapshot, host).is_some();
    let off: Vec<&String> = machine.record.seen_elsewhere.iter().filter(is_off).collect();
    for host in off {
        remember_moved(draft, unit, host, machine);
    }
}

/// What a host may have of a machine that moved on from there, or did not come there after all, is removed when it is seen.
pub(super) fn remember_moved(draft: &mut Draft<'_>, unit: &mut Unit, host: &str, machine: &Machine) {
    remember(draft, unit, host, machine, true);
}

fn remember(draft: &mut Draft<'_>, unit: &mut Unit, host: &str, machine: &Machine, by_move: bool) {
    let (Some(host), Some(machine_uid)) = (draft.hosts.get(&host.to_owned()), machine.metadata.uid) else {
        return;
    };
    let mut host = host.clone();
    host.record.left_domains.push(LeftDomain {
        name: machine.spec.domain.name.clone(),
        uuid: machine.spec.domain.uuid,
        machine_uid,
        since: draft.snapshot.now,
        by_move,
    });
    unit.update(host.clone());
    draft.hosts.insert(host.metadata.name.clone(), host);
}

/// Forgets domains that no call can define any more.
pub(super) fn forget_domains(draft: &mut Draft<'_>) {
    let now = draft.snapshot.now;
    let is_over = |host: &str, left: &LeftDomain| {
        let is_old = now.duration_since(left.since) >= REMEMBERED;
        let seen = draft.snapshot.observed.hosts.get(host);
        is_old && matches!(seen, Some(HostSeen::Seen(world)) if !world.domains.contains_key(&left.uuid))
    };
    let mut changed = Vec::new();
    for (name, host) in draft.snapshot.hosts.iter() {
        if host.record.left_domains.iter().any(|left| is_over(name, left)) {
            let mut host = draft.hosts.get(name).unwrap_or(host).clone();
            host.record.left_domains.retain(|left| !is_over(name, left));
            changed.push(host);
        }
    }
    put_hosts(draft, changed);
}

/// Hosts whose records changed, each in a commit of its own.
pub(super) fn put_hosts(draft: &mut Draft<'_>, changed: Vec<Host>) {
    for host in changed {
        let mut unit = Unit::default();
        unit.update(host.clone());
        draft.hosts.insert(host.metadata.name.clone(), host);
        draft.commit(unit);
    }
}

fn leftover(draft: &Draft<'_>, volume: &Volume, uid: uuid::Uuid) -> Volume {
    let key = names::leftover(&volume.spec.file_name);
    let spec = VolumeSpec {
        // It is given no room: what is not there takes none, and what is seen goes.
        capacity: Mebibytes(0),
        content: VolumeContent::Leftover { of: volume.key().to_string() },
        reclaim: ReclaimPolicy::Delete,
        ..volume.spec.clone()
    };
    let mut left = Volume::new(&key.name, spec);
    left.metadata = crate::draft::new_metadata(&key, uid, draft.snapshot.now, None);
    left.metadata.deletion_timestamp = Some(draft.snapshot.now);
    left
}

/// Forgets leftovers that no call can make any more, and those of hosts that are not ours any more.
pub(super) fn forget(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    let over: Vec<&Volume> = snapshot
        .volumes
        .values()
        .filter(|volume| matches!(volume.spec.content, VolumeContent::Leftover { .. }))
        .filter(|volume| {
            let since = volume.metadata.deletion_timestamp;
            let is_old = since.is_none_or(|since| snapshot.now.duration_since(since) >= REMEMBERED);
            !snapshot.hosts.contains_key(&volume.spec.host) || is_old && is_seen_absent(draft, volume)
        })
        .collect();
    if over.is_empty() {
        return;
    }
    // Nobody's: committed by itself, whichever cluster a run is for.
    draft.end_commit();
    for volume in over {
        let mut unit = Unit::default();
        unit.remove(volume.object_ref(), &volume.metadata.resource_version);
        draft.volumes.remove(&volume.key());
        draft.commit(unit);
    }
    draft.end_commit();
}
