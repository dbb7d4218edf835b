//! Nothing happens any more: tick after tick, no call that changes anything and no commit.

use std::time::Duration;

use ashlar_engine::Scope;
use jiff::SignedDuration;

use super::teller::Teller;

/// Virtual time of one tick.
const TICK: SignedDuration = SignedDuration::from_secs(10);

/// How long a pass may take that waits for somebody, who starts a cluster, say. All ticks together stay within a day, after which
/// is forgotten what was remembered of what is gone.
const PASS: Duration = Duration::from_mins(1);

/// Looks at who is not well without anything new, after which nothing new is expected: longer than any patience, and than a
/// first boot is given.
const QUIET_LOOKS: u32 = 120;
const HEALING_LOOKS: u32 = 3000;

/// How often the end of one thing may set another in motion.
const ECHOES: u32 = 5;

impl Teller<'_> {
    /// A tick in which the world and the store are as they were at the last pass is counted, and not planned again: the
    /// plan is a function of the two and of the time. For the time's sake passes are made all the same, at ticks 1, 2,
    /// 4, 8 and so on, and at the last.
    pub(super) fn stay_idle(&mut self) -> Result<(), String> {
        let ticks = self.options.idle_ticks;
        // What the last calls set in motion comes to its end first: a guest that was asked to shut down before its cluster
        // was started again, say, which is then started again.
        for _ in 0..ECHOES {
            let before = self.simulation.world.state().changes;
            self.simulation.world.state().advance(TICK);
            self.simulation.world.state().advance(TICK);
            if self.simulation.world.state().changes == before {
                break;
            }
            self.run(&[Scope::All], super::LIVENESS)?;
        }
        self.let_heal()?;
        let before = self.changes()?;
        let stood = self.stands()?;
        let stored = self.simulation.stored().map_err(|error| error.0)?;
        let told = self.simulation.world.state().trace.len();
        for tick in 1..=ticks {
            let changes = {
                let mut state = self.simulation.world.state();
                state.advance(TICK);
                state.changes
            };
            let is_new = changes != before.2 && !self.is_beyond_help();
            if is_new || tick.is_power_of_two() || tick == ticks || self.options.passes_every_tick {
                self.run(&[Scope::All], PASS)?;
                self.idle_passes += 1;
                let after = self.changes()?;
                // Who is ill for ever, and was looked at seldom until now, is counted in its record with each look.
                let is_only_looked_at = || {
                    Ok::<_, String>(self.is_beyond_help() && after.0 == before.0 && self.stands()? == stood)
                };
                if after != before && !is_only_looked_at()? {
                    let changed = self.changed(&stored)?.join(", ");
                    let state = self.simulation.world.state();
                    let first = state.trace.get(told).map_or("", |line| line.trim());
                    return Err(format!(
                        "an idle tick changes something: tick {tick}: {} mutating calls, {} changes of the world; changed in the store: {changed}; {first}",
                        after.0 - before.0,
                        after.2 - before.2
                    ));
                }
            }
        }
        self.idle_ticks += ticks;
        Ok(())
    }

    /// Where somebody's deed keeps runs from coming to their end, those who are not well besides were looked at too seldom for
    /// anything to come of it. Now they are looked at as a daemon would, until nothing more comes.
    fn let_heal(&mut self) -> Result<(), String> {
        if !self.is_beyond_help() {
            return Ok(());
        }
        let mut stood = self.stands()?;
        let mut quiet = 0;
        for _ in 0..HEALING_LOOKS {
            self.simulation.world.state().advance(TICK);
            self.run(&[Scope::All], PASS)?;
            let stands = self.stands()?;
            quiet = if stands == stood { quiet + 1 } else { 0 };
            if quiet == QUIET_LOOKS {
                break;
            }
            stood = stands;
        }
        Ok(())
    }

    /// Objects that were changed, made or removed since.
    fn changed(&self, before: &[(String, serde_json::Value)]) -> Result<Vec<String>, String> {
        let now = self.simulation.stored().map_err(|error| error.0)?;
        let new = now.iter().filter(|object| !before.contains(object));
        let gone = before.iter().filter(|object| !now.iter().any(|other| other.0 == object.0));
        Ok(new.chain(gone).map(|object| object.0.clone()).collect())
    }

    /// What is in the store, but for Events and how often ailments were looked at.
    fn stands(&self) -> Result<Vec<(String, serde_json::Value)>, String> {
        if !self.is_beyond_help() {
            return Ok(Vec::new());
        }
        let mut stored = self.simulation.stored().map_err(|error| error.0)?;
        stored.retain(|(key, _)| !key.starts_with("Event/"));
        for (_, value) in &mut stored {
            if let Some(ailment) = value.pointer_mut("/record/ailment").and_then(|it| it.as_object_mut()) {
                ailment.retain(|field, _| field == "kind");
            }
        }
        Ok(stored)
    }

    /// Mutating calls, the store's revision, and changes of the world so far.
    fn changes(&self) -> Result<(u64, u64, u64), String> {
        let calls = self.simulation.world.mutating_call_count();
        if self.is_beyond_help() {
            // Who is stuck tells it in an Event in each run, and a guest of it may try for ever.
            return Ok((calls, self.simulation.revision_but_events().map_err(|error| error.0)?, 0));
        }
        let revision = self.simulation.revision().map_err(|error| error.0)?;
        Ok((calls, revision, self.simulation.world.state().changes))
    }
}
