//! Two daemons on one store in the middle of a story, one of which is killed, frozen, or cut off from etcd.
//!
//! Drawn by dice of their own, so that seeds without any tell the story that they told before.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::story::runs_of;
use super::teller::Teller;
use crate::DaemonFault;
use crate::daemons::NAMES;
use crate::executor::Ended;

/// Of 100 seeds, so many have them.
const PERCENT: u32 = 15;

/// About so many effects a leader has until it is to be stopped: mostly few, since it leads anew and what there is to do may be
/// done.
const EFFECTS: [u32; 4] = [8, 30, 120, 400];

/// Puts them into a story, in the place of a run or before it. `always`: whatever the dice say.
pub(super) fn weave(lines: &mut Vec<String>, seed: u64, always: bool) {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0xDAE_3055);
    if rng.random_range(0..100) >= PERCENT && !always {
        return;
    }
    for _ in 0..rng.random_range(1..=2) {
        let runs = runs_of(lines);
        let Some(run) = (!runs.is_empty()).then(|| runs[rng.random_range(0..runs.len())]) else { return };
        let line = draw(&mut rng);
        if rng.random_range(0..2) == 0 {
            lines[run] = line;
        } else {
            lines.insert(run, line);
        }
    }
}

fn draw(rng: &mut ChaCha12Rng) -> String {
    let time = ["3m", "8m", "15m"][rng.random_range(0..3)];
    let mut line = format!("serve by two for {time}");
    // Mostly the one that leads first.
    for _ in 0..rng.random_range(1..=3) {
        let who = NAMES[usize::from(rng.random_range(0..3) == 0)];
        let most = EFFECTS[rng.random_range(0..EFFECTS.len())];
        let effect = rng.random_range(0..most);
        let lasts = ["2s", "5s", "45s", "4m"][rng.random_range(0..4)];
        let what = match rng.random_range(0..8) {
            0 => format!("killed at effect {effect} before"),
            1 => format!("killed at effect {effect} after"),
            2 | 3 => format!("asleep at effect {effect} for {lasts}"),
            4 | 5 => format!("cut off at {}s for {lasts}", rng.random_range(0..150)),
            6 => format!("call {effect} late {}s", rng.random_range(2..60)),
            _ => {
                // In flight while its daemon sleeps.
                let late = rng.random_range(2..60);
                format!("call {effect} late {late}s, {who} asleep at effect {} for {lasts}", effect + 1)
            }
        };
        line.push_str(&format!(", {who} {what}"));
    }
    line
}

impl Teller<'_> {
    /// Two daemons work for a while: what one of them cannot do, while things go wrong, is no fault.
    pub(super) fn serve_by_two(
        &mut self,
        time: Duration,
        faults: &[(usize, DaemonFault)],
    ) -> Result<(), String> {
        self.prepare();
        let ended = self.simulation.serve_by_two(time, faults);
        self.after_run()?;
        match ended {
            Ended::Done(served) => {
                self.crashes += served.killed;
                served.broken.map_or(Ok(()), Err)
            }
            Ended::Stuck => Err("two daemons wait for something that never comes".to_owned()),
            Ended::Crashed | Ended::Violated => Err("an invariant was violated".to_owned()),
        }
    }
}
