//! The live display: one line for each machine (and each other object that is worked on), with the seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_api::{Kind, ObjectRef};
use ashlar_engine::EngineEvent;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Printer;

/// How often seconds and spinners move.
const TICK: Duration = Duration::from_millis(250);
/// Lines at once; more objects are worked on in larger pools than a screen has room for.
const LINES: usize = 16;

/// Lines on a terminal.
pub(super) struct Live {
    bars: MultiProgress,
    lines: Mutex<BTreeMap<ObjectRef, ProgressBar>>,
}

impl Live {
    /// Starts drawing; the printer's lines go above it from now on.
    pub(super) fn start(printer: &Printer) -> Arc<Self> {
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        let above = bars.clone();
        printer.set_around(Some(Box::new(move |write| above.suspend(write))));
        Arc::new(Live { bars, lines: Mutex::default() })
    }

    /// Removes all lines.
    pub(super) fn finish(&self) {
        if let Ok(mut lines) = self.lines.lock() {
            for bar in std::mem::take(&mut *lines).into_values() {
                bar.finish_and_clear();
            }
        }
        // Nothing is left to be drawn, so a failure to clear shows nothing wrong.
        let _ = self.bars.clear();
    }

    /// Takes one event.
    pub(super) fn event(&self, event: &EngineEvent) {
        match event {
            EngineEvent::ActionStarted { step } => self.say(&step.object, &step.why, false),
            EngineEvent::ActionDone { step, .. } if step.object.kind != Kind::Machine => {
                self.end(&step.object)
            }
            EngineEvent::MachinePhase { machine, phase } => {
                let machine = ObjectRef::new(Kind::Machine, &machine.namespace, &machine.name);
                if matches!(phase.as_str(), "Ready" | "Failed") {
                    self.end(&machine);
                } else {
                    self.say(&machine, phase, true);
                }
            }
            EngineEvent::Transferred(transfer) => {
                self.say(&transfer.volume, &super::text::transferred(transfer), false);
            }
            EngineEvent::Waiting { object, message, .. } => self.say(object, message, false),
            EngineEvent::Committed { writes } => {
                let removed = writes.iter().filter(|write| write.verb == ashlar_engine::WriteVerb::Removed);
                removed.for_each(|write| self.end(&write.object));
            }
            _ => {}
        }
    }

    /// Sets an object's line. A new phase starts its seconds again; a step does not.
    fn say(&self, object: &ObjectRef, text: &str, is_phase: bool) {
        let Ok(mut lines) = self.lines.lock() else { return };
        if !lines.contains_key(object) && lines.len() >= LINES {
            return;
        }
        let bar = lines.entry(object.clone()).or_insert_with(|| {
            let bar = self.bars.add(ProgressBar::new_spinner());
            bar.set_style(style());
            bar.set_prefix(object.to_string());
            bar.enable_steady_tick(TICK);
            bar
        });
        if is_phase && bar.message() != text {
            bar.reset_elapsed();
        }
        bar.set_message(text.lines().next().unwrap_or_default().to_owned());
    }

    fn end(&self, object: &ObjectRef) {
        if let Ok(mut lines) = self.lines.lock()
            && let Some(bar) = lines.remove(object)
        {
            bar.finish_and_clear();
        }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix:28!} {elapsed:>4}  {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
