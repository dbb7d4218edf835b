//! Whether anything moves.

use std::time::Duration;

use ashlar_plan::{Plan, Snapshot};
use jiff::Timestamp;

/// When something last changed: what is left to do, or what consoles and clusters say.
pub(crate) struct Progress {
    last: Option<String>,
    since: Timestamp,
}

impl Progress {
    pub(crate) fn new(now: Timestamp) -> Self {
        Progress { last: None, since: now }
    }

    /// Looks at one pass.
    pub(crate) fn look(&mut self, snapshot: &Snapshot, plan: &Plan, now: Timestamp) {
        let observed = &snapshot.observed;
        // Held steps say when they are tried again, which is no progress: their states are left out.
        let steps: Vec<_> = plan.steps.iter().map(|step| (&step.object, &step.action)).collect();
        let picture = format!("{steps:?}{:?}{:?}", observed.consoles, observed.clusters);
        if self.last.as_ref() != Some(&picture) {
            self.last = Some(picture);
            self.since = now;
        }
    }

    /// How long nothing has changed.
    pub(crate) fn quiet_for(&self, now: Timestamp) -> Duration {
        now.duration_since(self.since).unsigned_abs()
    }
}
