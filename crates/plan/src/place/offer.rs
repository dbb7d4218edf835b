//! What a host offers to machines, from what enrolment found out and what its owner keeps for the host itself.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;

use super::room::{NodeRoom, PoolRoom, Room, huge_index, signed};
use crate::{HostSeen, Snapshot};

/// Dedicated threads by NUMA node: those that the host's owner set apart, as far as the host has them.
pub(crate) fn dedicated_cpus(host: &Host) -> BTreeMap<u32, BTreeSet<u32>> {
    let wanted = &host.spec.dedicated_cpus.0;
    let Some(capacity) = &host.record.capacity else { return BTreeMap::new() };
    match capacity.numa.len() {
        // Its NUMA nodes were not asked: it counts as one.
        0 => [(0, wanted.iter().copied().filter(|cpu| *cpu < capacity.threads).collect())].into(),
        nodes => capacity
            .numa
            .iter()
            .map(|(number, node)| {
                let is_there = |cpu: &u32| match (nodes, node.cpus.is_empty()) {
                    (_, false) => node.cpus.0.contains(cpu),
                    (1, true) => *cpu < capacity.threads,
                    // Which threads it has was not asked: none can be given away.
                    (_, true) => false,
                };
                (*number, wanted.iter().copied().filter(is_there).collect())
            })
            .collect(),
    }
}

/// Threads that machines share: all but the dedicated ones. Empty if that is all of them, or if nobody knows.
pub(crate) fn shared_cpus(host: &Host) -> CpuSet {
    let dedicated: BTreeSet<u32> = dedicated_cpus(host).into_values().flatten().collect();
    let Some(capacity) = host.record.capacity.as_ref().filter(|_| !dedicated.is_empty()) else {
        return CpuSet::default();
    };
    let known: BTreeSet<u32> = capacity.numa.values().flat_map(|node| node.cpus.0.iter().copied()).collect();
    let all: BTreeSet<u32> = if known.is_empty() { (0..capacity.threads).collect() } else { known };
    CpuSet(all.difference(&dedicated).copied().collect())
}

/// What a host offers without any claim; nothing if it is not enrolled. `pools` gives the order of the storage pools.
pub(crate) fn offer(snapshot: &Snapshot, host: &Host, pools: &[String]) -> Room {
    let pools = pools.iter().map(|pool| pool_room(snapshot, pool, &host.metadata.name)).collect();
    let Some(capacity) = &host.record.capacity else { return Room { pools, ..Room::default() } };
    let dedicated = dedicated_cpus(host);
    let mut nodes = Vec::new();
    let mut huge_mib = 0;
    for (number, cpus) in &dedicated {
        let node = capacity.numa.get(number);
        let mut room = NodeRoom { number: *number, dedicated: count(cpus), ..NodeRoom::default() };
        for (size, pages) in node.iter().flat_map(|node| &node.hugepages) {
            room.huge_mib[huge_index(*size)] = signed(pages * size.mib());
        }
        let huge: i64 = room.huge_mib.iter().sum();
        room.memory_mib = signed(node.map_or(capacity.memory.0, |node| node.memory.0)) - huge;
        huge_mib += huge;
        nodes.push(room);
    }
    let apart: i64 = nodes.iter().map(|node| node.dedicated).sum();
    let threads = (i64::from(capacity.threads) - i64::from(host.spec.reserved.threads) - apart).max(0);
    let overcommit = i64::from(host.spec.cpu_overcommit.max(1));
    Room {
        threads,
        overcommit,
        vcpus: threads * overcommit,
        memory_mib: (signed(capacity.memory.0) - signed(host.spec.reserved.memory.0) - huge_mib).max(0),
        nodes,
        pools,
    }
}

fn count(cpus: &BTreeSet<u32>) -> i64 {
    i64::try_from(cpus.len()).unwrap_or_default()
}

/// What a pool on a host offers to volumes: its capacity up to the watermark, and what its file system has free.
fn pool_room(snapshot: &Snapshot, pool: &str, host: &str) -> Option<PoolRoom> {
    let pool = snapshot.pools.get(pool)?;
    let on_host = pool.record.hosts.get(host)?;
    let at_once_mib = match snapshot.observed.hosts.get(host) {
        Some(HostSeen::Seen(world)) => world.pools.get(&on_host.uuid).map(|seen| signed(seen.available_mib)),
        _ => None,
    };
    let capacity_mib = on_host.capacity_mib / 100 * u64::from(pool.spec.max_fill_percent.min(100));
    Some(PoolRoom { capacity_mib: signed(capacity_mib), at_once_mib })
}
