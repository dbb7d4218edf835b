//! Machines that fall ill for good: a kubelet that ends, disks that die.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::{clusters_of, runs_of};

/// Of 100 seeds, so many have sick machines.
const PERCENT: u32 = 20;

/// Puts them into a story, each before one of its runs and at a moment of it.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x51C_C0DE);
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
        // Mostly workers: of those there are more.
        let group = if rng.random_range(0..4) == 0 { "ctrl" } else { "wkr" };
        let machine = format!("{cluster}-{group}-{}", rng.random_range(1..=3));
        let second = rng.random_range(0..240);
        match rng.random_range(0..6) {
            0 => lines.insert(run, format!("after {second}s disks of {machine} die")),
            // One that comes and goes.
            1 => {
                let back = second + [30, 200, 400][rng.random_range(0..3)];
                lines.insert(run, format!("after {back}s kubelet of {machine} is back"));
                lines.insert(run, format!("after {second}s kubelet of {machine} dies"));
            }
            _ => lines.insert(run, format!("after {second}s kubelet of {machine} dies")),
        }
    }
}
