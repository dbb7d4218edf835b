//! One consistent reading of the store.

use std::sync::{Arc, Mutex, PoisonError};

use ashlar_api::{Kind, NamespacedName, Object, Secret};
use ashlar_plan::{Objects, Snapshot, snapshot::SecretFacts};
use ashlar_store::{Key, RawChange, RawStored, Revision, Store};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    EngineError,
    objects::{from_raw, kind_of},
};

/// Label of a join token's Secret with the token's id, its public half.
pub(crate) const TOKEN_ID_LABEL: &str = "ashlar.dev/token-id";

/// What the store holds.
#[derive(Clone)]
pub(crate) struct StoreView {
    /// What it was read at.
    pub(crate) revision: Revision,
    /// All kinds that a plan is a function of; nothing observed yet.
    pub(crate) snapshot: Snapshot,
    /// Secrets, sealed.
    pub(crate) secrets: Objects<NamespacedName, Secret>,
    /// Events, unparsed: only their number matters unless they become too many.
    pub(crate) events: Objects<NamespacedName, RawStored>,
}

/// What was read last. A pass reads on from there: what has not been written since is neither read nor copied.
#[derive(Default)]
pub(crate) struct ReadCache {
    kept: Mutex<Option<StoreView>>,
}

/// Reads all of it at one revision.
pub(crate) async fn read_store(
    store: &dyn Store,
    cache: &ReadCache,
    installation: Uuid,
    now: Timestamp,
) -> Result<StoreView, EngineError> {
    let lock = || cache.kept.lock().unwrap_or_else(PoisonError::into_inner);
    // The only copy, so that what changes is changed in place. A reading that fails leaves none.
    let kept = lock().take();
    let changes = match &kept {
        Some(kept) => store.changes(kept.revision).await?,
        None => None,
    };
    let kept = match (kept, changes) {
        (Some(mut kept), Some(changes)) => {
            for RawChange { key, revision, value } in changes.items {
                match value {
                    Some(value) => kept.put(RawStored { key, revision, value })?,
                    None => kept.remove(&key),
                }
            }
            StoreView { revision: changes.revision, ..kept }
        }
        (kept, _) => {
            let listing = store.list_raw(None, None).await?;
            let mut view = StoreView::empty(installation, now);
            for raw in listing.items {
                view.put_or_share(raw, kept.as_ref())?;
            }
            StoreView { revision: listing.revision, ..view }
        }
    };
    let mut view = kept.clone();
    view.snapshot.now = now;
    *lock() = Some(kept);
    Ok(view)
}

impl StoreView {
    fn empty(installation: Uuid, now: Timestamp) -> Self {
        StoreView {
            revision: Revision(0),
            snapshot: Snapshot::empty(installation, now),
            secrets: Objects::new(),
            events: Objects::new(),
        }
    }

    fn put(&mut self, raw: RawStored) -> Result<(), EngineError> {
        match kind_of(&raw.key) {
            Some(Kind::Event) => drop(self.events.insert(name_of(&raw.key), raw)),
            Some(kind) => match from_raw(kind, raw)? {
                Object::Secret(secret) => {
                    self.snapshot.secrets.insert(secret.key(), secret_facts(&secret));
                    self.secrets.insert(secret.key(), *secret);
                }
                object => insert_object(&mut self.snapshot, object),
            },
            // Written by a newer Ashlar; what this one does not know it cannot plan with, nor harm.
            None => {}
        }
        Ok(())
    }

    /// What has not been written since it was read before is not parsed again.
    fn put_or_share(&mut self, raw: RawStored, before: Option<&StoreView>) -> Result<(), EngineError> {
        let Some((kind, before)) = kind_of(&raw.key).zip(before) else { return self.put(raw) };
        let (name, revision) = (name_of(&raw.key), raw.revision.to_string());
        macro_rules! share {
            ($from:expr, $into:expr, $name:expr) => {
                match $from.get_shared($name).filter(|known| known.metadata.resource_version == revision) {
                    Some(known) => drop($into.insert($name.clone(), Arc::clone(known))),
                    None => return self.put(raw),
                }
            };
        }
        let (old, new) = (&before.snapshot, &mut self.snapshot);
        match kind {
            Kind::Host => share!(old.hosts, new.hosts, &name.name),
            Kind::StoragePool => share!(old.pools, new.pools, &name.name),
            Kind::Network => share!(old.networks, new.networks, &name.name),
            Kind::Image => share!(old.images, new.images, &name.name),
            Kind::MachineClass => share!(old.classes, new.classes, &name.name),
            Kind::Cluster => share!(old.clusters, new.clusters, &name),
            Kind::WorkerGroup => share!(old.groups, new.groups, &name),
            Kind::Machine => share!(old.machines, new.machines, &name),
            Kind::Volume => share!(old.volumes, new.volumes, &name),
            Kind::Secret => {
                share!(before.secrets, self.secrets, &name);
                if let Some(facts) = old.secrets.get_shared(&name) {
                    new.secrets.insert(name, Arc::clone(facts));
                }
            }
            Kind::Event => return self.put(raw),
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) {
        let (snapshot, name) = (&mut self.snapshot, name_of(key));
        match kind_of(key) {
            Some(Kind::Host) => drop(snapshot.hosts.remove(&name.name)),
            Some(Kind::StoragePool) => drop(snapshot.pools.remove(&name.name)),
            Some(Kind::Network) => drop(snapshot.networks.remove(&name.name)),
            Some(Kind::Image) => drop(snapshot.images.remove(&name.name)),
            Some(Kind::MachineClass) => drop(snapshot.classes.remove(&name.name)),
            Some(Kind::Cluster) => drop(snapshot.clusters.remove(&name)),
            Some(Kind::WorkerGroup) => drop(snapshot.groups.remove(&name)),
            Some(Kind::Machine) => drop(snapshot.machines.remove(&name)),
            Some(Kind::Volume) => drop(snapshot.volumes.remove(&name)),
            Some(Kind::Secret) => {
                snapshot.secrets.remove(&name);
                self.secrets.remove(&name);
            }
            Some(Kind::Event) => drop(self.events.remove(&name)),
            None => {}
        }
    }
}

fn name_of(key: &Key) -> NamespacedName {
    NamespacedName::new(&key.namespace, &key.name)
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use ashlar_store::{MemoryStore, Precondition, Transaction};
    use futures::executor::block_on;

    use super::*;
    use crate::{objects, testing::host};

    /// What is read on from the last reading, or anew with what is known shared, is what a first reading has.
    #[test]
    fn reading_on_gives_what_reading_anew_gives() {
        // Few changes are kept: some readings find them, others have to list.
        let store = MemoryStore::with_retained_revisions(4);
        let cache = ReadCache::default();
        let read = |cache: &ReadCache| {
            block_on(read_store(&store, cache, Uuid::nil(), Timestamp::UNIX_EPOCH)).unwrap()
        };
        let mut dice: u32 = 1;
        for round in 0..200u32 {
            for _ in 0..round % 7 {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let mut object = host(&format!("h{}", (dice >> 16) % 5));
                object.metadata_mut().generation = u64::from(dice >> 8);
                let key = objects::key_of(&object.object_ref());
                let change = if dice >> 30 == 0 {
                    Transaction::new().delete(key, Precondition::Any)
                } else {
                    Transaction::new().put(key, objects::to_stored(object).unwrap(), Precondition::Any)
                };
                block_on(store.commit(change)).unwrap();
            }
            let (on, anew) = (read(&cache), read(&ReadCache::default()));
            assert_eq!(on.revision, anew.revision);
            assert_eq!(on.snapshot, anew.snapshot);
        }
    }
}
