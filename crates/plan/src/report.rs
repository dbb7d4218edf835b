//! Why a plan is as it is, as data.

use ashlar_api::ObjectRef;
use serde::{Deserialize, Serialize};

use crate::drift::Drift;

/// Everything worth telling about a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[must_use = "an unread report is not actionable"]
pub struct Report {
    /// In the order of planning.
    pub notes: Vec<Note>,
    /// What is not as it was declared, machine by machine.
    #[serde(default)]
    pub drifts: Vec<Drift>,
    /// For each machine placed in this plan: every host, chosen or refused.
    pub placements: Vec<Placement>,
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// About what.
    pub object: ObjectRef,
    /// How it is meant.
    pub kind: NoteKind,
    /// One CamelCase word, the condition's reason.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// How a note is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoteKind {
    /// Worth knowing (no NetworkPolicy, no StorageClass, not highly available).
    Notice,
    /// A person should look, though nothing waits for it.
    Warning,
    /// Being waited for.
    Waiting,
    /// A person has to look.
    Blocked,
}

/// Where a machine goes, and why not elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The machine.
    pub machine: ObjectRef,
    /// The chosen host, if one fits.
    pub host: Option<String>,
    /// Hosts with the verdict on each: all of them, or, in a big pool, the chosen one.
    pub verdicts: Vec<Verdict>,
    /// Hosts that are not among the verdicts.
    #[serde(default)]
    pub not_shown: u32,
}

/// One host's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Host.
    pub host: String,
    /// Refused by this rule with these numbers; none if it fits.
    pub refused: Option<Refusal>,
    /// Score of a host that fits: the highest wins, ties go to the first name.
    pub score: i64,
    /// The score's parts, for people.
    pub score_reason: String,
}

/// Why a host was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The rule, one CamelCase word.
    pub rule: String,
    /// With numbers.
    pub message: String,
}
