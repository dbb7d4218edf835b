//! Statuses for people: phases, conditions, counts. Written after a pass, never read back as input.

mod cluster;
mod health;
mod host;
mod machine;
mod node;

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use jiff::Timestamp;

use crate::lost::{self, Lost};
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
        if let Some(status) = host::status(snapshot, &judged.recorded, plan, host) {
            push(&mut updates, host, status, StatusValue::Host);
        }
    }
    for (machine, status) in &judged.machines {
        if *status != machine.status {
            push(&mut updates, *machine, status.clone(), StatusValue::Machine);
        }
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
    /// In the order of their names.
    machines: Vec<(&'p Machine, MachineStatus)>,
    /// Machines that are ready: name, namespace.
    ready: BTreeSet<(&'p str, &'p str)>,
    /// Domains that the store knows.
    recorded: BTreeSet<uuid::Uuid>,
    by_cluster: BTreeMap<NamespacedName, Vec<&'p Machine>>,
    groups: BTreeMap<NamespacedName, Vec<&'p WorkerGroup>>,
    /// Of each cluster's objects the first step that is not simply taken.
    holds: BTreeMap<NamespacedName, Vec<&'p Step>>,
}

/// What a plan has for an object.
struct Left<'p> {
    object: &'p ObjectRef,
    /// The first step that is not simply taken.
    hold: Option<&'p Step>,
}

impl<'p> Judged<'p> {
    fn new(snapshot: &'p Snapshot, plan: &'p Plan) -> Self {
        let mut left: BTreeMap<(Kind, &str, &str), Left<'_>> = BTreeMap::new();
        // An object's steps mostly come one after the other.
        for steps in plan.steps.chunk_by(|one, next| one.object == next.object) {
            let object = &steps[0].object;
            let key = (object.kind, object.namespace.as_str(), object.name.as_str());
            let left = left.entry(key).or_insert(Left { object, hold: None });
            if left.hold.is_none() {
                left.hold = steps.iter().find(|step| step.state != StepState::Ready);
            }
        }
        let mut by_cluster: BTreeMap<NamespacedName, Vec<&Machine>> = BTreeMap::new();
        let mut machines = Vec::with_capacity(snapshot.machines.len());
        let mut ready = BTreeSet::new();
        let has_all_pools = lost::has_all_pools(snapshot);
        for machine in snapshot.machines.values() {
            let ObjectMeta { namespace, name, .. } = &machine.metadata;
            let left = left.get(&(Kind::Machine, namespace.as_str(), name.as_str()));
            let hold = left.and_then(|left| left.hold);
            let missing = lost::of_machine(snapshot, has_all_pools, machine);
            let status =
                machine::status(snapshot, machine, left.is_some(), hold, missing, &plan.report.drifts);
            if status.phase == READY {
                ready.insert((name.as_str(), namespace.as_str()));
            }
            machines.push((machine, status));
            let cluster = NamespacedName::new(namespace, &machine.spec.cluster);
            by_cluster.entry(cluster).or_default().push(machine);
        }
        let mut holds: BTreeMap<NamespacedName, Vec<&Step>> = BTreeMap::new();
        for Left { object, hold } in left.into_values() {
            if let Some(step) = hold
                && let Some(cluster) = cluster_of(snapshot, object)
            {
                holds.entry(cluster).or_default().push(step);
            }
        }
        let recorded = lost::recorded_domains(snapshot);
        let mut groups: BTreeMap<NamespacedName, Vec<&WorkerGroup>> = BTreeMap::new();
        for group in snapshot.groups.values() {
            let cluster = NamespacedName::new(&group.metadata.namespace, &group.spec.cluster);
            groups.entry(cluster).or_default().push(group);
        }
        Judged { snapshot, machines, ready, recorded, by_cluster, groups, holds }
    }

    fn holds_of(&self, cluster: &NamespacedName) -> &[&'p Step] {
        self.holds.get(cluster).map_or(&[], Vec::as_slice)
    }

    fn machines_of(&self, cluster: &NamespacedName) -> &[&'p Machine] {
        self.by_cluster.get(cluster).map_or(&[], Vec::as_slice)
    }

    fn groups_of(&self, cluster: &NamespacedName) -> &[&'p WorkerGroup] {
        self.groups.get(cluster).map_or(&[], Vec::as_slice)
    }

    fn is_ready(&self, machine: &Machine) -> bool {
        self.ready.contains(&(machine.metadata.name.as_str(), machine.metadata.namespace.as_str()))
    }
}

/// The cluster that an object is for. A machine that has no host yet is only a name: its cluster's, more, a number.
fn cluster_of(snapshot: &Snapshot, object: &ObjectRef) -> Option<NamespacedName> {
    match object.kind {
        Kind::Cluster => Some(object.key()),
        Kind::Machine => match snapshot.machines.get(&object.key()) {
            Some(machine) => Some(NamespacedName::new(&object.namespace, &machine.spec.cluster)),
            None => object
                .name
                .rmatch_indices('-')
                .map(|(at, _)| NamespacedName::new(&object.namespace, &object.name[..at]))
                .find(|cluster| snapshot.clusters.contains_key(cluster)),
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

/// The condition of an object that refers to others: there only while one of them is not in the store.
const RESOLVED_REFS: &str = "ResolvedRefs";

/// Sets a condition that says what is wrong, or takes it away.
fn warn(
    kind: &'static str,
    lost: Option<Lost>,
    conditions: &mut Vec<Condition>,
    now: Timestamp,
    generation: u64,
) {
    match lost {
        None => conditions.retain(|condition| condition.kind != kind),
        Some(Lost { reason, message }) => {
            Judgement::new(kind, ConditionStatus::False, reason, message).set(conditions, now, generation);
        }
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
