//! Rules that every plan must keep, judged without the planner's own code: a second pair of eyes before anything is
//! committed or done.

mod commits;

use ashlar_api::ObjectRef;

use crate::{Plan, Snapshot};

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule, one CamelCase word.
    pub rule: &'static str,
    /// What it is about.
    pub object: ObjectRef,
    /// What is wrong.
    pub message: String,
}

/// All rules that a plan breaks: none, or the plan must not be carried out.
pub fn check(snapshot: &Snapshot, plan: &Plan) -> Vec<Violation> {
    let mut violations = Vec::new();
    commits::check(snapshot, plan, &mut violations);
    violations
}
