//! A plan in the making: what was read, what was decided over it so far, and why.

mod commits;
mod overlay;

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;

use crate::{Note, NoteKind, Report, Snapshot, names};

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
    /// Machines by cluster, so that nothing has to be looked for.
    by_cluster: BTreeMap<NamespacedName, BTreeSet<NamespacedName>>,
    /// Machines that should be and have no host yet, with what would help.
    pub(crate) pending: Vec<Pending>,
    /// What nobody but a person can decide.
    pub(crate) blocked: Vec<Blocked>,
    commits: Commits,
    pub(crate) report: Report,
}

/// A machine that has no host yet.
pub(crate) struct Pending {
    pub(crate) machine: NamespacedName,
    pub(crate) cluster: NamespacedName,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// An object that cannot be planned for as it is written.
pub(crate) struct Blocked {
    pub(crate) object: ObjectRef,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let mut by_cluster: BTreeMap<NamespacedName, BTreeSet<NamespacedName>> = BTreeMap::new();
        for (key, machine) in &snapshot.machines {
            by_cluster.entry(cluster_of(machine)).or_default().insert(key.clone());
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
            by_cluster,
            pending: Vec::new(),
            blocked: Vec::new(),
            commits: Commits::default(),
            report: Report::default(),
        }
    }

    /// A cluster's machines: control planes first, then workers by group, each by number.
    pub(crate) fn machines_of(&self, cluster: &NamespacedName) -> Vec<&Machine> {
        let mut machines: Vec<&Machine> = self
            .by_cluster
            .get(cluster)
            .into_iter()
            .flatten()
            .filter_map(|machine| self.machines.get(machine))
            .collect();
        machines.sort_by(|a, b| machine_order(a).cmp(&machine_order(b)));
        machines
    }

    pub(crate) fn has_secret(&self, secret: &NamespacedName) -> bool {
        self.snapshot.secrets.contains_key(secret) && !self.removed_secrets.contains(secret)
    }

    pub(crate) fn put_machine(&mut self, machine: Machine) {
        self.by_cluster.entry(cluster_of(&machine)).or_default().insert(machine.key());
        self.machines.insert(machine.key(), machine);
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

    /// What comes next is about another cluster, and is committed by itself.
    pub(crate) fn end_commit(&mut self) {
        self.commits.close();
    }

    /// Says what a person has to change before the object can be planned for.
    pub(crate) fn block(&mut self, object: ObjectRef, reason: &'static str, message: impl Into<String>) {
        self.blocked.push(Blocked { object, reason, message: message.into() });
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
