//! `cluster stop` and `cluster start`: the wish is recorded, the engine carries it out.

use ashlar_api::{Cluster, ClusterSpec, Kind, NamespacedName, ObjectRef};
use ashlar_plan::names::FORCE_STOP_ANNOTATION;
use ashlar_store::Store;

use super::DeclareError;
use crate::objects;

/// Records that the cluster's machines are to be off; `force` turns them off without asking the guests.
///
/// # Errors
/// There is no such cluster, it is being deleted, or the store failed.
pub async fn stop_cluster(
    store: &dyn Store,
    cluster: &NamespacedName,
    force: bool,
) -> Result<Cluster, DeclareError> {
    set_power(store, cluster, true, force).await
}

/// Records that the cluster's machines are to run.
///
/// # Errors
/// There is no such cluster, it is being deleted, or the store failed.
pub async fn start_cluster(store: &dyn Store, cluster: &NamespacedName) -> Result<Cluster, DeclareError> {
    set_power(store, cluster, false, false).await
}

async fn set_power(
    store: &dyn Store,
    cluster: &NamespacedName,
    stopped: bool,
    force: bool,
) -> Result<Cluster, DeclareError> {
    let name = ObjectRef::new(Kind::Cluster, &cluster.namespace, &cluster.name);
    let missing = || DeclareError::NoSuchObject(name.clone());
    let seen = objects::read::<ClusterSpec>(store, &name).await?.ok_or_else(missing)?;
    if seen.metadata.is_deleting() {
        return Err(DeclareError::BeingDeleted(name));
    }
    let updated = objects::update(store, &seen, |cluster| {
        let before = cluster.clone();
        cluster.record.stopped = stopped;
        if force {
            cluster.metadata.annotations.insert(FORCE_STOP_ANNOTATION.to_owned(), "true".to_owned());
        } else {
            cluster.metadata.annotations.remove(FORCE_STOP_ANNOTATION);
        }
        *cluster != before
    });
    updated.await?.ok_or_else(missing)
}
