//! Rules that every plan must keep, judged without the planner's own code: a second pair of eyes before anything is
//! committed or done.

mod capacity;
mod commits;
mod destruction;
mod doubt;
mod drain;
mod elsewhere;
mod fencing;
mod image_files;
mod leftovers;
mod migration;
mod preconditions;
mod projected;
mod quorum;
mod remediation;
mod removal;
mod secrets;
mod uniqueness;

use ashlar_api::ObjectRef;

use crate::{Plan, Snapshot};
use projected::Projected;

/// A rule that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {message} (rule {rule})")]
pub struct Violation {
    /// The rule, one CamelCase word.
    pub rule: &'static str,
    /// What it is about.
    pub object: ObjectRef,
    /// What is wrong.
    pub message: String,
}

/// Violations found so far.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, rule: &'static str, object: &ObjectRef, message: impl Into<String>) {
        self.0.push(Violation { rule, object: object.clone(), message: message.into() });
    }
}

/// All rules that a plan breaks: none, or the plan must not be carried out.
pub fn check(snapshot: &Snapshot, plan: &Plan) -> Vec<Violation> {
    let mut findings = Findings::default();
    let projected = Projected::new(snapshot, plan);
    commits::check(snapshot, plan, &mut findings);
    capacity::check(snapshot, plan, &mut findings);
    uniqueness::check(snapshot, plan, &mut findings);
    removal::check(snapshot, plan, &projected, &mut findings);
    destruction::check(snapshot, plan, &projected, &mut findings);
    doubt::check(snapshot, plan, &mut findings);
    drain::check(snapshot, plan, &projected, &mut findings);
    elsewhere::check(snapshot, plan, &projected, &mut findings);
    fencing::check(snapshot, plan, &mut findings);
    image_files::check(plan, &projected, &mut findings);
    leftovers::check(snapshot, plan, &projected, &mut findings);
    migration::check(snapshot, plan, &projected, &mut findings);
    preconditions::check(snapshot, plan, &projected, &mut findings);
    quorum::check(snapshot, plan, &projected, &mut findings);
    remediation::check(snapshot, plan, &projected, &mut findings);
    secrets::check(plan, &mut findings);
    findings.0
}
