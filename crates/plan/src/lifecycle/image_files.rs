//! Image files that no machine needs: kept for a grace time, in case one comes back, then deleted.

use std::collections::BTreeSet;

use ashlar_api::*;
use jiff::SignedDuration;

use super::facts::is_seen_absent;
use super::leftovers;
use crate::Snapshot;
use crate::draft::{Draft, Unit};

/// Names of the image files that one of the machines boots from, or one of the volumes stands on.
pub(crate) fn in_use<'v>(
    machines: impl Iterator<Item = &'v Machine>,
    volumes: impl Iterator<Item = &'v Volume>,
) -> BTreeSet<&'v str> {
    let mut used: BTreeSet<&'v str> = BTreeSet::new();
    for machine in machines {
        let image = &machine.spec.image;
        used.extend([&image.disk_volume, &image.kernel_volume, &image.initrd_volume].map(String::as_str));
        if let Some(there) = &machine.record.migration {
            used.extend([&there.disk_volume, &there.kernel_volume, &there.initrd_volume].map(String::as_str));
        }
    }
    for volume in volumes {
        if let VolumeContent::MachineDisk { backing: Some(backing), .. } = &volume.spec.content {
            used.insert(backing);
        }
    }
    used
}

/// Records since when a file is of no use, and, once its grace is over, that it is to be deleted. Whoever claims a
/// file whose disuse is recorded writes to it (see `create`), so that a claim and a deletion that are decided at the
/// same time conflict.
pub(super) fn retire(draft: &mut Draft<'_>) {
    let used = in_use(draft.machines.values(), draft.volumes.values());
    let changed: Vec<Volume> = draft
        .volumes
        .values()
        .filter(|volume| is_image_file(volume) && !volume.metadata.is_deleting())
        .filter_map(|volume| judged(draft.snapshot, volume, used.contains(volume.metadata.name.as_str())))
        .collect();
    if changed.is_empty() {
        return;
    }
    // Nobody's: committed by itself, whichever cluster a run is for.
    draft.end_commit();
    for volume in changed {
        let mut unit = Unit::default();
        unit.update(volume.clone());
        draft.volumes.insert(volume.key(), volume);
        draft.commit(unit);
    }
    draft.end_commit();
}

/// The volume with what changed about its use; none if nothing did.
fn judged(snapshot: &Snapshot, volume: &Volume, is_used: bool) -> Option<Volume> {
    if is_used && volume.record.unused_since.is_none() {
        return None;
    }
    let mut volume = volume.clone();
    match (is_used, volume.record.unused_since) {
        (true, _) => volume.record.unused_since = None,
        (false, None) => volume.record.unused_since = Some(snapshot.now),
        (false, Some(since)) => {
            let is_over = snapshot.now.duration_since(since) >= grace(snapshot, &volume);
            // What this plan removes is in the store until that is committed.
            let still_used = || {
                in_use(snapshot.machines.values(), snapshot.volumes.values())
                    .contains(volume.metadata.name.as_str())
            };
            if !is_over || still_used() {
                return None;
            }
            volume.metadata.deletion_timestamp = Some(snapshot.now);
        }
    }
    Some(volume)
}

/// How long a file is kept unused: as its Image says, if that is still the one it was made from.
fn grace(snapshot: &Snapshot, volume: &Volume) -> SignedDuration {
    let VolumeContent::ImageFile { image, digest, .. } = &volume.spec.content else {
        return SignedDuration::MAX;
    };
    let image = snapshot.images.get(image).filter(|image| image.spec.digest == *digest);
    let seconds = image.and_then(|image| image.spec.unused_grace_s).unwrap_or(DEFAULT_UNUSED_GRACE_S);
    SignedDuration::from_secs(i64::from(seconds))
}

/// Takes image files out of the store that were to be deleted and were seen to be gone.
pub(super) fn remove(draft: &mut Draft<'_>) {
    let gone: Vec<&Volume> = draft
        .snapshot
        .volumes
        .values()
        .filter(|volume| is_image_file(volume) && volume.metadata.is_deleting())
        .filter(|volume| is_seen_absent(draft, volume))
        .collect();
    if gone.is_empty() {
        return;
    }
    draft.end_commit();
    for volume in gone {
        let mut unit = Unit::default();
        leftovers::remove(draft, &mut unit, volume);
        draft.commit(unit);
    }
    draft.end_commit();
}

fn is_image_file(volume: &Volume) -> bool {
    matches!(volume.spec.content, VolumeContent::ImageFile { .. })
}
