//! What a plan is.

use ashlar_api::{Object, ObjectRef};
use serde::{Deserialize, Serialize};

use crate::{Action, Report};

/// Decisions to commit, steps to take, and the reasons.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a plan does nothing by itself"]
pub struct Plan {
    /// Writes to the store, to be committed in order. Each inner list is one atomic commit of at most 100 writes
    /// with its preconditions. An object that an earlier commit *of this plan* wrote has, for a later one, the
    /// revision which that commit gave it: what the resourceVersions here say is what was read for the plan.
    /// (A ledger is bumped by several commits when a plan is big.) Whoever cannot translate stops at the conflict
    /// and plans again. Steps of objects decided here are planned as if the commits had been made.
    pub decisions: Vec<Vec<Decision>>,
    /// Everything left to do, machine by machine, in order; done steps are left out.
    pub steps: Vec<Step>,
    /// Placements, waits, blocks and notices for people.
    pub report: Report,
}

impl Plan {
    /// Nothing to decide and nothing to do.
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty() && self.steps.is_empty()
    }
}

/// One write to the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// A new object; it must not exist.
    Create(Object),
    /// A change; the object's resourceVersion must still be what was read.
    Update(Object),
    /// Removal; the object's resourceVersion must still be the given one.
    Remove {
        /// The object.
        object: ObjectRef,
        /// As read.
        resource_version: String,
    },
    /// No write: the object's resourceVersion must still be the given one.
    Check {
        /// The object.
        object: ObjectRef,
        /// As read.
        resource_version: String,
    },
}

impl Decision {
    /// What it is about.
    pub fn object_ref(&self) -> ObjectRef {
        match self {
            Decision::Create(object) | Decision::Update(object) => object.object_ref(),
            Decision::Remove { object, .. } | Decision::Check { object, .. } => object.clone(),
        }
    }
}

/// One step that is left.
///
/// Steps of one object stand in the order in which they are to be taken, and are taken one after the other: when one
/// fails, those after it are left for the next pass. Steps of different objects are independent of each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The object that it is for (a Machine, Cluster or Volume).
    pub object: ObjectRef,
    /// Host that it happens on; empty for the store and the cluster's API.
    pub host: String,
    /// What is done; none where there is only something to wait for.
    pub action: Option<Action>,
    /// Whether it can be done now.
    pub state: StepState,
    /// One line for people: what and why.
    pub why: String,
}

/// Whether a step can be taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepState {
    /// Now.
    Ready,
    /// Not yet.
    Waiting(Wait),
    /// Not without a person.
    Blocked(Block),
}

/// What is being waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// One CamelCase word, the condition's reason.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What a person has to look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// One CamelCase word, the condition's reason.
    pub reason: String,
    /// Object, cause and next step.
    pub message: String,
}

/// No plan can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The snapshot contradicts itself (a machine without its cluster, two holders of one address): the store was
    /// edited or restored by hand.
    #[error("the store contradicts itself: {0}")]
    Inconsistent(String),
}
