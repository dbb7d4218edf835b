//! Ashlar is killed at every outside call and every commit while a host is emptied by moving its machines alive: the next run
//! ends where an undisturbed one ends, no guest was ever turned off, none ran twice, and nothing is left on the host.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use ashlar_api::DrainBy;
use ashlar_engine::{Goal, declare};
use ashlar_sim::{Record, Simulation, fixtures};
use common::{demo, each, must_run};
use futures::executor::block_on;

/// Domains with the moment at which each was turned on.
fn turned_on(simulation: &Simulation) -> BTreeSet<String> {
    let state = simulation.world.state();
    let domains = state.hosts.values().flat_map(|host| host.domains.values());
    domains.map(|domain| format!("{} {:?} {:?}", domain.name, domain.state, domain.started_at)).collect()
}

fn crash_on_the_way(control_planes: u32, workers: u32, every: usize) {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    simulation.apply(&fixtures::cluster("demo", control_planes, workers)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let before = turned_on(&simulation);
    let is_full = |name: &str| !simulation.world.state().hosts[name].domains.is_empty();
    let host = ["h1", "h2", "h3"].into_iter().find(|name| is_full(name)).unwrap();
    block_on(declare::drain_host(simulation.store(), host, DrainBy::Migration)).unwrap();
    simulation.record();
    let emptied = || Goal::HostEmptied(host.to_owned());
    must_run(&simulation, emptied());
    must_run(&simulation, Goal::Settled);
    let records = simulation.take_records();
    let end = simulation.canonical().unwrap();
    println!("{} copies on the way", records.len());
    assert!(records.len() > 20, "nothing moved");
    assert_eq!(turned_on(&simulation), before);
    let records: Vec<&Record> = records.iter().step_by(every).collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, emptied());
        must_run(&next, Goal::Settled);
        let at = format!("{:?}", record.point);
        assert_eq!(turned_on(&next), before, "{at}");
        let state = next.world.state();
        assert!(state.hosts[host].domains.is_empty(), "{at}");
        let of_machines = |file: &&String| file.contains("demo-");
        let left: Vec<&String> = state.hosts[host]
            .pools
            .values()
            .flat_map(|pool| pool.volumes.keys())
            .filter(of_machines)
            .collect();
        assert_eq!(left, Vec::<&String>::new(), "{at}");
        drop(state);
        common::assert_same(&at, &next.canonical().unwrap(), &end);
    });
}

#[test]
fn a_crash_while_a_lonely_control_plane_and_its_worker_move_changes_nothing() {
    crash_on_the_way(1, 3, 1);
}

#[test]
fn a_crash_while_one_of_three_control_planes_moves_changes_nothing() {
    crash_on_the_way(3, 2, 1);
}
