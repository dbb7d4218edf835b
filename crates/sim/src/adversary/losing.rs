//! Hosts that are lost in each of the ways that there are, with the time that it takes to replace what ran on them: for
//! stories that are about nothing else.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::power::{BACK, MOODS};
use super::story::runs_of;

/// Ways to be lost: Ashlar hears nothing, and in some of them all goes on there.
const WAYS: [&str; 8] = ["off", "off", "halted", "down", "hung", "frozen", "frozen", "mute"];

/// A cluster that can be replaced bit by bit, whatever else there is: of others a lost host may have the only control plane.
const CLUSTER: &str = "cluster teal control-planes 3 workers 3";

/// Loses one host at a time before some of the runs, one at least: who turns it off says of it what he likes, and where it has no
/// power, a person may say so.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64, hosts: u32) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x1057_4057);
    let Some(first) = runs_of(lines).first().copied() else { return };
    lines.insert(first, CLUSTER.to_owned());
    for _ in 0..rng.random_range(1..=3) {
        let runs = runs_of(lines);
        // Mostly not before there is anything to lose.
        let first = usize::from(runs.len() > 1);
        let Some(run) = (!runs.is_empty()).then(|| runs[rng.random_range(first..runs.len())]) else { return };
        let host = format!("h{}", rng.random_range(1..=hosts));
        let mut new = Vec::new();
        // While many are silent, none is turned off: mostly it is the only one.
        if rng.random_range(0..4) > 0 {
            new.extend((1..=hosts).flat_map(|number| BACK.map(|word| format!("host h{number} {word}"))));
        }
        new.push("run until settled within 10m".to_owned());
        let mood =
            if rng.random_range(0..2) == 0 { "answers" } else { MOODS[rng.random_range(0..MOODS.len())] };
        new.push(format!("bmc of {host} {mood}"));
        let way = WAYS[rng.random_range(0..WAYS.len())];
        new.push(format!("host {host} {way}"));
        new.push("run until settled within 20m".to_owned());
        if way == "off" || rng.random_range(0..2) == 0 {
            // Of one that has power nobody does.
            new.push(format!("fence host {host}"));
            new.push("run until settled within 20m".to_owned());
        }
        if rng.random_range(0..2) == 0 {
            new.extend(BACK.map(|word| format!("host {host} {word}")));
        }
        lines.splice(run..run, new);
    }
}
