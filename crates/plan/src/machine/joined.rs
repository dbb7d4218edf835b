//! A machine that joined: its seed and token go, and it stays on, or off.

use ashlar_api::*;

use super::boot::{File, image_files, look, lost, missing_object, other_size, paused};
use super::chain::{Chain, wait};
use super::context::ClusterContext;
use super::host_view::{DomainView, HostViews};
use crate::{Action, DomainState, DriftKind, StepState, drift, elsewhere, names, network};

/// Steps of a machine that joined.
pub(super) fn steps(
    context: &ClusterContext<'_>,
    hosts: &HostViews<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    match hosts.get(&machine.spec.host) {
        Ok(view) => {
            match view.domain(context.draft.snapshot.installation, machine) {
                Err(hold) => {
                    chain.push_wait(format!("see whose domain {} is", machine.spec.domain.name), hold);
                    return;
                }
                Ok(DomainView::Absent) => {
                    redefine(context, view, machine, chain);
                    power(context, machine, chain, None);
                }
                Ok(DomainView::Ours(domain)) => {
                    definition(context, view, machine, chain);
                    late_seed(context, machine, domain.medium_path.as_deref(), chain);
                    disks(context, view, machine, chain);
                    power(context, machine, chain, Some(domain.state));
                }
            }
            seed(context, view, machine, chain);
        }
        // A host that was not asked is none of this pass's business.
        Err(_) if hosts.was_not_asked(&machine.spec.host) && seed_volume(context, machine).is_none() => {}
        Err(hold) => chain.push_wait(format!("see whether {} runs", machine.key()), hold),
    }
    token(context, machine, chain);
    super::membership::promote(context, machine, chain);
    super::node::configure(context, machine, chain);
}

/// Somebody removed the definition; the disks are there, so the domain is made again.
pub(super) fn redefine(
    context: &ClusterContext<'_>,
    view: &super::host_view::HostView<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    if let Some(hold) = elsewhere::unheard(context.draft.snapshot, machine) {
        chain.hold(hold);
    }
    for hold in missing_disks(context, view, machine) {
        chain.hold(hold);
    }
    image_files(context, machine, chain);
    chain.push(
        Action::DefineDomain { machine: machine.key() },
        format!("define domain {} again: it is gone from {}", machine.spec.domain.name, machine.spec.host),
    );
}

/// Somebody edited the definition: it is put right before anything starts from it.
fn definition(
    context: &ClusterContext<'_>,
    view: &super::host_view::HostView<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    let drifts = &context.draft.report.drifts;
    if let Some(drift) = drift::of(drifts, machine, DriftKind::Definition).filter(|drift| drift.heals) {
        if let Err(hold) = view.not_elsewhere(machine) {
            chain.hold(hold);
        }
        chain.push(
            Action::RedefineDomain { machine: machine.key() },
            format!(
                "define domain {} again as declared (declared → found): {}",
                machine.spec.domain.name,
                drift.diff()
            ),
        );
    }
}

/// A guest may run on without its disk's file: QEMU has it open. It will not come back from a restart.
fn disks(
    context: &ClusterContext<'_>,
    view: &super::host_view::HostView<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    if let Some(hold) = missing_disks(context, view, machine).into_iter().next() {
        chain.push_wait(format!("the disks of {} are there", machine.key()), hold);
    }
}

/// Why its root and etcd disks cannot be taken as there.
fn missing_disks(
    context: &ClusterContext<'_>,
    view: &super::host_view::HostView<'_>,
    machine: &Machine,
) -> Vec<StepState> {
    let mut holds = Vec::new();
    for role in [MachineVolumeRole::Root, MachineVolumeRole::Etcd] {
        if machine.spec.volume(role).is_none() {
            continue;
        }
        let Some(volume) = context.volume(machine, role) else {
            holds.push(missing_object(machine, role));
            continue;
        };
        match look(Some(view), volume, machine) {
            Ok(File::Right) => {}
            Ok(File::Absent | File::Vanished) => {
                holds.push(if_waited_for(context, machine, lost(volume, machine)))
            }
            Ok(File::OtherSize) => holds.push(other_size(volume, machine)),
            Err(hold) => holds.push(hold),
        }
    }
    holds
}

/// Who gets another machine in its place by itself needs no person for a lost disk.
fn if_waited_for(context: &ClusterContext<'_>, machine: &Machine, hold: StepState) -> StepState {
    match hold {
        StepState::Blocked(block) if context.draft.waited_for.contains(&machine.key()) => {
            wait(&block.reason, block.message)
        }
        hold => hold,
    }
}

fn power(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain, state: Option<DomainState>) {
    if context.is_stopped() {
        return super::power::stop(context, machine, chain, state);
    }
    match state {
        Some(DomainState::Running | DomainState::ShuttingDown) => {}
        Some(DomainState::Paused) => {
            chain.push_wait(format!("{} runs", machine.key()), paused(machine));
        }
        Some(DomainState::ShutOff | DomainState::Crashed) | None => {
            image_files(context, machine, chain);
            if let Err(hold) = network::ready(context.draft, machine) {
                chain.hold(hold);
            }
            chain.push(Action::StartDomain { machine: machine.key() }, "start it: it should run and is off");
        }
    }
}

fn seed_volume<'d>(context: &ClusterContext<'d>, machine: &Machine) -> Option<&'d Volume> {
    context.volume(machine, MachineVolumeRole::Seed)
}

/// A call that defined it, and took effect when its seed was long gone, brought the medium back into its drive: without the file
/// it would not start.
fn late_seed(context: &ClusterContext<'_>, machine: &Machine, medium: Option<&str>, chain: &mut Chain) {
    let file = medium.and_then(|path| path.rsplit('/').next());
    let is_seed = file.is_some_and(|file| names::is_seed_file(file, &machine.metadata.name));
    if is_seed && seed_volume(context, machine).is_none() {
        chain.push(
            Action::EjectSeed { machine: machine.key() },
            "eject its seed, which is gone: a late call put it back",
        );
    }
}

fn seed(
    context: &ClusterContext<'_>,
    view: &super::host_view::HostView<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    let Some(volume) = seed_volume(context, machine) else { return };
    if let Ok(DomainView::Ours(domain)) = view.domain(context.draft.snapshot.installation, machine)
        && domain.medium_path.as_ref() == Some(&volume.spec.path())
    {
        chain.push(
            Action::EjectSeed { machine: machine.key() },
            "eject its seed: the node has joined and needs it no more",
        );
    }
    super::delete::seed_file(view, volume, machine, chain);
}

fn token(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    let secret = names::join_secret(&machine.key());
    // The API of a stopped cluster does not answer; the token has ended by itself long before it is started again.
    if !context.draft.has_secret(&secret) || context.is_stopped() {
        return;
    }
    let action = Action::RevokeJoinToken { machine: machine.key() };
    let why = "take its join token out of the cluster";
    match context.api() {
        Ok(world) => {
            if context.token_id(machine).is_some_and(|id| world.bootstrap_tokens.contains_key(id)) {
                chain.push_elsewhere(action, why);
            }
        }
        Err(hold) => {
            chain.hold(hold);
            chain.push_elsewhere(action, why);
        }
    }
}
