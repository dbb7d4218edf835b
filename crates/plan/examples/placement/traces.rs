//! The CoSpot traces (Azure's packing trace 2020 with concrete sizes), replayed online: machines come and go, the next
//! one is not known. What is compared are host-days: hosts that are not empty, summed over time, above the bound
//! max(Σ cpu, Σ memory) in hosts, which no placement can go below.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ashlar_plan::place::{Choice, Demand, HostNumber, NodeRoom, Packer, Room, ShapeNumber};

/// `server16` of the traces' README.
const CORES: i64 = 10_400;
const RAM: i64 = 2_250;
/// Traces of each kind from this one on were not looked at while the score was chosen.
const FIRST_HELD_BACK: usize = 7;

#[derive(Clone, Copy)]
struct Machine {
    cores: i64,
    ram: i64,
    start: f64,
    end: f64,
}

struct Event {
    at: f64,
    is_start: bool,
    machine: usize,
}

struct Trace {
    kind: String,
    number: usize,
    machines: Vec<Machine>,
    events: Vec<Event>,
    end: f64,
}

/// What decides.
trait Policy {
    fn place(&mut self, cores: i64, ram: i64) -> usize;
    fn leave(&mut self, host: usize, cores: i64, ram: i64, token: u64);
    /// Names the last placement for `leave`.
    fn token(&self) -> u64 {
        0
    }
}

/// First fit and best fit, as they are usually written.
struct Simple {
    best: bool,
    free: Vec<(i64, i64)>,
}

impl Policy for Simple {
    fn place(&mut self, cores: i64, ram: i64) -> usize {
        let fits = |(c, r): &(i64, i64)| *c >= cores && *r >= ram;
        let is_empty = |free: &(i64, i64)| *free == (CORES, RAM);
        let mut hosts = self.free.iter().enumerate().filter(|(_, free)| fits(free) && !is_empty(free));
        let found = if self.best {
            // The least left, both in parts of a host.
            hosts.min_by_key(|(_, (c, r))| (c - cores) * RAM + (r - ram) * CORES).map(|(host, _)| host)
        } else {
            hosts.next().map(|(host, _)| host)
        };
        let host = found.or_else(|| self.free.iter().position(is_empty)).unwrap_or_else(|| {
            self.free.push((CORES, RAM));
            self.free.len() - 1
        });
        self.free[host].0 -= cores;
        self.free[host].1 -= ram;
        host
    }

    fn leave(&mut self, host: usize, cores: i64, ram: i64, _: u64) {
        self.free[host].0 += cores;
        self.free[host].1 += ram;
    }
}

/// What the planner uses.
struct Ashlar {
    packer: Packer,
    rack: u32,
    shapes: BTreeMap<(i64, i64), ShapeNumber>,
    last: u64,
}

impl Ashlar {
    fn new() -> Self {
        let mut packer = Packer::default();
        let rack = packer.add_rack(0);
        Ashlar { packer, rack, shapes: BTreeMap::new(), last: 0 }
    }
}

impl Policy for Ashlar {
    fn place(&mut self, cores: i64, ram: i64) -> usize {
        let packer = &mut self.packer;
        let shape = *self.shapes.entry((cores, ram)).or_insert_with(|| {
            let demand = Demand {
                vcpus: cores.unsigned_abs(),
                memory_mib: ram.unsigned_abs(),
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

    fn leave(&mut self, host: usize, _: i64, _: i64, token: u64) {
        self.packer.give(HostNumber::try_from(host).unwrap(), token);
    }

    fn token(&self) -> u64 {
        self.last
    }
}

fn read(kind: &str, number: usize, path: &Path) -> Trace {
    let text = std::fs::read_to_string(path).unwrap();
    let mut machines: Vec<Machine> = text
        .lines()
        .skip(1)
        .map(|line| {
            let field = |n: usize| line.split(',').nth(n).unwrap().parse::<f64>().unwrap();
            let whole = |n: usize| {
                let value = field(n);
                assert!(value.fract() == 0.0, "{value} is not whole");
                value as i64
            };
            Machine { cores: whole(2), ram: whole(3), start: field(5), end: field(6) }
        })
        .filter(|machine| machine.end > machine.start)
        .collect();
    machines.sort_by(|a, b| a.start.total_cmp(&b.start));
    let finite =
        machines.iter().flat_map(|machine| [machine.start, machine.end]).filter(|time| time.is_finite());
    let end = finite.fold(0.0, f64::max);
    let mut events = Vec::new();
    for (index, machine) in machines.iter().enumerate() {
        events.push(Event { at: machine.start, is_start: true, machine: index });
        events.push(Event { at: machine.end, is_start: false, machine: index });
    }
    // Who leaves at a moment leaves before anyone comes. Those that never leave are taken away at the very end.
    events.sort_by(|a, b| {
        a.at.total_cmp(&b.at).then(a.is_start.cmp(&b.is_start)).then(a.machine.cmp(&b.machine))
    });
    Trace { kind: kind.to_owned(), number, machines, events, end }
}

/// Host-days of the policy, and of the bound. Claims are summed beside the policy, and compared at every event.
fn replay(trace: &Trace, policy: &mut dyn Policy) -> (f64, f64) {
    let mut places: Vec<Option<(usize, u64)>> = vec![None; trace.machines.len()];
    let mut claims: Vec<(i64, i64, u32)> = Vec::new();
    let (mut used, mut cores, mut ram) = (0_i64, 0_i64, 0_i64);
    let (mut host_days, mut bound, mut now) = (0.0, 0.0, 0.0);
    for event in &trace.events {
        let at = event.at.clamp(0.0, trace.end);
        host_days += used as f64 * (at - now);
        bound += f64::max(cores as f64 / CORES as f64, ram as f64 / RAM as f64) * (at - now);
        now = at;
        let machine = trace.machines[event.machine];
        if event.is_start {
            let host = policy.place(machine.cores, machine.ram);
            if claims.len() <= host {
                claims.resize(host + 1, (0, 0, 0));
            }
            let claim = &mut claims[host];
            used += i64::from(claim.2 == 0);
            *claim = (claim.0 + machine.cores, claim.1 + machine.ram, claim.2 + 1);
            assert!(claim.0 <= CORES && claim.1 <= RAM, "claims pass the host's capacity");
            (cores, ram) = (cores + machine.cores, ram + machine.ram);
            places[event.machine] = Some((host, policy.token()));
        } else {
            let (host, token) = places[event.machine].take().unwrap();
            policy.leave(host, machine.cores, machine.ram, token);
            let claim = &mut claims[host];
            *claim = (claim.0 - machine.cores, claim.1 - machine.ram, claim.2 - 1);
            used -= i64::from(claim.2 == 0);
            (cores, ram) = (cores - machine.cores, ram - machine.ram);
        }
    }
    assert!(
        claims.iter().all(|claim| *claim == (0, 0, 0)) && (used, cores, ram) == (0, 0, 0),
        "it ends at zero"
    );
    (host_days, bound)
}

pub(crate) fn run(directory: &Path) {
    let mut files: Vec<(String, usize, PathBuf)> = Vec::new();
    for kind in ["batched", "bernoulli"] {
        for number in 0..10 {
            files.push((
                kind.to_owned(),
                number,
                directory.join(kind).join(format!("relevant-vm-1pcnt_{number}.csv")),
            ));
        }
    }
    type Maker = fn() -> Box<dyn Policy>;
    let policies: [(&str, Maker); 3] = [
        ("first fit", || Box::new(Simple { best: false, free: Vec::new() })),
        ("best fit", || Box::new(Simple { best: true, free: Vec::new() })),
        ("ashlar", || Box::new(Ashlar::new())),
    ];
    let mut gaps: BTreeMap<(String, bool, usize), Vec<f64>> = BTreeMap::new();
    let mut seconds = [0.0; 3];
    let mut machines = 0;
    for (kind, number, path) in files {
        let trace = read(&kind, number, &path);
        machines += trace.machines.len();
        for (index, (_, make)) in policies.iter().enumerate() {
            let started = Instant::now();
            let (host_days, bound) = replay(&trace, make().as_mut());
            seconds[index] += started.elapsed().as_secs_f64();
            let held_back = trace.number >= FIRST_HELD_BACK;
            gaps.entry((trace.kind.clone(), held_back, index))
                .or_default()
                .push((host_days / bound - 1.0) * 100.0);
        }
    }
    println!(
        "traces    {machines} machines come and go; host-days above the bound max(Σcpu, Σram), mean of the traces"
    );
    println!("          claims were compared with capacity at every event, and were exactly zero at the end");
    println!("{:<28}{:>12}{:>12}{:>12}{:>14}", "", "first fit", "best fit", "ashlar", "gap cut by");
    for kind in ["batched", "bernoulli"] {
        for held_back in [false, true] {
            let mean = |index: usize| {
                let list = &gaps[&(kind.to_owned(), held_back, index)];
                (list.iter().sum::<f64>() / list.len() as f64, list.len())
            };
            let ((first, count), (best, _), (ours, _)) = (mean(0), mean(1), mean(2));
            let what = format!("{kind}, {count} {}", if held_back { "held back" } else { "looked at" });
            let cut = (1.0 - ours / first) * 100.0;
            println!("{what:<28}{first:>10.2} %{best:>10.2} %{ours:>10.2} %{cut:>12.1} %");
        }
    }
    println!("{:<28}{:>10.1} s{:>10.1} s{:>10.1} s", "replayed in", seconds[0], seconds[1], seconds[2]);
}
