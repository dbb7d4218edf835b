//! The simulated etcd loses what a real one loses when the disk of one of its members is turned back, and the judges
//! notice. Both cases were seen on a real one: three members on loopback, one data directory put back.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use ashlar_engine::Goal;
use ashlar_plan::DomainState;
use ashlar_sim::{Simulation, State, fixtures};
use common::{demo, must_run};
use jiff::SignedDuration;

fn ready() -> Simulation {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    simulation.apply(&fixtures::cluster("demo", 3, 1)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    simulation
}

/// Ends a control plane, or starts it, and lets the others see it.
fn power(state: &mut State, node: &str, on: bool) {
    let now = state.now;
    let host = state.hosts.get_mut("h1").unwrap();
    let domain = host.domains.values_mut().find(|domain| domain.name == node).unwrap();
    domain.state = if on { DomainState::Running } else { DomainState::ShutOff };
    domain.started_at = on.then_some(now);
    state.touched();
    state.advance(SignedDuration::from_secs(30));
}

fn writes(state: &mut State, count: u64) -> Vec<u64> {
    (0..count).map(|_| state.etcd_write(&demo()).unwrap()).collect()
}

fn has(state: &State, node: &str, writes: &[u64]) -> bool {
    let applied = state.etcd_log(&demo(), node).unwrap().applied();
    writes.iter().all(|write| applied.contains(write))
}

#[test]
fn a_disk_that_is_turned_back_under_a_living_leader_is_a_panic() {
    let simulation = ready();
    let mut state = simulation.world.state();
    let kept = state.etcd_log(&demo(), "demo-ctrl-3").unwrap().clone();
    writes(&mut state, 5);
    state.turn_etcd_back(&demo(), "demo-ctrl-3", kept);
    state.touched();
    state.advance(SignedDuration::from_secs(1));
    assert!(state.trace.iter().any(|line| line.contains("demo-ctrl-3 panics: tocommit(")));
    assert_eq!(state.etcd_votes(&demo()), (2, 3));
    assert_eq!(state.violations(), [""; 0], "two of three still have everything");
}

#[test]
fn a_disk_that_is_turned_back_while_its_leader_dies_loses_what_was_acknowledged_and_nobody_says_so() {
    let simulation = ready();
    let mut state = simulation.world.state();
    let kept = state.etcd_log(&demo(), "demo-ctrl-3").unwrap().clone();
    power(&mut state, "demo-ctrl-2", false);
    let acknowledged = writes(&mut state, 5);
    assert!(has(&state, "demo-ctrl-1", &acknowledged) && has(&state, "demo-ctrl-3", &acknowledged));
    power(&mut state, "demo-ctrl-1", false);
    state.turn_etcd_back(&demo(), "demo-ctrl-3", kept);
    power(&mut state, "demo-ctrl-2", true);
    // They have a majority, and are of one mind.
    assert!(state.has_quorum(&demo()));
    writes(&mut state, 1);
    assert!(!has(&state, "demo-ctrl-2", &acknowledged) && !has(&state, "demo-ctrl-3", &acknowledged));
    // The one that knows better joins them again, and keeps what nobody else has.
    power(&mut state, "demo-ctrl-1", true);
    assert_eq!(state.etcd_votes(&demo()), (3, 3));
    assert!(has(&state, "demo-ctrl-1", &acknowledged) && !has(&state, "demo-ctrl-3", &acknowledged));
    let violations = state.violations().join("\n");
    assert_eq!(violations, "durability: 5 writes that the etcd of demo has acknowledged are gone");
}
