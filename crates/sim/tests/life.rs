//! The life of a cluster, undisturbed.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use ashlar_api::{Kind, NamespacedName, ObjectRef};
use ashlar_engine::{Goal, Scope};
use ashlar_sim::{Simulation, error_text, executor::Ended, fixtures};

const DEADLINE: Duration = Duration::from_secs(20 * 60);

fn run(simulation: &Simulation, goal: Goal) {
    let outcome = simulation.run(&Scope::All, &goal, DEADLINE);
    let state = simulation.world.state();
    let trace = state.trace.join("\n");
    assert!(state.violations().is_empty(), "{trace}\n{:#?}", state.violations());
    match outcome {
        Ended::Done(Ok(_)) => {}
        Ended::Done(Err(error)) => panic!("{trace}\n{}", error_text(&error)),
        Ended::Crashed => panic!("{trace}\ncrashed"),
        Ended::Stuck => panic!("{trace}\nstuck"),
        Ended::Violated => panic!("{trace}\nviolated"),
    }
}

#[test]
fn a_cluster_comes_and_goes() {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    let demo = NamespacedName::new("default", "demo");
    simulation.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
    run(&simulation, Goal::ClusterReady(demo.clone()));
    println!("{}", simulation.world.state().trace.join("\n"));
    assert_eq!(simulation.world.state().leftover_secrets(&demo), Vec::<String>::new());
    simulation.delete(&ObjectRef::new(Kind::Cluster, "default", "demo")).unwrap();
    run(&simulation, Goal::ClusterGone(demo.clone()));
    println!("{}", simulation.world.state().trace.join("\n"));
    assert_eq!(simulation.world.state().remains(&demo), Vec::<String>::new());
    assert!(simulation.search_store_for_secrets() >= 7);
}
