//! People who edit definitions with virsh, and labels and taints with kubectl.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::{clusters_of, runs_of};

/// Of 100 seeds, so many have people who do that.
const PERCENT: u32 = 20;

/// What is edited of a definition.
const EDITS: [&str; 5] = ["memory 1Gi", "vcpus 1", "filter none", "device hostdev", "cmdline init=/bin/sh"];

/// Puts it at moments of the runs.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x0D41_F7ED);
    if rng.random_range(0..100) >= PERCENT {
        return;
    }
    let clusters = clusters_of(lines);
    if clusters.is_empty() {
        return;
    }
    for _ in 0..rng.random_range(1..=4) {
        let runs = runs_of(lines);
        let Some(run) = (!runs.is_empty()).then(|| runs[rng.random_range(0..runs.len())]) else { return };
        let cluster = &clusters[rng.random_range(0..clusters.len())];
        let number = rng.random_range(1..=3);
        let second = rng.random_range(0..240);
        let group = if rng.random_range(0..4) == 0 { "ctrl" } else { "wkr" };
        let what = match rng.random_range(0..4) {
            0 => format!(
                "kubectl {cluster} label {cluster}-{group}-{number} node.kubernetes.io/instance-type=theirs"
            ),
            1 => format!(
                "kubectl {cluster} taint {cluster}-ctrl-{number} node-role.kubernetes.io/control-plane-"
            ),
            _ => {
                let edit = EDITS[rng.random_range(0..EDITS.len())];
                format!("virsh any edit {cluster}-{group}-{number} {edit}")
            }
        };
        lines.insert(run, format!("after {second}s {what}"));
    }
}
