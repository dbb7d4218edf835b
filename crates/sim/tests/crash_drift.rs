//! Ashlar is killed at every outside call and every commit while it puts right what people changed: the next run ends where an
//! undisturbed one ends, every definition and every node is as declared, and no guest was turned off for it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use ashlar_engine::{Goal, Scope};
use ashlar_sim::{Record, Simulation, executor::Ended, fixtures};
use common::{demo, each, must_run};

/// Domains with the moment at which each was turned on.
fn turned_on(simulation: &Simulation) -> BTreeSet<String> {
    let state = simulation.world.state();
    let domains = state.hosts.values().flat_map(|host| host.domains.values());
    domains.map(|domain| format!("{} {:?} {:?}", domain.name, domain.state, domain.started_at)).collect()
}

/// What `ashlar plan` says that people changed.
fn drifts(simulation: &Simulation) -> Vec<String> {
    match simulation.plan(&Scope::All) {
        Ended::Done(Ok((_, plan))) => plan.report.drifts.into_iter().map(|drift| drift.message).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_crash_while_edited_definitions_and_nodes_are_put_right_changes_nothing() {
    let simulation = Simulation::with_pool(1, 2).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 3)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let (before, declared) = (turned_on(&simulation), drifts(&simulation));
    assert_eq!(declared, Vec::<String>::new());
    for edit in [
        "virsh any edit demo-wkr-1 memory 1Gi",
        "virsh any edit demo-wkr-1 filter none",
        "virsh any edit demo-wkr-2 vcpus 1",
        "virsh any edit demo-ctrl-1 no nic",
        "kubectl demo label demo-wkr-3 node.kubernetes.io/instance-type-",
        "kubectl demo taint demo-ctrl-1 node-role.kubernetes.io/control-plane-",
    ] {
        simulation.world.state().by_hand(edit).unwrap();
    }
    let found = drifts(&simulation);
    assert_eq!(found.len(), 5, "{found:#?}");
    simulation.record();
    must_run(&simulation, Goal::Settled);
    let records = simulation.take_records();
    let end = simulation.canonical().unwrap();
    println!("{} copies on the way", records.len());
    assert!(records.len() > 8, "nothing was put right");
    let records: Vec<&Record> = records.iter().collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::Settled);
        let at = format!("{:?}", record.point);
        assert_eq!(turned_on(&next), before, "{at}");
        assert_eq!(drifts(&next), Vec::<String>::new(), "{at}");
        common::assert_same(&at, &next.canonical().unwrap(), &end);
    });
}
