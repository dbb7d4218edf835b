//! Random worlds: the same seed gives the same run, a broken one is made short, and each is a scenario.
//!
//! Most seeds are run by `cargo xtask sim search`, optimized; see `reliability.rs` for the bars that they prove.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use ashlar_sim::adversary::{Options, Size, run_seed, shrink};
use ashlar_sim::{Simulation, scenario};

fn options() -> Options {
    Options { size: Some(Size::Tiny), ..Options::default() }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 17] {
        let run = || run_seed(seed, &options()).unwrap();
        let (one, other) = (run(), run());
        assert_eq!(one.trace, other.trace);
        assert_eq!(one, other);
    }
    let digest = |seed| run_seed(seed, &options()).unwrap().digest;
    assert_ne!(digest(3), digest(4));
}

#[test]
fn a_story_is_a_scenario() {
    let story = run_seed(5, &options()).unwrap();
    let transcript = scenario::run(&story.script.join("\n")).unwrap();
    assert!(transcript.contains("> mend"), "{transcript}");
}

/// A world in which no promise can be kept: its judge takes the first host for a tiny one.
fn sabotage(simulation: &mut Simulation) {
    simulation.world.state().limit_capacity("h1", 1, 1);
}

#[test]
fn a_broken_story_is_made_short_and_breaks_the_same_promise() {
    let options = Options { prepare: Some(Arc::new(sabotage)), ..options() };
    let broken = (0..50).find_map(|seed| run_seed(seed, &options).err()).unwrap();
    let short = shrink(&broken, &options);
    assert_eq!(short.invariant(), "capacity");
    assert!(short.script.len() <= 9, "{}", short.scenario());
    assert!(short.script.iter().any(|line| line.starts_with("cluster ")), "{}", short.scenario());
}
