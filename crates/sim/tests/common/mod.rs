//! What several tests need.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ashlar_api::{Kind, NamespacedName, ObjectRef};
use ashlar_engine::{Goal, RunSummary, Scope};
use ashlar_sim::{Simulation, error_text, executor::Ended};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20 * 60);

pub(crate) fn demo() -> NamespacedName {
    NamespacedName::new("default", "demo")
}

pub(crate) fn cluster_ref() -> ObjectRef {
    ObjectRef::new(Kind::Cluster, "default", "demo")
}

pub(crate) fn delete(simulation: &Simulation) {
    simulation.delete(&cluster_ref()).unwrap();
}

pub(crate) fn trace(simulation: &Simulation) -> String {
    let state = simulation.world.state();
    format!("{}\n{:#?}", state.trace.join("\n"), state.violations())
}

/// Runs to the goal; anything else fails the test with the transcript.
pub(crate) fn must_run(simulation: &Simulation, goal: Goal) -> RunSummary {
    match simulation.run(&Scope::All, &goal, DEADLINE) {
        Ended::Done(Ok(summary)) if simulation.world.state().violations().is_empty() => summary,
        Ended::Done(Err(error)) => panic!("{}\n{}", trace(simulation), error_text(&error)),
        other => panic!("{}\n{other:?}", trace(simulation)),
    }
}

/// Two ends are the same; says in which lines they are not.
pub(crate) fn assert_same(at: &str, left: &str, right: &str) {
    let differ: Vec<String> = left
        .lines()
        .zip(right.lines())
        .filter(|(left, right)| left != right)
        .take(10)
        .map(|(left, right)| format!("- {right}\n+ {left}"))
        .collect();
    assert!(left == right, "{at}:\n{}", differ.join("\n"));
}

/// Does it for every item, on as many threads as the machine has.
pub(crate) fn each<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}
