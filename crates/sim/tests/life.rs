//! The life of a cluster, undisturbed.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use ashlar_engine::Goal;
use ashlar_sim::{Simulation, fixtures};
use common::{delete, demo, must_run};

#[test]
fn a_cluster_comes_and_goes() {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    assert_eq!(simulation.world.state().leftover_secrets(&demo()), Vec::<String>::new());
    delete(&simulation);
    must_run(&simulation, Goal::ClusterGone(demo()));
    assert_eq!(simulation.world.state().remains(&demo()), Vec::<String>::new());
    assert!(simulation.search_store_for_secrets() >= 7);
}
