//! Moves at whose end nobody hears that all has arrived, and hosts that fall silent then.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;

/// Of 100 seeds in which a host is emptied alive, so many have such moves.
const PERCENT: u32 = 60;

/// Puts them into a story, before the run in which a host is emptied; what the machines are asked to do next is the story's own, or
/// that one of them is deleted.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64, hosts: u32) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x4D0_7E5);
    let is_drain = |line: &String| line.starts_with("drain host ") && !line.ends_with(" by replacement");
    let Some(drain) = lines.iter().position(is_drain) else { return };
    if rng.random_range(0..100) >= PERCENT {
        return;
    }
    let after = runs_of(lines).into_iter().find(|run| *run > drain).map(|run| run + 1);
    let clusters = super::story::clusters_of(lines);
    if rng.random_range(0..2) == 0
        && let Some(after) = after.filter(|_| !clusters.is_empty())
    {
        let cluster = clusters[rng.random_range(0..clusters.len())];
        let role = ["wkr", "ctrl"][rng.random_range(0..2)];
        lines.insert(after, format!("delete machine {cluster}-{role}-{}", rng.random_range(1..4)));
    }
    if rng.random_range(0..2) == 0 {
        let (host, from) = (rng.random_range(1..=hosts), rng.random_range(5..120));
        let until = from + [20, 200, 900][rng.random_range(0..3)];
        lines.insert(drain, format!("after {until}s host h{host} up"));
        lines.insert(drain, format!("after {from}s host h{host} down"));
    }
    lines.insert(drain, format!("next {} moves end unheard", rng.random_range(1..4)));
}
