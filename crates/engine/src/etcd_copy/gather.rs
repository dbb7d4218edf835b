//! What a cluster is, and stands on.

use std::collections::BTreeSet;

use ashlar_api::{
    Cluster, Kind, Machine, NamespacedName, Object, ObjectRef, Resource, Secret, SecretSpec, Spec,
};
use ashlar_plan::{Objects, Snapshot, names};
use ashlar_store::Store;

use crate::{EngineError, objects};

/// The cluster with its groups, machines, their volumes and secrets (sealed, as they are in the store), and the classes, networks,
/// images, hosts and pools that those name: what they name first. Tokens of joins under way are of no use later.
///
/// # Errors
/// The store cannot be read; a secret of the cluster is not in it.
pub(crate) async fn gather(
    store: &dyn Store,
    snapshot: &Snapshot,
    cluster: &Cluster,
) -> Result<Vec<serde_json::Value>, EngineError> {
    let key = cluster.key();
    let own = |namespace: &str, of: &str| namespace == key.namespace && of == key.name;
    let groups: Vec<_> = snapshot
        .groups
        .values()
        .filter(|group| own(&group.metadata.namespace, &group.spec.cluster))
        .collect();
    let machines: Vec<&Machine> = snapshot
        .machines
        .values()
        .filter(|machine| own(&machine.metadata.namespace, &machine.spec.cluster))
        .collect();
    let volumes: Vec<_> = machines
        .iter()
        .flat_map(|machine| machine.spec.volumes.iter())
        .filter_map(|volume| snapshot.volumes.get(&NamespacedName::new(&key.namespace, &volume.name)))
        .collect();

    let hosts: BTreeSet<&str> = machines.iter().map(|machine| machine.spec.host.as_str()).collect();
    let networks: BTreeSet<&str> = machines
        .iter()
        .flat_map(|machine| machine.spec.nics.iter().map(|nic| nic.network.as_str()))
        .chain([cluster.spec.network.as_str()])
        .collect();
    let images: BTreeSet<&str> = machines
        .iter()
        .map(|machine| machine.spec.image.name.as_str())
        .chain([cluster.spec.image.as_str(), cluster.record.image.as_str()])
        .collect();
    let classes: BTreeSet<&str> = machines
        .iter()
        .map(|machine| machine.spec.class.as_str())
        .chain(groups.iter().map(|group| group.spec.class.as_str()))
        .chain([cluster.spec.control_plane.class.as_str()])
        .collect();
    let of_classes = classes.iter().filter_map(|name| snapshot.classes.get(*name));
    let pools: BTreeSet<&str> = volumes
        .iter()
        .map(|volume| volume.spec.pool.as_str())
        .chain(of_classes.map(|class| class.spec.storage_pool.as_str()))
        .collect();

    let mut all: Vec<Object> = Vec::new();
    all.extend(named(&snapshot.hosts, &hosts));
    all.extend(named(&snapshot.pools, &pools));
    all.extend(named(&snapshot.networks, &networks));
    all.extend(named(&snapshot.images, &images));
    all.extend(named(&snapshot.classes, &classes));
    let secrets = machines.iter().map(|machine| names::ssh_secret(&machine.key()));
    for name in [names::pki_secret(&key)].into_iter().chain(secrets) {
        let name = ObjectRef::new(Kind::Secret, &name.namespace, &name.name);
        let secret: Option<Secret> = objects::read::<SecretSpec>(store, &name).await?;
        all.extend(secret.map(Object::from));
    }
    all.push(cluster.clone().into());
    all.extend(groups.into_iter().cloned().map(Object::from));
    all.extend(machines.into_iter().cloned().map(Object::from));
    all.extend(volumes.into_iter().cloned().map(Object::from));
    all.into_iter().map(objects::to_stored).collect()
}

fn named<S: Spec>(all: &Objects<String, Resource<S>>, names: &BTreeSet<&str>) -> Vec<Object>
where
    Resource<S>: Clone,
    Object: From<Resource<S>>,
{
    names.iter().filter_map(|name| all.get(*name)).cloned().map(Object::from).collect()
}
