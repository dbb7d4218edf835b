//! The store as it will be once the plan's decisions are committed.

use std::collections::BTreeMap;

use ashlar_api::*;

use crate::{Decision, Plan, Snapshot};

pub(super) struct Projected<'p> {
    pub(super) clusters: BTreeMap<NamespacedName, &'p Cluster>,
    pub(super) groups: BTreeMap<NamespacedName, &'p WorkerGroup>,
    pub(super) machines: BTreeMap<NamespacedName, &'p Machine>,
    pub(super) volumes: BTreeMap<NamespacedName, &'p Volume>,
}

impl<'p> Projected<'p> {
    pub(super) fn new(snapshot: &'p Snapshot, plan: &'p Plan) -> Self {
        let mut projected = Projected {
            clusters: snapshot.clusters.iter().map(|(key, object)| (key.clone(), object)).collect(),
            groups: snapshot.groups.iter().map(|(key, object)| (key.clone(), object)).collect(),
            machines: snapshot.machines.iter().map(|(key, object)| (key.clone(), object)).collect(),
            volumes: snapshot.volumes.iter().map(|(key, object)| (key.clone(), object)).collect(),
        };
        for decision in plan.decisions.iter().flatten() {
            match decision {
                Decision::Create(object) | Decision::Update(object) => match object {
                    Object::Cluster(object) => _ = projected.clusters.insert(object.key(), object),
                    Object::WorkerGroup(object) => _ = projected.groups.insert(object.key(), object),
                    Object::Machine(object) => _ = projected.machines.insert(object.key(), object),
                    Object::Volume(object) => _ = projected.volumes.insert(object.key(), object),
                    _ => {}
                },
                Decision::Remove { object, .. } => match object.kind {
                    Kind::Cluster => _ = projected.clusters.remove(&object.key()),
                    Kind::WorkerGroup => _ = projected.groups.remove(&object.key()),
                    Kind::Machine => _ = projected.machines.remove(&object.key()),
                    Kind::Volume => _ = projected.volumes.remove(&object.key()),
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
        self.clusters.get(&key).copied()
    }

    /// The machine that a volume belongs to.
    pub(super) fn owner_of(&self, volume: &Volume) -> Option<&'p Machine> {
        match &volume.spec.content {
            VolumeContent::MachineDisk { machine, .. } => {
                self.machines.get(&NamespacedName::new(&volume.metadata.namespace, machine)).copied()
            }
            VolumeContent::ImageFile { .. } => None,
        }
    }
}
