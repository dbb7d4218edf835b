//! Conditions, after the Kubernetes API conventions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell at present.
    Unknown,
}

/// One aspect of an object's state, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// The aspect, such as `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word for programs.
    pub reason: String,
    /// A sentence for people: object, cause, next step.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When `status` last changed.
    #[schemars(with = "crate::schema::TimeText")]
    pub last_transition_time: Timestamp,
    /// The generation of the spec that this was judged by.
    #[serde(default)]
    pub observed_generation: u64,
}

/// Sets a condition; keeps the transition time where the status stays the same. Says whether anything changed.
pub fn set_condition(conditions: &mut Vec<Condition>, new: Condition) -> bool {
    match conditions.iter_mut().find(|old| old.kind == new.kind) {
        None => {
            conditions.push(new);
            conditions.sort_by(|a, b| a.kind.cmp(&b.kind));
            true
        }
        Some(old) => {
            let time =
                if old.status == new.status { old.last_transition_time } else { new.last_transition_time };
            let new = Condition { last_transition_time: time, ..new };
            let changed = *old != new;
            *old = new;
            changed
        }
    }
}

/// Finds a condition by its type.
pub fn find_condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}
