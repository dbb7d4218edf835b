//! No step leaves an etcd cluster with fewer healthy voters than a majority; one control plane at a time.

use std::collections::BTreeMap;

use ashlar_api::*;

use super::{Findings, Projected};
use crate::{Action, ClusterSeen, HostSeen, Plan, Snapshot, StepState};

#[derive(Default)]
struct Disruptions<'p> {
    hit: Vec<&'p NamespacedName>,
    joining: Vec<&'p NamespacedName>,
}

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    let mut clusters: BTreeMap<NamespacedName, Disruptions<'_>> = BTreeMap::new();
    for step in plan.steps.iter().filter(|step| step.state == StepState::Ready) {
        let Some(action) = &step.action else { continue };
        let (key, joins) = match action {
            Action::DestroyDomain { machine }
            | Action::UndefineDomain { machine }
            | Action::ShutdownDomain { machine }
            | Action::DeleteNode { machine } => (machine, false),
            Action::StartDomain { machine } => (machine, true),
            Action::DeleteVolume { volume } => {
                let owner = projected.volumes.get(volume).and_then(|volume| {
                    let seed = matches!(
                        volume.spec.content,
                        VolumeContent::MachineDisk { role: MachineVolumeRole::Seed, .. }
                    );
                    projected.owner_of(volume).filter(|_| !seed)
                });
                let Some((key, _)) = owner.and_then(|owner| projected.machines.get_key_value(&owner.key()))
                else {
                    continue;
                };
                (key, false)
            }
            _ => continue,
        };
        let Some(machine) = projected.machines.get(key) else { continue };
        if machine.spec.role != MachineRole::ControlPlane {
            continue;
        }
        let Some(cluster) = projected.cluster_of(machine) else { continue };
        // A cluster that goes, or is turned off as a whole, has no quorum to keep.
        if cluster.metadata.is_deleting() || cluster.record.stopped || !cluster.record.initialized {
            continue;
        }
        let disruptions = clusters.entry(cluster.key()).or_default();
        let list =
            match (joins, machine.record.joined_at.is_none() && machine.spec.bootstrap == Bootstrap::Join) {
                (true, true) => &mut disruptions.joining,
                // Turning a member on again disturbs nobody.
                (true, false) => continue,
                (false, _) => &mut disruptions.hit,
            };
        if list.last() != Some(&key) {
            list.push(key);
        }
    }
    for (cluster, disruptions) in clusters {
        judge(snapshot, projected, &cluster, &disruptions, findings);
    }
}

fn judge(
    snapshot: &Snapshot,
    projected: &Projected<'_>,
    cluster: &NamespacedName,
    disruptions: &Disruptions<'_>,
    findings: &mut Findings,
) {
    let object = ObjectRef::new(Kind::Cluster, &cluster.namespace, &cluster.name);
    let members: Vec<&&Machine> = projected
        .machines
        .values()
        .filter(|machine| {
            machine.spec.role == MachineRole::ControlPlane
                && machine.metadata.namespace == cluster.namespace
                && machine.spec.cluster == cluster.name
                && machine.record.first_started_at.is_some()
        })
        .collect();
    let joining = members
        .iter()
        .filter(|machine| {
            machine.spec.bootstrap == Bootstrap::Join
                && machine.record.joined_at.is_none()
                && machine.record.failure.is_none()
                && !disruptions.joining.contains(&&machine.key())
        })
        .count();
    if disruptions.joining.len() + joining > 1 {
        findings.add("OneAtATime", &object, "two control planes join at once");
    }
    if disruptions.hit.is_empty() {
        return;
    }
    let healthy = members
        .iter()
        .filter(|machine| machine.record.joined_at.is_some() && is_healthy(snapshot, cluster, machine))
        .filter(|machine| !disruptions.hit.contains(&&machine.key()))
        .count();
    let majority = members.len() / 2 + 1;
    if disruptions.hit.len() > 1 {
        findings.add("OneAtATime", &object, "two control planes are disrupted at once");
    }
    if healthy < majority {
        findings.add(
            "Quorum",
            &object,
            format!("{healthy} healthy etcd members would be left, and {majority} are needed"),
        );
    }
}

fn is_healthy(snapshot: &Snapshot, cluster: &NamespacedName, machine: &Machine) -> bool {
    let running = match snapshot.observed.hosts.get(&machine.spec.host) {
        Some(HostSeen::Seen(world)) => {
            world.domains.get(&machine.spec.domain.uuid).is_some_and(|domain| domain.state.is_active())
        }
        _ => false,
    };
    let ready = match snapshot.observed.clusters.get(cluster) {
        Some(ClusterSeen::Seen(world)) => {
            world.nodes.get(&machine.spec.node.name).is_some_and(|node| node.ready)
        }
        _ => false,
    };
    running && ready
}
