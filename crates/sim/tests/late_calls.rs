//! Calls that are late, or cut off in the middle, in a run that is killed before and after each of its effects and commits as
//! well: nothing that is new is lost, and nothing is left.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::each;

/// More than the runs have effects and commits until what was late has arrived.
const EFFECTS: usize = 90;

/// The scenario, its first run killed there and then made once more.
fn killed_at(scenario: &str, effect: usize, moment: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(scenario);
    let text = std::fs::read_to_string(path).unwrap();
    let run = text.lines().find(|line| line.starts_with("run until ")).unwrap();
    text.replacen(run, &format!("crash at effect {effect} {moment}\n{run}\n{run}"), 1)
}

fn at_every_effect(scenario: &str) {
    let points: Vec<(usize, &str)> =
        (0..EFFECTS).flat_map(|effect| ["before", "after"].map(|moment| (effect, moment))).collect();
    each(&points, |(effect, moment)| {
        let told = ashlar_sim::scenario::run(&killed_at(scenario, *effect, moment));
        if let Err(failed) = told {
            panic!("{scenario}, killed {moment} effect {effect}:\n{failed}");
        }
    });
}

#[test]
fn a_file_that_was_half_made_in_a_run_that_is_killed() {
    at_every_effect("half-made.txt");
}

#[test]
fn a_file_that_a_late_call_makes_in_a_run_that_is_killed() {
    at_every_effect("late-create.txt");
}
