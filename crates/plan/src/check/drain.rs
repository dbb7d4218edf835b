//! No worker of a living cluster is turned off under pods that were not asked to go.

use ashlar_api::*;
use jiff::SignedDuration;

use super::{Findings, Projected};
use crate::{Action, ClusterSeen, HostSeen, KubeletSeen, Plan, Snapshot, StepState};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    let ready = plan.steps.iter().filter(|step| step.state == StepState::Ready);
    for step in ready {
        let Some(Action::DestroyDomain { machine: key }) = &step.action else { continue };
        let Some(machine) = projected.machines.get(key) else { continue };
        let Some(cluster) = projected.cluster_of(machine) else { continue };
        let whole = cluster.metadata.is_deleting() || cluster.record.stopped || !cluster.record.initialized;
        let runs = match snapshot.observed.hosts.get(&machine.spec.host) {
            Some(HostSeen::Seen(host)) => {
                host.domains.get(&machine.spec.domain.uuid).is_some_and(|domain| domain.state.is_active())
            }
            _ => false,
        };
        // Without a recorded intent it is found elsewhere.
        let wished = machine.metadata.is_deleting();
        if !wished
            || whole
            || !runs
            || machine.record.joined_at.is_none()
            || machine.spec.role != MachineRole::Worker
        {
            continue;
        }
        let since = machine.metadata.deletion_timestamp.unwrap_or(snapshot.now);
        let waited = snapshot.now.duration_since(since);
        let limit = cluster.spec.drain_timeout_s.map(|seconds| SignedDuration::from_secs(seconds.into()));
        if limit.is_some_and(|limit| waited >= limit) {
            continue;
        }
        let Some(ClusterSeen::Seen(world)) = snapshot.observed.clusters.get(&cluster.key()) else {
            findings.add("Drain", &step.object, "it is turned off, and nobody knows what pods run there");
            continue;
        };
        let node = world.nodes.get(&machine.spec.node.name);
        let Some(node) = node.filter(|node| node.provider_id == machine.spec.node.provider_id) else {
            continue;
        };
        let is_silent = matches!(node.kubelet, KubeletSeen::Silent { .. });
        if !node.ready || is_silent {
            let is_fine = machine.spec.node.cni == Cni::None && !is_silent;
            let patient = is_fine || waited >= SignedDuration::from_mins(5);
            if !patient {
                findings.add(
                    "Drain",
                    &step.object,
                    "it is turned off because its node is not Ready for a moment",
                );
            }
            continue;
        }
        let pods = world.pods.get(&machine.spec.node.name);
        if !node.unschedulable || pods.is_none_or(|pods| !pods.is_empty()) {
            findings.add("Drain", &step.object, "it is turned off before its node was drained");
        }
    }
}
