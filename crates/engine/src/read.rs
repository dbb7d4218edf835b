//! One consistent reading of the store.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ashlar_api::{Kind, NamespacedName, Object, Secret};
use ashlar_plan::{Snapshot, snapshot::SecretFacts};
use ashlar_store::{Key, RawStored, Revision, Store};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    EngineError,
    objects::{from_raw, kind_of},
};

/// Label of a join token's Secret with the token's id, its public half.
pub(crate) const TOKEN_ID_LABEL: &str = "ashlar.dev/token-id";

/// What the store holds.
pub(crate) struct StoreView {
    /// All kinds that a plan is a function of; nothing observed yet.
    pub(crate) snapshot: Snapshot,
    /// Secrets, sealed.
    pub(crate) secrets: BTreeMap<NamespacedName, Secret>,
    /// Events, unparsed: only their number matters unless they become too many.
    pub(crate) events: Vec<RawStored>,
}

/// Objects as they were read last, by key: what has not been written since is not parsed again. A pass of a thousand
/// machines spends most of its time on that otherwise.
#[derive(Default)]
pub(crate) struct ReadCache {
    parsed: Mutex<BTreeMap<Key, (Revision, Object)>>,
}

impl ReadCache {
    /// The object of a listing, parsed only if it is news; `kept` takes what the next reading may want.
    fn parse(
        before: &mut BTreeMap<Key, (Revision, Object)>,
        kept: &mut BTreeMap<Key, (Revision, Object)>,
        kind: Kind,
        raw: RawStored,
    ) -> Result<Object, EngineError> {
        let (key, revision) = (raw.key.clone(), raw.revision);
        let known = before.remove(&key).filter(|(known, _)| *known == revision);
        let object = match known {
            Some((_, object)) => object,
            None => from_raw(kind, raw)?,
        };
        kept.insert(key, (revision, object.clone()));
        Ok(object)
    }
}

/// Reads all of it at one revision.
pub(crate) async fn read_store(
    store: &dyn Store,
    cache: &ReadCache,
    installation: Uuid,
    now: Timestamp,
) -> Result<StoreView, EngineError> {
    let listing = store.list_raw(None, None).await?;
    let mut view = StoreView {
        snapshot: Snapshot::empty(installation, now),
        secrets: BTreeMap::new(),
        events: Vec::new(),
    };
    let mut parsed = cache.parsed.lock().unwrap_or_else(PoisonError::into_inner);
    let mut before = std::mem::take(&mut *parsed);
    for raw in listing.items {
        match kind_of(&raw.key) {
            Some(Kind::Event) => view.events.push(raw),
            Some(kind) => insert(&mut view, ReadCache::parse(&mut before, &mut parsed, kind, raw)?),
            // Written by a newer Ashlar; what this one does not know it cannot plan with, nor harm.
            None => {}
        }
    }
    Ok(view)
}

fn insert(view: &mut StoreView, object: Object) {
    if let Object::Secret(secret) = object {
        view.snapshot.secrets.insert(secret.key(), secret_facts(&secret));
        view.secrets.insert(secret.key(), *secret);
    } else {
        insert_object(&mut view.snapshot, object);
    }
}

/// Puts an object into its map; Secrets and Events have none.
pub(crate) fn insert_object(snapshot: &mut Snapshot, object: Object) {
    match object {
        Object::Host(host) => drop(snapshot.hosts.insert(host.metadata.name.clone(), *host)),
        Object::StoragePool(pool) => drop(snapshot.pools.insert(pool.metadata.name.clone(), *pool)),
        Object::Network(network) => drop(snapshot.networks.insert(network.metadata.name.clone(), *network)),
        Object::Image(image) => drop(snapshot.images.insert(image.metadata.name.clone(), *image)),
        Object::MachineClass(class) => drop(snapshot.classes.insert(class.metadata.name.clone(), *class)),
        Object::Cluster(cluster) => drop(snapshot.clusters.insert(cluster.key(), *cluster)),
        Object::WorkerGroup(group) => drop(snapshot.groups.insert(group.key(), *group)),
        Object::Machine(machine) => drop(snapshot.machines.insert(machine.key(), *machine)),
        Object::Volume(volume) => drop(snapshot.volumes.insert(volume.key(), *volume)),
        Object::Secret(_) | Object::Event(_) => {}
    }
}

fn secret_facts(secret: &Secret) -> SecretFacts {
    SecretFacts {
        purpose: secret.spec.purpose.clone(),
        resource_version: secret.metadata.resource_version.clone(),
        token_id: secret.metadata.labels.get(TOKEN_ID_LABEL).cloned(),
    }
}
