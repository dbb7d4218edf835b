//! `host cordon`, `host drain` and `host uncordon`: wishes that the engine carries out.

use ashlar_api::validate::Violation;
use ashlar_api::{Host, HostSpec, Kind, Object, ObjectRef};
use ashlar_store::Store;

use super::{DeclareError, existing};
use crate::objects;

/// Records that no new machine is to be placed on a host.
///
/// # Errors
/// There is no such host, it is being removed, or the store failed.
pub async fn cordon_host(store: &dyn Store, host: &str) -> Result<Host, DeclareError> {
    set(store, host, |spec| spec.cordoned = true).await
}

/// Records that machines may be placed on a host again. A drain ends with that: what has begun is finished.
///
/// # Errors
/// As [`cordon_host`].
pub async fn uncordon_host(store: &dyn Store, host: &str) -> Result<Host, DeclareError> {
    set(store, host, |spec| (spec.cordoned, spec.draining) = (false, false)).await
}

/// Records that a host is to be emptied. Says which machines are there.
///
/// # Errors
/// [`DeclareError::Invalid`] if no other host takes machines; otherwise as [`cordon_host`].
pub async fn drain_host(store: &dyn Store, host: &str) -> Result<Vec<ObjectRef>, DeclareError> {
    let name = ObjectRef::new(Kind::Host, "", host);
    let stored = existing(store).await?;
    if !stored.contains_key(&name) {
        return Err(DeclareError::NoSuchObject(name));
    }
    let machines: Vec<ObjectRef> = stored
        .values()
        .filter_map(|object| match object {
            Object::Machine(machine) if machine.spec.host == host => Some(object.object_ref()),
            _ => None,
        })
        .collect();
    let takes_machines = |object: &Object| match object {
        Object::Host(other) => {
            other.metadata.name != host
                && !other.spec.cordoned
                && !other.spec.draining
                && !other.metadata.is_deleting()
        }
        _ => false,
    };
    if !machines.is_empty() && !stored.values().any(takes_machines) {
        let message = "cannot be emptied: it is the last host that takes machines, and each machine of it needs a place elsewhere \
                       first; uncordon or add another host, or delete the clusters"
            .to_owned();
        let violations = vec![Violation { object: name, path: String::new(), message }];
        return Err(DeclareError::Invalid { violations });
    }
    set(store, host, |spec| (spec.cordoned, spec.draining) = (true, true)).await?;
    Ok(machines)
}

async fn set(store: &dyn Store, host: &str, change: impl Fn(&mut HostSpec)) -> Result<Host, DeclareError> {
    let name = ObjectRef::new(Kind::Host, "", host);
    let missing = || DeclareError::NoSuchObject(name.clone());
    let seen = objects::read::<HostSpec>(store, &name).await?.ok_or_else(missing)?;
    if seen.metadata.is_deleting() {
        return Err(DeclareError::BeingDeleted(name));
    }
    let updated = objects::update(store, &seen, |host| {
        let before = host.spec.clone();
        change(&mut host.spec);
        let changes = host.spec != before;
        if changes {
            host.metadata.generation += 1;
        }
        changes
    });
    updated.await?.ok_or_else(missing)
}
