//! Machines that a person replaces (`ashlar machine replace`), well or not.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::{clusters_of, runs_of};

/// Of 100 seeds, so many have them.
const PERCENT: u32 = 10;

/// Puts them into a story, each before one of its runs. Whoever is asked for beside something else is refused.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x4E_91AC);
    if rng.random_range(0..100) >= PERCENT {
        return;
    }
    let clusters = clusters_of(lines);
    if clusters.is_empty() {
        return;
    }
    for _ in 0..rng.random_range(1..=3) {
        let runs = runs_of(lines);
        let Some(run) = (!runs.is_empty()).then(|| runs[rng.random_range(0..runs.len())]) else { return };
        let cluster = clusters[rng.random_range(0..clusters.len())];
        let role = if rng.random_range(0..3) == 0 { "ctrl" } else { "wkr" };
        lines.insert(run, format!("replace machine {cluster}-{role}-{}", rng.random_range(1..=4)));
    }
}
