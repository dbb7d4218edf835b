//! Hosts that lose their power, and people who confirm it.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;

/// Of 100 seeds, so many have hosts that are fenced.
const PERCENT: u32 = 15;

/// Puts them into a story: a host goes off in one run, and before a later one a person says so. `always`: whatever the dice say.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64, hosts: u32, always: bool) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0xFE_4CED);
    if rng.random_range(0..100) >= PERCENT && !always {
        return;
    }
    for _ in 0..rng.random_range(1..=2) {
        let host = format!("host h{}", rng.random_range(1..=hosts));
        let runs = runs_of(lines);
        let Some(last) = runs.len().checked_sub(1) else { return };
        let run = rng.random_range(0..=last);
        let returns = rng.random_range(0..3);
        // From the end on, so that the places before it stay. After the last run a person says it before another one.
        let mend = lines.len().saturating_sub(1);
        let fenced = runs.get(run + 1).copied().unwrap_or(mend);
        if fenced == mend {
            lines.insert(mend, "run until settled within 10m".to_owned());
        }
        match returns {
            // In the middle of the replacement.
            0 => lines.insert(fenced, format!("after {}s {host} on", rng.random_range(1..240))),
            1 => lines.insert(fenced, format!("after {}s {host} up", rng.random_range(240..900))),
            _ => {}
        }
        lines.insert(fenced, format!("fence {host}"));
        lines.insert(runs[run], format!("after {}s {host} off", rng.random_range(0..240)));
    }
}
