//! Ashlar is killed at every outside call and every commit while it replaces a machine that is not well, or turns a host off
//! that gives no answer: the next run ends where it would have ended.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use ashlar_api::{Kind, ObjectRef};
use ashlar_engine::Goal;
use ashlar_sim::executor::Ended;
use ashlar_sim::{BmcMood, PodTrouble, Record, SimHost, Simulation, fixtures};
use common::{demo, each, must_run, trace};

/// When something was seen is another time after a crash.
fn without_times(canonical: &str) -> String {
    let mut parts = canonical.split("2026-01-01T");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('Z').map_or(part, |(_, rest)| rest))
}

/// Until nothing is left to do.
fn by_commands(simulation: &Simulation) {
    must_run(simulation, Goal::Settled);
}

/// Long enough for all of it. What no single look shows, such as a lease that stays as it is, takes somebody who goes on.
fn by_a_daemon(simulation: &Simulation) {
    let ended = simulation.serve(Duration::from_mins(40));
    let found = simulation.world.state().violations().to_vec();
    assert!(matches!(ended, Ended::Done(_)) && found.is_empty(), "{}\n{ended:?}", trace(simulation));
}

/// A cluster that is up, to which something happens; a crash at every `every`-th point until all is well again.
fn crash_on_the_way(control_planes: u32, workers: u32, every: usize, happens: impl Fn(&Simulation)) {
    crash_while(control_planes, workers, every, happens, by_commands);
}

fn crash_while(
    control_planes: u32,
    workers: u32,
    every: usize,
    happens: impl Fn(&Simulation),
    work: impl Fn(&Simulation) + Sync,
) {
    let mut simulation = Simulation::with_pool(1, 4).unwrap();
    // There are minutes of patience between the actions.
    simulation.settings_mut().poll_interval = Duration::from_secs(10);
    simulation.apply(&fixtures::cluster("demo", control_planes, workers)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    happens(&simulation);
    simulation.record();
    work(&simulation);
    let records = simulation.take_records();
    let end = without_times(&simulation.canonical().unwrap());
    println!("{} copies on the way", records.len());
    assert!(records.len() > 20, "nothing changed");
    let records: Vec<&Record> = records.iter().step_by(every).collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        work(&next);
        let at = format!("{:?}", record.point);
        let state = next.world.state();
        let machines = (control_planes + workers) as usize;
        assert_eq!(state.clusters[&demo()].nodes.len(), machines, "{at}");
        assert_eq!(state.etcd_votes(&demo()), (control_planes as usize, control_planes as usize), "{at}");
        assert_eq!(state.leftover_secrets(&demo()), Vec::<String>::new(), "{at}");
        drop(state);
        assert_eq!(without_times(&next.canonical().unwrap()), end, "{at}");
    });
}

fn kubelet_dies(machine: &'static str) -> impl Fn(&Simulation) {
    move |simulation| {
        let mut state = simulation.world.state();
        state.dead_kubelets.insert(machine.to_owned());
        state.touched();
    }
}

#[test]
fn a_crash_while_a_sick_worker_is_replaced_changes_nothing() {
    crash_on_the_way(1, 3, 1, kubelet_dies("demo-wkr-2"));
}

#[test]
fn a_crash_while_a_sick_control_plane_is_replaced_changes_nothing() {
    crash_on_the_way(3, 1, 3, kubelet_dies("demo-ctrl-1"));
}

/// A kubelet ends, and nobody says of its node that it is not Ready.
fn kubelet_dies_unseen(machine: &'static str) -> impl Fn(&Simulation) {
    move |simulation| {
        simulation.world.state().hung_controllers.insert(demo());
        kubelet_dies(machine)(simulation);
    }
}

#[test]
fn a_crash_while_a_silent_worker_is_replaced_changes_nothing() {
    crash_while(1, 3, 1, kubelet_dies_unseen("demo-wkr-2"), by_a_daemon);
}

#[test]
fn a_crash_while_the_leader_of_etcd_is_replaced_whose_kubelet_is_silent_changes_nothing() {
    crash_while(3, 1, 3, kubelet_dies_unseen("demo-ctrl-1"), by_a_daemon);
}

#[test]
fn a_crash_while_a_control_plane_is_replaced_whose_scheduler_crashes_changes_nothing() {
    let crashes = |simulation: &Simulation| {
        let pod = ("demo-ctrl-1".to_owned(), "kube-scheduler");
        simulation.world.state().pods_down.insert(pod, PodTrouble::Crashes);
    };
    crash_on_the_way(3, 1, 3, crashes);
}

#[test]
fn a_crash_while_a_worker_is_replaced_that_does_not_come_up_again_changes_nothing() {
    let hangs = |simulation: &Simulation| {
        let mut state = simulation.world.state();
        state.hanging_boots.insert("demo-wkr-2".to_owned());
        for domain in state.hosts.values_mut().flat_map(|host| host.domains.values_mut()) {
            if domain.name == "demo-wkr-2" {
                domain.power_off();
            }
        }
        state.touched();
    };
    crash_on_the_way(1, 3, 2, hangs);
}

/// The host of a machine loses its power, and a person says so.
fn host_is_lost(machine: &'static str) -> impl Fn(&Simulation) {
    move |simulation| {
        let holds = |host: &ashlar_sim::SimHost| host.domains.values().any(|domain| domain.name == machine);
        let state = simulation.world.state();
        let host = state.hosts.iter().find(|(_, host)| holds(host)).map(|(name, _)| name.clone()).unwrap();
        drop(state);
        simulation.lose_host(&host).unwrap();
    }
}

#[test]
fn a_crash_while_the_machines_of_a_host_that_is_off_are_replaced_changes_nothing() {
    crash_on_the_way(3, 3, 2, host_is_lost("demo-ctrl-1"));
}

/// The host of a machine stands still, and all hosts have BMCs.
fn host_freezes(machine: &'static str, mood: BmcMood) -> impl Fn(&Simulation) {
    move |simulation| {
        let hosts: Vec<String> = simulation.world.state().hosts.keys().cloned().collect();
        for host in &hosts {
            let fencing = format!(
                r#"{{"ipmi": {{"address": "bmc-{host}", "username": "ashlar", "passwordFile": "/bmc"}}, "afterS": 60}}"#
            );
            simulation.edit(&ObjectRef::new(Kind::Host, "", host), "/spec/fencing", &fencing).unwrap();
        }
        let mut state = simulation.world.state();
        let holds = |host: &SimHost| host.domains.values().any(|domain| domain.name == machine);
        let host = state.hosts.values_mut().find(|host| holds(host)).unwrap();
        (host.frozen, host.bmc.mood) = (true, mood);
        state.touched();
    }
}

#[test]
fn a_crash_while_a_host_is_turned_off_and_its_machines_are_replaced_changes_nothing() {
    crash_on_the_way(3, 3, 1, host_freezes("demo-ctrl-1", BmcMood::Answers));
}

#[test]
fn a_crash_while_a_bmc_says_that_its_host_is_off_and_it_is_not_yet_changes_nothing() {
    crash_on_the_way(1, 3, 1, host_freezes("demo-wkr-2", BmcMood::Lies));
}
