//! What the engine tells while it works, for progress on a terminal.

use std::time::Duration;

use ashlar_api::{NamespacedName, ObjectRef};
use ashlar_plan::{Note, Step};

/// Something that happened just now. Never holds a secret.
#[derive(Clone, Debug, PartialEq)]
pub enum EngineEvent {
    /// Decisions were committed to the store.
    Committed {
        /// What was written.
        writes: Vec<CommittedWrite>,
    },
    /// An action begins.
    ActionStarted {
        /// The step.
        step: Step,
    },
    /// An action ended well.
    ActionDone {
        /// The step.
        step: Step,
        /// How long it took.
        elapsed: Duration,
    },
    /// An action failed.
    ActionFailed {
        /// The step.
        step: Step,
        /// Object, cause and next step.
        error: String,
        /// Whether it is tried again by itself.
        will_retry: bool,
    },
    /// A chunk of an image file is on its host.
    Transferred(Transfer),
    /// A machine came into another phase (from its console, or from what was seen of it).
    MachinePhase {
        /// The machine.
        machine: NamespacedName,
        /// The phase, for people.
        phase: String,
    },
    /// Something is being waited for; told once until it changes.
    Waiting {
        /// For what object.
        object: ObjectRef,
        /// One CamelCase word.
        reason: String,
        /// A sentence.
        message: String,
    },
    /// A person has to look; told once until it changes.
    Blocked {
        /// For what object.
        object: ObjectRef,
        /// One CamelCase word.
        reason: String,
        /// Object, cause and next step.
        message: String,
    },
    /// A host did not answer, or is not the host that was enrolled; told once until it changes.
    HostUnreachable {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// A host answers again.
    HostReachable {
        /// The host.
        host: String,
    },
    /// Worth knowing, from the plan's report; told once.
    Notice(Note),
}

/// How far the upload of an image file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The file's volume.
    pub volume: ObjectRef,
    /// The host that gets it.
    pub host: String,
    /// Bytes of the chunk that was last.
    pub chunk_bytes: u64,
    /// Bytes of the file that are there now.
    pub done_bytes: u64,
    /// Bytes of them that had to be sent: the others were there, or are zeros.
    pub sent_bytes: u64,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Since this attempt began.
    pub elapsed: Duration,
}

impl Transfer {
    /// Bytes sent each second, as soon as that can be told.
    pub fn bytes_per_s(&self) -> Option<u64> {
        let millis = u64::try_from(self.elapsed.as_millis()).ok().filter(|millis| *millis > 0)?;
        self.sent_bytes.checked_mul(1000).map(|sent| sent / millis)
    }
}

/// One write of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedWrite {
    /// The object.
    pub object: ObjectRef,
    /// What was done to it.
    pub verb: WriteVerb,
}

/// What a write did to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVerb {
    /// Made.
    Created,
    /// Changed.
    Updated,
    /// Taken out of the store.
    Removed,
}

impl WriteVerb {
    /// The word for it, in the past tense.
    pub fn word(self) -> &'static str {
        match self {
            WriteVerb::Created => "created",
            WriteVerb::Updated => "updated",
            WriteVerb::Removed => "removed",
        }
    }
}

/// Whoever listens. Called from the engine's own task: it must not block.
pub trait EventSink: Send + Sync {
    /// Takes one event.
    fn event(&self, event: &EngineEvent);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn event(&self, _: &EngineEvent) {}
}
