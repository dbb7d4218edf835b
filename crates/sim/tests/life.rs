//! The life of a cluster, undisturbed, and what is recorded of it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use ashlar_engine::audit::{AuditError, AuditLog, Deed};
use ashlar_engine::{Goal, Scope};
use ashlar_sim::{SimWorld, Simulation, executor, executor::Ended, fixtures};
use common::{DEADLINE, delete, demo, must_run};
use jiff::Timestamp;

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

/// Notes beside each deed how often the world had been changed by then.
struct Watching {
    world: SimWorld,
    deeds: Mutex<Vec<(Deed, u64)>>,
}

impl AuditLog for Watching {
    fn record(&self, _: Timestamp, deed: &Deed) -> Result<(), AuditError> {
        self.deeds.lock().unwrap().push((deed.clone(), self.world.mutating_call_count()));
        Ok(())
    }
}

#[test]
fn the_world_is_changed_only_between_the_beginning_and_the_end_of_a_recorded_deed() {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    simulation.apply(&fixtures::cluster("demo", 3, 2)).unwrap();
    let log = Arc::new(Watching { world: simulation.world.clone(), deeds: Mutex::default() });
    for goal in [Goal::ClusterReady(demo()), Goal::ClusterGone(demo())] {
        let engine = simulation.engine().with_audit(log.clone());
        let ended = executor::run(&simulation.world, engine.run(&Scope::All, &goal, DEADLINE));
        assert!(matches!(ended, Ended::Done(Ok(_))), "{ended:?}");
        if matches!(goal, Goal::ClusterReady(_)) {
            delete(&simulation);
        }
    }
    let deeds = log.deeds.lock().unwrap();
    let (mut open, mut changes, mut decided) = (0, 0, 0);
    for (deed, count) in deeds.iter() {
        assert!(
            open > 0 || *count == changes,
            "the world changed before {deed:?}, and nothing says who did that"
        );
        changes = *count;
        match deed {
            Deed::Started { why, .. } => {
                assert!(!why.is_empty(), "{deed:?}");
                open += 1;
            }
            Deed::Done { .. } | Deed::Failed { .. } => open -= 1,
            Deed::Decided { writes, .. } => decided += writes.len(),
            Deed::Conflicted { .. } | Deed::Declared { .. } | Deed::Began { .. } | Deed::Accepted { .. } => {}
        }
    }
    assert_eq!((open, changes), (0, simulation.world.mutating_call_count()));
    assert!(changes > 50 && decided > 10, "{changes} changes, {decided} decisions");
}
