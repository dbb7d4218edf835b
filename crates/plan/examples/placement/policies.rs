//! Who decides in a replay: first fit and best fit as they are usually written, what Ashlar's planner uses, and one that
//! knows the future.

use std::collections::BTreeMap;

use ashlar_plan::place::{Choice, Demand, HostNumber, NodeRoom, Packer, Room, ShapeNumber};

use super::trace::{CORES, Machine, Policy, RAM};

/// Which of the hosts in use that have room.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// The first.
    First,
    /// The one with the least left, both in parts of a host.
    Best,
    /// The one that the machine keeps in use least longer than it would be anyway. It looks at when machines leave.
    Hindsight,
}

/// A policy without an index: it looks at all hosts.
pub(crate) struct Simple {
    rule: Rule,
    free: Vec<(i64, i64)>,
    /// When each host's machines leave, with how many of them do.
    ends: Vec<BTreeMap<u64, u32>>,
}

impl Simple {
    pub(crate) fn new(rule: Rule) -> Self {
        Simple { rule, free: Vec::new(), ends: Vec::new() }
    }

    fn cost(&self, host: usize, machine: &Machine) -> f64 {
        let (cores, ram) = self.free[host];
        match self.rule {
            Rule::First => 0.0,
            Rule::Best => ((cores - machine.cores) * RAM + (ram - machine.ram) * CORES) as f64,
            Rule::Hindsight => {
                let last = self.ends[host].keys().next_back().copied().unwrap_or_default();
                // In doublings of the time: half an hour more on top of a month is nothing.
                let left = |end: f64| ((end.min(HORIZON) - machine.start).max(0.0) * 1440.0 + 1.0).log2();
                (left(machine.end) - left(f64::from_bits(last))).max(0.0)
            }
        }
    }
}

/// Days that the hindsight looks ahead.
const HORIZON: f64 = 120.0;

/// As bits of the time since before all traces, which are ordered as the times are.
fn end_key(machine: &Machine) -> u64 {
    machine.end.max(0.0).to_bits()
}

impl Policy for Simple {
    fn place(&mut self, machine: &Machine) -> usize {
        let is_empty = |free: &(i64, i64)| *free == (CORES, RAM);
        let fits = |free: &(i64, i64)| free.0 >= machine.cores && free.1 >= machine.ram;
        let hosts = self.free.iter().enumerate().filter(|(_, free)| fits(free) && !is_empty(free));
        let found = match self.rule {
            Rule::First => hosts.map(|(host, _)| host).next(),
            Rule::Best | Rule::Hindsight => hosts
                .map(|(host, _)| host)
                .min_by(|a, b| self.cost(*a, machine).total_cmp(&self.cost(*b, machine))),
        };
        let host = found.or_else(|| self.free.iter().position(is_empty)).unwrap_or_else(|| {
            self.free.push((CORES, RAM));
            self.ends.push(BTreeMap::new());
            self.free.len() - 1
        });
        self.free[host].0 -= machine.cores;
        self.free[host].1 -= machine.ram;
        *self.ends[host].entry(end_key(machine)).or_default() += 1;
        host
    }

    fn leave(&mut self, host: usize, machine: &Machine, _: u64) {
        self.free[host].0 += machine.cores;
        self.free[host].1 += machine.ram;
        match self.ends[host].get_mut(&end_key(machine)) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = self.ends[host].remove(&end_key(machine)),
        }
    }
}

/// What the planner uses: its packer, with its score.
pub(crate) struct Ashlar {
    packer: Packer,
    rack: u32,
    shapes: BTreeMap<(i64, i64), ShapeNumber>,
    last: u64,
}

impl Ashlar {
    pub(crate) fn new() -> Self {
        let mut packer = Packer::default();
        let rack = packer.add_rack(0);
        Ashlar { packer, rack, shapes: BTreeMap::new(), last: 0 }
    }
}

impl Policy for Ashlar {
    fn place(&mut self, machine: &Machine) -> usize {
        let packer = &mut self.packer;
        let shape = *self.shapes.entry((machine.cores, machine.ram)).or_insert_with(|| {
            let demand = Demand {
                vcpus: machine.cores.unsigned_abs(),
                memory_mib: machine.ram.unsigned_abs(),
                pool: usize::MAX,
                ..Demand::default()
            };
            packer.add_shape(demand, None, Vec::new())
        });
        let host = packer.choose(shape, &Choice::default()).unwrap_or_else(|| {
            let offer = Room {
                threads: CORES,
                overcommit: 1,
                vcpus: CORES,
                memory_mib: RAM,
                nodes: vec![NodeRoom::default()],
                pools: Vec::new(),
            };
            packer.add_host(offer, self.rack, true)
        });
        self.last = packer.claim(shape, host).0;
        host as usize
    }

    fn leave(&mut self, host: usize, _: &Machine, token: u64) {
        self.packer.give(HostNumber::try_from(host).unwrap(), token);
    }

    fn token(&self) -> u64 {
        self.last
    }
}
