//! What a cluster itself is made of does not do its work: controllers that say of no node that it is not Ready, static pods of
//! control planes that end again and again or are gone.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::{clusters_of, runs_of};

/// Of 100 seeds, so many have such clusters.
const PERCENT: u32 = 10;

const STATIC_PODS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];

/// Puts them into a story, each before one of its runs and at a moment of it.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0xC0_4071);
    if rng.random_range(0..100) >= PERCENT {
        return;
    }
    let clusters = clusters_of(lines);
    if clusters.is_empty() {
        return;
    }
    for _ in 0..rng.random_range(1..=2) {
        let runs = runs_of(lines);
        let Some(run) = (!runs.is_empty()).then(|| runs[rng.random_range(0..runs.len())]) else { return };
        let cluster = clusters[rng.random_range(0..clusters.len())];
        let number = rng.random_range(1..=3);
        let second = rng.random_range(0..240);
        let mut new = Vec::new();
        if rng.random_range(0..3) == 0 {
            new.push(format!("after {second}s controllers of {cluster} hang"));
            new.push(format!("after {}s kubelet of {cluster}-wkr-{number} dies", second + 20));
        } else {
            let pod = STATIC_PODS[rng.random_range(0..2)];
            let what = ["crashes", "is gone"][rng.random_range(0..2)];
            new.push(format!("after {second}s static pod {pod} of {cluster}-ctrl-{number} {what}"));
            if rng.random_range(0..3) == 0 {
                let back = second + rng.random_range(60..900);
                new.push(format!("after {back}s static pod {pod} of {cluster}-ctrl-{number} is back"));
            }
        }
        // Some have the patience that this needs.
        if rng.random_range(0..2) == 0 {
            new.push("run until settled within 20m".to_owned());
        }
        lines.splice(run..run, new);
    }
}
