//! Nothing happens any more: tick after tick, no call that changes anything and no commit.

use jiff::SignedDuration;

use super::teller::Teller;

/// Virtual time of one tick.
const TICK: SignedDuration = SignedDuration::from_secs(10);

impl Teller<'_> {
    /// A tick in which the world and the store are as they were at the last pass is counted, and not planned again: the
    /// plan is a function of the two and of the time. For the time's sake passes are made all the same, at ticks 1, 2,
    /// 4, 8 and so on, and at the last.
    pub(super) fn stay_idle(&mut self) -> Result<(), String> {
        let ticks = self.options.idle_ticks;
        // What the last calls set in motion comes to its end first.
        self.simulation.world.state().advance(TICK);
        self.simulation.world.state().advance(TICK);
        let before = self.changes()?;
        for tick in 1..=ticks {
            let changes = {
                let mut state = self.simulation.world.state();
                state.advance(TICK);
                state.changes
            };
            let is_new = changes != before.2;
            if is_new || tick.is_power_of_two() || tick == ticks || self.options.passes_every_tick {
                self.run(super::LIVENESS, 1)?;
                self.idle_passes += 1;
                let after = self.changes()?;
                if after != before {
                    return Err(format!(
                        "an idle tick changes something: tick {tick}: {} mutating calls, {} commits, {} changes of the world",
                        after.0 - before.0,
                        after.1 - before.1,
                        after.2 - before.2
                    ));
                }
            }
        }
        self.idle_ticks += ticks;
        Ok(())
    }

    /// Mutating calls, the store's revision, and changes of the world so far.
    fn changes(&self) -> Result<(u64, u64, u64), String> {
        let calls = self.simulation.world.mutating_call_count();
        let revision = self.simulation.revision().map_err(|error| error.0)?;
        Ok((calls, revision, self.simulation.world.state().changes))
    }
}
