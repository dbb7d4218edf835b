//! Whether anything moves.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use ashlar_plan::{Plan, Snapshot};
use jiff::Timestamp;

/// When something last changed: what is left to do, or what consoles and clusters say.
pub(crate) struct Progress {
    /// A hash of it: it is as long as the fleet is big.
    last: Option<u64>,
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
        let mut picture = DefaultHasher::new();
        for step in &plan.steps {
            (&step.object, &step.action).hash(&mut picture);
        }
        (&observed.consoles, &observed.clusters).hash(&mut picture);
        let picture = picture.finish();
        if self.last != Some(picture) {
            self.last = Some(picture);
            self.since = now;
        }
    }

    /// How long nothing has changed.
    pub(crate) fn quiet_for(&self, now: Timestamp) -> Duration {
        now.duration_since(self.since).unsigned_abs()
    }
}
