//! The test of the test: each guard is taken away, and the search over seeds has to notice.
//!
//! A seed counts if its story breaks a promise without the guard and keeps all of them with it.
//! Those that few seeds are needed for are taken away in every run;
//! `cargo test --release -p ashlar-sim --test guards -- --ignored --nocapture` prints the table of all guards,
//! and `ASHLAR_SIM_GUARD=SeedWipe` chooses one.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use ashlar_api::{Kind, ObjectRef};
use ashlar_plan::Guard;
use ashlar_sim::Simulation;
use ashlar_sim::adversary::{Options, Prepare, Size, run_seed};
use common::each;

/// Seeds within which the absence of a guard has to be noticed.
const SEEDS: u64 = 1000;

/// Seeds of an ordinary run.
const FEW_SEEDS: u64 = 30;

/// Guards of an ordinary run: those that few seeds are needed for.
const FAST: [Guard; 9] = [
    Guard::SeedWipe,
    Guard::RecordedStart,
    Guard::RecordedIntent,
    Guard::CompareAndSet,
    Guard::HostLease,
    Guard::DomainUuid,
    Guard::SeenGone,
    Guard::PausedArrival,
    Guard::ProvedOff,
];

/// Small worlds are enough, and idle ticks prove nothing here. Some guards are against what people do seldom.
fn options(guard: Guard) -> Options {
    let also: Vec<String> = match guard {
        Guard::ForeignAddress => (1..8).map(|last| format!("foreign address br0 10.88.1.{last}")).collect(),
        Guard::DomainUuid => ["blue-wkr-1", "green-wkr-1", "blue-wkr-2", "green-wkr-2"]
            .iter()
            .flat_map(|machine| [format!("virsh any replace {machine}"), format!("delete machine {machine}")])
            .collect(),
        Guard::PausedArrival => ["h1", "h2"].map(|host| format!("drain host {host}")).to_vec(),
        Guard::CertainArrival => ["h1", "h2"]
            .iter()
            .flat_map(|host| {
                [
                    format!("drain host {host}"),
                    format!("after 3m host {host} off"),
                    format!("after 4m host {host} on"),
                ]
            })
            .collect(),
        Guard::RemediationLimits => {
            ["blue", "green"].map(|cluster| format!("kubelets of {cluster} die")).to_vec()
        }
        Guard::NewestStore => ["keep store", "restore store"].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    };
    let prepare = match guard {
        Guard::PausedArrival => Some(Arc::new(next_move_ends_unheard) as Prepare),
        Guard::CertainArrival => Some(Arc::new(next_moves_silence_their_targets) as Prepare),
        _ => None,
    };
    Options { prepare, size: Some(Size::Tiny), idle_ticks: 3, also, ..Options::default() }
}

/// Hosts between which machines can be moved, and a move whose end nobody hears.
fn next_move_ends_unheard(simulation: &mut Simulation) {
    in_one_rack(simulation);
    simulation.world.state().unheard_moves = 1;
}

/// And targets that are silent then, while their sources lose their power.
fn next_moves_silence_their_targets(simulation: &mut Simulation) {
    in_one_rack(simulation);
    simulation.world.state().silencing_moves = Some((4, std::time::Duration::from_secs(200)));
}

fn in_one_rack(simulation: &Simulation) {
    let hosts: Vec<String> = simulation.world.state().hosts.keys().cloned().collect();
    for host in hosts {
        simulation.edit(&ObjectRef::new(Kind::Host, "", host), "/spec/rack", "r1").unwrap();
    }
}

/// The first of the seeds that notices, and what it says.
fn noticed(guard: Guard, seeds: u64) -> Option<(u64, String)> {
    let options = options(guard);
    (0..seeds).find_map(|seed| {
        let broken = guard.taken_away(|| run_seed(seed, &options)).err()?;
        run_seed(seed, &options)
            .is_ok()
            .then(|| (seed, broken.what.lines().next().unwrap_or_default().to_owned()))
    })
}

/// The table, and the guards that nobody missed.
fn table(guards: &[Guard], seeds: u64) -> (String, Vec<Guard>) {
    let rows = Mutex::new(Vec::new());
    each(guards, |guard| {
        let row = (*guard, noticed(*guard, seeds));
        println!("{row:?}");
        rows.lock().unwrap().push(row);
    });
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|(guard, _)| *guard);
    let mut text = String::from("| guard | seeds needed | what it was noticed by |\n|---|---|---|\n");
    for (guard, found) in &rows {
        let (seeds, what) = match found {
            Some((seed, what)) => ((seed + 1).to_string(), what.as_str()),
            None => (format!("more than {seeds}"), "nothing"),
        };
        text += &format!("| {guard:?} | {seeds} | {what} |\n");
    }
    let missed = rows.into_iter().filter(|(_, found)| found.is_none()).map(|(guard, _)| guard).collect();
    (text, missed)
}

#[test]
fn the_search_notices_that_a_guard_is_gone() {
    let (text, missed) = table(&FAST, FEW_SEEDS);
    println!("{text}");
    assert_eq!(missed, [], "{text}");
}

#[test]
#[ignore = "takes minutes: all guards, most of them with hundreds of seeds"]
fn the_search_notices_that_any_guard_is_gone() {
    let only = std::env::var("ASHLAR_SIM_GUARD").unwrap_or_default();
    let guards: Vec<Guard> =
        Guard::ALL.into_iter().filter(|guard| format!("{guard:?}").contains(&only)).collect();
    let (text, missed) = table(&guards, SEEDS);
    println!("{text}");
    assert_eq!(missed, [], "{text}");
}
