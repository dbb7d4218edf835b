//! What hosts offer, what is claimed, what is free, and what would still fit: for people.

use ashlar_api::*;

use super::offer::offer;
use super::packer::Packer;
use super::request::{SEED_MIB, pool_of};
use super::room::{Demand, Room};
use super::{fleet::Fleet, rules};
use crate::Snapshot;
use crate::draft::Draft;

/// One host's room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSummary {
    /// Host.
    pub host: String,
    /// What it offers without any claim, after its reserve.
    pub offer: Room,
    /// What is left of that.
    pub free: Room,
    /// Machines that claim from it.
    pub machines: u32,
    /// Whether new machines may come here at all.
    pub is_open: bool,
    /// For each class, how many machines of it would still fit.
    pub classes: Vec<ClassRoom>,
}

/// How many machines of a class a host would still take, all of that class and without their image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRoom {
    /// Class.
    pub class: String,
    /// Machines; 0 on a host that takes none.
    pub count: u32,
}

/// What would fit is counted up to here: more is as good as any number.
const COUNTED: u32 = 1000;

/// The room on each host, by name.
pub fn summary(snapshot: &Snapshot) -> Vec<HostSummary> {
    let draft = Draft::new(snapshot);
    let fleet = Fleet::new(&draft, None);
    draft
        .hosts
        .iter()
        .zip(fleet.packer.hosts())
        .map(|((name, host), packed)| HostSummary {
            host: name.clone(),
            offer: offer(snapshot, host, &fleet.pools),
            free: packed.room.clone(),
            machines: u32::try_from(packed.claims.len()).unwrap_or(u32::MAX),
            is_open: rules::usable(&draft, host).is_ok(),
            classes: snapshot
                .classes
                .values()
                .map(|class| ClassRoom {
                    class: class.metadata.name.clone(),
                    count: if packed.is_open {
                        count(snapshot, class, &fleet.pools, &packed.room)
                    } else {
                        0
                    },
                })
                .collect(),
        })
        .collect()
}

fn count(snapshot: &Snapshot, class: &MachineClass, pools: &[String], room: &Room) -> u32 {
    let Ok(pool) = pool_of(snapshot, class) else { return 0 };
    let spec = &class.spec;
    let demand = Demand {
        vcpus: u64::from(spec.vcpus),
        memory_mib: spec.memory.0,
        dedicated: spec.cpu_policy == CpuPolicy::Dedicated,
        hugepages: spec.hugepages,
        nodes: spec.bound_nodes(),
        pool: pools.iter().position(|name| *name == pool.metadata.name).unwrap_or(usize::MAX),
        disk_mib: spec.root_disk.0 + SEED_MIB,
        soon_mib: SEED_MIB + 1,
    };
    // A packer of one host, so that NUMA nodes are filled as they would be.
    let mut packer = Packer::default();
    let rack = packer.add_rack(0);
    let host = packer.add_host(room.clone(), rack, true);
    let shape = packer.add_shape(demand, None, vec![true]);
    let mut count = 0;
    while count < COUNTED && packer.judge(shape, host).is_ok() {
        packer.claim(shape, host);
        count += 1;
    }
    count
}
