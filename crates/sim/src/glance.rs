//! What a glance at a host tells: as little of what changed as it may.

use ashlar_plan::{DomainSeen, HostWorld, PoolSeen};

use crate::host::SimHost;
use crate::hypervisor::world_of;

/// Glances until all was read anew.
const ROUNDS: u32 = 10;

/// What a process was told at a glance, and how often since.
#[derive(Clone, Debug)]
pub(crate) struct Glanced {
    told: HostWorld,
    times: u32,
}

/// States are those of now, and so is which domains there are; definitions and volumes are told as they were.
pub(crate) fn glance(host: &mut SimHost, process: usize) -> HostWorld {
    let now = world_of(host);
    match host.glanced.get_mut(&process) {
        Some(glanced) if glanced.times < ROUNDS => {
            glanced.times += 1;
            as_told(now, &glanced.told)
        }
        _ => {
            host.glanced.insert(process, Glanced { told: now.clone(), times: 1 });
            now
        }
    }
}

fn as_told(now: HostWorld, told: &HostWorld) -> HostWorld {
    let domains = now.domains.into_iter().map(|(uuid, domain)| match told.domains.get(&uuid) {
        Some(before) if before.state.is_active() == domain.state.is_active() => {
            let DomainSeen { state, persistent, paused_by_migration, migrated_away, .. } = domain;
            (uuid, DomainSeen { state, persistent, paused_by_migration, migrated_away, ..before.clone() })
        }
        _ => (uuid, domain),
    });
    let pools = now.pools.into_iter().map(|(uuid, pool)| match told.pools.get(&uuid) {
        Some(before) => (uuid, PoolSeen { volumes: before.volumes.clone(), ..pool }),
        None => (uuid, pool),
    });
    HostWorld { domains: domains.collect(), pools: pools.collect(), ..now }
}
