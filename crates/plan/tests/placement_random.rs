//! Random pools and requests against an oracle that shares no code with placement: no rule is broken, the index finds
//! what a search through all hosts finds, claims end at exactly zero, and the same input gives the same plan.
//!
//! `ASHLAR_CASES` sets the number of cases (`ASHLAR_CASES=100000 cargo test --release -p ashlar-plan --test
//! placement_random`), `ASHLAR_SEED` the first seed: a failure names the seed that fails alone.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failure here is a failed test")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use ashlar_plan::place::{Choice, Demand, HostNumber, NodeRoom, Packer, Peers, PoolRoom, Room, ShapeNumber};
use ashlar_plan::*;
use common::*;

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
    fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a case for each seed, on all processors, and names the seed of one that fails.
fn each_seed(default: u64, case: impl Fn(u64) + Sync) {
    let (first, count) = (number("ASHLAR_SEED", 1), number("ASHLAR_CASES", default));
    let next = std::sync::atomic::AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(seed)))
                    {
                        eprintln!("seed {seed} fails: ASHLAR_SEED={seed} ASHLAR_CASES=1 replays it");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// What the oracle knows of a host: its size, and the machines on it.
#[derive(Clone)]
struct Known {
    offer: Room,
    rack: u32,
    zone: u32,
    open: bool,
    machines: Vec<(u64, Demand, Vec<usize>)>,
}

impl Known {
    /// Whether all machines and one more fit, by sums.
    fn holds(&self, more: Option<(&Demand, &[usize])>) -> bool {
        let (mut vcpus, mut memory, mut disk) = (0, 0, 0);
        let mut nodes: BTreeMap<usize, (u64, u64, u64, u64)> = BTreeMap::new();
        let all = self.machines.iter().map(|(_, demand, nodes)| (demand, nodes.as_slice())).chain(more);
        for (demand, on) in all {
            if demand.nodes as usize != on.len() {
                return false;
            }
            if !demand.dedicated {
                vcpus += demand.vcpus;
                if demand.vcpus > self.offer.threads.unsigned_abs() {
                    return false;
                }
            }
            if demand.hugepages.is_none() {
                memory += demand.memory_mib;
            }
            disk += demand.disk_mib;
            for node in on {
                let sum = nodes.entry(*node).or_default();
                let parts = u64::from(demand.nodes);
                if demand.dedicated {
                    sum.0 += demand.vcpus / parts;
                }
                match demand.hugepages {
                    None => sum.1 += demand.memory_mib / parts,
                    Some(HugepageSize::Mib2) => sum.2 += demand.memory_mib / parts,
                    Some(HugepageSize::Gib1) => sum.3 += demand.memory_mib / parts,
                }
            }
        }
        let holds_node = |(position, sum): (&usize, &(u64, u64, u64, u64))| {
            let node = &self.offer.nodes[*position];
            let limits = [node.dedicated, node.memory_mib, node.huge_mib[0], node.huge_mib[1]];
            [sum.0, sum.1, sum.2, sum.3].iter().zip(limits).all(|(sum, limit)| *sum <= limit.unsigned_abs())
        };
        let pool = self.offer.pools[0].unwrap();
        vcpus <= self.offer.vcpus.unsigned_abs()
            && memory <= self.offer.memory_mib.unsigned_abs()
            && disk <= pool.capacity_mib.unsigned_abs()
            && nodes.iter().all(holds_node)
    }

    /// All ways to lay a machine on NUMA nodes.
    fn ways(&self, demand: &Demand) -> Vec<Vec<usize>> {
        let mut ways = vec![Vec::new()];
        for _ in 0..demand.nodes {
            ways = ways
                .into_iter()
                .flat_map(|way: Vec<usize>| {
                    let first = way.last().map_or(0, |last| last + 1);
                    (first..self.offer.nodes.len()).map(move |node| [way.clone(), vec![node]].concat())
                })
                .collect();
        }
        ways
    }

    fn fits(&self, demand: &Demand) -> bool {
        self.ways(demand).iter().any(|way| self.holds(Some((demand, way))))
    }
}

/// Whether the machines find room on the hosts, by trying everything.
fn all_find_room(hosts: &mut [Known], machines: &[Demand]) -> bool {
    let Some((machine, rest)) = machines.split_first() else { return true };
    for host in 0..hosts.len() {
        for way in hosts[host].ways(machine) {
            if hosts[host].holds(Some((machine, &way))) {
                hosts[host].machines.push((0, machine.clone(), way));
                let found = all_find_room(hosts, rest);
                hosts[host].machines.pop();
                if found {
                    return true;
                }
            }
        }
    }
    false
}

fn random_host(random: &mut Random) -> Room {
    let nodes = 1 + random.below(2);
    let node = |number: u64, random: &mut Random| NodeRoom {
        number: u32::try_from(number).unwrap(),
        dedicated: random.below(5) as i64,
        memory_mib: (4 + random.below(12) as i64) * 1024,
        huge_mib: [random.below(4) as i64 * 512, random.below(3) as i64 * 1024],
    };
    let threads = 2 + random.below(10) as i64;
    let overcommit = 1 + random.below(3) as i64;
    let nodes: Vec<NodeRoom> = (0..nodes).map(|number| node(number, random)).collect();
    Room {
        threads,
        overcommit,
        vcpus: threads * overcommit,
        memory_mib: nodes.iter().map(|node| node.memory_mib).sum::<i64>() - random.below(3) as i64 * 1024,
        nodes,
        pools: vec![Some(PoolRoom { capacity_mib: 2000 + random.below(20_000) as i64, at_once_mib: None })],
    }
}

fn random_demand(random: &mut Random) -> Demand {
    let mut demand = Demand {
        vcpus: 1 + random.below(4),
        memory_mib: 512 * (1 + random.below(8)),
        disk_mib: 100 + random.below(2000),
        ..Demand::default()
    };
    match random.below(6) {
        0 => (demand.dedicated, demand.nodes) = (true, 1),
        1 => (demand.hugepages, demand.nodes) = (Some(HugepageSize::Mib2), 1),
        2 => {
            demand = Demand {
                vcpus: 2 * (1 + random.below(2)),
                memory_mib: 2048,
                dedicated: true,
                hugepages: Some(HugepageSize::Gib1),
                nodes: 2,
                ..demand
            };
        }
        _ => {}
    }
    demand
}

struct Case {
    random: Random,
    packer: Packer,
    known: Vec<Known>,
    shapes: Vec<(ShapeNumber, Demand, Vec<bool>)>,
    /// Group → its shape, its machines' hosts, and how far apart they have to be.
    groups: Vec<(usize, Vec<HostNumber>, Peers, bool)>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut packer = Packer::default();
        let zones = 1 + random.below(3);
        let racks: Vec<(u32, u32)> = (0..1 + random.below(4))
            .map(|_| {
                let zone = u32::try_from(random.below(zones)).unwrap();
                (packer.add_rack(zone), zone)
            })
            .collect();
        let known: Vec<Known> = (0..2 + random.below(5))
            .map(|_| {
                let (rack, zone) = racks[random.below(racks.len() as u64) as usize];
                let (offer, open) = (random_host(&mut random), !random.one_in(8));
                packer.add_host(offer.clone(), rack, open);
                Known { offer, rack, zone, open, machines: Vec::new() }
            })
            .collect();
        let shapes = (0..1 + random.below(4))
            .map(|_| {
                let demand = random_demand(&mut random);
                let eligible: Vec<bool> = known.iter().map(|_| !random.one_in(6)).collect();
                (packer.add_shape(demand.clone(), None, eligible.clone()), demand, eligible)
            })
            .collect::<Vec<_>>();
        let groups = (0..1 + random.below(4))
            .map(|_| {
                let limit = |random: &mut Random| {
                    if random.one_in(2) { u32::MAX } else { 1 + random.below(3) as u32 }
                };
                let peers = Peers {
                    hosts: BTreeMap::new(),
                    host_limit: limit(&mut random),
                    rack_limit: limit(&mut random),
                    zone_limit: limit(&mut random),
                };
                (random.below(shapes.len() as u64) as usize, Vec::new(), peers, random.one_in(3))
            })
            .collect();
        Case { random, packer, known, shapes, groups }
    }

    fn place(&mut self) {
        let index = self.random.below(self.groups.len() as u64) as usize;
        let (shape, members, peers, guarded) = self.groups[index].clone();
        let (number, demand, eligible) = self.shapes[shape].clone();
        let mut excluded = BTreeSet::new();
        if self.random.one_in(5) {
            excluded.insert(u32::try_from(self.random.below(self.known.len() as u64)).unwrap());
        }
        let choice = Choice { peers: peers.clone(), excluded: excluded.clone(), guarded };
        let chosen = self.packer.choose(number, &choice);
        // All hosts, one after the other, by the rules as they are written.
        let count = |of: &dyn Fn(&Known) -> u32, like: u32| {
            members.iter().filter(|host| of(&self.known[**host as usize]) == like).count() as u32
        };
        let mut best = None;
        for (position, known) in self.known.iter().enumerate() {
            let host = u32::try_from(position).unwrap();
            let here = members.iter().filter(|other| **other == host).count() as u32;
            let (in_rack, in_zone) =
                (count(&|known| known.rack, known.rack), count(&|known| known.zone, known.zone));
            let allowed = known.open
                && eligible[position]
                && !excluded.contains(&host)
                && here < peers.host_limit
                && in_rack < peers.rack_limit
                && in_zone < peers.zone_limit
                && known.fits(&demand);
            // The guard judges by a proof that it finds or not: here it is only asked again.
            if !allowed {
                assert_ne!(chosen, Some(host), "a rule is broken");
                continue;
            }
            let score = self.packer.judge(number, host).expect("it fits");
            let key = (here, in_zone, in_rack, std::cmp::Reverse(score), host);
            if best.is_none_or(|best| key < best) {
                best = Some(key);
            }
        }
        if !guarded {
            assert_eq!(chosen, best.map(|(.., host)| host), "the index finds what a search finds");
        }
        let Some(host) = chosen else { return };
        let (claim, nodes) = self.packer.claim(number, host);
        let known = &mut self.known[host as usize];
        known.machines.push((claim, demand, nodes));
        assert!(known.holds(None), "claims pass capacity");
        if guarded {
            self.any_one_may_die();
        }
        let group = &mut self.groups[index];
        group.1.push(host);
        *group.2.hosts.entry(host).or_default() += 1;
    }

    /// What `admission: n+1` promises, proved by trying everything.
    fn any_one_may_die(&self) {
        for dead in 0..self.known.len() {
            let mut others: Vec<Known> = self.known.clone();
            let mut machines: Vec<Demand> =
                others.remove(dead).machines.into_iter().map(|(_, demand, _)| demand).collect();
            others.retain(|other| other.open);
            // The search is exponential; what is bigger has been seen in smaller cases.
            if machines.len() > 6 {
                continue;
            }
            machines.sort_by_key(|machine| std::cmp::Reverse(machine.memory_mib));
            assert!(all_find_room(&mut others, &machines), "host {dead} may not die");
        }
    }

    fn remove(&mut self) {
        let index = self.random.below(self.groups.len() as u64) as usize;
        let group = &mut self.groups[index];
        if group.1.is_empty() {
            return;
        }
        let host = group.1.remove(self.random.below(group.1.len() as u64) as usize);
        match group.2.hosts.get_mut(&host) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = group.2.hosts.remove(&host),
        }
        let demand = &self.shapes[group.0].1;
        let machines = &mut self.known[host as usize].machines;
        let position = machines.iter().position(|(_, other, _)| other == demand).unwrap();
        let (claim, ..) = machines.remove(position);
        self.packer.give(host, claim);
        self.packer.give(host, claim);
    }
}

#[test]
fn no_rule_is_broken_and_claims_end_at_zero() {
    each_seed(400, |seed| {
        let mut case = Case::new(seed);
        for _ in 0..24 {
            if case.random.one_in(5) { case.remove() } else { case.place() }
        }
        for (position, known) in case.known.iter().enumerate() {
            let host = u32::try_from(position).unwrap();
            for (claim, ..) in &known.machines {
                case.packer.give(host, *claim);
            }
            assert_eq!(case.packer.room(host), Some(&known.offer), "claims end at exactly zero");
        }
    });
}

/// A pool of hosts with racks, zones, NUMA nodes, huge pages and threads set apart, and clusters of every sort.
fn random_snapshot(random: &mut Random) -> Snapshot {
    let mut snapshot = empty_pool();
    for host in 0..1 + random.below(8) {
        let name = format!("h{host}");
        let threads = 4 * (1 + random.below(8)) as u32;
        let memory_gib = 4 + random.below(60);
        add_host(&mut snapshot, &name, threads, memory_gib, Accelerator::Kvm);
        let host = snapshot.hosts.get_mut(&name).unwrap();
        host.spec.rack = ["", "a", "b", "c"][random.below(4) as usize].to_owned();
        host.spec.zone = ["z1", "z2"][random.below(2) as usize].to_owned();
        host.spec.cordoned = random.one_in(10);
        host.spec.cpu_overcommit = 1 + random.below(4) as u32;
        if random.one_in(2) {
            let capacity = host.record.capacity.as_mut().unwrap();
            for node in 0..2_u32 {
                let half = threads / 2;
                capacity.numa.insert(
                    node,
                    NumaNode {
                        threads: half,
                        memory: Mebibytes(memory_gib * 512),
                        cpus: CpuSet((node * half..(node + 1) * half).collect()),
                        hugepages: [
                            (HugepageSize::Gib1, random.below(2)),
                            (HugepageSize::Mib2, random.below(512)),
                        ]
                        .into(),
                    },
                );
            }
        }
        if random.one_in(2) {
            host.spec.dedicated_cpus = CpuSet((0..threads).filter(|cpu| cpu % 4 == 3).collect());
        }
        if random.one_in(10) {
            let reason = "no answer".to_owned();
            snapshot.observed.hosts.insert(name, HostSeen::Unreachable { reason });
        }
    }
    let classes = [
        ("ctrl", 2, "2Gi", None, CpuPolicy::Shared, None),
        ("wkr", 3, "3Gi", None, CpuPolicy::Shared, None),
        ("own", 2, "2Gi", None, CpuPolicy::Dedicated, None),
        ("huge", 2, "1Gi", Some(HugepageSize::Gib1), CpuPolicy::Shared, None),
        ("both", 2, "512Mi", Some(HugepageSize::Mib2), CpuPolicy::Dedicated, Some(2)),
    ];
    for (name, vcpus, memory, hugepages, cpu_policy, numa_nodes) in classes {
        add_class(&mut snapshot, name, vcpus, memory, "10Gi");
        let class = &mut snapshot.classes.get_mut(name).unwrap().spec;
        (class.hugepages, class.cpu_policy, class.numa_nodes) = (hugepages, cpu_policy, numa_nodes);
    }
    for cluster in 0..1 + random.below(4) {
        let name = format!("c{cluster}");
        add_cluster(&mut snapshot, &name, [1, 3, 5][random.below(3) as usize], random.below(5) as u32);
        let cluster = snapshot.clusters.get_mut(&NamespacedName::new("default", &name)).unwrap();
        if random.one_in(2) {
            cluster.spec.control_plane.spread = Spread::Preferred;
        }
        cluster.spec.workers[0].class = ["wkr", "own", "huge", "both"][random.below(4) as usize].to_owned();
        cluster.spec.admission =
            [None, Some(Admission::None), Some(Admission::NPlusOne)][random.below(3) as usize];
    }
    snapshot
}

/// The rules, by sums over machines as the store would have them.
fn judge(snapshot: &Snapshot) {
    for (name, host) in &snapshot.hosts {
        let capacity = host.record.capacity.as_ref().unwrap();
        let machines: Vec<&MachineSpec> = snapshot
            .machines
            .values()
            .map(|machine| &machine.spec)
            .filter(|spec| spec.host == *name)
            .collect();
        assert!(
            machines.is_empty()
                || (!host.spec.cordoned
                    && !matches!(snapshot.observed.hosts[name], HostSeen::Unreachable { .. })),
            "machines on {name}, which takes none"
        );
        let shared: u32 =
            machines.iter().filter(|spec| spec.cpu_policy == CpuPolicy::Shared).map(|spec| spec.vcpus).sum();
        let apart = host.spec.dedicated_cpus.0.len() as u32;
        assert!(shared <= (capacity.threads - apart) * host.spec.cpu_overcommit, "vCPUs on {name}");
        let mut own = BTreeSet::new();
        for spec in &machines {
            let cpus: Vec<u32> = spec.numa.iter().flat_map(|cell| cell.cpus.0.iter().copied()).collect();
            assert_eq!(
                cpus.len(),
                if spec.cpu_policy == CpuPolicy::Dedicated { spec.vcpus as usize } else { 0 }
            );
            for cpu in cpus {
                assert!(host.spec.dedicated_cpus.0.contains(&cpu), "thread {cpu} of {name} is not set apart");
                assert!(own.insert(cpu), "thread {cpu} of {name} has two owners");
            }
        }
        let huge: u64 = capacity
            .numa
            .values()
            .flat_map(|node| &node.hugepages)
            .map(|(size, pages)| size.mib() * pages)
            .sum();
        let plain: u64 =
            machines.iter().filter(|spec| spec.hugepages.is_none()).map(|spec| spec.memory.0).sum();
        assert!(plain <= capacity.memory.0.saturating_sub(2048 + huge), "memory of {name}");
        for (number, node) in &capacity.numa {
            for size in HugepageSize::ALL {
                let cells =
                    machines.iter().filter(|spec| spec.hugepages == Some(size)).flat_map(|spec| &spec.numa);
                let claimed: u64 =
                    cells.filter(|cell| cell.host_node == *number).map(|cell| cell.memory.0).sum();
                let pages = node.hugepages.get(&size).copied().unwrap_or_default();
                assert!(claimed <= pages * size.mib(), "huge pages of node {number} of {name}");
            }
        }
    }
    for (key, cluster) in &snapshot.clusters {
        let control_planes: Vec<&Machine> = snapshot
            .machines
            .values()
            .filter(|machine| {
                machine.spec.cluster == key.name && machine.spec.role == MachineRole::ControlPlane
            })
            .collect();
        let hosts: BTreeSet<&str> = control_planes.iter().map(|machine| machine.spec.host.as_str()).collect();
        if cluster.spec.control_plane.spread == Spread::Required {
            assert_eq!(hosts.len(), control_planes.len(), "control planes of {key} share a host");
        }
    }
}

#[test]
fn plans_keep_all_rules_and_are_the_same_for_the_same_input() {
    each_seed(60, |seed| {
        let snapshot = random_snapshot(&mut Random(seed));
        let mut world = World::new(snapshot.clone(), seed);
        let plan = world.plan();
        assert_eq!(plan, ashlar_plan::plan(&snapshot, &mut SeededIds(seed)).unwrap());
        world.commit(plan.decisions);
        judge(&world.snapshot);
        // What has no place is told why, with what would help.
        for step in &plan.steps {
            if let StepState::Waiting(wait) = &step.state
                && wait.reason == "Unschedulable"
            {
                assert!(wait.message.contains("what would help"), "{}", wait.message);
            }
        }
    });
}
