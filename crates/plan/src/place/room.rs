//! What a machine takes from a host, and what a host has left. Numbers only: no names, no objects.

use ashlar_api::HugepageSize;

/// What a machine takes from a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// vCPUs.
    pub vcpus: u64,
    /// Memory.
    pub memory_mib: u64,
    /// Threads of its own, one for each vCPU.
    pub dedicated: bool,
    /// Huge pages that the memory is made of.
    pub hugepages: Option<HugepageSize>,
    /// NUMA nodes that it is bound to, with an equal part on each; 0 floats over the host.
    pub nodes: u32,
    /// Storage pool, by the packer's number.
    pub pool: usize,
    /// Capacity of its own volumes.
    pub disk_mib: u64,
    /// Of that, what is written at once.
    pub soon_mib: u64,
}

impl Demand {
    fn node_vcpus(&self) -> i64 {
        if self.dedicated { signed(self.vcpus / u64::from(self.nodes.max(1))) } else { 0 }
    }

    fn node_memory_mib(&self) -> i64 {
        signed(self.memory_mib / u64::from(self.nodes.max(1)))
    }
}

/// Amounts stay far below 2^63; what would not is more than any host has.
pub(crate) fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX / 4)
}

/// What is left on a host. Negative where a person made the host smaller than its claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Threads that machines share, all of them.
    pub threads: i64,
    /// vCPUs for each of these threads.
    pub overcommit: i64,
    /// vCPUs left on shared threads.
    pub vcpus: i64,
    /// Ordinary memory left.
    pub memory_mib: i64,
    /// NUMA nodes, ordered by number; never empty.
    pub nodes: Vec<NodeRoom>,
    /// Storage pool → capacity left; none where the host does not have it, or nobody knows.
    pub pools: Vec<Option<PoolRoom>>,
}

/// What is left on a NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRoom {
    /// The host's number of it.
    pub number: u32,
    /// Dedicated threads left.
    pub dedicated: i64,
    /// Ordinary memory left for machines that are bound to the node.
    pub memory_mib: i64,
    /// Memory left in huge pages, in the order of [`HugepageSize::ALL`].
    pub huge_mib: [i64; 2],
}

/// What is left in a storage pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolRoom {
    /// Capacity left up to the watermark.
    pub capacity_mib: i64,
    /// Left on its file system for what is written at once; none if it was not seen.
    pub at_once_mib: Option<i64>,
}

/// What a host lacks for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// The machine has more vCPUs than the host has threads.
    Threads,
    /// vCPUs on shared threads.
    Vcpus,
    /// Dedicated threads, on NUMA nodes.
    DedicatedCpus,
    /// Memory.
    Memory,
    /// Memory on NUMA nodes.
    NodeMemory,
    /// Huge pages on NUMA nodes.
    Hugepages,
    /// Capacity of the storage pool.
    Disk,
    /// File system of the storage pool.
    PoolFull,
}

pub(crate) fn huge_index(size: HugepageSize) -> usize {
    match size {
        HugepageSize::Mib2 => 0,
        HugepageSize::Gib1 => 1,
    }
}

impl NodeRoom {
    fn memory_of(&self, demand: &Demand) -> i64 {
        demand.hugepages.map_or(self.memory_mib, |size| self.huge_mib[huge_index(size)])
    }

    /// Whether a machine's part fits here.
    pub fn fits(&self, demand: &Demand) -> bool {
        demand.node_vcpus() <= self.dedicated && demand.node_memory_mib() <= self.memory_of(demand)
    }
}

impl Room {
    /// Whether the machine fits, with the host's image files that are missing; else the first thing that is lacking.
    pub fn fits(&self, demand: &Demand, image_mib: u64) -> Result<(), Lack> {
        let vcpus = signed(demand.vcpus);
        if !demand.dedicated {
            if vcpus > self.threads {
                return Err(Lack::Threads);
            }
            if vcpus > self.vcpus {
                return Err(Lack::Vcpus);
            }
        }
        if demand.nodes > 0 {
            self.fits_nodes(demand)?;
        }
        if demand.hugepages.is_none() && signed(demand.memory_mib) > self.memory_mib {
            return Err(Lack::Memory);
        }
        // Where a pool's size is not known, its claims are not limited.
        if let Some(Some(pool)) = self.pools.get(demand.pool) {
            if signed(demand.disk_mib + image_mib) > pool.capacity_mib {
                return Err(Lack::Disk);
            }
            if pool.at_once_mib.is_some_and(|free| signed(demand.soon_mib + image_mib) > free) {
                return Err(Lack::PoolFull);
            }
        }
        Ok(())
    }

    fn fits_nodes(&self, demand: &Demand) -> Result<(), Lack> {
        let wants = demand.nodes as usize;
        if self.nodes.iter().filter(|node| node.fits(demand)).count() >= wants {
            return Ok(());
        }
        let cpus = self.nodes.iter().filter(|node| demand.node_vcpus() <= node.dedicated).count();
        Err(match demand.hugepages {
            _ if cpus < wants => Lack::DedicatedCpus,
            Some(_) => Lack::Hugepages,
            None => Lack::NodeMemory,
        })
    }

    /// The NUMA nodes that a bound machine gets: those that it fills best, so that whole nodes stay free for others.
    /// Positions in `nodes`.
    pub fn choose_nodes(&self, demand: &Demand) -> Vec<usize> {
        let mut fitting: Vec<(i64, i64, usize)> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.fits(demand))
            .map(|(position, node)| (node.dedicated, node.memory_of(demand), position))
            .collect();
        fitting.sort_unstable();
        let mut chosen: Vec<usize> =
            fitting.iter().take(demand.nodes as usize).map(|(.., position)| *position).collect();
        chosen.sort_unstable();
        chosen
    }

    /// Takes a machine's claim, on the given NUMA nodes (positions in `nodes`).
    pub fn take(&mut self, demand: &Demand, nodes: &[usize]) {
        self.change(demand, nodes, 1);
    }

    /// Gives a machine's claim back.
    pub fn give(&mut self, demand: &Demand, nodes: &[usize]) {
        self.change(demand, nodes, -1);
    }

    fn change(&mut self, demand: &Demand, nodes: &[usize], sign: i64) {
        if !demand.dedicated {
            self.vcpus -= sign * signed(demand.vcpus);
        }
        if demand.hugepages.is_none() {
            self.memory_mib -= sign * signed(demand.memory_mib);
        }
        for position in nodes {
            let Some(node) = self.nodes.get_mut(*position) else { continue };
            node.dedicated -= sign * demand.node_vcpus();
            let memory = match demand.hugepages {
                None => &mut node.memory_mib,
                Some(size) => &mut node.huge_mib[huge_index(size)],
            };
            *memory -= sign * demand.node_memory_mib();
        }
        self.take_disk(demand.pool, sign * signed(demand.disk_mib), sign * signed(demand.soon_mib));
    }

    /// Takes capacity of a pool.
    pub fn take_disk(&mut self, pool: usize, mib: i64, soon_mib: i64) {
        if let Some(Some(pool)) = self.pools.get_mut(pool) {
            pool.capacity_mib -= mib;
            pool.at_once_mib = pool.at_once_mib.map(|free| free - soon_mib);
        }
    }

    /// Per mille of vCPUs and memory that are left, of what a host of this size offers.
    pub fn per_mille_left(&self, offer: &Room) -> (i64, i64) {
        let part = |left: i64, of: i64| if of > 0 { left.max(0) * 1000 / of } else { 0 };
        (part(self.vcpus, offer.vcpus), part(self.memory_mib, offer.memory_mib))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32, dedicated: i64, memory_mib: i64) -> NodeRoom {
        NodeRoom { number, dedicated, memory_mib, huge_mib: [4096, 0] }
    }

    fn room() -> Room {
        Room {
            threads: 8,
            overcommit: 4,
            vcpus: 32,
            memory_mib: 30_000,
            nodes: vec![node(0, 8, 16_000), node(1, 4, 16_000)],
            pools: vec![Some(PoolRoom { capacity_mib: 1000, at_once_mib: Some(500) })],
        }
    }

    #[test]
    fn each_thing_can_be_lacking() {
        let small = Demand { vcpus: 2, memory_mib: 1000, disk_mib: 100, soon_mib: 10, ..Demand::default() };
        let bound = Demand { nodes: 1, dedicated: true, ..small.clone() };
        let huge = Demand { nodes: 1, hugepages: Some(HugepageSize::Mib2), ..small.clone() };
        let cases = [
            (small.clone(), 0, Ok(())),
            (Demand { vcpus: 9, ..small.clone() }, 0, Err(Lack::Threads)),
            (Demand { memory_mib: 30_001, ..small.clone() }, 0, Err(Lack::Memory)),
            (Demand { disk_mib: 1001, ..small.clone() }, 0, Err(Lack::Disk)),
            (small.clone(), 950, Err(Lack::Disk)),
            (small.clone(), 495, Err(Lack::PoolFull)),
            (Demand { vcpus: 8, ..bound.clone() }, 0, Ok(())),
            (Demand { vcpus: 9, ..bound.clone() }, 0, Err(Lack::DedicatedCpus)),
            (Demand { vcpus: 10, nodes: 2, ..bound.clone() }, 0, Err(Lack::DedicatedCpus)),
            (Demand { vcpus: 8, nodes: 2, ..bound.clone() }, 0, Ok(())),
            (Demand { memory_mib: 17_000, ..bound.clone() }, 0, Err(Lack::NodeMemory)),
            (Demand { memory_mib: 17_000, nodes: 2, ..bound.clone() }, 0, Ok(())),
            (Demand { memory_mib: 5000, ..huge.clone() }, 0, Err(Lack::Hugepages)),
            (Demand { memory_mib: 5000, nodes: 2, ..huge.clone() }, 0, Ok(())),
            (Demand { hugepages: Some(HugepageSize::Gib1), ..huge }, 0, Err(Lack::Hugepages)),
        ];
        for (demand, image_mib, wanted) in cases {
            assert_eq!(room().fits(&demand, image_mib), wanted, "{demand:?}");
        }
        let mut full = room();
        full.vcpus = 1;
        assert_eq!(full.fits(&small, 0), Err(Lack::Vcpus));
    }

    #[test]
    fn what_is_taken_and_given_back_leaves_nothing() {
        let mut room = room();
        let demand = Demand {
            vcpus: 4,
            memory_mib: 2048,
            dedicated: true,
            nodes: 1,
            disk_mib: 7,
            ..Demand::default()
        };
        let nodes = room.choose_nodes(&demand);
        assert_eq!(nodes, [1], "the smaller node, so that the bigger one stays whole");
        let before = room.clone();
        room.take(&demand, &nodes);
        assert_eq!((room.nodes[1].dedicated, room.memory_mib, room.vcpus), (0, 30_000 - 2048, 32));
        room.give(&demand, &nodes);
        assert_eq!(room, before);
    }
}
