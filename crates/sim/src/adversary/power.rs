//! Hosts that are turned off because they give no answer, with BMCs that are not always honest.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;

/// Of 100 seeds, so many have hosts with BMCs.
const PERCENT: u32 = 20;

/// What becomes of a host that Ashlar hears nothing of.
const SILENT: [&str; 6] = ["frozen", "frozen", "down", "off", "halted", "mute"];
/// What ends that.
pub(super) const BACK: [&str; 4] = ["thawed", "up", "on", "heard"];
pub(super) const MOODS: [&str; 6] = ["answers", "silent", "refuses", "slow 25s", "lies", "idle"];

/// Puts them into a story: all hosts are turned off after a while of silence, and some fall silent in its runs.
/// `always`: whatever the dice say.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64, hosts: u32, always: bool) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0xB3C_0FF);
    if rng.random_range(0..100) >= PERCENT && !always {
        return;
    }
    let after = ["1m", "2m", "5m"][rng.random_range(0..3)];
    for line in lines.iter_mut().filter(|line| line.starts_with("host h") && line.contains(" rack ")) {
        line.push_str(&format!(" fencing {after}"));
    }
    for _ in 0..rng.random_range(1..=3) {
        let runs = runs_of(lines);
        let Some(last) = runs.len().checked_sub(1) else { return };
        let run = runs[rng.random_range(0..=last)];
        // Mostly one; sometimes so many that Ashlar must think that it is cut off itself.
        let count = if rng.random_range(0..4) == 0 { hosts.div_ceil(2) } else { 1 };
        let first = rng.random_range(0..hosts);
        let second = rng.random_range(0..120);
        let returns = rng.random_range(0..3) == 0;
        let back = second + rng.random_range(30..600);
        let mut new = Vec::new();
        for number in 0..count {
            let host = format!("h{}", (first + number) % hosts + 1);
            let (silent, mood) = (SILENT[rng.random_range(0..6)], MOODS[rng.random_range(0..6)]);
            new.push(format!("bmc of {host} {mood}"));
            // Not all at the same moment.
            let second = second + rng.random_range(0..40);
            new.push(format!("after {second}s host {host} {silent}"));
            if returns {
                new.extend(BACK.iter().map(|word| format!("after {back}s host {host} {word}")));
            }
        }
        // In the runs until then a daemon would have time; a command that gives up sooner is started again.
        new.push("run until settled within 10m".to_owned());
        lines.splice(run..run, new);
    }
}
