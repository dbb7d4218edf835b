//! Two daemons share a store, and one of them is killed, frozen for longer than its lease, or cut off from etcd at its
//! effects: the other takes over soon, no host has two writers, and the end is that of one daemon that nothing happened to.
//!
//! Some effects in every run; all: `cargo test --release -p ashlar-sim --test two_daemons -- --ignored`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use ashlar_engine::Goal;
use ashlar_plan::Guard;
use ashlar_sim::{
    CallFault, CrashPoint, DaemonFault, Leadership, Moment, Simulation, executor::Ended, fixtures,
};
use common::{demo, each, must_run, trace};

/// Long enough to make the cluster, and to lose a leader on the way.
const TIME: Duration = Duration::from_secs(8 * 60);
const TAKEOVER_S: i64 = 5;

fn world() -> Simulation {
    let simulation = Simulation::with_pool(1, 2).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
    simulation
}

/// What a world comes to in which nothing happens; and the effects that it took to get there.
fn undisturbed() -> (String, u64) {
    let simulation = world();
    let served = simulation.serve_by_two(TIME, &[]);
    let Ended::Done(served) = served else { panic!("{served:?}\n{}", trace(&simulation)) };
    assert_eq!(served.led.iter().map(|one| one.process).collect::<Vec<_>>(), [0], "one leads all the time");
    let effects = simulation.effects();
    must_run(&simulation, Goal::ClusterReady(demo()));
    (simulation.canonical().unwrap(), effects)
}

/// The same with faults: the same end.
fn disturbed(end: &str, faults: &[(usize, DaemonFault)]) -> Vec<Leadership> {
    let simulation = world();
    let served = simulation.serve_by_two(TIME, faults);
    let Ended::Done(served) = served else { panic!("{faults:?}: {served:?}\n{}", trace(&simulation)) };
    assert_eq!(served.broken, None, "{faults:?}");
    let led = served.led;
    let violations = simulation.world.state().violations().to_vec();
    assert!(violations.is_empty(), "{faults:?}: {violations:#?}\n{}", trace(&simulation));
    // All that was to be done, two daemons did.
    let made = simulation.world.mutating_call_count();
    must_run(&simulation, Goal::ClusterReady(demo()));
    assert_eq!(simulation.world.mutating_call_count(), made, "{faults:?}\n{}", trace(&simulation));
    assert_eq!(simulation.canonical().unwrap(), end, "{faults:?}");
    for pair in led.windows(2) {
        assert!(pair[0].term < pair[1].term && pair[0].heard < pair[1].from, "{pair:?}");
        let took = pair[1].from.duration_since(pair[0].heard).as_secs();
        assert!(took <= TAKEOVER_S, "{faults:?}: {took} s until {pair:?}");
    }
    led
}

fn others(led: &[Leadership]) -> bool {
    led.iter().any(|one| one.process == 1)
}

fn sleep(effect: u64, seconds: u64) -> DaemonFault {
    DaemonFault::Sleep(effect, Duration::from_secs(seconds))
}

fn killed_at(every: usize) {
    let (end, effects) = undisturbed();
    let both = |effect| [Moment::Before, Moment::After].map(|moment| CrashPoint { effect, moment });
    let points: Vec<_> = (0..effects).flat_map(both).step_by(every).collect();
    each(&points, |point| {
        assert!(others(&disturbed(&end, &[(0, DaemonFault::Kill(*point))])), "{point:?}");
    });
}

fn asleep_at(every: usize) {
    let (end, effects) = undisturbed();
    let points: Vec<u64> = (0..effects).step_by(every).collect();
    each(&points, |effect| {
        for seconds in [5, 45] {
            assert!(others(&disturbed(&end, &[(0, sleep(*effect, seconds))])), "{effect}");
        }
    });
}

fn asleep_with_a_call_in_flight_at(every: usize) {
    let (end, effects) = undisturbed();
    let points: Vec<u64> = (1..effects).step_by(every).collect();
    each(&points, |effect| {
        for late in [2, 20] {
            let call = DaemonFault::Call(effect - 1, CallFault::Late(late));
            disturbed(&end, &[(0, call), (0, sleep(*effect, 30))]);
        }
    });
}

fn cut_off_at(every: usize) {
    let (end, _) = undisturbed();
    let moments: Vec<u64> = (3..150).step_by(every).collect();
    each(&moments, |at| {
        for seconds in [1, 60] {
            let cut = DaemonFault::Cut(Duration::from_secs(*at), Duration::from_secs(seconds));
            let led = disturbed(&end, &[(0, cut)]);
            assert_eq!(others(&led), seconds > 3, "{at}: {led:?}");
        }
    });
}

/// Both in turn, so that the leadership comes back.
fn back_and_forth_at(every: usize) {
    let (end, effects) = undisturbed();
    let points: Vec<u64> = (0..effects / 2).step_by(every).collect();
    each(&points, |effect| {
        let led = disturbed(&end, &[(0, sleep(*effect, 5)), (1, sleep(effect / 2, 20))]);
        assert!(led.len() >= 2, "{led:?}");
    });
}

#[test]
fn the_other_takes_over_from_one_that_is_killed() {
    killed_at(13);
}

#[test]
fn one_that_sleeps_longer_than_its_lease_changes_nothing_when_it_wakes() {
    asleep_at(11);
}

#[test]
fn a_call_that_is_in_flight_while_its_daemon_sleeps_harms_nobody() {
    asleep_with_a_call_in_flight_at(11);
}

#[test]
fn one_that_is_cut_off_from_etcd_ends_its_work_before_the_other_begins() {
    cut_off_at(13);
}

#[test]
fn the_leadership_goes_back_and_forth() {
    back_and_forth_at(17);
}

#[test]
#[ignore = "takes minutes"]
fn all_of_it_at_every_effect() {
    killed_at(1);
    asleep_at(1);
    asleep_with_a_call_in_flight_at(1);
    cut_off_at(1);
    back_and_forth_at(1);
}

/// The judge sees what it is there for: without new tokens, whoever wakes goes on writing beside its successor.
#[test]
fn without_host_leases_two_write_and_that_is_noticed() {
    let (_, effects) = undisturbed();
    let is_noticed = |effect: u64| {
        let simulation = world();
        Guard::HostLease.taken_away(|| drop(simulation.serve_by_two(TIME, &[(0, sleep(effect, 7))])));
        let state = simulation.world.state();
        state.violations().iter().any(|violation| violation.starts_with("one writer"))
    };
    assert!((0..effects).any(is_noticed));
}
