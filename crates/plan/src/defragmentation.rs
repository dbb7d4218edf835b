//! While a member of etcd is defragmented, it answers nobody: nothing else that disturbs a control plane of its cluster is
//! done, as nothing is while another one is replaced or moved.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use jiff::{SignedDuration, Timestamp};

use crate::{Action, Snapshot, Step, StepState, machine::wait};

/// So long it is waited for the end of one at most.
pub const LASTS: SignedDuration = SignedDuration::from_mins(10);

/// The one that is under way in a cluster, as far as anybody knows. One that ends later than any does was recorded by a clock
/// that was wrong.
pub fn under_way(cluster: &Cluster, now: Timestamp) -> Option<&Defragmentation> {
    let recorded = cluster.record.defragmenting.as_ref()?;
    let left = recorded.until.duration_since(now);
    (left.is_positive() && left <= LASTS).then_some(recorded)
}

/// The cluster whose control plane, or whose voters, a step disturbs. One that goes or is turned off as a whole has nothing to
/// lose; that a control plane is turned on disturbs nobody.
pub fn disturbed_by(snapshot: &Snapshot, step: &Step) -> Option<NamespacedName> {
    let machine = match step.action.as_ref()? {
        Action::ShutdownDomain { machine }
        | Action::DestroyDomain { machine }
        | Action::MigrateDomain { machine }
        | Action::PromoteEtcdMember { machine }
        | Action::MoveEtcdLeader { machine, .. }
        | Action::RemoveEtcdMember { machine } => snapshot.machines.get(machine)?,
        _ => return None,
    };
    let key = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    let cluster = snapshot.clusters.get(&key)?;
    let lives = cluster.record.initialized && !cluster.record.stopped && !cluster.metadata.is_deleting();
    (lives && machine.spec.role == MachineRole::ControlPlane).then_some(key)
}

/// Holds steps that would disturb a control plane beside a member that is being defragmented, and what comes after them.
pub(crate) fn hold(snapshot: &Snapshot, steps: &mut [Step]) {
    let of = |cluster: &Cluster| Some((cluster.key(), under_way(cluster, snapshot.now)?.machine.clone()));
    let machines: BTreeMap<NamespacedName, String> = snapshot.clusters.values().filter_map(of).collect();
    if machines.is_empty() {
        return;
    }
    let mut held: BTreeSet<ObjectRef> = BTreeSet::new();
    for step in steps.iter_mut().filter(|step| step.state == StepState::Ready) {
        if held.contains(&step.object) {
            step.state = wait("EarlierStep", "comes after the step before it");
        } else if let Some(machine) = disturbed_by(snapshot, step).and_then(|it| machines.get(&it)) {
            let message = format!(
                "the etcd of {machine} is being defragmented and answers nobody meanwhile: waited for, {} minutes at most",
                LASTS.as_mins()
            );
            step.state = wait("EtcdDefragmenting", message);
            held.insert(step.object.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_itself_whatever_the_clock_says() {
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        let spec = serde_json::json!({"kubernetesVersion": "v1.37.2", "controlPlane": {"replicas": 3, "class": "c"}});
        let mut cluster = Cluster::new("demo", serde_json::from_value(spec).unwrap());
        assert!(under_way(&cluster, at(0)).is_none());
        let (machine, since, until) = ("demo-ctrl-1".to_owned(), at(0), at(600));
        cluster.record.defragmenting = Some(Defragmentation { machine, since, until });
        for (second, is) in
            [(0, true), (599, true), (600, false), (10_000, false), (-1, false), (-10_000, false)]
        {
            assert_eq!(under_way(&cluster, at(second)).is_some(), is, "{second}");
        }
    }
}
