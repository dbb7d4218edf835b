//! Nobody is replaced for its health on a missing answer, before its patience is over, or while too many others are
//! missed already.
//!
//! Counted without the planner's own judgement of health, by what stands in the store and what the world answered.

use ashlar_api::*;

use super::{Findings, Projected, fencing};
use crate::{ClusterSeen, Decision, EtcdSeen, Guard, HostSeen, KubeletSeen, Plan, Snapshot};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    for decision in plan.decisions.iter().flatten() {
        let Decision::Update(Object::Machine(machine)) = decision else { continue };
        let Some(before) = snapshot.machines.get(&machine.key()) else { continue };
        let newly = machine.metadata.is_deleting() && !before.metadata.is_deleting();
        if !newly || machine.record.remediation.is_none() {
            continue;
        }
        for message in faults(snapshot, projected, before) {
            findings.add("Remediation", &machine.object_ref(), message);
        }
    }
}

/// What speaks against replacing a machine for its health.
fn faults(snapshot: &Snapshot, projected: &Projected<'_>, machine: &Machine) -> Vec<String> {
    let Some(cluster) = projected.cluster_of(machine) else {
        return vec!["it is replaced for its health, and its cluster is not there".to_owned()];
    };
    let mut faults = Vec::new();
    let mut fault = |message: &str| faults.push(format!("it is replaced for its health, {message}"));
    let is_off = |machine: &Machine| is_proved_off(snapshot, machine);
    let says_off =
        machine.record.ailment.as_ref().is_some_and(|ailment| ailment.kind == AilmentKind::HostOff);
    if says_off && !is_off(machine) {
        fault("because its host is off, and of that there is no proof");
    }
    match &machine.record.ailment {
        None => fault("and no ailment of it is recorded"),
        Some(ailment) => {
            if ailment.sightings < Ailment::PATIENCE_SIGHTINGS {
                fault("and its patience is not over");
            }
            let needs_host = !matches!(ailment.kind, AilmentKind::FirstBootFailed | AilmentKind::HostOff);
            let host = snapshot.observed.hosts.get(&machine.spec.host);
            if needs_host && !matches!(host, Some(HostSeen::Seen(_))) {
                fault("and its host did not answer");
            }
            if ailment.kind == AilmentKind::FirstBootFailed && !has_joined_worker(snapshot, machine) {
                fault("and no worker of its cluster ever joined");
            }
        }
    }
    if !cluster.spec.health.remediate || cluster.spec.paused || cluster.record.stopped {
        fault("and its cluster wants that of nobody now");
    }
    if !matches!(snapshot.observed.clusters.get(&cluster.key()), Some(ClusterSeen::Seen(_))) {
        fault("and the API did not answer");
    }
    faults.extend(not_so(snapshot, &cluster.key(), machine));
    if Guard::RemediationLimits.stands() {
        let beside: Vec<&Machine> = projected
            .machines
            .values()
            .filter(|other| {
                other.metadata.namespace == machine.metadata.namespace
                    && other.spec.cluster == machine.spec.cluster
                    && other.spec.role == machine.spec.role
                    && other.spec.group == machine.spec.group
            })
            .collect();
        faults.extend(match machine.spec.role {
            // Nobody works on a host that is off.
            MachineRole::Worker if says_off => Vec::new(),
            MachineRole::Worker => too_many_workers(snapshot, projected, cluster, machine, &beside),
            MachineRole::ControlPlane => control_plane_missed(snapshot, cluster, machine, &beside),
        });
    }
    faults
}

/// What its node answered that the ailment on record cannot be.
fn not_so(snapshot: &Snapshot, cluster: &NamespacedName, machine: &Machine) -> Option<String> {
    let Some(ClusterSeen::Seen(api)) = snapshot.observed.clusters.get(cluster) else { return None };
    let node = api.nodes.get(&machine.spec.node.name)?;
    let is_silent = matches!(node.kubelet, KubeletSeen::Silent { .. });
    let why = match machine.record.ailment.as_ref()?.kind {
        AilmentKind::NodeMissing => "and its node is there",
        AilmentKind::NodeNotReady if node.ready => "and its node is Ready",
        AilmentKind::GuestNotUp if node.ready && !is_silent => "and its node is Ready",
        AilmentKind::KubeletSilent if !is_silent => "and its kubelet is not silent",
        AilmentKind::StaticPodNotReady if node.static_pods.is_empty() => {
            "and of its static pods none was seen"
        }
        _ => return None,
    };
    Some(format!("it is replaced for its health, {why}"))
}

fn has_joined_worker(snapshot: &Snapshot, machine: &Machine) -> bool {
    machine.spec.role == MachineRole::Worker
        && snapshot.machines.values().any(|other| {
            other.spec.role == MachineRole::Worker
                && other.spec.cluster == machine.spec.cluster
                && other.metadata.namespace == machine.metadata.namespace
                && other.record.joined_at.is_some()
        })
}

/// Whether a person confirmed that its host, which does not answer, is off.
fn is_proved_off(snapshot: &Snapshot, machine: &Machine) -> bool {
    let host = &machine.spec.host;
    snapshot.hosts.get(host).is_some_and(fencing::is_proved_off)
        && matches!(snapshot.observed.hosts.get(host), Some(HostSeen::Unreachable { .. }))
}

/// `beside` holds the machine itself, as it will be.
fn too_many_workers(
    snapshot: &Snapshot,
    projected: &Projected<'_>,
    cluster: &Cluster,
    machine: &Machine,
    beside: &[&Machine],
) -> Vec<String> {
    let key = NamespacedName::new(&machine.metadata.namespace, &machine.spec.group);
    let Some(group) = projected.groups.get(&key) else {
        return vec!["it is replaced for its health, and its group is not there".to_owned()];
    };
    let mut faults = Vec::new();
    let asked = group.spec.replicas.unwrap_or(0);
    // Those on hosts that are off are missed already, whoever else goes.
    let goes = |other: &&&Machine| {
        other.metadata.is_deleting() && !other.record.disks_only && !is_proved_off(snapshot, other)
    };
    let going = beside.iter().filter(goes).count();
    let allowed = std::cmp::max(1, asked as usize * cluster.spec.health.max_percent as usize / 100);
    if going > allowed {
        faults.push(format!("{going} of {asked} machines of its group go at once, and {allowed} may"));
    }
    let others = || beside.iter().filter(|other| other.key() != machine.key());
    let new = |other: &Machine| !snapshot.machines.contains_key(&other.key());
    let well = |other: &&&Machine| {
        other.record.joined_at.is_some()
            && other.record.ailment.is_none()
            && !other.metadata.is_deleting()
            && !new(other)
    };
    let stayed = others().filter(|other| !new(other) && !other.metadata.is_deleting()).count();
    if stayed > 0 && others().filter(well).count() == 0 && others().all(|other| !is_young(snapshot, other)) {
        faults.push("no machine of its group is well, so that what ails them is not their own".to_owned());
    }
    let replaced = group.record.incident.as_ref().map_or(0, |incident| incident.replaced);
    if !(1..=cluster.spec.health.max_replaced).contains(&replaced) {
        faults.push(format!("{replaced} machines of its group are counted as replaced in this incident"));
    }
    faults
}

/// Not joined yet: nobody knows whether it will be well.
fn is_young(snapshot: &Snapshot, machine: &Machine) -> bool {
    machine.record.joined_at.is_none()
        && machine.record.failure.is_none()
        && snapshot.machines.contains_key(&machine.key())
        && !machine.metadata.is_deleting()
}

fn control_plane_missed(
    snapshot: &Snapshot,
    cluster: &Cluster,
    machine: &Machine,
    beside: &[&Machine],
) -> Vec<String> {
    let mut faults = Vec::new();
    let asked = cluster.spec.control_plane.replicas as usize;
    if asked < 3 {
        faults.push("the only control plane is never replaced for its health".to_owned());
    }
    let others: Vec<&&Machine> = beside
        .iter()
        .filter(|other| other.key() != machine.key() && snapshot.machines.contains_key(&other.key()))
        .collect();
    // Those on hosts that are off are missed already: that costs no further one, and etcd is asked below.
    let says_off =
        machine.record.ailment.as_ref().is_some_and(|ailment| ailment.kind == AilmentKind::HostOff);
    let is_missed = |other: &&&&Machine| says_off && is_proved_off(snapshot, other);
    let sound = others.iter().filter(|other| {
        is_missed(other)
            || other.record.joined_at.is_some()
                && other.record.ailment.is_none()
                && !other.metadata.is_deleting()
    });
    let goes = |other: &&Machine| {
        other.metadata.is_deleting() && !other.record.disks_only && !is_proved_off(snapshot, other)
    };
    if sound.count() + 1 < asked || others.iter().any(|other| goes(other)) {
        faults.push("another control plane is missing, not well, or on its way".to_owned());
    }
    if others.iter().any(|other| other.record.migration.is_some()) {
        faults.push("another control plane is moving to another host".to_owned());
    }
    match snapshot.observed.etcd.get(&cluster.key()) {
        Some(EtcdSeen::Seen(etcd)) => {
            let address = machine.spec.node_address().map(|address| format!("https://{address}:"));
            let is_own = |member: &crate::EtcdMember| {
                member.name == machine.spec.node.name
                    || member.name.is_empty()
                        && member
                            .peer_urls
                            .iter()
                            .any(|url| address.as_ref().is_some_and(|address| url.starts_with(address)))
            };
            let left: Vec<u64> = etcd
                .members
                .values()
                .filter(|member| !member.is_learner && !is_own(member))
                .map(|member| member.id)
                .collect();
            let answers: Vec<u64> = etcd
                .nodes
                .values()
                .flatten()
                .filter(|status| status.leader.is_some() && status.errors.is_empty())
                .map(|status| status.member_id)
                .collect();
            let healthy = left.iter().filter(|id| answers.contains(*id)).count();
            if 2 * healthy <= left.len() {
                faults.push(format!("without it {healthy} of {} voters of etcd are healthy", left.len()));
            }
        }
        Some(EtcdSeen::Unreachable { .. }) | None => {
            faults.push("its etcd was not seen".to_owned());
        }
    }
    let replaced = cluster.record.incident.as_ref().map_or(0, |incident| incident.replaced);
    if !says_off && !(1..=cluster.spec.health.max_replaced).contains(&replaced) {
        faults.push(format!("{replaced} control planes are counted as replaced in this incident"));
    }
    faults
}
