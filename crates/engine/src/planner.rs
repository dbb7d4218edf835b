//! The planner as the engine calls it. Tests put another in its place.

use ashlar_plan::{Ids, Plan, PlanError, Snapshot};

type PlanFn = dyn Fn(&Snapshot, &mut dyn Ids) -> Result<Plan, PlanError> + Send + Sync;
type CheckFn = dyn Fn(&Snapshot, &Plan) -> Vec<String> + Send + Sync;

/// Plans, and judges plans.
pub(crate) struct Planner {
    /// Makes a plan.
    pub(crate) plan: Box<PlanFn>,
    /// What a plan would break.
    pub(crate) check: Box<CheckFn>,
}

impl Default for Planner {
    /// The real one.
    fn default() -> Self {
        let check = |snapshot: &Snapshot, plan: &Plan| {
            let violations = ashlar_plan::check::check(snapshot, plan);
            let told = violations.into_iter();
            told.map(|broken| format!("{} ({}: {})", broken.rule, broken.object, broken.message)).collect()
        };
        Planner { plan: Box::new(ashlar_plan::plan), check: Box::new(check) }
    }
}
