//! The one function that decides.

use crate::draft::Draft;
use crate::{
    Ids, Plan, PlanError, Snapshot, defragmentation, drift, fencing, lifecycle, lost, machine, network,
};

/// Plans: what to write, what to do next, what is waited for and why.
///
/// The same snapshot and the same ids give the same plan. A world that is as it should be gives an empty one.
///
/// # Errors
/// [`PlanError::Inconsistent`] if the snapshot contradicts itself. What cannot be done now is no error but a
/// waiting or blocked [`Step`](crate::Step).
pub fn plan(snapshot: &Snapshot, ids: &mut dyn Ids) -> Result<Plan, PlanError> {
    let mut draft = Draft::new(snapshot);
    draft.report.drifts = drift::found(snapshot);
    lifecycle::decide(&mut draft, ids)?;
    let mut steps = fencing::steps(&draft);
    // What is left of a domain is attached to a network that goes after it.
    steps.extend(machine::left_domains::steps(&draft));
    steps.extend(network::steps(&draft));
    steps.extend(machine::steps(&draft));
    defragmentation::hold(snapshot, &mut steps);
    let (decisions, mut report) = draft.finish();
    report.notes.extend(drift::notes(&report.drifts));
    report.notes.extend(machine::notes(&steps));
    report.notes.extend(lost::notes(snapshot));
    Ok(Plan { decisions, steps, report })
}
