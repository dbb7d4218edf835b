//! Ashlar is killed at every outside call and every commit while kubelets ask for the certificates that they serve with: the next
//! run ends where it would have ended, and has answered each of them once.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use ashlar_engine::Goal;
use ashlar_sim::{Record, Simulation, fixtures};
use common::{demo, each, must_run};

fn asking() -> Simulation {
    let simulation = Simulation::with_pool(1, 2).unwrap();
    simulation.world.state().kubelets_ask = true;
    simulation.apply(&fixtures::cluster("demo", 1, 2)).unwrap();
    simulation
}

/// Until the goal, with a kill at every `every`-th point; then so many requests were approved and denied.
fn crash_on_the_way(simulation: &Simulation, goal: &Goal, every: usize, counts: (usize, usize, usize)) {
    simulation.record();
    must_run(simulation, goal.clone());
    let records = simulation.take_records();
    let end = simulation.canonical().unwrap();
    assert_eq!(simulation.world.state().clusters[&demo()].csr_counts(), counts);
    println!("{} copies on the way", records.len());
    let records: Vec<&Record> = records.iter().step_by(every).collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, goal.clone());
        let at = format!("{:?}", record.point);
        assert_eq!(next.world.state().clusters[&demo()].csr_counts(), counts, "{at}");
        assert_eq!(next.canonical().unwrap(), end, "{at}");
    });
}

#[test]
fn a_crash_while_a_cluster_is_made_leaves_no_kubelet_without_an_answer() {
    crash_on_the_way(&asking(), &Goal::ClusterReady(demo()), 3, (3, 0, 0));
}

#[test]
fn a_crash_while_kubelets_are_answered_changes_nothing() {
    let simulation = asking();
    must_run(&simulation, Goal::ClusterReady(demo()));
    for (machine, how) in [
        ("demo-wkr-1", "again"),
        ("demo-wkr-1", "for a foreign address"),
        ("demo-wkr-2", "as a master"),
        ("demo-ctrl-1", "again"),
        ("demo-ctrl-1", "through somebody"),
    ] {
        simulation.world.state().let_kubelet_ask(machine, how).unwrap();
    }
    crash_on_the_way(&simulation, &Goal::Settled, 1, (5, 3, 0));
}
