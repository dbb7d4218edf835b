//! `cluster stop`: workers first, then control planes.

use ashlar_api::*;

use super::chain::{Chain, wait};
use super::context::ClusterContext;
use super::host_view::{DomainView, HostViews};
use crate::{Action, DomainState};

/// Turns a machine of a stopped cluster off that has not joined. Nothing more is made for it until its cluster is
/// started.
pub(super) fn stop_unfinished(
    context: &ClusterContext<'_>,
    hosts: &HostViews<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    let seen = hosts
        .get(&machine.spec.host)
        .and_then(|view| view.domain(context.draft.snapshot.installation, machine));
    match seen {
        Ok(DomainView::Ours(domain)) => stop(context, machine, chain, Some(domain.state)),
        Ok(DomainView::Absent) => {}
        // What was never started cannot run.
        Err(_) if machine.record.first_started_at.is_none() => {}
        Err(hold) => chain.push_wait(format!("see whether {} is off", machine.key()), hold),
    }
}

/// Turns a machine of a stopped cluster off.
pub(super) fn stop(
    context: &ClusterContext<'_>,
    machine: &Machine,
    chain: &mut Chain,
    state: Option<DomainState>,
) {
    if !state.is_some_and(DomainState::is_active) {
        return;
    }
    let key = machine.key();
    if machine.spec.role == MachineRole::ControlPlane
        && let Some(worker) = context
            .machines
            .iter()
            .find(|other| other.spec.role == MachineRole::Worker && !context.is_seen_off(other))
    {
        chain.wait_for("WorkersFirst", format!("{} is not off yet", worker.object_ref()));
    }
    if context.is_stopped_by_force() {
        chain.push(
            Action::DestroyDomain { machine: key },
            "turn it off hard: its cluster is stopped by force",
        );
    } else if state == Some(DomainState::ShuttingDown) {
        chain.push_wait(format!("{key} is off"), wait("ShuttingDown", "the guest is shutting down"));
    } else {
        chain.push(Action::ShutdownDomain { machine: key }, "shut it down: its cluster is stopped");
    }
}
