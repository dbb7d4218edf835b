//! What is on a host. Nothing here changes anything, a pool's own list of volumes included.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_plan::{Definition, DomainSeen, DomainState, HostWorld, PoolSeen, VolumeSeen};
use uuid::Uuid;

use crate::counters::{Counters, READ};
use crate::ffi::{Connection, Domain, LibvirtError, Pool, Standing, StoredVolume, code, state};
use crate::known::Read;
use crate::lane::CallError;
use crate::xml::{self, DomainDescription};

/// Domains, and active pools with their volumes.
pub(super) fn world(
    connection: &Connection,
    counters: &Counters,
    known: &mut Read,
) -> Result<HostWorld, CallError> {
    let mut world = HostWorld::default();
    let domains = connection.domains()?;
    counters.count(READ);
    // After the states: who is said to have arrived was at least arriving then.
    let transient = connection.transient_domains()?;
    for (domain, standing) in domains {
        let uuid = domain.uuid()?;
        let is_active = domain_state(standing.state).is_active();
        let read = || {
            counters.count(READ);
            definition(&domain, is_active)
        };
        // One that was removed since the list was made is not there.
        if let Some(description) = known.domain(uuid, is_active, read)? {
            world.domains.insert(uuid, domain_seen(description, standing, !transient.contains(&uuid)));
        }
    }
    for pool in connection.active_pools()? {
        counters.count(READ);
        if let Some((uuid, seen)) = with_volumes(&pool, known)? {
            world.pools.insert(uuid, seen);
        }
    }
    Ok(world)
}

/// A domain that was looked up.
pub(super) fn domain(found: Result<Domain, LibvirtError>) -> Result<Option<DomainSeen>, CallError> {
    let Some(domain) = absent(found, code::NO_DOMAIN)? else { return Ok(None) };
    let Some(standing) = absent(domain.standing(), code::NO_DOMAIN)? else { return Ok(None) };
    let Some(persistent) = absent(domain.is_persistent(), code::NO_DOMAIN)? else { return Ok(None) };
    let description = definition(&domain, domain_state(standing.state).is_active())?;
    Ok(description.map(|description| domain_seen(description, standing, persistent)))
}

/// What is defined says whose it is and what it will use; what runs says what it uses now.
fn definition(domain: &Domain, is_active: bool) -> Result<Option<DomainDescription>, CallError> {
    let Some(defined) = absent(domain.xml(true), code::NO_DOMAIN)? else { return Ok(None) };
    let mut description = xml::domain_seen(&defined)?;
    if is_active {
        let Some(live) = absent(domain.xml(false), code::NO_DOMAIN)? else { return Ok(None) };
        let live = xml::domain_seen(&live)?;
        description.disk_paths.extend(live.disk_paths);
        description.medium_path = live.medium_path.or(description.medium_path);
        // What the guest gave back of its memory for now is no definition.
        let running = live.definition.as_deref().cloned();
        let running = running.map(|it| Definition { current_memory_kib: it.memory_kib, ..it });
        description.running = running.map(Arc::new).filter(|it| description.definition.as_ref() != Some(it));
    }
    Ok(Some(description))
}

fn domain_seen(description: DomainDescription, standing: Standing, persistent: bool) -> DomainSeen {
    let DomainDescription { uuid, name, mark, disk_paths, medium_path, definition, running } = description;
    // Nodes are defined before they start. One that starts and is not defined comes from another host.
    let arrives = standing.starts && !persistent && mark.is_some();
    DomainSeen {
        uuid,
        name,
        state: if arrives { DomainState::Paused } else { domain_state(standing.state) },
        mark,
        disk_paths,
        medium_path,
        persistent,
        paused_by_migration: standing.by_migration || arrives,
        migrated_away: standing.migrated_away,
        definition,
        running,
    }
}

fn domain_state(state: i32) -> DomainState {
    match state {
        state::PAUSED | state::PMSUSPENDED => DomainState::Paused,
        state::SHUTDOWN => DomainState::ShuttingDown,
        state::SHUTOFF => DomainState::ShutOff,
        state::CRASHED => DomainState::Crashed,
        state::RUNNING | state::BLOCKED => DomainState::Running,
        // A state that is not known yet: something may hold the disks.
        _ => DomainState::Running,
    }
}

/// A pool that was looked up: none if there is none, or if it is not active.
pub(super) fn active(
    found: Result<Pool, LibvirtError>,
    counters: &Counters,
) -> Result<Option<(Uuid, PoolSeen)>, CallError> {
    let Some(pool) = absent(found, code::NO_STORAGE_POOL)? else { return Ok(None) };
    counters.count(READ);
    if !pool.is_active()? {
        return Ok(None);
    }
    with_volumes(&pool, &mut Read::default())
}

fn with_volumes(pool: &Pool, known: &mut Read) -> Result<Option<(Uuid, PoolSeen)>, CallError> {
    let Some(xml) = absent(pool.xml(), code::NO_STORAGE_POOL)? else { return Ok(None) };
    let (uuid, mut seen) = xml::pool_seen(&xml)?;
    let mut volumes = BTreeMap::new();
    for volume in pool.volumes()? {
        let name = volume.name()?;
        if let Some(sizes) = known.volume(uuid, &name, || volume_seen(&volume))? {
            volumes.insert(name, sizes);
        }
    }
    seen.volumes = volumes;
    Ok(Some((uuid, seen)))
}

/// A volume's sizes. One whose file was removed behind libvirt's back is still there, empty: libvirt refuses to make
/// another one of its name until it is deleted.
pub(super) fn volume_seen(volume: &StoredVolume) -> Result<Option<VolumeSeen>, CallError> {
    match volume.sizes() {
        Ok((capacity_bytes, allocation_bytes)) => Ok(Some(VolumeSeen { capacity_bytes, allocation_bytes })),
        Err(error) if error.code == code::NO_STORAGE_VOL => Ok(None),
        Err(error) if error.errno == code::ENOENT => {
            Ok(Some(VolumeSeen { capacity_bytes: 0, allocation_bytes: 0 }))
        }
        Err(error) => Err(error.into()),
    }
}

/// None where the error says that it does not exist.
pub(super) fn absent<T>(result: Result<T, LibvirtError>, code: i32) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code == code => Ok(None),
        Err(error) => Err(error.into()),
    }
}
