//! A pool of NUMA hosts in racks, filled with groups whose machines must be on different hosts, then emptied.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ashlar_api::HugepageSize;
use ashlar_plan::place::{Choice, Demand, HostNumber, NodeRoom, Packer, Peers, PoolRoom, Room, ShapeNumber};

const HOSTS: u32 = 1000;
const RACKS: u32 = 25;
const ROUNDS: u32 = 20;
/// Machines of a group, each on a host of its own.
const GROUP: u32 = 5;
/// Groups that are there when hosts die.
const GROUPS: u32 = 1000;
const GIB: u64 = 1024;

/// 2 × 32 threads and 2 × 256 GiB, of which 8 threads and 64 GiB of huge pages on each node are set apart.
fn host() -> Room {
    let node =
        |number| NodeRoom { number, dedicated: 8, memory_mib: 192 * 1024, huge_mib: [32 * 1024, 32 * 1024] };
    Room {
        threads: 46,
        overcommit: 4,
        vcpus: 46 * 4,
        memory_mib: 382 * 1024,
        nodes: vec![node(0), node(1)],
        pools: vec![Some(PoolRoom { capacity_mib: 8 << 20, at_once_mib: Some(8 << 20) })],
    }
}

fn shapes() -> Vec<Demand> {
    let machine = |vcpus, gib: u64| Demand {
        vcpus,
        memory_mib: gib * GIB,
        disk_mib: 50 * GIB,
        soon_mib: 10,
        ..Demand::default()
    };
    vec![
        machine(4, 8),
        machine(8, 32),
        machine(16, 64),
        Demand { nodes: 1, dedicated: true, ..machine(4, 16) },
        Demand { nodes: 1, hugepages: Some(HugepageSize::Gib1), ..machine(4, 16) },
        Demand { nodes: 2, hugepages: Some(HugepageSize::Mib2), ..machine(8, 32) },
    ]
}

struct Run {
    packer: Packer,
    shapes: Vec<ShapeNumber>,
    random: u64,
}

/// One placed machine.
type Placed = (HostNumber, u64);

impl Run {
    fn new(random: u64) -> Self {
        let mut packer = Packer::default();
        let racks: Vec<u32> = (0..RACKS).map(|rack| packer.add_rack(rack % 5)).collect();
        for number in 0..HOSTS {
            packer.add_host(host(), racks[(number % RACKS) as usize], true);
        }
        let shapes = shapes().into_iter().map(|demand| packer.add_shape(demand, None, Vec::new())).collect();
        Run { packer, shapes, random }
    }

    fn next(&mut self) -> usize {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize
    }

    /// Places one group of a random shape, as far as there is room.
    fn group(&mut self, guarded: bool) -> (usize, Vec<Placed>) {
        let index = self.next() % self.shapes.len();
        let shape = self.shapes[index];
        let peers = Peers { host_limit: 1, ..Peers::default() };
        let mut choice = Choice { peers, guarded, ..Choice::default() };
        let mut placed = Vec::new();
        for _ in 0..GROUP {
            let Some(host) = self.packer.choose(shape, &choice) else { break };
            placed.push((host, self.packer.claim(shape, host).0));
            *choice.peers.hosts.entry(host).or_default() += 1;
        }
        (index, placed)
    }

    /// Places groups until ten in a row found no room; gives the machines of each group with the group's shape.
    fn fill(&mut self, guarded: bool) -> Vec<(usize, Vec<Placed>)> {
        let mut groups = Vec::new();
        let mut refused = 0;
        while refused < 10 {
            let (index, placed) = self.group(guarded);
            refused = if placed.len() < GROUP as usize { refused + 1 } else { 0 };
            groups.push((index, placed));
        }
        groups
    }

    /// Places so many groups.
    fn place_groups(&mut self, count: u32) -> Vec<(usize, Vec<Placed>)> {
        (0..count).map(|_| self.group(false)).collect()
    }

    /// The machines of dead hosts get places on the others, each apart from its group.
    fn replace(&mut self, groups: &mut [(usize, Vec<Placed>)], dead: &BTreeSet<HostNumber>) -> usize {
        let mut replaced = 0;
        for (index, placed) in groups {
            if !placed.iter().any(|(host, _)| dead.contains(host)) {
                continue;
            }
            let shape = self.shapes[*index];
            let peers = Peers { host_limit: 1, ..Peers::default() };
            let mut choice = Choice { peers, excluded: dead.clone(), guarded: false };
            choice.peers.hosts = placed.iter().map(|(host, _)| (*host, 1)).collect();
            for machine in placed.iter_mut().filter(|(host, _)| dead.contains(host)) {
                let host = self.packer.choose(shape, &choice).unwrap();
                self.packer.give(machine.0, machine.1);
                *machine = (host, self.packer.claim(shape, host).0);
                choice.peers.hosts.insert(host, 1);
                replaced += 1;
            }
        }
        replaced
    }

    fn empty(&mut self, groups: Vec<(usize, Vec<Placed>)>) {
        for (host, claim) in groups.into_iter().flat_map(|(_, placed)| placed) {
            self.packer.give(host, claim);
        }
    }
}

/// Sums up what was placed without the packer's help, and compares.
fn verify(groups: &[(usize, Vec<Placed>)]) -> usize {
    let (offer, demands) = (host(), shapes());
    let mut sums: BTreeMap<HostNumber, (u64, u64, u64, u64, u64)> = BTreeMap::new();
    let mut machines = 0;
    for (shape, placed) in groups {
        let demand = &demands[*shape];
        let mut hosts: Vec<HostNumber> = placed.iter().map(|(host, _)| *host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        assert_eq!(hosts.len(), placed.len(), "two machines of a group are on one host");
        for (host, _) in placed {
            machines += 1;
            let sum = sums.entry(*host).or_default();
            match demand.hugepages {
                None => sum.1 += demand.memory_mib,
                Some(HugepageSize::Mib2) => sum.3 += demand.memory_mib,
                Some(HugepageSize::Gib1) => sum.4 += demand.memory_mib,
            }
            if demand.dedicated { sum.2 += demand.vcpus } else { sum.0 += demand.vcpus }
        }
    }
    for (vcpus, memory, dedicated, small, big) in sums.values() {
        assert!(*vcpus <= offer.vcpus.unsigned_abs() && *memory <= offer.memory_mib.unsigned_abs());
        assert!(*dedicated <= 16 && *small <= 64 * GIB && *big <= 64 * GIB);
    }
    machines
}

pub(crate) fn run() {
    println!(
        "pool      {HOSTS} hosts of 2 NUMA nodes in {RACKS} racks, {} shapes (dedicated CPUs, huge pages of two sizes,",
        shapes().len()
    );
    println!(
        "          one and two NUMA nodes among them), groups of {GROUP} on different hosts, until the pool is full"
    );
    for (what, guarded, rounds) in [("admission none", false, ROUNDS), ("admission n+1", true, 2)] {
        let (mut machines, mut placing, mut emptying) = (0, 0.0, 0.0);
        for round in 0..rounds {
            let mut run = Run::new(u64::from(round) + 1);
            let started = Instant::now();
            let groups = run.fill(guarded);
            placing += started.elapsed().as_secs_f64();
            machines += verify(&groups);
            let started = Instant::now();
            run.empty(groups);
            emptying += started.elapsed().as_secs_f64();
            for number in 0..HOSTS {
                assert_eq!(run.packer.room(number), Some(&host()), "claims end at exactly zero");
            }
        }
        println!(
            "{what:<16}{:>9} machines placed in {rounds} rounds: {:>9.0} placements/s, {:>9.0} removals/s",
            machines,
            f64::from(u32::try_from(machines).unwrap()) / placing,
            f64::from(u32::try_from(machines).unwrap()) / emptying,
        );
    }
    let mut run = Run::new(1);
    let mut groups = run.place_groups(GROUPS);
    let dead: BTreeSet<HostNumber> = (0..HOSTS).step_by(20).collect();
    let started = Instant::now();
    let replaced = run.replace(&mut groups, &dead);
    let elapsed = started.elapsed();
    assert!(groups.iter().flat_map(|(_, placed)| placed).all(|(host, _)| !dead.contains(host)));
    verify(&groups);
    println!(
        "{:<16}{replaced:>9} machines of {} placed anew in {:.1} ms",
        format!("{} hosts die", dead.len()),
        GROUPS * GROUP,
        elapsed.as_secs_f64() * 1000.0
    );
}
