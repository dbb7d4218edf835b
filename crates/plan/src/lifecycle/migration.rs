//! Hosts that are emptied by moving machines alive: who goes next and where, and how a way ends.

use std::sync::Arc;

use ashlar_api::*;

use super::cluster::Parts;
use super::create::{RECORDED_HOSTS, bump_host, bump_networks, ensure_image_volumes};
use super::leftovers::remember_moved;
use super::{PoolTier, control_plane, rolling};
use crate::draft::{Draft, Unit, cluster_of, new_metadata, owner_reference};
use crate::etcd::{Etcd, is_living};
use crate::explain::{PLACEMENT_ANNOTATION, verdict_lines};
use crate::machine::wait;
use crate::migration::{self, ATTEMPTS, Whereabouts, is_calling, whereabouts};
use crate::place::{self, Request};
use crate::{DomainState, HostSeen, Ids, NoteKind, StepState, Wait, fence, health, names};

/// What is held while it cannot be done.
pub(crate) const MOVE_ALIVE: &str = "move it alive to another host";

/// Machines whose way is over: those that have arrived are where they are from now on, those that will not go stay.
pub(super) fn settle(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    for machine in snapshot.machines.values() {
        if let Some(there) = whereabouts(snapshot, machine) {
            match there {
                Whereabouts::Target => arrive(draft, machine),
                Whereabouts::Source if !is_calling(snapshot, machine) => match given_up(draft, machine) {
                    Some(why) => stay(draft, machine, &why),
                    None => note_going_on(draft, machine),
                },
                _ => note_going_on(draft, machine),
            }
        }
        forget_failure(draft, machine);
    }
}

/// The machine is on the target from now on; what it had on the other host goes.
fn arrive(draft: &mut Draft<'_>, machine: &Machine) {
    let Some(mut moved) = machine.moved() else { return };
    let (from, to) = (&machine.spec.host, &moved.spec.host);
    let why = machine.record.migration.as_ref().map(|migration| migration.why.clone()).unwrap_or_default();
    moved.metadata.annotations.insert(PLACEMENT_ANNOTATION.to_owned(), why);
    // Of the definition that it had there nothing may come back.
    moved.record.define_unanswered = false;
    let message = format!("it moved alive from {from} to {to}");
    draft.note(machine.object_ref(), NoteKind::Notice, "Migrated", message);
    let mut unit = Unit::default();
    remember_moved(draft, &mut unit, from, machine);
    let left: Vec<String> = machine
        .spec
        .volumes
        .iter()
        .filter(|volume| !moved.spec.volumes.contains(volume))
        .map(|volume| volume.name.clone())
        .collect();
    give_up_volumes(draft, &mut unit, &machine.metadata.namespace, &left);
    if moved.metadata.is_deleting() {
        let its: Vec<String> = moved.spec.volumes.iter().map(|volume| volume.name.clone()).collect();
        give_up_volumes(draft, &mut unit, &machine.metadata.namespace, &its);
    }
    unit.update(moved.clone());
    draft.put_machine(moved);
    draft.commit(unit);
}

/// What may be at the target gets old while it runs at its source.
fn note_going_on(draft: &mut Draft<'_>, machine: &Machine) {
    let Some(goes_on) = migration::goes_on_beside(draft.snapshot, machine) else { return };
    let mut changed = machine.clone();
    let Some(migration) = &mut changed.record.migration else { return };
    if migration.went_on_at.is_some() == goes_on {
        return;
    }
    migration.went_on_at = goes_on.then_some(draft.snapshot.now);
    let mut unit = Unit::default();
    unit.update(changed.clone());
    draft.put_machine(changed);
    draft.commit(unit);
}

/// The machine stays where it is; what was made for it at the target goes.
fn stay(draft: &mut Draft<'_>, machine: &Machine, why: &str) {
    let Some(migration) = machine.record.migration.as_ref() else { return };
    let mut changed = machine.clone();
    changed.record.migration = None;
    if migration.failures >= ATTEMPTS {
        let message = migration.last_failure.clone();
        let failed = NotMigrated { from: machine.spec.host.clone(), message };
        changed.record.not_migrated = Some(Box::new(failed));
    }
    let message = format!("it stays on {} and does not move to {}: {why}", machine.spec.host, migration.to);
    draft.note(machine.object_ref(), NoteKind::Notice, "NotMigrated", message);
    let mut unit = Unit::default();
    // A target that gives no answer may have all of it, standing still: the source went on because nobody heard of that.
    if !matches!(draft.snapshot.observed.hosts.get(&migration.to), Some(HostSeen::Seen(_))) {
        remember_moved(draft, &mut unit, &migration.to, machine);
    }
    let there: Vec<String> = migration.volumes.iter().map(|volume| volume.name.clone()).collect();
    give_up_volumes(draft, &mut unit, &machine.metadata.namespace, &there);
    unit.update(changed.clone());
    draft.put_machine(changed);
    draft.commit(unit);
}

fn give_up_volumes(draft: &mut Draft<'_>, unit: &mut Unit, namespace: &str, volumes: &[String]) {
    for name in volumes {
        let key = NamespacedName::new(namespace, name);
        let Some(mut volume) = draft.volumes.get(&key).cloned() else { continue };
        if volume.metadata.is_deleting() || volume.spec.reclaim == ReclaimPolicy::Retain {
            continue;
        }
        volume.metadata.deletion_timestamp = Some(draft.snapshot.now);
        unit.update(volume.clone());
        draft.volumes.insert(key, volume);
    }
}

/// Why a machine that is still where it was will not go, if it will not.
fn given_up(draft: &Draft<'_>, machine: &Machine) -> Option<String> {
    let snapshot = draft.snapshot;
    let migration = machine.record.migration.as_ref()?;
    if migration.arrived_at.is_some() {
        return Some("somebody let it go on there, and ended what had come of it".to_owned());
    }
    if migration.failures >= ATTEMPTS {
        return Some(format!("that failed {} times: {}", migration.failures, migration.last_failure));
    }
    if machine.metadata.is_deleting() {
        return Some("it is being deleted".to_owned());
    }
    let cluster = draft.clusters.get(&cluster_of(machine))?;
    if cluster.metadata.is_deleting() || cluster.record.stopped {
        return Some("its cluster is stopped".to_owned());
    }
    let from = snapshot.hosts.get(&machine.spec.host);
    if !from.is_some_and(|host| host.spec.draining) {
        return Some(format!("{} is not being emptied any more", machine.spec.host));
    }
    if fence::proof(snapshot, &machine.spec.host).is_some() {
        return Some(format!("{} is off", machine.spec.host));
    }
    if health::is_sick(machine) {
        return Some("it is not well".to_owned());
    }
    match snapshot.hosts.get(&migration.to) {
        None => return Some(format!("{} is not in the store any more", migration.to)),
        Some(to) if to.spec.cordoned || to.spec.draining || to.metadata.is_deleting() => {
            return Some(format!("{} takes no machines any more", migration.to));
        }
        Some(_) if fence::proof(snapshot, &migration.to).is_some() => {
            return Some(format!("{} is off", migration.to));
        }
        Some(_) => {}
    }
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(&machine.spec.host) else { return None };
    match world.domains.get(&machine.spec.domain.uuid).map(|domain| domain.state) {
        Some(DomainState::ShutOff | DomainState::Crashed) => Some("it is off".to_owned()),
        None if migration.went_on_at.is_some() => Some("somebody undefined it".to_owned()),
        _ => None,
    }
}

/// That it failed counts as long as its host is being emptied.
fn forget_failure(draft: &mut Draft<'_>, machine: &Machine) {
    let Some(failed) = &machine.record.not_migrated else { return };
    let host = draft.snapshot.hosts.get(&failed.from);
    if failed.from == machine.spec.host && host.is_some_and(|host| host.spec.draining) {
        return;
    }
    let Some(mut changed) = draft.machines.get(&machine.key()).cloned() else { return };
    changed.record.not_migrated = None;
    let mut unit = Unit::default();
    unit.update(changed.clone());
    draft.put_machine(changed);
    draft.commit(unit);
}

/// Sends machines of a cluster on their way that are on hosts which are being emptied: one at a time from each host and to each
/// host, and one control plane of a cluster.
pub(super) fn of_cluster(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    ids: &mut dyn Ids,
    key: &NamespacedName,
    parts: Parts<'_>,
) {
    let is_draining = |host: &Host| host.spec.draining && host.spec.drain_by == DrainBy::Migration;
    if !draft.snapshot.hosts.values().any(is_draining) {
        return;
    }
    let Some(cluster) = draft.clusters.get_shared(key).cloned() else { return };
    let waiting: Vec<Arc<Machine>> = draft
        .machines_of(key)
        .into_iter()
        .filter(|machine| !machine.metadata.is_deleting() && machine.record.migration.is_none())
        // Who was given up in this very plan goes elsewhere in the next.
        .filter(|machine| {
            let read = draft.snapshot.machines.get(&machine.key());
            read.is_none_or(|read| read.record.migration.is_none())
        })
        .filter(|machine| draft.snapshot.hosts.get(&machine.spec.host).is_some_and(is_draining))
        .filter(|machine| migration::obstacle(draft.snapshot, machine).is_none())
        .filter(|machine| is_wanted_as_it_is(draft, &cluster, machine, parts))
        .cloned()
        .collect();
    if waiting.is_empty() || rolling::is_paused(draft, &cluster) {
        return;
    }
    for machine in &waiting {
        let message = format!(
            "its host {} is being emptied: it is moved alive to another host, in its turn, with its disks; what passes between \
             the hosts is not encrypted",
            machine.spec.host
        );
        draft.note(machine.object_ref(), NoteKind::Notice, "Migrates", message);
    }
    for machine in &waiting {
        match may_go(draft, &cluster, machine) {
            Ok(()) => begin(draft, tier, ids, &cluster, machine, parts),
            Err(state) => waits(draft, machine, state),
        }
    }
}

/// That another one is first is no work of its own to wait for.
fn waits(draft: &mut Draft<'_>, machine: &Machine, state: StepState) {
    match state {
        StepState::Waiting(Wait { reason, message }) if reason == "InTurn" => {
            draft.note(machine.object_ref(), NoteKind::Waiting, &reason, message);
        }
        state => draft.hold(machine.object_ref(), MOVE_ALIVE.to_owned(), state),
    }
}

/// Whether nothing else would have it replaced.
fn is_wanted_as_it_is(draft: &Draft<'_>, cluster: &Cluster, machine: &Machine, parts: Parts<'_>) -> bool {
    let group = NamespacedName::new(&machine.metadata.namespace, &machine.spec.group);
    let class = match machine.spec.role {
        MachineRole::ControlPlane => Some(&cluster.spec.control_plane.class),
        MachineRole::Worker => draft.groups.get(&group).map(|group| &group.spec.class),
    };
    class.is_some_and(|class| {
        rolling::Wanted { class, image: parts.image, snapshot: draft.snapshot }.is_met_by(machine)
    })
}

/// Whether it is the machine's turn.
fn may_go(draft: &Draft<'_>, cluster: &Cluster, machine: &Machine) -> Result<(), StepState> {
    let snapshot = draft.snapshot;
    let from = &machine.spec.host;
    match snapshot.observed.hosts.get(from) {
        Some(HostSeen::Seen(world)) => {
            let state = world.domains.get(&machine.spec.domain.uuid).map(|domain| domain.state);
            if state != Some(DomainState::Running) {
                return Err(wait("NotRunning", format!("{} does not run", machine.key())));
            }
        }
        _ => {
            let message = format!(
                "host {from} does not answer, and what cannot be asked cannot be moved: its machines are replaced with \
                 `ashlar host drain {from} --replace`; if it is off, `ashlar host fence {from}` says so"
            );
            return Err(wait("HostUnreachable", message));
        }
    }
    // It stays where it was made, and would be looked for where the machine is.
    let seed = machine.spec.volume(MachineVolumeRole::Seed);
    let seed = seed.map(|name| NamespacedName::new(&machine.metadata.namespace, name));
    if seed.is_some_and(|seed| draft.volumes.contains(&seed)) {
        return Err(wait("SeedFirst", format!("the seed of {} is deleted first", machine.key())));
    }
    let busy = draft
        .machines
        .values()
        .find(|other| other.record.migration.is_some() && other.hosts().any(|host| host == from));
    if let Some(other) = busy {
        let message = format!("machines leave {from} one at a time: {} first", other.key());
        return Err(wait("InTurn", message));
    }
    if machine.spec.role == MachineRole::ControlPlane {
        control_plane_may_go(draft, cluster, machine)?;
    }
    Ok(())
}

/// A guest stands still for a moment when it moves, and may be lost if both hosts fail then: all others have to be well.
fn control_plane_may_go(draft: &Draft<'_>, cluster: &Cluster, machine: &Machine) -> Result<(), StepState> {
    let key = cluster.key();
    let all = control_plane::members(draft, &key);
    let (there, asked) = (all.len(), cluster.spec.control_plane.replicas as usize);
    if there != asked {
        let first = if there < asked { "those that lack come" } else { "those that are too many go" };
        let message =
            format!("there are {there} control planes of {asked} that are asked for: {first} first");
        return Err(wait("InTurn", message));
    }
    for other in all.iter().filter(|other| other.key() != machine.key()) {
        let name = other.key();
        if other.metadata.is_deleting() || other.record.joined_at.is_none() {
            return Err(wait("InTurn", format!("control planes change one at a time: {name} first")));
        }
        if other.record.migration.is_some() {
            return Err(wait("InTurn", format!("control planes move one at a time: {name} first")));
        }
    }
    if all.len() > 1 && is_living(cluster) {
        let etcd = Etcd::of(draft.snapshot, &key).map_err(StepState::Waiting)?;
        if let Some(sick) = etcd.sick() {
            return Err(wait("EtcdNotHealthy", format!("etcd has to be healthy first: {sick}")));
        }
    }
    Ok(())
}

/// Decides where the machine goes.
fn begin(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    ids: &mut dyn Ids,
    cluster: &Arc<Cluster>,
    machine: &Arc<Machine>,
    parts: Parts<'_>,
) {
    let snapshot = draft.snapshot;
    let Some(class) = snapshot.classes.get(&machine.spec.class) else { return };
    let Some(pool) = pool_of(draft, machine) else { return };
    let others: Vec<Arc<Machine>> = control_plane::members(draft, &cluster.key());
    let others: Vec<Arc<Machine>> = others.into_iter().filter(|other| other.key() != machine.key()).collect();
    let is_control_plane = machine.spec.role == MachineRole::ControlPlane;
    let request = Request {
        machine: machine.key(),
        domain_name: machine.spec.domain.name.clone(),
        cluster,
        role: machine.spec.role,
        group: &machine.spec.group,
        class,
        image: parts.image,
        network: parts.network,
        pool,
        control_plane_hosts: if is_control_plane { control_plane::hosts_of(&others) } else { Vec::new() },
        own_domain: Some(machine.spec.domain.uuid),
        moves: Some(machine),
    };
    let placement = place::place(draft, tier.fleet(draft), &request);
    let chosen = placement.host.clone();
    let why = verdict_lines(&placement, RECORDED_HOSTS).join("\n");
    let help =
        chosen.is_none().then(|| place::what_would_help(tier.fleet(draft), &request, &placement.verdicts));
    draft.report.placements.push(placement);
    let Some(to) = chosen else {
        return waits(draft, machine, wait("Unschedulable", help.unwrap_or_default()));
    };
    // Who is on the way to that host, or leaves it, comes first.
    let busy = draft
        .machines
        .values()
        .find(|other| other.record.migration.is_some() && other.hosts().any(|host| host == to));
    if let Some(other) = busy {
        let message = format!("machines come to {to} one at a time: {} first", other.key());
        return waits(draft, machine, wait("InTurn", message));
    }
    commit(draft, tier, ids, &request, machine, (&to, why));
}

/// The pool of the machine's disks, if the planner still knows it.
fn pool_of<'s>(draft: &Draft<'s>, machine: &Machine) -> Option<&'s StoragePool> {
    let root = machine.spec.volume(MachineVolumeRole::Root)?;
    let volume = draft.volumes.get(&NamespacedName::new(&machine.metadata.namespace, root))?;
    draft.snapshot.pools.get(&volume.spec.pool)
}

/// Writes down where it goes, with its disks there and all that it claims.
fn commit(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    ids: &mut dyn Ids,
    request: &Request<'_>,
    machine: &Arc<Machine>,
    (to, why): (&str, String),
) -> Option<()> {
    let mut host = draft.hosts.get(&to.to_owned())?.clone();
    let on_host = request.pool.record.hosts.get(to)?.clone();
    let mut unit = Unit::default();
    tier.fleet(draft).claim(draft, request, to);
    let images = ensure_image_volumes(draft, ids, &mut unit, request, to, &on_host);
    let part = |part| images.get(&part).map(|key| key.name.clone()).unwrap_or_default();
    let key = machine.key();
    let now = draft.snapshot.now;
    let mut volumes = Vec::new();
    for own in machine.spec.volumes.iter().filter(|volume| volume.role != MachineVolumeRole::Seed) {
        let source = draft.volumes.get(&NamespacedName::new(&key.namespace, &own.name))?.clone();
        let purpose = |what: &str| {
            format!(
                "machine/{}/{}/{}-{what}/{}",
                key.namespace,
                key.name,
                own.role.serial(),
                source.spec.file_name
            )
        };
        let id = ids.uuid(&purpose("moved"));
        let name = names::moved_volume(&key.name, own.role, id);
        let backing = images
            .get(&ImagePart::Disk)
            .filter(|_| own.role == MachineVolumeRole::Root)
            .map(|volume| volume.name.clone());
        let mut volume = Volume::new(
            &name,
            VolumeSpec {
                host: to.to_owned(),
                pool: request.pool.metadata.name.clone(),
                pool_uuid: on_host.uuid,
                pool_path: on_host.path.clone(),
                file_name: names::machine_volume_file(&key.name, own.role, id),
                format: source.spec.format,
                capacity: source.spec.capacity,
                content: VolumeContent::MachineDisk { machine: key.name.clone(), role: own.role, backing },
                reclaim: source.spec.reclaim,
            },
        );
        volume.record.wipe = source.record.wipe;
        let volume_key = NamespacedName::new(&key.namespace, &name);
        volume.metadata = new_metadata(
            &volume_key,
            ids.uuid(&purpose("uid")),
            now,
            Some(owner_reference(machine.as_ref())),
        );
        unit.create(volume.clone());
        draft.volumes.insert(volume_key, volume);
        volumes.push(MachineVolume { name, role: own.role });
    }
    let mut changed = Machine::clone(machine);
    changed.record.migration = Some(Box::new(Migration {
        to: to.to_owned(),
        volumes,
        disk_volume: part(ImagePart::Disk),
        kernel_volume: part(ImagePart::Kernel),
        initrd_volume: part(ImagePart::Initrd),
        decided_at: now,
        why,
        failures: 0,
        last_failure: String::new(),
        failed_at: None,
        arrived_at: None,
        went_on_at: None,
    }));
    unit.update(changed.clone());
    draft.put_machine(changed);
    // It may have been there before: what was left of it then is its own again.
    host.record.left_domains.retain(|left| left.uuid != machine.spec.domain.uuid);
    bump_host(draft, &mut unit, host);
    bump_networks(draft, &mut unit, request.network, to);
    unit.check(request.image.object_ref(), &request.image.metadata.resource_version);
    unit.check(request.class.object_ref(), &request.class.metadata.resource_version);
    unit.check(request.cluster.object_ref(), &request.cluster.metadata.resource_version);
    if machine.spec.role == MachineRole::Worker
        && let Some(group) = draft.groups.get(&NamespacedName::new(&key.namespace, &machine.spec.group))
    {
        unit.check(group.object_ref(), &group.metadata.resource_version);
    }
    draft.commit(unit);
    Some(())
}
