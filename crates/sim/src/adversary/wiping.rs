//! Clusters whose disks are overwritten before they are deleted, hosts that cannot do it or take long, and people who change their minds about it.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;

/// Of 100 seeds, so many have such clusters.
const PERCENT: u32 = 20;

/// Puts it into all lines that ask for a cluster; in some of the stories not into each of them.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x2150_0000);
    if rng.random_range(0..100) >= PERCENT {
        return;
    }
    let minds_change = rng.random_range(0..3) == 0;
    for line in lines.iter_mut() {
        let asks = line.starts_with("cluster ") && line.contains(" control-planes ");
        if asks && !(minds_change && rng.random_range(0..2) == 0) {
            line.push_str(" wipe-disks zero");
        }
    }
    let runs = runs_of(lines);
    if rng.random_range(0..4) == 0 && !runs.is_empty() {
        lines.insert(runs[rng.random_range(0..runs.len())], "pool h1 copies on write".to_owned());
    }
    if rng.random_range(0..2) == 0 && !runs.is_empty() {
        lines.insert(runs[rng.random_range(0..runs.len())], "host h1 overwrites in 90s".to_owned());
    }
}
