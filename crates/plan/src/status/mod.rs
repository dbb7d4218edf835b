//! Statuses for people: phases, conditions, counts. Written after a pass, never read back as input.

mod cluster;
mod host;
mod machine;

use std::collections::BTreeMap;

use ashlar_api::*;
use jiff::Timestamp;

use crate::{Plan, Snapshot, Step, StepState};

/// A status that is not as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusUpdate {
    /// The object.
    pub object: ObjectRef,
    /// As read: an object that changed meanwhile gets its status in the next pass.
    pub resource_version: String,
    /// The new status.
    pub status: StatusValue,
}

/// A status, by kind.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the status of the kind of that name")]
pub enum StatusValue {
    Host(HostStatus),
    Cluster(ClusterStatus),
    WorkerGroup(WorkerGroupStatus),
    Machine(MachineStatus),
}

/// The statuses that changed. What was not observed in this pass keeps its status.
pub fn status(snapshot: &Snapshot, plan: &Plan) -> Vec<StatusUpdate> {
    let judged = Judged::new(snapshot, plan);
    let mut updates = Vec::new();
    for host in snapshot.hosts.values() {
        if let Some(status) = host::status(snapshot, host) {
            push(&mut updates, host, status, StatusValue::Host);
        }
    }
    for machine in snapshot.machines.values() {
        let status = judged.machines[&machine.key()].clone();
        push(&mut updates, machine, status, StatusValue::Machine);
    }
    for group in snapshot.groups.values() {
        push(&mut updates, group, cluster::group(&judged, group), StatusValue::WorkerGroup);
    }
    for object in snapshot.clusters.values() {
        push(&mut updates, object, cluster::cluster(&judged, object), StatusValue::Cluster);
    }
    updates
}

fn push<S: Spec>(
    updates: &mut Vec<StatusUpdate>,
    object: &Resource<S>,
    status: S::Status,
    wrap: fn(S::Status) -> StatusValue,
) {
    if object.status != status {
        updates.push(StatusUpdate {
            object: object.object_ref(),
            resource_version: object.metadata.resource_version.clone(),
            status: wrap(status),
        });
    }
}

/// What cluster and group statuses are made from.
struct Judged<'p> {
    snapshot: &'p Snapshot,
    machines: BTreeMap<NamespacedName, MachineStatus>,
    by_cluster: BTreeMap<NamespacedName, Vec<&'p Machine>>,
    /// Of each cluster's objects the first step that is not simply taken.
    holds: BTreeMap<NamespacedName, Vec<&'p Step>>,
}

impl<'p> Judged<'p> {
    fn new(snapshot: &'p Snapshot, plan: &'p Plan) -> Self {
        let mut left: BTreeMap<&ObjectRef, &Step> = BTreeMap::new();
        let mut holds = BTreeMap::new();
        for step in &plan.steps {
            left.entry(&step.object).or_insert(step);
            if step.state != StepState::Ready {
                holds.entry(&step.object).or_insert(step);
            }
        }
        let mut by_cluster: BTreeMap<NamespacedName, Vec<&Machine>> = BTreeMap::new();
        let mut machines = BTreeMap::new();
        for machine in snapshot.machines.values() {
            let object = machine.object_ref();
            let hold = holds.get(&object).copied();
            let status = machine::status(snapshot, machine, left.contains_key(&object), hold);
            machines.insert(machine.key(), status);
            let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
            by_cluster.entry(cluster).or_default().push(machine);
        }
        let mut by_cluster_holds: BTreeMap<NamespacedName, Vec<&Step>> = BTreeMap::new();
        for (object, step) in holds {
            if let Some(cluster) = cluster_of(snapshot, object) {
                by_cluster_holds.entry(cluster).or_default().push(step);
            }
        }
        Judged { snapshot, machines, by_cluster, holds: by_cluster_holds }
    }

    fn holds_of(&self, cluster: &NamespacedName) -> &[&'p Step] {
        self.holds.get(cluster).map_or(&[], Vec::as_slice)
    }

    fn machines_of(&self, cluster: &NamespacedName) -> &[&'p Machine] {
        self.by_cluster.get(cluster).map_or(&[], Vec::as_slice)
    }

    fn is_ready(&self, machine: &Machine) -> bool {
        self.machines.get(&machine.key()).is_some_and(|status| status.phase == READY)
    }
}

/// The cluster that an object is for. A machine that has no host yet is only a name: its cluster's, more, a number.
fn cluster_of(snapshot: &Snapshot, object: &ObjectRef) -> Option<NamespacedName> {
    match object.kind {
        Kind::Cluster => Some(object.key()),
        Kind::Machine => match snapshot.machines.get(&object.key()) {
            Some(machine) => Some(NamespacedName::new(&object.namespace, &machine.spec.cluster)),
            None => snapshot
                .clusters
                .keys()
                .filter(|cluster| cluster.namespace == object.namespace)
                .filter(|cluster| {
                    object.name.strip_prefix(&cluster.name).is_some_and(|rest| rest.starts_with('-'))
                })
                .max_by_key(|cluster| cluster.name.len())
                .cloned(),
        },
        _ => None,
    }
}

/// The phase of a machine that is as it should be.
pub const READY: &str = "Ready";

/// A condition in the making.
struct Judgement {
    kind: &'static str,
    status: ConditionStatus,
    reason: String,
    message: String,
}

impl Judgement {
    fn new(kind: &'static str, status: ConditionStatus, reason: &str, message: impl Into<String>) -> Self {
        Judgement { kind, status, reason: reason.to_owned(), message: message.into() }
    }

    /// Sets it; the transition's time is kept where the status stays the same.
    fn set(self, conditions: &mut Vec<Condition>, now: Timestamp, generation: u64) {
        let condition = Condition {
            kind: self.kind.to_owned(),
            status: self.status,
            reason: self.reason,
            message: self.message,
            last_transition_time: now,
            observed_generation: generation,
        };
        condition::set_condition(conditions, condition);
    }
}

/// Reason and message of what holds a step up.
fn hold_text(step: &Step) -> (&str, &str) {
    match &step.state {
        StepState::Ready => ("InProgress", step.why.as_str()),
        StepState::Waiting(wait) => (wait.reason.as_str(), wait.message.as_str()),
        StepState::Blocked(block) => (block.reason.as_str(), block.message.as_str()),
    }
}
