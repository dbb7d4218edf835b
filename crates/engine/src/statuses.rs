//! Writing statuses: only what changed, for people; the planner never reads them.

use ashlar_api::{Object, ObjectRef};
use ashlar_plan::{
    Plan, Snapshot,
    status::{StatusUpdate, StatusValue, status},
};
use ashlar_store::{Revision, StoreError, Transaction};

use crate::{Engine, EngineError, objects};

impl Engine {
    /// Writes the statuses that changed, and puts them into the snapshot. An object that changed meanwhile gets its
    /// status in the next pass.
    pub(crate) async fn write_statuses(
        &self,
        snapshot: &mut Snapshot,
        plan: &Plan,
    ) -> Result<(), EngineError> {
        let objects: Vec<Object> =
            status(snapshot, plan).into_iter().filter_map(|update| with_status(snapshot, update)).collect();
        for chunk in objects.chunks(ashlar_store::MAX_OPERATIONS) {
            match self.put_all(chunk).await {
                Ok(revision) => chunk.iter().for_each(|object| remember(snapshot, object, revision)),
                Err(EngineError::Store(error)) if error.is_conflict() => {
                    // One of them changed meanwhile: the others need not wait for it.
                    for object in chunk {
                        match self.put_all(std::slice::from_ref(object)).await {
                            Ok(revision) => remember(snapshot, object, revision),
                            Err(EngineError::Store(StoreError::Conflict { .. })) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn put_all(&self, objects: &[Object]) -> Result<Revision, EngineError> {
        let mut transaction = Transaction::new();
        for object in objects {
            let expect = objects::unchanged_since(&object.metadata().resource_version)?;
            let key = objects::key_of(&object.object_ref());
            transaction = transaction.put(key, objects::to_stored(object.clone())?, expect);
        }
        Ok(self.store.commit(transaction).await?)
    }
}

/// The object with its new status.
fn with_status(snapshot: &Snapshot, update: StatusUpdate) -> Option<Object> {
    let ObjectRef { namespace, name, .. } = &update.object;
    let key = ashlar_api::NamespacedName::new(namespace, name);
    let object = match update.status {
        StatusValue::Host(status) => {
            Object::from(ashlar_api::Host { status, ..snapshot.hosts.get(name)?.clone() })
        }
        StatusValue::Cluster(status) => {
            Object::from(ashlar_api::Cluster { status, ..snapshot.clusters.get(&key)?.clone() })
        }
        StatusValue::WorkerGroup(status) => {
            Object::from(ashlar_api::WorkerGroup { status, ..snapshot.groups.get(&key)?.clone() })
        }
        StatusValue::Machine(status) => {
            Object::from(ashlar_api::Machine { status, ..snapshot.machines.get(&key)?.clone() })
        }
    };
    Some(object)
}

fn remember(snapshot: &mut Snapshot, object: &Object, revision: Revision) {
    let mut object = object.clone();
    object.metadata_mut().resource_version = revision.to_string();
    crate::read::insert_object(snapshot, object);
}
