//! The store as it will be once the plan's decisions are committed.

use std::collections::BTreeMap;

use ashlar_api::*;

use crate::{Decision, Objects, Plan, Snapshot};

/// Objects as they were read, with what the plan changes.
pub(super) struct Over<'p, V> {
    read: &'p Objects<NamespacedName, V>,
    changed: BTreeMap<NamespacedName, Option<&'p V>>,
}

impl<'p, V> Over<'p, V> {
    fn new(read: &'p Objects<NamespacedName, V>) -> Self {
        Over { read, changed: BTreeMap::new() }
    }

    fn insert(&mut self, key: NamespacedName, object: &'p V) {
        self.changed.insert(key, Some(object));
    }

    fn remove(&mut self, key: &NamespacedName) {
        self.changed.insert(key.clone(), None);
    }

    pub(super) fn get(&self, key: &NamespacedName) -> Option<&'p V> {
        match self.changed.get(key) {
            Some(change) => *change,
            None => self.read.get(key),
        }
    }

    pub(super) fn contains_key(&self, key: &NamespacedName) -> bool {
        self.get(key).is_some()
    }

    /// Those that change last.
    pub(super) fn values(&self) -> impl Iterator<Item = &'p V> {
        let read = self.read.iter().filter(|(key, _)| !self.changed.contains_key(*key));
        read.map(|(_, object)| object).chain(self.changed.values().filter_map(|change| *change))
    }
}

pub(super) struct Projected<'p> {
    pub(super) clusters: Over<'p, Cluster>,
    pub(super) groups: Over<'p, WorkerGroup>,
    pub(super) machines: Over<'p, Machine>,
    pub(super) volumes: Over<'p, Volume>,
}

impl<'p> Projected<'p> {
    pub(super) fn new(snapshot: &'p Snapshot, plan: &'p Plan) -> Self {
        let mut projected = Projected {
            clusters: Over::new(&snapshot.clusters),
            groups: Over::new(&snapshot.groups),
            machines: Over::new(&snapshot.machines),
            volumes: Over::new(&snapshot.volumes),
        };
        for decision in plan.decisions.iter().flatten() {
            match decision {
                Decision::Create(object) | Decision::Update(object) => match object {
                    Object::Cluster(object) => projected.clusters.insert(object.key(), object),
                    Object::WorkerGroup(object) => projected.groups.insert(object.key(), object),
                    Object::Machine(object) => projected.machines.insert(object.key(), object),
                    Object::Volume(object) => projected.volumes.insert(object.key(), object),
                    _ => {}
                },
                Decision::Remove { object, .. } => match object.kind {
                    Kind::Cluster => projected.clusters.remove(&object.key()),
                    Kind::WorkerGroup => projected.groups.remove(&object.key()),
                    Kind::Machine => projected.machines.remove(&object.key()),
                    Kind::Volume => projected.volumes.remove(&object.key()),
                    _ => {}
                },
                Decision::Check { .. } => {}
            }
        }
        projected
    }

    /// The cluster of a machine.
    pub(super) fn cluster_of(&self, machine: &Machine) -> Option<&'p Cluster> {
        let key = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
        self.clusters.get(&key)
    }

    /// The machine that a volume belongs to.
    pub(super) fn owner_of(&self, volume: &Volume) -> Option<&'p Machine> {
        match &volume.spec.content {
            VolumeContent::MachineDisk { machine, .. } => {
                self.machines.get(&NamespacedName::new(&volume.metadata.namespace, machine))
            }
            VolumeContent::ImageFile { .. } | VolumeContent::Leftover { .. } => None,
        }
    }
}
