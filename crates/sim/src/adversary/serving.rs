//! Kubelets that ask for the certificates that they serve with, and some that ask for more than is theirs.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::{clusters_of, runs_of};
use crate::serving::Asking;

/// Of 100 seeds, so many have clusters whose kubelets ask.
const PERCENT: u32 = 20;

/// Lets them ask from the beginning on, and some again, or for something else, at a moment of one of the runs.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0xCE47_15A7E);
    if rng.random_range(0..100) >= PERCENT {
        return;
    }
    let Some(start) = lines.iter().position(|line| line == "standard objects") else { return };
    lines.insert(start, "kubelets ask for certificates".to_owned());
    let clusters = clusters_of(lines);
    if clusters.is_empty() {
        return;
    }
    for _ in 0..rng.random_range(1..=6) {
        let runs = runs_of(lines);
        let Some(run) = (!runs.is_empty()).then(|| runs[rng.random_range(0..runs.len())]) else { return };
        let cluster = clusters[rng.random_range(0..clusters.len())];
        let group = if rng.random_range(0..4) == 0 { "ctrl" } else { "wkr" };
        let machine = format!("{cluster}-{group}-{}", rng.random_range(1..=3));
        let second = rng.random_range(0..240);
        let how = if rng.random_range(0..3) == 0 {
            "again"
        } else {
            Asking::HOSTILE[rng.random_range(0..Asking::HOSTILE.len())].0
        };
        lines.insert(run, format!("after {second}s kubelet of {machine} asks {how}"));
    }
}
