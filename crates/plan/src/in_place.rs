//! `--only in-place`: what of a plan would do more than change what runs where it runs.

use ashlar_api::{Kind, Object};

use crate::{Action, Decision, NoteKind, Plan, StepState};

/// Everything in the plan that makes, replaces, removes, starts or stops something, or of which nobody can say that it
/// will not: a line each. None means that all of it happens in place.
pub fn not_in_place(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    for decision in plan.decisions.iter().flatten() {
        let object = decision.object_ref();
        let what = match decision {
            Decision::Check { .. } => continue,
            // A group is only words until it has machines, which show by themselves.
            Decision::Create(Object::WorkerGroup(_)) | Decision::Update(Object::WorkerGroup(_)) => continue,
            Decision::Create(_) => "is made",
            Decision::Remove { .. } => "is removed",
            Decision::Update(changed) if changed.metadata().is_deleting() => "is removed",
            Decision::Update(_) => continue,
        };
        // Ledgers and records move along; machines and volumes are what stands in the world.
        if matches!(object.kind, Kind::Machine | Kind::Volume | Kind::Cluster | Kind::WorkerGroup) {
            found.push(format!("{object} {what}"));
        }
    }
    for note in plan.report.notes.iter().filter(|note| note.kind != NoteKind::Waiting) {
        if ["Replaced", "ScaleDown", "ControlPlaneScaleDown", "FailedJoinReplaced"]
            .contains(&note.reason.as_str())
        {
            found.push(format!("{}: {}", note.object, note.message));
        }
    }
    for step in &plan.steps {
        let in_place = matches!(
            step.action,
            Some(
                Action::ConfigureNode { .. }
                    // What runs goes on as it is.
                    | Action::RedefineDomain { .. }
                    | Action::ApplyAddon { .. }
                    | Action::RevokeStrayToken { .. }
                    | Action::ApproveServingCsr { .. }
                    | Action::DenyServingCsr { .. }
            )
        );
        match &step.state {
            StepState::Ready if in_place => {}
            StepState::Ready => found.push(format!("{}: {}", step.object, step.why)),
            StepState::Waiting(wait) if wait.reason == "EarlierStep" && in_place => {}
            StepState::Waiting(wait) => {
                found.push(format!("{}: {} [waits: {}]", step.object, step.why, wait.message))
            }
            StepState::Blocked(block) => {
                found.push(format!("{}: {} [blocked: {}]", step.object, step.why, block.message));
            }
        }
    }
    found.dedup();
    found
}
