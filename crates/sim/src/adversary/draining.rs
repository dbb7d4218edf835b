//! Hosts that are emptied for maintenance, and used again.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;

/// Of 100 seeds, so many have hosts that are drained.
const PERCENT: u32 = 25;

/// Puts them into a story: a host is drained before one of its runs, and used again before a later one.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64, hosts: u32) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x0D4A_14ED);
    if rng.random_range(0..100) >= PERCENT {
        return;
    }
    let runs = runs_of(lines);
    if runs.is_empty() {
        return;
    }
    let host = format!("host h{}", rng.random_range(1..=hosts));
    let run = rng.random_range(0..runs.len());
    // Before the last line, after which nothing goes wrong any more, at the latest.
    let back = runs.get(run + 1).copied().unwrap_or(lines.len().saturating_sub(1));
    let by = if rng.random_range(0..3) == 0 { " by replacement" } else { "" };
    lines.insert(back, format!("uncordon {host}"));
    lines.insert(runs[run], format!("drain {host}{by}"));
}
