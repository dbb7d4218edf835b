//! `host cordon`, `host drain`, `host fence` and `host uncordon`: wishes that the engine carries out.

use ashlar_api::validate::Violation;
use ashlar_api::{DrainBy, Host, HostFence, HostSpec, Kind, Object, ObjectRef};
use ashlar_store::Store;

use super::{DeclareError, existing};
use crate::effects::Clock;
use crate::objects;

/// Records that no new machine is to be placed on a host.
///
/// # Errors
/// There is no such host, it is being removed, or the store failed.
pub async fn cordon_host(store: &dyn Store, host: &str) -> Result<Host, DeclareError> {
    set(store, host, |host| host.spec.cordoned = true).await
}

/// Records that machines may be placed on a host again. A drain ends with that: what has begun is finished.
///
/// # Errors
/// [`DeclareError::Invalid`] if it is fenced; otherwise as [`cordon_host`].
pub async fn uncordon_host(store: &dyn Store, host: &str) -> Result<Host, DeclareError> {
    let name = ObjectRef::new(Kind::Host, "", host);
    if let Some(fence) = objects::read::<HostSpec>(store, &name).await?.and_then(|host| host.record.fence) {
        let message = format!(
            "is fenced: {} confirmed at {} that it is off. That ends when it answers again; then uncordon it",
            fence.confirmed_by, fence.at
        );
        return Err(invalid(name, message));
    }
    set(store, host, |host| {
        (host.spec.cordoned, host.spec.draining, host.spec.drain_by) = (false, false, DrainBy::default());
        // Somebody has looked who turns it off. As long as it is silent, that would prove it off by another one's power.
        if host.record.silence.is_none() {
            host.record.power_cut = None;
        }
    })
    .await
}

/// Records that a host is off, and with it every VM that was on it, as a person found out by other means than Ashlar's. It
/// takes no machines from then on, and those that it had are replaced.
///
/// That it does not answer is for the caller to know, before.
///
/// # Errors
/// As [`cordon_host`].
pub async fn fence_host(
    store: &dyn Store,
    clock: &dyn Clock,
    host: &str,
    confirmed_by: &str,
) -> Result<Host, DeclareError> {
    // Nobody says such a thing to the nanosecond.
    let now = clock.now();
    let at = jiff::Timestamp::from_second(now.as_second()).unwrap_or(now);
    record_fence(store, host, &HostFence { at, confirmed_by: confirmed_by.to_owned() }).await
}

/// Records the proof that a host is off, as [`fence_host`] does.
///
/// # Errors
/// As [`cordon_host`].
pub async fn record_fence(store: &dyn Store, host: &str, fence: &HostFence) -> Result<Host, DeclareError> {
    set(store, host, |host| {
        host.spec.cordoned = true;
        host.record.fence.get_or_insert_with(|| fence.clone());
        // A doubt stays: the next time, too, another one may be turned off in its place.
        host.record.power_cut = host.record.power_cut.take().filter(|cut| !cut.fell_silent.is_empty());
    })
    .await
}

fn invalid(object: ObjectRef, message: String) -> DeclareError {
    DeclareError::Invalid { violations: vec![Violation { object, path: String::new(), message }] }
}

/// What is written into a host that is to be emptied.
pub(crate) fn wish_empty(host: &mut Host, by: DrainBy) {
    (host.spec.cordoned, host.spec.draining, host.spec.drain_by) = (true, true, by);
}

/// Records that a host is to be emptied, and how. Says which machines are there.
///
/// # Errors
/// As [`may_drain_host`].
pub async fn drain_host(store: &dyn Store, host: &str, by: DrainBy) -> Result<Vec<ObjectRef>, DeclareError> {
    let machines = may_drain_host(store, host).await?;
    set(store, host, |host| wish_empty(host, by)).await?;
    Ok(machines)
}

/// Whether a host can be emptied at all. Says which machines are there; records nothing.
///
/// # Errors
/// [`DeclareError::Invalid`] if no other host takes machines; otherwise as [`cordon_host`].
pub async fn may_drain_host(store: &dyn Store, host: &str) -> Result<Vec<ObjectRef>, DeclareError> {
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
        return Err(invalid(name, message));
    }
    Ok(machines)
}

async fn set(store: &dyn Store, host: &str, change: impl Fn(&mut Host)) -> Result<Host, DeclareError> {
    let name = ObjectRef::new(Kind::Host, "", host);
    let missing = || DeclareError::NoSuchObject(name.clone());
    let seen = objects::read::<HostSpec>(store, &name).await?.ok_or_else(missing)?;
    if seen.metadata.is_deleting() {
        return Err(DeclareError::BeingDeleted(name));
    }
    let updated = objects::update(store, &seen, |host| {
        let before = host.clone();
        change(host);
        if host.spec != before.spec {
            host.metadata.generation += 1;
        }
        *host != before
    });
    updated.await?.ok_or_else(missing)
}
