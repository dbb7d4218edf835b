//! Destructive steps: only with a recorded intent, only on what is ours, never under a running guest.

use std::collections::BTreeSet;

use ashlar_api::*;
use uuid::Uuid;

use super::removal::is_spent_seed;
use super::{Findings, Projected, fencing, image_files, quorum};
use crate::{Action, ClusterSeen, Guard, HostSeen, HostWorld, Plan, Snapshot, StepState, names};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    if !Guard::RecordedIntent.stands() {
        return;
    }
    // Domains that this plan turns off, or undefines, before the step at hand.
    let mut off = BTreeSet::new();
    let mut undefined = BTreeSet::new();
    let mut wiped = BTreeSet::new();
    for step in &plan.steps {
        let Some(action) = &step.action else { continue };
        let ready = step.state == StepState::Ready;
        match action {
            Action::DestroyDomain { machine } | Action::UndefineDomain { machine } => {
                let destroys = matches!(action, Action::DestroyDomain { .. });
                domain(snapshot, projected, machine, destroys, ready, &off, findings);
                if destroys { &mut off } else { &mut undefined }.insert(machine);
            }
            Action::UndefineLeft { host, domain } => {
                left_domain(snapshot, projected, (host, *domain), &step.object, findings);
            }
            Action::WipeVolume { volume } | Action::DeleteVolume { volume } => {
                let wipes = matches!(action, Action::WipeVolume { .. });
                self::volume(snapshot, projected, volume, (wipes, ready), (&undefined, &wiped), findings);
                if wipes && ready {
                    wiped.insert(volume);
                }
            }
            Action::RemoveNetwork { network, host } => {
                let on_it = |machine: &&Machine| {
                    machine.hosts().any(|one| one == host)
                        && machine.spec.nics.iter().any(|nic| nic.network == *network)
                };
                if let Some(machine) = projected.machines.values().find(on_it) {
                    let message = format!("{} on {host} is attached to {network}", machine.object_ref());
                    findings.add("InUse", &step.object, message);
                }
            }
            Action::DeleteNode { machine } => node(snapshot, projected, machine, ready, findings),
            Action::TaintOutOfService { machine } => {
                node(snapshot, projected, machine, ready, findings);
                let host = projected.machines.get(machine).map(|machine| machine.spec.host.as_str());
                let host = host.unwrap_or_default();
                let is_fenced = snapshot.hosts.get(host).is_some_and(fencing::is_proved_off);
                let is_silent =
                    matches!(snapshot.observed.hosts.get(host), Some(HostSeen::Unreachable { .. }));
                if !is_fenced || !is_silent {
                    findings.add(
                        "Fencing",
                        &step.object,
                        "its pods are given up, and its host is not proved off",
                    );
                }
            }
            _ => {}
        }
    }
}

fn seen<'s>(snapshot: &'s Snapshot, host: &str) -> Option<&'s HostWorld> {
    match snapshot.observed.hosts.get(host) {
        Some(HostSeen::Seen(world)) => Some(world),
        _ => None,
    }
}

fn domain(
    snapshot: &Snapshot,
    projected: &Projected<'_>,
    key: &NamespacedName,
    destroys: bool,
    ready: bool,
    off: &BTreeSet<&NamespacedName>,
    findings: &mut Findings,
) {
    let object = ObjectRef::new(Kind::Machine, &key.namespace, &key.name);
    let Some(machine) = projected.machines.get(key) else {
        findings.add("Intent", &object, "a destructive step for a machine that is not in the store");
        return;
    };
    let stopped_by_force = destroys
        && projected.cluster_of(machine).is_some_and(|cluster| {
            cluster.record.stopped && cluster.metadata.annotations.contains_key(names::FORCE_STOP_ANNOTATION)
        });
    if !machine.metadata.is_deleting() && !stopped_by_force {
        findings.add("Intent", &object, "a destructive step without a recorded intent");
    }
    if !ready {
        return;
    }
    let found =
        seen(snapshot, &machine.spec.host).and_then(|world| world.domains.get(&machine.spec.domain.uuid));
    if found.is_none() && !Guard::DomainUuid.stands() {
        return;
    }
    let Some(found) = found else {
        findings.add("Ours", &object, "a destructive step on a domain that was not seen");
        return;
    };
    let ours = !Guard::DomainMark.stands()
        || found.name == machine.spec.domain.name
            && found.mark.as_ref().is_some_and(|mark| {
                mark.installation == snapshot.installation && Some(mark.machine_uid) == machine.metadata.uid
            });
    if !ours {
        findings.add("Ours", &object, "a destructive step on a domain without our mark");
    }
    if !destroys && found.state.is_active() && !off.contains(key) {
        findings.add("Order", &object, "its domain is removed while it runs");
    }
}

/// A domain without a machine, or that its machine has elsewhere: its host has to remember that a call or a move may have left
/// it.
fn left_domain(
    snapshot: &Snapshot,
    projected: &Projected<'_>,
    (host, uuid): (&str, Uuid),
    object: &ObjectRef,
    findings: &mut Findings,
) {
    let record = snapshot.hosts.get(host).map(|host| &host.record);
    let left = record.and_then(|record| record.left_domains.iter().find(|left| left.uuid == uuid));
    let Some(left) = left else {
        return findings.add("Intent", object, "a domain is removed that no call is known to have left");
    };
    if let Some(machine) = projected.machines.values().find(|machine| machine.spec.domain.uuid == uuid) {
        let is_seen =
            seen(snapshot, &machine.spec.host).is_some_and(|world| world.domains.contains_key(&uuid));
        let goes_too = machine.metadata.is_deleting() && left.by_move;
        if machine.hosts().any(|one| one == host) || !is_seen && !goes_too {
            findings.add("InUse", object, "a domain is removed as left that a machine has");
        }
    }
    match seen(snapshot, host).and_then(|world| world.domains.get(&uuid)) {
        Some(found) if !found.is_left(snapshot.installation, left) => {
            findings.add("Ours", object, "a domain is removed as left that does not carry its mark");
        }
        Some(found) if found.state.is_active() && !found.stands_still_since_a_move(left) => {
            findings.add("Order", object, "a domain is removed as left while it runs");
        }
        Some(_) => {}
        None => findings.add("Ours", object, "a destructive step on a domain that was not seen"),
    }
}

fn volume(
    snapshot: &Snapshot,
    projected: &Projected<'_>,
    key: &NamespacedName,
    (wipes, ready): (bool, bool),
    (undefined, wiped): (&BTreeSet<&NamespacedName>, &BTreeSet<&NamespacedName>),
    findings: &mut Findings,
) {
    let object = ObjectRef::new(Kind::Volume, &key.namespace, &key.name);
    let Some(volume) = projected.volumes.get(key) else {
        findings.add("Intent", &object, "a destructive step on a volume that is not in the store");
        return;
    };
    let is_seed =
        matches!(volume.spec.content, VolumeContent::MachineDisk { role: MachineVolumeRole::Seed, .. });
    let owner = || projected.owner_of(volume);
    let is_disk = matches!(volume.spec.content, VolumeContent::MachineDisk { .. });
    if wipes && !is_seed && !(is_disk && volume.record.wipe) {
        findings.add("Intent", &object, "only seeds are wiped, and disks of clusters that ask for it");
    }
    let may_vote = |machine: &&Machine| {
        let cluster = projected.cluster_of(machine);
        machine.spec.role == MachineRole::ControlPlane
            && machine.record.first_started_at.is_some()
            && !snapshot.machines.get(&machine.key()).is_some_and(quorum::has_left)
            && machine.volume_names().any(|name| name == volume.metadata.name)
            && cluster.is_some_and(|it| it.record.initialized && !it.metadata.is_deleting())
    };
    if wipes && ready && !is_seed && owner().filter(may_vote).is_some() && Guard::Quorum.stands() {
        let message = "a disk is overwritten of a control plane that may be started again as a vote";
        findings.add("Quorum", &object, message);
    }
    // A machine that never ran has left nothing in it.
    let has_run = || owner().is_none_or(|machine| machine.record.first_started_at.is_some());
    if !wipes
        && ready
        && is_disk
        && volume.record.wipe
        && !volume.record.wiped
        && volume.record.not_wiped.is_empty()
        && has_run()
        && !wiped.contains(key)
    {
        findings.add("Wiped", &object, "a disk is deleted that was to be overwritten first");
    }
    let spent = || {
        is_spent_seed(snapshot, volume)
            || owner().is_some_and(|machine| is_seed && machine.record.joined_at.is_some())
    };
    // What comes after a join is shown from the start, but not done before.
    let wished = volume.metadata.is_deleting() || (is_seed && !ready) || spent();
    if !wished {
        findings.add("Intent", &object, "a destructive step without a recorded intent");
    }
    if !ready {
        return;
    }
    let Some(world) = seen(snapshot, &volume.spec.host) else {
        findings.add("Ours", &object, "a destructive step on a host that was not seen");
        return;
    };
    let there = world
        .pools
        .get(&volume.spec.pool_uuid)
        .is_some_and(|pool| pool.volumes.contains_key(&volume.spec.file_name));
    if !there {
        findings.add("Ours", &object, "a destructive step on a file that was not seen in its pool");
    }
    if let Some(machine) = owner().filter(|machine| !machine.metadata.is_deleting() && !is_seed) {
        let has_it = machine.volume_names().any(|name| name == volume.metadata.name);
        let home = snapshot.hosts.get(&machine.spec.host);
        let is_known = match snapshot.observed.hosts.get(&machine.spec.host) {
            Some(HostSeen::Seen(world)) => world.domains.contains_key(&machine.spec.domain.uuid),
            Some(HostSeen::Unreachable { .. }) => home.is_some_and(fencing::is_proved_off),
            _ => false,
        };
        if has_it || !is_known {
            findings.add(
                "InUse",
                &object,
                "a disk is deleted of a machine that has it, or was not seen elsewhere",
            );
        }
    }
    let path = volume.spec.path();
    for user in world.domains.values().filter(|domain| domain.disk_paths.contains(&path)) {
        let goes = owner().is_some_and(|machine| {
            machine.spec.domain.uuid == user.uuid && undefined.contains(&machine.key())
        });
        if !goes && Guard::FileInUse.stands() {
            findings.add("InUse", &object, format!("domain {} has it as a disk", user.name));
        }
    }
    if matches!(volume.spec.content, VolumeContent::ImageFile { .. }) {
        image_files::unused(projected, key, &object, findings);
    }
}

fn node(
    snapshot: &Snapshot,
    projected: &Projected<'_>,
    key: &NamespacedName,
    ready: bool,
    findings: &mut Findings,
) {
    let object = ObjectRef::new(Kind::Machine, &key.namespace, &key.name);
    let Some(machine) = projected.machines.get(key) else {
        findings.add("Intent", &object, "a destructive step for a machine that is not in the store");
        return;
    };
    if !machine.metadata.is_deleting() {
        findings.add("Intent", &object, "its node is given up without a recorded intent");
    }
    let cluster = NamespacedName::new(&key.namespace, &machine.spec.cluster);
    let ours = match snapshot.observed.clusters.get(&cluster) {
        Some(ClusterSeen::Seen(world)) => world
            .nodes
            .get(&machine.spec.node.name)
            .is_some_and(|node| node.provider_id == machine.spec.node.provider_id),
        _ => false,
    };
    if ready && !ours {
        findings.add("Ours", &object, "the node has not our provider id");
    }
}
