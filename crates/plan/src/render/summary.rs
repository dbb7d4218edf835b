//! The last line of a plan's text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ashlar_api::*;

use crate::{Action, Decision, Plan, Snapshot, StepState};

/// "N machines to create on M hosts, …".
pub(super) fn write(text: &mut String, snapshot: &Snapshot, plan: &Plan) {
    if plan.is_empty() {
        return;
    }
    let mut created = 0_usize;
    let mut hosts = BTreeSet::new();
    let mut deleted = BTreeSet::new();
    for decision in plan.decisions.iter().flatten() {
        match decision {
            Decision::Create(Object::Machine(machine)) => {
                created += 1;
                hosts.insert(machine.spec.host.as_str());
            }
            Decision::Update(Object::Machine(machine)) if machine.metadata.is_deleting() => {
                deleted.insert(machine.key());
            }
            _ => {}
        }
    }
    for machine in snapshot.machines.values() {
        if machine.metadata.is_deleting() {
            deleted.insert(machine.key());
        } else if machine.record.joined_at.is_none() && machine.record.failure.is_none() {
            created += 1;
            hosts.insert(machine.spec.host.as_str());
        }
    }
    let has = |wanted: fn(&Action) -> bool| {
        plan.steps.iter().filter_map(|step| step.action.as_ref()).filter(|action| wanted(action)).count()
    };
    let uploads = plan
        .steps
        .iter()
        .filter(|step| step.object.namespace == SYSTEM_NAMESPACE)
        .filter(|step| matches!(step.action, Some(Action::FillVolume { .. })))
        .count();
    let started = plan.steps.iter().filter(|step| matches!(&step.action, Some(Action::StartDomain { machine }) if is_joined(snapshot, machine))).count();
    let stopped = has(|action| matches!(action, Action::ShutdownDomain { .. }));
    let pending: BTreeSet<&ObjectRef> = plan
        .steps
        .iter()
        .filter(|step| step.object.kind == Kind::Machine && step.action.is_none() && is_pending(&step.state))
        .map(|step| &step.object)
        .collect();
    let blocked: BTreeSet<&ObjectRef> = plan
        .steps
        .iter()
        .filter(|step| matches!(step.state, StepState::Blocked(_)))
        .map(|step| &step.object)
        .collect();
    let mut parts = Vec::new();
    if created > 0 {
        parts.push(format!("{} to create on {}", count(created, "machine"), count(hosts.len(), "host")));
    }
    if !deleted.is_empty() {
        parts.push(format!("{} to delete", count(deleted.len(), "machine")));
    }
    let replaced: BTreeSet<&ObjectRef> =
        plan.report.notes.iter().filter(|note| note.reason == "Replaced").map(|note| &note.object).collect();
    if !replaced.is_empty() {
        parts.push(format!("{} to replace in turn", count(replaced.len(), "machine")));
    }
    if started > 0 {
        parts.push(format!("{} to start", count(started, "machine")));
    }
    if stopped > 0 {
        parts.push(format!("{} to shut down", count(stopped, "machine")));
    }
    if uploads > 0 {
        parts.push(format!("{} to upload", count(uploads, "image file")));
    }
    if !pending.is_empty() {
        parts.push(format!("{} without a host", count(pending.len(), "machine")));
    }
    if !blocked.is_empty() {
        parts.push(format!("{} blocked", count(blocked.len(), "object")));
    }
    let ready = plan.steps.iter().filter(|step| step.state == StepState::Ready).count();
    parts.push(format!("{} in all, {ready} ready", count(plan.steps.len(), "step")));
    let _ = writeln!(text, "{}", parts.join(", "));
}

fn is_joined(snapshot: &Snapshot, machine: &NamespacedName) -> bool {
    snapshot.machines.get(machine).is_some_and(|machine| machine.record.joined_at.is_some())
}

fn is_pending(state: &StepState) -> bool {
    matches!(state, StepState::Waiting(wait) if matches!(wait.reason.as_str(), "Unschedulable" | "NoAddress" | "ControlPlanePending"))
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
