//! How the engine's work can end badly.

use std::{fmt, time::Duration};

use ashlar_api::{NamespacedName, ObjectRef};
use ashlar_plan::PlanError;
use ashlar_store::StoreError;
use serde::{Deserialize, Serialize};

use crate::effects::EffectError;

/// How the engine's work can end badly. Display names object, cause and next step, without the source.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store failed.
    #[error("the store could not be used")]
    Store(#[from] StoreError),
    /// An object in the store is not what this program understands.
    #[error(
        "{object} in the store cannot be read by this version of Ashlar: `ashlar store check` names all that it cannot read"
    )]
    Unreadable {
        /// Which.
        object: String,
        /// Why.
        #[source]
        source: ashlar_api::ConversionError,
    },
    /// No plan can be made.
    #[error("no plan can be made")]
    Plan(#[from] PlanError),
    /// The plan breaks an invariant: a bug of Ashlar's; nothing was done.
    #[error("the plan would break {}; nothing was done. This is a bug of Ashlar: please report it with the output of `ashlar plan`",
        violations.join("; "))]
    Violations {
        /// What it would break.
        violations: Vec<String>,
    },
    /// Nothing can go on without a person.
    #[error("{}", lines(blocks.iter().map(|block| block.message.clone())))]
    Blocked {
        /// What is blocked, and by what.
        blocks: Vec<BlockedStep>,
    },
    /// Nodes did not come up, and all that could be done without them is done; their VMs are kept as they are for
    /// whoever looks.
    #[error("{}", lines(nodes.iter().map(ToString::to_string).chain(blocks.iter().map(|block| block.message.clone()))))]
    NodesFailed {
        /// Every one of them.
        nodes: Vec<FailedNode>,
        /// What else cannot go on without a person.
        blocks: Vec<BlockedStep>,
    },
    /// The time is up.
    #[error("not done within {}: {}; running the same command again goes on from here", human(*deadline),
        if waiting.is_empty() { "still working".to_owned() } else { waiting.join("; ") })]
    Deadline {
        /// The time that there was.
        deadline: Duration,
        /// What was being waited for.
        waiting: Vec<String>,
    },
    /// Somebody else changes the same objects again and again.
    #[error("the store is being changed by somebody else all the time; try again")]
    Contended,
    /// A secret could not be sealed or opened.
    #[error("a secret could not be sealed or opened")]
    Vault(#[from] crate::vault::VaultError),
    /// What is to be done cannot be recorded.
    #[error("the audit log could not be kept")]
    Audit(#[from] crate::audit::AuditError),
    /// A key or certificate could not be made.
    #[error("a key or certificate could not be made")]
    Pki(#[from] crate::pki::PkiError),
    /// An object that the goal is about does not exist.
    #[error("there is no {0}")]
    NoSuchObject(ObjectRef),
    /// A call to the world failed where there is no going on.
    #[error("{doing}")]
    Effect {
        /// What was being done.
        doing: String,
        /// How it failed.
        #[source]
        source: EffectError,
    },
    /// The clock of the machine that runs Ashlar is far from what was recorded last.
    #[error(
        "the clock of this machine says {now}, and {object} was recorded at {at}: one of them is wrong, and nothing was \
             done. Set the clock (`timedatectl`) and run the same command again; if it is right, say so with --trust-clock"
    )]
    ClockWrong {
        /// What it says.
        now: jiff::Timestamp,
        /// What was recorded last.
        object: ObjectRef,
        /// When.
        at: jiff::Timestamp,
    },
    /// Something was refused before anything was done.
    #[error("{0}")]
    Refused(String),
}

/// A step that cannot go on without a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedStep {
    /// The object.
    pub object: ObjectRef,
    /// The host; empty for none.
    pub host: String,
    /// One CamelCase word, the condition's reason.
    pub reason: String,
    /// Object, cause and next step.
    pub message: String,
}

/// A machine whose first boot failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedNode {
    /// The machine.
    pub machine: NamespacedName,
    /// Phase of its first boot.
    pub phase: String,
    /// Likely cause and what to do.
    pub message: String,
    /// Last console lines, scrubbed of secrets.
    pub log_lines: Vec<String>,
}

impl fmt::Display for FailedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailedNode { machine, phase, message, log_lines: _ } = self;
        write!(f, "machine {machine} did not come up (phase {phase}): {message}")
    }
}

/// An error with its sources, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn lines(messages: impl Iterator<Item = String>) -> String {
    messages.collect::<Vec<_>>().join("\n")
}

fn human(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 120 => format!("{} minutes", seconds / 60),
        seconds => format!("{seconds} seconds"),
    }
}
