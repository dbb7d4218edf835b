//! Somebody migrates domains by hand, and Ashlar is killed at every outside call and every commit while it finds that out. Whatever it
//! had written down by then: while the other host is silent, nobody is started a second time.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use ashlar_engine::{Goal, Scope};
use ashlar_plan::DomainState;
use ashlar_sim::{Record, Simulation, executor::Ended, fixtures};
use common::{demo, each, must_run, trace};

/// Ashlar works for a while, and does not come to its goal; no judge finds anything wrong.
fn must_wait(simulation: &Simulation) {
    let outcome = simulation.run(&Scope::All, &Goal::Settled, Duration::from_secs(120));
    assert!(simulation.world.state().violations().is_empty(), "{}", trace(simulation));
    assert!(matches!(outcome, Ended::Done(Err(_))), "{}\n{outcome:?}", trace(simulation));
}

/// Hosts where a domain of that name runs.
fn running(simulation: &Simulation, name: &str) -> Vec<String> {
    let state = simulation.world.state();
    let runs = |host: &ashlar_sim::SimHost| {
        host.domains.values().any(|domain| domain.name == name && domain.state == DomainState::Running)
    };
    state.hosts.iter().filter(|(_, host)| runs(host)).map(|(host, _)| host.clone()).collect()
}

fn by_hand(simulation: &Simulation, commands: &[&str]) {
    for command in commands {
        simulation.world.state().by_hand(command).unwrap();
    }
}

/// The other host falls silent, for Ashlar to wait for; then it answers again, and the domain is moved back.
fn silence_and_return(simulation: &Simulation, from: &str, to: &str) -> String {
    by_hand(simulation, &[&format!("host {to} down")]);
    must_wait(simulation);
    assert_eq!(running(simulation, "demo-wkr-1"), [to], "{}", trace(simulation));
    by_hand(simulation, &[&format!("host {to} up"), &format!("virsh {to} migrate demo-wkr-1 {from}")]);
    must_run(simulation, Goal::Settled);
    assert_eq!(running(simulation, "demo-wkr-1"), [from], "{}", trace(simulation));
    simulation.canonical().unwrap()
}

fn is_killed_while_it_finds_out(how: &str) {
    let simulation = Simulation::with_pool(1, 2).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 2)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let from = running(&simulation, "demo-wkr-1").remove(0);
    let to = if from == "h1" { "h2" } else { "h1" };
    by_hand(&simulation, &[&format!("virsh {from} migrate demo-wkr-1 {to}{how}")]);
    simulation.record();
    must_wait(&simulation);
    let records = simulation.take_records();
    let recorded = records.iter().filter(|record| {
        let mut machines = record.objects("Machine");
        machines.any(|machine| machine.pointer("/record/seenElsewhere/0").is_some_and(|host| host == to))
    });
    let (all, recorded) = (records.len(), recorded.count());
    println!("{how}: {all} copies on the way, {recorded} of them after it was recorded");
    assert!(recorded > 0 && recorded < all, "{recorded} of {all}");
    let end = silence_and_return(&simulation, &from, to);
    let records: Vec<&Record> = records.iter().collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        common::assert_same(&format!("{:?}", record.point), &silence_and_return(&next, &from, to), &end);
    });
}

#[test]
fn a_crash_while_a_migration_by_hand_is_found_out_starts_nobody_twice() {
    is_killed_while_it_finds_out(" copying");
}

#[test]
fn nor_does_one_that_left_the_definition_behind() {
    is_killed_while_it_finds_out(" staying defined");
}
