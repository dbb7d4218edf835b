//! Moves whose end nobody hears, and what befalls their two ends after that: what has come to the target gets old there.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;

/// Of 100 seeds, so many have them.
const PERCENT: u32 = 12;

/// Puts them into a story: a host is drained, its first move ends badly, and the host may lose its power after that.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64, hosts: u32) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x0A1F_0DE4);
    if hosts < 2 || rng.random_range(0..100) >= PERCENT {
        return;
    }
    // A node's rack does not change while it runs: only within one can it be moved.
    for line in lines.iter_mut().filter(|line| line.starts_with("host h")) {
        for rack in [" rack r2", " rack r3"] {
            *line = line.replace(rack, " rack r1");
        }
    }
    let runs = runs_of(lines);
    // In the first runs nothing may have joined yet.
    let Some(last) = runs.len().checked_sub(1) else { return };
    let run = rng.random_range(last / 2..=last);
    let host = format!("host h{}", rng.random_range(1..=hosts));
    let moves = rng.random_range(1..=2);
    let mut new = vec![format!("drain {host}")];
    new.push(match rng.random_range(0..4) {
        0 => format!("next {moves} moves end unheard"),
        1 => format!("next {moves} moves leave their definition"),
        _ => format!("next {moves} moves silence their targets for {}m", rng.random_range(1..15)),
    });
    let mut at = rng.random_range(20..240);
    for _ in 0..rng.random_range(0..3) {
        let what = ["off", "off", "halted", "restarts libvirtd"][rng.random_range(0..4)];
        new.push(format!("after {at}s {host} {what}"));
        at += rng.random_range(5..200);
        if rng.random_range(0..3) > 0 {
            new.push(format!("after {at}s {host} on"));
        }
        at += rng.random_range(5..200);
    }
    // The target is one of the others, whichever that is.
    if rng.random_range(0..3) == 0 {
        let other = format!("host h{}", rng.random_range(1..=hosts));
        let at = rng.random_range(30..400);
        new.push(format!("after {at}s {other} off"));
        new.push(format!("after {}s {other} on", at + rng.random_range(5..300)));
    }
    new.push("run until settled within 10m".to_owned());
    if rng.random_range(0..3) == 0 {
        // If it is off.
        new.extend([format!("fence {host}"), "run until settled within 10m".to_owned()]);
    }
    // Before the last line, after which nothing goes wrong any more, at the latest.
    let back = runs.get(run + 1).copied().unwrap_or(lines.len().saturating_sub(1));
    lines.insert(back, format!("uncordon {host}"));
    lines.splice(runs[run]..runs[run], new);
}
