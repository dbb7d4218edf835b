//! A CoSpot trace (Azure's packing trace 2020 with concrete sizes), and its replay.
//!
//! What is compared are host-days, hosts that are not empty summed over time, above the bound max(Σ cpu, Σ memory) in
//! hosts, which no placement can go below. Counted is the time from 0 to the last arrival: after it nobody comes any more
//! (machines leave for another 76 days), and no placement could change anything.

/// A host: `server16` of the traces' README.
pub(crate) const CORES: i64 = 10_400;
pub(crate) const RAM: i64 = 2_250;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Machine {
    pub(crate) cores: i64,
    pub(crate) ram: i64,
    pub(crate) start: f64,
    /// Infinite where it is there to the end. Only a policy that says so may look at it.
    pub(crate) end: f64,
}

struct Event {
    at: f64,
    is_start: bool,
    machine: usize,
}

pub(crate) struct Trace {
    /// By their start.
    pub(crate) machines: Vec<Machine>,
    events: Vec<Event>,
    /// The last arrival.
    pub(crate) end: f64,
}

/// What decides.
pub(crate) trait Policy {
    /// The host of a machine that comes.
    fn place(&mut self, machine: &Machine) -> usize;
    /// A machine leaves. `token` is what `token` gave right after it was placed.
    fn leave(&mut self, host: usize, machine: &Machine, token: u64);
    /// Names the last placement for `leave`.
    fn token(&self) -> u64 {
        0
    }
}

/// Host-days of a policy, and of the bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostDays {
    pub(crate) used: f64,
    pub(crate) bound: f64,
}

impl HostDays {
    pub(crate) fn gap_percent(self) -> f64 {
        (self.used / self.bound - 1.0) * 100.0
    }
}

impl Trace {
    /// Reads CSV with a header: vmId,tenantId,cores,ram,vmTypeId,starttime,endtime.
    pub(crate) fn from_csv(text: &str) -> Self {
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
        let end = machines.last().map_or(0.0, |machine| machine.start);
        let mut events = Vec::new();
        for (index, machine) in machines.iter().enumerate() {
            events.push(Event { at: machine.start, is_start: true, machine: index });
            events.push(Event { at: machine.end, is_start: false, machine: index });
        }
        // Who leaves at a moment leaves before anyone comes. Those that never leave are taken away at the very end.
        events.sort_by(|a, b| {
            a.at.total_cmp(&b.at).then(a.is_start.cmp(&b.is_start)).then(a.machine.cmp(&b.machine))
        });
        Trace { machines, events, end }
    }

    /// The machines that are there at a moment.
    pub(crate) fn alive(&self, at: f64) -> Vec<Machine> {
        self.machines.iter().filter(|machine| machine.start <= at && machine.end > at).copied().collect()
    }
}

/// Replays the trace. Claims are summed beside the policy and compared with capacity at every event, those before 0 and
/// after the last arrival too; at the end they must be exactly zero.
pub(crate) fn replay(trace: &Trace, policy: &mut dyn Policy) -> HostDays {
    let mut places: Vec<Option<(usize, u64)>> = vec![None; trace.machines.len()];
    let mut claims: Vec<(i64, i64, u32)> = Vec::new();
    let (mut hosts, mut cores, mut ram) = (0_i64, 0_i64, 0_i64);
    let mut days = HostDays { used: 0.0, bound: 0.0 };
    let mut now = 0.0;
    for event in &trace.events {
        let at = event.at.clamp(0.0, trace.end);
        days.used += hosts as f64 * (at - now);
        days.bound += f64::max(cores as f64 / CORES as f64, ram as f64 / RAM as f64) * (at - now);
        now = at;
        let machine = &trace.machines[event.machine];
        if event.is_start {
            let host = policy.place(machine);
            if claims.len() <= host {
                claims.resize(host + 1, (0, 0, 0));
            }
            let claim = &mut claims[host];
            hosts += i64::from(claim.2 == 0);
            *claim = (claim.0 + machine.cores, claim.1 + machine.ram, claim.2 + 1);
            assert!(claim.0 <= CORES && claim.1 <= RAM, "claims pass the host's capacity");
            (cores, ram) = (cores + machine.cores, ram + machine.ram);
            places[event.machine] = Some((host, policy.token()));
        } else {
            let (host, token) = places[event.machine].take().unwrap();
            policy.leave(host, machine, token);
            let claim = &mut claims[host];
            *claim = (claim.0 - machine.cores, claim.1 - machine.ram, claim.2 - 1);
            hosts -= i64::from(claim.2 == 0);
            (cores, ram) = (cores - machine.cores, ram - machine.ram);
        }
    }
    assert!(claims.iter().all(|claim| *claim == (0, 0, 0)), "it ends at exactly zero");
    assert_eq!((hosts, cores, ram), (0, 0, 0), "it ends at exactly zero");
    days
}
