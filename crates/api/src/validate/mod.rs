//! Judging what people write: all problems at once, each with object, path, reason and what to do.
//!
//! [`validate_object`] looks at one object alone, [`validate_set`] at what it refers to, [`validate_update`] at
//! what may not change, [`validate_delete`] at who still needs it. [`validate_apply`] is the first three together.

use crate::ObjectRef;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{object}: {}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct Violation {
    /// The object.
    pub object: ObjectRef,
    /// Path of the field; empty if it is the object as a whole.
    pub path: String,
    /// What is wrong, why, and what to do.
    pub message: String,
}
