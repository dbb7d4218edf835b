//! The CoSpot traces, replayed online: machines come and go, the next one is not known.

use std::path::Path;
use std::time::Instant;

use super::policies::{Ashlar, Rule, Simple};
use super::trace::{HostDays, Policy, Trace, replay};

/// Traces of each kind from this one on were not looked at while the score was chosen.
const FIRST_HELD_BACK: usize = 7;
/// Moments at which all machines are packed anew.
const MOMENTS: u32 = 14;

type Maker = fn() -> Box<dyn Policy>;
const POLICIES: [(&str, Maker); 4] = [
    ("first fit", || Box::new(Simple::new(Rule::First))),
    ("best fit", || Box::new(Simple::new(Rule::Best))),
    ("ashlar", || Box::new(Ashlar::new())),
    ("hindsight", || Box::new(Simple::new(Rule::Hindsight))),
];
const COLUMNS: usize = POLICIES.len() + 1;

/// What one could have with free migration of everything at any time, or nearly: at some moments, the fewest hosts that
/// are found for the machines that are there.
fn packed_anew(trace: &Trace) -> HostDays {
    let mut days = HostDays { used: 0.0, bound: 0.0 };
    for moment in 0..MOMENTS {
        let alive = trace.alive(trace.end * (f64::from(moment) + 0.5) / f64::from(MOMENTS));
        let part = |machine: &super::trace::Machine| {
            (machine.cores as f64 / super::trace::CORES as f64, machine.ram as f64 / super::trace::RAM as f64)
        };
        let (cores, ram) =
            alive.iter().map(part).fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        // The biggest first; those beyond half a host first and the rest as they came; all as they came.
        let size = |machine: &super::trace::Machine| part(machine).0.max(part(machine).1);
        let mut biggest = alive.clone();
        biggest.sort_by(|a, b| size(b).total_cmp(&size(a)));
        let mut halves = alive.clone();
        halves.sort_by_key(|machine| size(machine) <= 0.5);
        let fewest = [biggest, halves, alive]
            .iter()
            .map(|order| {
                let mut policy = Simple::new(Rule::First);
                order.iter().map(|machine| policy.place(machine)).max().map_or(0, |last| last + 1)
            })
            .min();
        days.used += fewest.unwrap_or_default() as f64;
        days.bound += f64::max(cores, ram);
    }
    days
}

pub(crate) fn run(directory: &Path) {
    // By kind and whether it was held back: the gaps of each trace.
    let mut machines = 0;
    let mut seconds = [0.0; POLICIES.len()];
    let mut rows: Vec<(String, Vec<[f64; COLUMNS]>)> = Vec::new();
    for kind in ["batched", "bernoulli"] {
        let (mut seen, mut held_back) = (Vec::new(), Vec::new());
        for number in 0..10 {
            let path = directory.join(kind).join(format!("relevant-vm-1pcnt_{number}.csv"));
            let text =
                std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let trace = Trace::from_csv(&text);
            machines += trace.machines.len();
            let mut gaps = [0.0; COLUMNS];
            for (index, (_, make)) in POLICIES.iter().enumerate() {
                let started = Instant::now();
                gaps[index] = replay(&trace, make().as_mut()).gap_percent();
                seconds[index] += started.elapsed().as_secs_f64();
            }
            gaps[COLUMNS - 1] = packed_anew(&trace).gap_percent();
            if number < FIRST_HELD_BACK { seen.push(gaps) } else { held_back.push(gaps) }
        }
        let all = [seen.as_slice(), held_back.as_slice()].concat();
        rows.push((format!("{kind}, {} looked at", seen.len()), seen));
        rows.push((format!("{kind}, {} held back", held_back.len()), held_back));
        rows.push((format!("{kind}, all {}", all.len()), all));
    }
    println!(
        "traces    {machines} machines come and go; claims were compared with capacity at every event, and were"
    );
    println!(
        "          exactly zero at the end. Host-days from 0 to the last arrival above max(Σcpu, Σram), mean of"
    );
    println!(
        "          the traces. hindsight: knows when each machine leaves; packed anew: free migration, at {MOMENTS} moments"
    );
    print!("{:<26}", "");
    POLICIES.iter().for_each(|(name, _)| print!("{name:>11}"));
    println!("{:>13}{:>16}", "packed anew", "ashlar cuts by");
    for (what, gaps) in &rows {
        let mean = |index: usize| gaps.iter().map(|gaps| gaps[index]).sum::<f64>() / gaps.len() as f64;
        print!("{what:<26}");
        (0..POLICIES.len()).for_each(|index| print!("{:>9.2} %", mean(index)));
        println!("{:>11.2} %{:>14.1} %", mean(COLUMNS - 1), (1.0 - mean(2) / mean(0)) * 100.0);
    }
    print!("{:<26}", "replayed in");
    seconds.iter().for_each(|seconds| print!("{seconds:>9.1} s"));
    println!();
}
