//! A plan in the making: what was read, what was decided over it so far, and why.

mod commits;
mod overlay;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_api::*;

use crate::{Note, NoteKind, Report, SecretFacts, Snapshot, StepState, machine, names};

pub(crate) use commits::Commits;
pub use commits::MAX_COMMIT_WRITES;
pub(crate) use commits::{NetworkClaim, Unit};
pub(crate) use overlay::Overlay;

/// The world as it will be in the store once this plan's decisions are committed.
pub(crate) struct Draft<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) hosts: Overlay<'a, String, Host>,
    pub(crate) networks: Overlay<'a, String, Network>,
    pub(crate) clusters: Overlay<'a, NamespacedName, Cluster>,
    pub(crate) groups: Overlay<'a, NamespacedName, WorkerGroup>,
    pub(crate) machines: Overlay<'a, NamespacedName, Machine>,
    pub(crate) volumes: Overlay<'a, NamespacedName, Volume>,
    removed_secrets: BTreeSet<NamespacedName>,
    /// Networks by broadcast domain.
    pub(crate) segments: BTreeMap<String, Vec<String>>,
    /// Machines by cluster (namespace, name), in their order, as they were read: nothing has to be looked for.
    read_of: BTreeMap<(&'a str, &'a str), Vec<ReadMachine<'a>>>,
    /// Machines by cluster that this plan makes.
    new_of: BTreeMap<NamespacedName, BTreeSet<NamespacedName>>,
    /// Groups by cluster, as they were read.
    groups_read: BTreeMap<NamespacedName, Vec<NamespacedName>>,
    /// Machines that should be and have no host yet, with what would help.
    pub(crate) pending: Vec<Pending>,
    /// What is not decided, with the reason.
    pub(crate) held: Vec<Held>,
    /// Machines that are not well and get well, or get another in their place, by themselves.
    pub(crate) waited_for: BTreeSet<NamespacedName>,
    commits: Commits,
    pub(crate) report: Report,
}

/// A machine as it was read, with its key.
type ReadMachine<'a> = (&'a NamespacedName, &'a Arc<Machine>);

/// A machine that has no host yet.
pub(crate) struct Pending {
    pub(crate) machine: NamespacedName,
    pub(crate) cluster: NamespacedName,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Something about an object that is not decided now.
pub(crate) struct Held {
    pub(crate) object: ObjectRef,
    /// What would be done.
    pub(crate) what: String,
    pub(crate) state: StepState,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let mut read_of: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, machine) in snapshot.machines.iter_shared() {
            let cluster = (machine.metadata.namespace.as_str(), machine.spec.cluster.as_str());
            read_of.entry(cluster).or_default().push((key, machine));
        }
        for machines in read_of.values_mut() {
            machines.sort_by_cached_key(|(_, machine)| machine_order(machine));
        }
        let mut groups_read: BTreeMap<NamespacedName, Vec<NamespacedName>> = BTreeMap::new();
        for (key, group) in &snapshot.groups {
            let cluster = NamespacedName::new(&group.metadata.namespace, &group.spec.cluster);
            groups_read.entry(cluster).or_default().push(key.clone());
        }
        let mut segments: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, network) in &snapshot.networks {
            segments.entry(network.segment()).or_default().push(name.clone());
        }
        Draft {
            snapshot,
            segments,
            hosts: Overlay::new(&snapshot.hosts),
            networks: Overlay::new(&snapshot.networks),
            clusters: Overlay::new(&snapshot.clusters),
            groups: Overlay::new(&snapshot.groups),
            machines: Overlay::new(&snapshot.machines),
            volumes: Overlay::new(&snapshot.volumes),
            removed_secrets: BTreeSet::new(),
            read_of,
            new_of: BTreeMap::new(),
            groups_read,
            pending: Vec::new(),
            held: Vec::new(),
            waited_for: BTreeSet::new(),
            commits: Commits::default(),
            report: Report::default(),
        }
    }

    /// A cluster's machines: control planes first, then workers by group, each by number.
    pub(crate) fn machines_of(&self, cluster: &NamespacedName) -> Vec<&Arc<Machine>> {
        let read = self.read_of.get(&(cluster.namespace.as_str(), cluster.name.as_str()));
        let read = read.into_iter().flatten();
        if self.machines.is_as_read() {
            return read.map(|(_, machine)| *machine).collect();
        }
        let mut machines: Vec<&Arc<Machine>> =
            read.filter_map(|(key, machine)| self.machines.now(key, machine)).collect();
        if let Some(new) = self.new_of.get(cluster) {
            machines.extend(new.iter().filter_map(|key| self.machines.get_shared(key)));
            machines.sort_by_cached_key(|machine| machine_order(machine));
        }
        machines
    }

    /// Keys of a cluster's groups, in order.
    /// Machines of a cluster that this plan takes out of the store.
    pub(crate) fn removed_of(&self, cluster: &NamespacedName) -> Vec<&'a Arc<Machine>> {
        let read = self.read_of.get(&(cluster.namespace.as_str(), cluster.name.as_str()));
        let read = read.into_iter().flatten();
        read.filter(|(key, _)| !self.machines.contains(key)).map(|(_, machine)| *machine).collect()
    }

    pub(crate) fn groups_of(&self, cluster: &NamespacedName) -> Vec<NamespacedName> {
        let is_of = |group: &WorkerGroup| {
            group.metadata.namespace == cluster.namespace && group.spec.cluster == cluster.name
        };
        let read = self.groups_read.get(cluster).into_iter().flatten();
        let read = read.filter(|key| self.groups.get(key).is_some_and(is_of)).cloned();
        let new = self.groups.changes().filter(|(_, group)| is_of(group)).map(|(key, _)| key.clone());
        let keys: BTreeSet<NamespacedName> = read.chain(new).collect();
        keys.into_iter().collect()
    }

    pub(crate) fn has_secret(&self, secret: &NamespacedName) -> bool {
        self.secret(secret).is_some()
    }

    /// What is known of a secret that is there, and stays.
    pub(crate) fn secret(&self, secret: &NamespacedName) -> Option<&'a SecretFacts> {
        self.snapshot.secrets.get(secret).filter(|_| !self.removed_secrets.contains(secret))
    }

    pub(crate) fn put_machine(&mut self, machine: Machine) {
        let key = machine.key();
        if !self.snapshot.machines.contains_key(&key) {
            self.new_of.entry(cluster_of(&machine)).or_default().insert(key.clone());
        }
        self.machines.insert(key, machine);
    }

    pub(crate) fn remove_secret(&mut self, unit: &mut Unit, secret: &NamespacedName) {
        if let Some(facts) = self.snapshot.secrets.get(secret)
            && self.removed_secrets.insert(secret.clone())
        {
            let object = ObjectRef::new(Kind::Secret, &secret.namespace, &secret.name);
            unit.remove(object, &facts.resource_version);
        }
    }

    pub(crate) fn commit(&mut self, unit: Unit) {
        self.commits.push(unit, &self.networks);
    }

    /// What comes next is about something else (another cluster, say), and is committed by itself.
    pub(crate) fn end_commit(&mut self) {
        self.commits.close();
    }

    /// Says what a person has to change before the object can be planned for.
    pub(crate) fn block(&mut self, object: ObjectRef, reason: &'static str, message: impl Into<String>) {
        self.hold(object, "decide its machines".to_owned(), machine::block(reason, message));
    }

    /// Says what would be decided, and why it is not.
    pub(crate) fn hold(&mut self, object: ObjectRef, what: String, state: StepState) {
        self.held.push(Held { object, what, state });
    }

    pub(crate) fn note(
        &mut self,
        object: ObjectRef,
        kind: NoteKind,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.report.notes.push(Note { object, kind, reason: reason.to_owned(), message: message.into() });
    }

    pub(crate) fn finish(self) -> (Vec<Vec<crate::Decision>>, Report) {
        (self.commits.finish(), self.report)
    }
}

/// The key of a machine's cluster.
pub(crate) fn cluster_of(machine: &Machine) -> NamespacedName {
    NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster)
}

/// Control planes first, then workers by group, each by number.
pub(crate) fn machine_order(machine: &Machine) -> (MachineRole, &str, u32, &str) {
    let name = machine.metadata.name.as_str();
    (machine.spec.role, machine.spec.group.as_str(), names::machine_number(name), name)
}

/// Metadata of an object that the planner makes: complete, because nothing is left to be filled in later.
pub(crate) fn new_metadata(
    key: &NamespacedName,
    uid: uuid::Uuid,
    now: jiff::Timestamp,
    owner: Option<OwnerReference>,
) -> ObjectMeta {
    ObjectMeta {
        name: key.name.clone(),
        namespace: key.namespace.clone(),
        uid: Some(uid),
        generation: 1,
        finalizers: vec![FINALIZER.to_owned()],
        owner_references: owner.into_iter().collect(),
        creation_timestamp: Some(now),
        ..ObjectMeta::default()
    }
}

/// A reference to an owner.
pub(crate) fn owner_reference<S: Spec>(owner: &Resource<S>) -> OwnerReference {
    OwnerReference {
        kind: S::KIND,
        name: owner.metadata.name.clone(),
        uid: owner.metadata.uid.unwrap_or_default(),
    }
}
