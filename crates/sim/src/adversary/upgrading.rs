//! Clusters that go to the next minor version while everything else goes on.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;

/// Of 100 seeds, so many have clusters that are upgraded.
const PERCENT: u32 = 15;
const OLD: &str = "v1.36.3";
const NEW: &str = "v1.37.2";

/// Rewrites a story: its clusters begin with the old version, and before one of its runs all that are there are asked to
/// go to the new one; those that are made later have it from the start.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x0_1DE4);
    if rng.random_range(0..100) >= PERCENT {
        return;
    }
    let runs = runs_of(lines);
    // Not before the first one: then there would be nothing to upgrade.
    let Some(turn) = (runs.len() > 1).then(|| runs[rng.random_range(1..runs.len())]) else { return };
    let mut there: BTreeMap<String, String> = BTreeMap::new();
    for (place, line) in lines.iter_mut().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["cluster", name, ..] => {
                if place < turn {
                    there.insert((*name).to_owned(), format!("{line} version {NEW}"));
                }
                let version = if place < turn { OLD } else { NEW };
                *line = format!("{line} version {version}");
            }
            ["delete", "cluster", name] if place < turn => drop(there.remove(*name)),
            _ => {}
        }
    }
    // Stopped clusters are upgraded when they are started.
    lines.splice(turn..turn, there.into_values());
    if let Some(image) = lines.iter().position(|line| line.starts_with("image ")) {
        lines.insert(image, format!("image {OLD}"));
    }
}
