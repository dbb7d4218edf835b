//! Objects leave the store only with a recorded intent, and only when the world was seen without what they stand for.
//! The intent itself comes from a person: from a cluster, a group, or a smaller number of replicas.

use ashlar_api::own_network::is_network_of;
use ashlar_api::*;

use super::{Findings, Projected, image_files};
use crate::{ClusterSeen, Decision, Guard, HostSeen, NetworksSeen, Plan, Snapshot, certificates};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    for decision in plan.decisions.iter().flatten() {
        match decision {
            Decision::Remove { object, .. } => remove(snapshot, projected, object, findings),
            Decision::Update(Object::Machine(machine)) => {
                let before = snapshot.machines.get(&machine.key());
                let newly = machine.metadata.is_deleting()
                    && before.is_some_and(|machine| !machine.metadata.is_deleting());
                if newly && !is_wished(snapshot, projected, machine) {
                    findings.add("Intent", &machine.object_ref(), "nobody asked for its deletion");
                }
                let was_more = before.is_none_or(|before| !before.record.disks_only);
                if machine.record.disks_only && was_more {
                    disks_only(snapshot, machine, findings);
                }
            }
            Decision::Update(Object::Volume(volume)) => {
                let before = snapshot.volumes.get(&volume.key());
                let newly = volume.metadata.is_deleting()
                    && before.is_some_and(|volume| !volume.metadata.is_deleting());
                // Or has it no more: it moved, or did not.
                let owner_goes = projected.owner_of(volume).is_some_and(|machine| {
                    machine.metadata.is_deleting()
                        || !machine.volume_names().any(|name| name == volume.metadata.name)
                });
                if matches!(volume.spec.content, VolumeContent::ImageFile { .. }) {
                    if newly && let Some(before) = before {
                        image_files::retirement(snapshot, projected, before, findings);
                    }
                } else if newly && !owner_goes {
                    findings.add("Intent", &volume.object_ref(), "its machine is not being deleted");
                }
            }
            Decision::Update(Object::WorkerGroup(group)) => {
                let before = snapshot.groups.get(&group.key());
                let cluster = NamespacedName::new(&group.metadata.namespace, &group.spec.cluster);
                let newly =
                    group.metadata.is_deleting() && before.is_some_and(|group| !group.metadata.is_deleting());
                if newly && !goes(snapshot, &cluster) {
                    findings.add("Intent", &group.object_ref(), "its cluster is not being deleted");
                }
            }
            Decision::Update(Object::Network(network)) => {
                let before = snapshot.networks.get(&network.metadata.name);
                let newly = network.metadata.is_deleting()
                    && before.is_some_and(|network| !network.metadata.is_deleting());
                let of_the_going = |cluster: &&Cluster| {
                    cluster.metadata.is_deleting() && is_network_of(network, &cluster.key())
                };
                let mut users =
                    snapshot.clusters.values().filter(|one| one.spec.network == network.metadata.name);
                if newly
                    && !(users.clone().any(|one| of_the_going(&one)) && users.all(|one| of_the_going(&one)))
                {
                    findings.add(
                        "Intent",
                        &network.object_ref(),
                        "the cluster that it was made for does not go",
                    );
                }
            }
            Decision::Update(Object::Cluster(cluster))
                if cluster.metadata.is_deleting() && !goes(snapshot, &cluster.key()) =>
            {
                findings.add("Intent", &cluster.object_ref(), "only a person deletes a cluster");
            }
            _ => {}
        }
    }
}

/// What it takes is others' from now on: it has to be gone.
fn disks_only(snapshot: &Snapshot, machine: &Machine, findings: &mut Findings) {
    let object = machine.object_ref();
    if !machine.metadata.is_deleting() {
        findings.add("Removal", &object, "there is no recorded intent to delete it");
    }
    if !is_seen_absent(snapshot, machine) && Guard::SeenGone.stands() {
        findings.add("Removal", &object, "its domain was not seen to be gone");
    }
    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    let has_node = match snapshot.observed.clusters.get(&cluster) {
        Some(ClusterSeen::Seen(world)) => world
            .nodes
            .get(&machine.spec.node.name)
            .is_some_and(|node| node.provider_id == machine.spec.node.provider_id),
        _ => snapshot.clusters.get(&cluster).is_some_and(|cluster| cluster.record.initialized),
    };
    if has_node {
        findings.add("Removal", &object, "its node was not seen to be gone");
    }
}

fn is_seen_absent(snapshot: &Snapshot, machine: &Machine) -> bool {
    match snapshot.observed.hosts.get(&machine.spec.host) {
        Some(HostSeen::Seen(world)) => !world.domains.contains_key(&machine.spec.domain.uuid),
        _ => false,
    }
}

fn goes(snapshot: &Snapshot, cluster: &NamespacedName) -> bool {
    snapshot.clusters.get(cluster).is_some_and(|cluster| cluster.metadata.is_deleting())
}

/// Whether a person's wish follows to the machine's deletion.
fn is_wished(snapshot: &Snapshot, projected: &Projected<'_>, machine: &Machine) -> bool {
    let namespace = &machine.metadata.namespace;
    // Whether that was right is judged by rules of its own.
    if goes(snapshot, &NamespacedName::new(namespace, &machine.spec.cluster))
        || machine.record.remediation.is_some()
    {
        return true;
    }
    if machine.spec.role == MachineRole::ControlPlane {
        return is_emptied(snapshot, machine) || is_wished_of_control_plane(snapshot, projected, machine);
    }
    let Some(group) = projected.groups.get(&NamespacedName::new(namespace, &machine.spec.group)) else {
        return false;
    };
    if group.metadata.is_deleting() {
        return true;
    }
    let Some(replicas) = group.spec.replicas.map(|replicas| replicas as usize) else { return false };
    let works = |machine: &Machine| machine.record.joined_at.is_some() && machine.record.failure.is_none();
    let left = || {
        projected.machines.values().filter(|other| {
            other.metadata.namespace == *namespace
                && other.spec.group == machine.spec.group
                && other.spec.cluster == machine.spec.cluster
                && !other.metadata.is_deleting()
        })
    };
    if left().count() >= replicas {
        return true;
    }
    let outdated = is_emptied(snapshot, machine)
        || machine.spec.class != group.spec.class
        || projected
            .cluster_of(machine)
            .is_some_and(|cluster| machine.spec.image.name != cluster.record.image);
    // One that is replaced may go before its successor comes: when nobody works on it, or if the group says so.
    let working = || left().filter(|machine| works(machine)).count();
    outdated && (!works(machine) || working() + group.spec.rollout.max_unavailable as usize >= replicas)
}

/// A person wants its host empty.
fn is_emptied(snapshot: &Snapshot, machine: &Machine) -> bool {
    snapshot.hosts.get(&machine.spec.host).is_some_and(|host| host.spec.draining)
}

/// A smaller number of control planes, another class, a join that failed, or one for which nobody is left to join.
fn is_wished_of_control_plane(snapshot: &Snapshot, projected: &Projected<'_>, machine: &Machine) -> bool {
    let Some(cluster) = projected.cluster_of(machine) else { return false };
    let stay = || {
        projected.machines.values().filter(|other| {
            other.metadata.namespace == machine.metadata.namespace
                && other.spec.cluster == machine.spec.cluster
                && other.spec.role == MachineRole::ControlPlane
                && !other.metadata.is_deleting()
        })
    };
    let left = stay().count();
    // One that this very plan makes does not count.
    let is_begun = cluster.record.initialized
        || stay()
            .filter(|other| snapshot.machines.contains_key(&other.key()))
            .any(|other| other.spec.bootstrap == Bootstrap::Init);
    let orphaned =
        !is_begun && machine.spec.bootstrap == Bootstrap::Join && machine.record.first_started_at.is_none();
    // Nobody begins what has begun.
    let second_beginning = cluster.record.initialized
        && machine.spec.bootstrap == Bootstrap::Init
        && machine.record.first_started_at.is_none();
    let failed_join = machine.spec.bootstrap == Bootstrap::Join
        && machine.record.failure.is_some()
        && machine.record.joined_at.is_none();
    let outdated = machine.spec.class != cluster.spec.control_plane.class
        || machine.spec.image.name != cluster.record.image
        || certificates::are_due(machine, snapshot.now);
    left >= cluster.spec.control_plane.replicas as usize
        || failed_join
        || outdated
        || orphaned
        || second_beginning
}

fn remove(snapshot: &Snapshot, projected: &Projected<'_>, object: &ObjectRef, findings: &mut Findings) {
    let key = object.key();
    match object.kind {
        Kind::Machine => {
            let Some(machine) = snapshot.machines.get(&key) else { return };
            if !machine.metadata.is_deleting() {
                findings.add("Removal", object, "there is no recorded intent to delete it");
            }
            if !is_seen_absent(snapshot, machine) && Guard::SeenGone.stands() {
                findings.add("Removal", object, "its domain was not seen to be gone");
            }
            if machine.record.migration.is_some() {
                findings.add("Removal", object, "it is on its way to another host");
            }
            for volume in &machine.spec.volumes {
                let left = projected.volumes.get(&NamespacedName::new(&key.namespace, &volume.name));
                if left.is_some_and(|volume| volume.spec.reclaim == ReclaimPolicy::Delete) {
                    findings.add("Removal", object, format!("its volume {} is left", volume.name));
                }
            }
        }
        Kind::Volume => {
            let Some(volume) = snapshot.volumes.get(&key) else { return };
            let spent = is_spent_seed(snapshot, volume);
            if !volume.metadata.is_deleting() && !spent {
                findings.add("Removal", object, "there is no recorded intent to delete it");
            }
            let absent = match snapshot.observed.hosts.get(&volume.spec.host) {
                Some(HostSeen::Seen(world)) => world
                    .pools
                    .get(&volume.spec.pool_uuid)
                    .is_some_and(|pool| !pool.volumes.contains_key(&volume.spec.file_name)),
                _ => false,
            };
            // A host that is not ours any more shows nothing.
            let given_up = matches!(volume.spec.content, VolumeContent::Leftover { .. })
                && !snapshot.hosts.contains_key(&volume.spec.host);
            if !absent && !given_up && Guard::SeenGone.stands() {
                findings.add("Removal", object, "its file was not seen to be gone");
            }
        }
        Kind::WorkerGroup | Kind::Cluster => {
            let of = |machine: &&Machine| {
                machine.metadata.namespace == key.namespace
                    && match object.kind {
                        Kind::Cluster => machine.spec.cluster == key.name,
                        _ => machine.spec.group == key.name,
                    }
            };
            if projected.machines.values().any(|machine| of(&machine)) {
                findings.add("Removal", object, "machines of it are left");
            }
            let wished = match object.kind {
                Kind::Cluster => goes(snapshot, &key),
                _ => snapshot.groups.get(&key).is_some_and(|group| {
                    group.metadata.is_deleting()
                        || goes(snapshot, &NamespacedName::new(&key.namespace, &group.spec.cluster))
                }),
            };
            if !wished {
                findings.add("Removal", object, "there is no recorded intent to delete it");
            }
        }
        Kind::Network => {
            let Some(network) = snapshot.networks.get(&object.name) else { return };
            if !network.metadata.is_deleting() {
                findings.add("Removal", object, "there is no recorded intent to delete it");
            }
            let uid = network.metadata.uid.unwrap_or_default();
            for host in network.record.hosts.iter().filter(|host| snapshot.hosts.contains_key(*host)) {
                let absent = match snapshot.observed.hosts.get(host) {
                    Some(HostSeen::Seen(world)) => matches!(
                        &world.networks,
                        NetworksSeen::Seen { networks, .. } if !networks.contains_key(&uid)
                    ),
                    _ => false,
                };
                if !absent {
                    findings.add("Removal", object, format!("{host} was not seen without it"));
                }
            }
            let attached =
                |machine: &&Machine| machine.spec.nics.iter().any(|nic| nic.network == object.name);
            if projected.machines.values().any(|machine| attached(&machine)) {
                findings.add("Removal", object, "machines are attached to it");
            }
        }
        Kind::Secret => secret(snapshot, projected, object, findings),
        _ => findings.add("Removal", object, "the planner removes no objects of that kind"),
    }
}

pub(super) fn is_spent_seed(snapshot: &Snapshot, volume: &Volume) -> bool {
    match &volume.spec.content {
        VolumeContent::MachineDisk { machine, role: MachineVolumeRole::Seed, .. } => snapshot
            .machines
            .get(&NamespacedName::new(&volume.metadata.namespace, machine))
            .is_some_and(|machine| machine.record.joined_at.is_some()),
        _ => false,
    }
}

fn secret(snapshot: &Snapshot, projected: &Projected<'_>, object: &ObjectRef, findings: &mut Findings) {
    let Some(facts) = snapshot.secrets.get(&object.key()) else { return };
    let in_namespace = |name: &String| NamespacedName::new(&object.namespace, name);
    let allowed = match &facts.purpose {
        SecretPurpose::ClusterPki { cluster } => !projected.clusters.contains_key(&in_namespace(cluster)),
        SecretPurpose::JoinToken { machine } => projected
            .machines
            .get(&in_namespace(machine))
            .is_none_or(|machine| machine.record.joined_at.is_some()),
        SecretPurpose::MachineSshHostKey { machine } => {
            !projected.machines.contains_key(&in_namespace(machine))
        }
    };
    if !allowed {
        findings.add("Removal", object, "it is still needed");
    }
}
