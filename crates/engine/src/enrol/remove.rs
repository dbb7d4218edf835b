//! `host remove`.

use ashlar_api::{Object, StoragePool, validate::validate_delete};
use ashlar_store::Transaction;

use super::{EnrolError, add::host_ref, probe_image};
use crate::{Engine, EngineError, Scope, deadline::within, objects};

/// Gives up a host that holds nothing of ours any more: deletes the image files that lie there, then the Host object
/// and its entries in the pools' records.
///
/// # Errors
/// Machines or disks are there, or something names the host; the host does not answer (then what lies there could not
/// be deleted, and nothing is forgotten).
pub async fn remove(engine: &Engine, name: &str) -> Result<(), EnrolError> {
    let snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    let host = snapshot.hosts.get(name).ok_or_else(|| EngineError::NoSuchObject(host_ref(name)))?;
    let everything = crate::declare::existing(engine.store.as_ref()).await?;
    let violations = validate_delete(&host.object_ref(), &everything);
    if !violations.is_empty() {
        return Err(EnrolError::Invalid { violations });
    }
    for volume in probe_image::unused_files(&snapshot, name) {
        probe_image::delete(engine, &snapshot, volume).await?;
    }
    // Read again: a lease taken above changed the host.
    let snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    let Some(host) = snapshot.hosts.get(name) else { return Ok(()) };
    if let Some(volume) = snapshot.volumes.values().find(|volume| volume.spec.host == name) {
        return Err(EnrolError::Refused(format!("host {name} still holds {}", volume.object_ref())));
    }
    // Last of all on the host: from here on another installation may have it. Then the record goes.
    let target = engine.leased(host).await?;
    let doing = format!("giving back the lease of host {name}");
    let call = engine.world.shell.release_lease(&target);
    within(engine.world.clock.as_ref(), engine.settings.call_deadline, &doing, call)
        .await
        .map_err(|source| EngineError::Effect { doing, source })?;
    let snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    let Some(host) = snapshot.hosts.get(name) else { return Ok(()) };
    let expect = objects::unchanged_since(&host.metadata.resource_version)?;
    let mut transaction = Transaction::new().delete(objects::key_of(&host.object_ref()), expect);
    for pool in snapshot.pools.values().filter(|pool| pool.record.hosts.contains_key(name)) {
        let mut left: StoragePool = pool.clone();
        left.record.hosts.remove(name);
        let expect = objects::unchanged_since(&pool.metadata.resource_version)?;
        let key = objects::key_of(&pool.object_ref());
        transaction = transaction.put(key, objects::to_stored(Object::from(left))?, expect);
    }
    match engine.store.commit(transaction).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => Err(EngineError::Contended.into()),
        Err(error) => Err(EngineError::from(error).into()),
    }
}
