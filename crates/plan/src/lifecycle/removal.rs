//! Going away: the intent to delete is handed down to what is owned, and objects go once the world was seen without
//! what they stand for.

use std::sync::Arc;

use ashlar_api::own_network::is_network_of;
use ashlar_api::*;

use super::facts::is_seen_absent;
use super::{image_files, leftovers, wiping};
use crate::draft::{Draft, Unit, cluster_of};
use crate::etcd::{self, Etcd};
use crate::{ClusterSeen, Guard, HostSeen, NoteKind, elsewhere, fence, names, network};

/// Hands down deletion: cluster → groups and machines → volumes; cluster → the network of its own.
pub(super) fn cascade(draft: &mut Draft<'_>) {
    let clusters: Vec<NamespacedName> = draft
        .clusters
        .iter()
        .filter(|(_, cluster)| cluster.metadata.is_deleting())
        .map(|(key, _)| key.clone())
        .collect();
    for cluster in &clusters {
        for key in draft.groups_of(cluster) {
            delete_group(draft, &key);
        }
        let machines: Vec<Arc<Machine>> = draft.machines_of(cluster).into_iter().cloned().collect();
        for machine in &machines {
            delete_machine(draft, machine);
        }
        delete_own_network(draft, cluster);
    }
    let groups: Vec<WorkerGroup> =
        draft.groups.values().filter(|group| group.metadata.is_deleting()).cloned().collect();
    for group in groups {
        let cluster = NamespacedName::new(&group.metadata.namespace, &group.spec.cluster);
        let machines: Vec<Arc<Machine>> = draft
            .machines_of(&cluster)
            .into_iter()
            .filter(|machine| machine.spec.group == group.metadata.name)
            .cloned()
            .collect();
        for machine in &machines {
            delete_machine(draft, machine);
        }
    }
    let asked: Vec<Machine> =
        draft.snapshot.machines.values().filter(|machine| machine.metadata.is_deleting()).cloned().collect();
    for machine in &asked {
        delete_machine(draft, machine);
    }
}

/// The network that was made for a cluster goes with it, unless another cluster has moved in.
fn delete_own_network(draft: &mut Draft<'_>, key: &NamespacedName) {
    let Some(cluster) = draft.clusters.get(key) else { return };
    let Some(mut network) = draft.networks.get(&cluster.spec.network).cloned() else { return };
    let is_shared = draft
        .clusters
        .values()
        .any(|other| other.key() != *key && other.spec.network == network.metadata.name);
    if network.metadata.is_deleting() || is_shared || !is_network_of(&network, key) {
        return;
    }
    network.metadata.deletion_timestamp = Some(draft.snapshot.now);
    let mut unit = Unit::default();
    unit.update(network.clone());
    draft.networks.insert(network.metadata.name.clone(), network);
    draft.commit(unit);
}

fn delete_group(draft: &mut Draft<'_>, key: &NamespacedName) {
    let Some(mut group) = draft.groups.get(key).cloned() else { return };
    if group.metadata.is_deleting() {
        return;
    }
    group.metadata.deletion_timestamp = Some(draft.snapshot.now);
    let mut unit = Unit::default();
    unit.update(group.clone());
    draft.groups.insert(key.clone(), group);
    draft.commit(unit);
}

/// Records the intent to delete a machine and its own volumes.
pub(super) fn delete_machine(draft: &mut Draft<'_>, machine: &Machine) {
    let unit = deletion(draft, machine);
    draft.commit(unit);
}

/// The intent to delete a machine and its own volumes, to be committed with what it was decided from.
pub(super) fn deletion(draft: &mut Draft<'_>, machine: &Machine) -> Unit {
    let now = draft.snapshot.now;
    let mut unit = Unit::default();
    if !machine.metadata.is_deleting() {
        let mut machine = machine.clone();
        machine.metadata.deletion_timestamp = Some(now);
        unit.update(machine.clone());
        draft.put_machine(machine);
    }
    for key in volume_keys(machine) {
        let Some(mut volume) = draft.volumes.get(&key).cloned() else { continue };
        if volume.metadata.is_deleting() || volume.spec.reclaim == ReclaimPolicy::Retain {
            continue;
        }
        volume.metadata.deletion_timestamp = Some(now);
        unit.update(volume.clone());
        draft.volumes.insert(key, volume);
    }
    if Guard::RecordedIntent.stands() { unit } else { Unit::default() }
}

/// Its cluster and its group are as they were read: whoever pauses the cluster, or says anything else of them while the
/// machine's end is being decided, has the plan made anew.
pub(super) fn check_owners(draft: &Draft<'_>, unit: &mut Unit, machine: &Machine) {
    if let Some(cluster) = draft.clusters.get(&cluster_of(machine)) {
        unit.check(cluster.object_ref(), &cluster.metadata.resource_version);
    }
    let group = NamespacedName::new(&machine.metadata.namespace, &machine.spec.group);
    if let Some(group) = draft.groups.get(&group).filter(|_| machine.spec.role == MachineRole::Worker) {
        unit.check(group.object_ref(), &group.metadata.resource_version);
    }
}

fn volume_keys(machine: &Machine) -> Vec<NamespacedName> {
    let namespace = &machine.metadata.namespace;
    machine.spec.volumes.iter().map(|volume| NamespacedName::new(namespace, &volume.name)).collect()
}

/// Removes objects whose counterpart was seen to be gone.
pub(super) fn remove(draft: &mut Draft<'_>) {
    let machines: Vec<Machine> =
        draft.snapshot.machines.values().filter(|machine| machine.metadata.is_deleting()).cloned().collect();
    for machine in &machines {
        remove_machine(draft, machine);
        if fence::is_left_behind(draft, machine) {
            draft.note(machine.object_ref(), NoteKind::Warning, "HostOff", left_behind(machine));
        }
    }
    let snapshot = draft.snapshot;
    for machine in snapshot.machines.values() {
        if machine.record.joined_at.is_some() && !machine.metadata.is_deleting() {
            remove_first_boot(draft, machine);
        }
    }
    remove_orphan_volumes(draft);
    image_files::remove(draft);
    remove_groups(draft);
    network::decide(draft);
    remove_clusters(draft);
}

fn domain_is_seen_absent(draft: &Draft<'_>, machine: &Machine) -> bool {
    // One that was migrated by hand is not gone: its record is how anybody knows whose it is.
    let is_elsewhere = draft.snapshot.observed.hosts.values().any(
        |seen| matches!(seen, HostSeen::Seen(world) if world.domains.contains_key(&machine.spec.domain.uuid)),
    );
    if is_elsewhere || elsewhere::of(draft.snapshot, machine).is_some() {
        return false;
    }
    match draft.snapshot.observed.hosts.get(&machine.spec.host) {
        Some(HostSeen::Seen(world)) => !world.domains.contains_key(&machine.spec.domain.uuid),
        Some(HostSeen::Unreachable { .. } | HostSeen::NotOurs { .. } | HostSeen::Fenced { .. }) | None => {
            !Guard::SeenGone.stands()
        }
    }
}

fn remove_machine(draft: &mut Draft<'_>, machine: &Machine) {
    // Where it is that was on its way is found out first.
    if machine.record.migration.is_some() || !domain_is_seen_absent(draft, machine) {
        return;
    }
    let mut unit = Unit::default();
    let mut left = false;
    for key in volume_keys(machine) {
        let Some(volume) = draft.snapshot.volumes.get(&key) else { continue };
        if volume.spec.reclaim == ReclaimPolicy::Retain {
            continue;
        }
        if volume.metadata.is_deleting() && is_seen_absent(draft, volume) {
            leftovers::remove(draft, &mut unit, volume);
        } else {
            left = true;
        }
    }
    let is_out = !node_may_be_left(draft, machine) && !member_may_be_left(draft, machine);
    if left && is_out {
        wiping::note_disks_only(draft, machine);
    }
    if !left && is_out && token_is_gone(draft, machine) {
        draft.remove_secret(&mut unit, &names::join_secret(&machine.key()));
        draft.remove_secret(&mut unit, &names::ssh_secret(&machine.key()));
        leftovers::remember_domain(draft, &mut unit, machine);
        finish(&mut unit, machine);
        draft.machines.remove(&machine.key());
    }
    draft.commit(unit);
}

/// What is said of a machine that goes, and whose host is off.
pub(crate) fn left_behind(machine: &Machine) -> String {
    format!(
        "its host {} is off: what is left of it there, domain and disks, goes when the host answers again",
        machine.spec.host
    )
}

/// The token is not in the cluster, or the cluster goes as a whole.
fn token_is_gone(draft: &Draft<'_>, machine: &Machine) -> bool {
    let Some(facts) = draft.snapshot.secrets.get(&names::join_secret(&machine.key())) else { return true };
    let Some(cluster) = draft.clusters.get(&cluster_of(machine)) else { return true };
    if cluster.metadata.is_deleting()
        || !cluster.record.initialized
        || machine.record.first_started_at.is_none()
    {
        return true;
    }
    match draft.snapshot.observed.clusters.get(&cluster.key()) {
        Some(ClusterSeen::Seen(world)) => {
            facts.token_id.as_ref().is_none_or(|id| !world.bootstrap_tokens.contains_key(id))
        }
        Some(ClusterSeen::Unreachable { .. } | ClusterSeen::NotOurs { .. }) | None => false,
    }
}

/// Whether the cluster may still have a Node of the machine.
pub(crate) fn node_may_be_left(draft: &Draft<'_>, machine: &Machine) -> bool {
    let Some(cluster) = draft.clusters.get(&cluster_of(machine)) else { return false };
    if cluster.metadata.is_deleting()
        || !cluster.record.initialized
        || machine.record.first_started_at.is_none()
        || machine.record.disks_only
    {
        return false;
    }
    match draft.snapshot.observed.clusters.get(&cluster.key()) {
        Some(ClusterSeen::Seen(world)) => world
            .nodes
            .get(&machine.spec.node.name)
            .is_some_and(|node| node.provider_id == machine.spec.node.provider_id),
        Some(ClusterSeen::Unreachable { .. } | ClusterSeen::NotOurs { .. }) | None => true,
    }
}

/// Whether the cluster's etcd may still have a member of the machine.
pub(crate) fn member_may_be_left(draft: &Draft<'_>, machine: &Machine) -> bool {
    let Some(cluster) = draft.clusters.get(&cluster_of(machine)) else { return false };
    let may_have_one = machine.spec.role == MachineRole::ControlPlane
        && machine.record.first_started_at.is_some()
        && !machine.record.left_etcd
        && !machine.record.disks_only
        && etcd::is_living(cluster);
    may_have_one
        && Etcd::of(draft.snapshot, &cluster.key()).map_or(true, |etcd| etcd.member_of(machine).is_some())
}

/// Seed and token of a machine that joined.
fn remove_first_boot(draft: &mut Draft<'_>, machine: &Machine) {
    let mut unit = Unit::default();
    if let Some(seed) = machine.spec.volume(MachineVolumeRole::Seed) {
        let key = NamespacedName::new(&machine.metadata.namespace, seed);
        if let Some(volume) = draft.snapshot.volumes.get(&key)
            && is_seen_absent(draft, volume)
            && !is_medium(draft, machine, volume)
        {
            leftovers::remove(draft, &mut unit, volume);
        }
    }
    let secret = names::join_secret(&machine.key());
    if draft.has_secret(&secret)
        && matches!(draft.snapshot.observed.clusters.get(&cluster_of(machine)), Some(ClusterSeen::Seen(_)))
        && token_is_gone(draft, machine)
    {
        draft.remove_secret(&mut unit, &secret);
    }
    draft.commit(unit);
}

/// Whether the domain's drive still names the volume: it would not start again without it.
fn is_medium(draft: &Draft<'_>, machine: &Machine, volume: &Volume) -> bool {
    match draft.snapshot.observed.hosts.get(&machine.spec.host) {
        Some(HostSeen::Seen(world)) => world
            .domains
            .get(&machine.spec.domain.uuid)
            .is_some_and(|domain| domain.medium_path.as_ref() == Some(&volume.spec.path())),
        _ => false,
    }
}

/// Volumes without a machine, or that theirs has left, which are wanted gone.
fn remove_orphan_volumes(draft: &mut Draft<'_>) {
    let gone: Vec<&Volume> = draft
        .snapshot
        .volumes
        .values()
        .filter(|volume| volume.metadata.is_deleting())
        .filter(|volume| match &volume.spec.content {
            VolumeContent::ImageFile { .. } | VolumeContent::Leftover { .. } => false,
            VolumeContent::MachineDisk { machine, .. } => {
                let owner = NamespacedName::new(&volume.metadata.namespace, machine);
                let owner = draft.snapshot.machines.get(&owner);
                !owner.is_some_and(|owner| owner.volume_names().any(|name| name == volume.metadata.name))
            }
        })
        .filter(|volume| is_seen_absent(draft, volume))
        .collect();
    for volume in gone {
        let mut unit = Unit::default();
        leftovers::remove(draft, &mut unit, volume);
        draft.commit(unit);
    }
}

fn remove_groups(draft: &mut Draft<'_>) {
    let groups: Vec<WorkerGroup> =
        draft.groups.values().filter(|group| group.metadata.is_deleting()).cloned().collect();
    for group in groups {
        let cluster = NamespacedName::new(&group.metadata.namespace, &group.spec.cluster);
        if draft.machines_of(&cluster).iter().any(|machine| machine.spec.group == group.metadata.name) {
            continue;
        }
        let mut unit = Unit::default();
        finish(&mut unit, &group);
        draft.groups.remove(&group.key());
        draft.commit(unit);
    }
}

fn remove_clusters(draft: &mut Draft<'_>) {
    let clusters: Vec<Cluster> =
        draft.clusters.values().filter(|cluster| cluster.metadata.is_deleting()).cloned().collect();
    for cluster in clusters {
        let key = cluster.key();
        if !draft.machines_of(&key).is_empty()
            || !draft.groups_of(&key).is_empty()
            || network::is_left_behind(draft, &cluster)
        {
            continue;
        }
        let mut unit = Unit::default();
        draft.remove_secret(&mut unit, &names::pki_secret(&key));
        finish(&mut unit, &cluster);
        draft.clusters.remove(&key);
        draft.commit(unit);
    }
}

/// Removes an object; one that somebody else keeps too only loses our finalizer.
fn finish<S: Spec>(unit: &mut Unit, object: &Resource<S>)
where
    Object: From<Resource<S>>,
{
    let others = object.metadata.finalizers.iter().any(|finalizer| finalizer != FINALIZER);
    if others {
        if object.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            let mut object = object.clone();
            object.metadata.finalizers.retain(|finalizer| finalizer != FINALIZER);
            unit.update(object);
        }
    } else {
        unit.remove(object.object_ref(), &object.metadata.resource_version);
    }
}
