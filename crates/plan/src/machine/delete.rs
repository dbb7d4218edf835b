//! From a machine to nothing: only with a recorded intent, only what is ours, and gone only when seen to be gone.

use ashlar_api::*;

use super::chain::{Chain, wait};
use super::context::ClusterContext;
use super::host_view::{DomainView, HostView, HostViews};
use crate::{Action, StepState, fence, lifecycle, names};

/// Steps of a machine that is being deleted.
pub(super) fn steps(
    context: &ClusterContext<'_>,
    hosts: &HostViews<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    let key = machine.key();
    // What is off can neither be drained nor asked; what nobody can do there waits until it answers.
    let is_off = fence::proof(context.draft.snapshot, &machine.spec.host).is_some();
    if !context.is_deleting() {
        super::membership::while_it_votes(context, hosts, machine, chain);
        token(context, machine, chain);
        if let Err(hold) = super::membership::may_go(context, machine) {
            chain.hold(hold);
        }
        // A worker that only a person can take away keeps its pods until then. A control plane leaves etcd in any case.
        let seen = hosts.get(&machine.spec.host);
        let seen = seen.and_then(|view| view.domain(context.draft.snapshot.installation, machine).map(drop));
        if let Err(hold @ StepState::Blocked(_)) = seen
            && machine.spec.role == MachineRole::Worker
        {
            chain.hold(hold);
        }
        if !is_off {
            super::drain::steps(context, machine, chain);
        }
        super::membership::leave(context, machine, chain);
    }
    if is_off {
        super::out_of_service::steps(context, machine, chain);
        node(context, machine, chain);
        // Of a cluster that stays, that is no work that anybody waits for.
        if !context.is_deleting() {
            return;
        }
        chain.hold(wait("HostOff", lifecycle::left_behind(machine)));
    }
    let view = match hosts.get(&machine.spec.host) {
        Ok(view) => Some(view),
        Err(hold) => {
            chain.hold(hold);
            None
        }
    };
    match view.map(|view| view.domain(context.draft.snapshot.installation, machine)) {
        Some(Ok(DomainView::Absent)) => {}
        Some(Ok(DomainView::Ours(domain))) => {
            if domain.state.is_active() {
                destroy(&key, chain);
            }
            undefine(&key, chain);
        }
        Some(Err(hold)) => {
            chain.hold(hold);
            destroy(&key, chain);
            undefine(&key, chain);
        }
        None => {
            if machine.record.first_started_at.is_some() {
                destroy(&key, chain);
            }
            undefine(&key, chain);
        }
    }
    let disks = [MachineVolumeRole::Seed, MachineVolumeRole::Etcd, MachineVolumeRole::Root];
    let is_due = |volume: &Volume| lifecycle::is_wiping_due(volume, Some(machine));
    // To overwrite a disk may take an hour: pods and volumes do not wait that long for their node to be gone.
    let node_first = !is_off
        && context.api().is_ok()
        && disks.iter().any(|role| context.volume(machine, *role).is_some_and(is_due));
    if node_first {
        node(context, machine, chain);
    }
    for role in disks {
        let Some(volume) = context.volume(machine, role) else { continue };
        if volume.spec.reclaim == ReclaimPolicy::Retain {
            continue;
        }
        match view {
            Some(view) if role == MachineVolumeRole::Seed => seed_file(view, volume, machine, chain),
            Some(view) => {
                if is_due(volume)
                    && let Err(hold) = super::membership::may_be_overwritten(context, machine)
                {
                    chain.hold(hold);
                }
                disk(view, volume, machine, chain);
            }
            None => {
                wipe(volume, Some(machine), chain);
                delete_volume(volume, role, chain);
            }
        }
    }
    if !is_off && !node_first {
        node(context, machine, chain);
    }
}

fn node(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    if lifecycle::node_may_be_left(context.draft, machine) {
        if let Err(hold) = context.api() {
            chain.hold(hold);
        }
        chain.push_elsewhere(
            Action::DeleteNode { machine: machine.key() },
            format!("delete node {} from the cluster", machine.spec.node.name),
        );
    }
}

fn destroy(key: &NamespacedName, chain: &mut Chain) {
    chain.push(Action::DestroyDomain { machine: key.clone() }, "turn it off: it is being deleted");
}

fn undefine(key: &NamespacedName, chain: &mut Chain) {
    chain.push(Action::UndefineDomain { machine: key.clone() }, "remove its definition");
}

fn token(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    if !context.draft.has_secret(&names::join_secret(&machine.key())) {
        return;
    }
    // A token that nobody can be asked about runs out by itself within 15 minutes; the machine's end waits for that.
    if let Ok(world) = context.api()
        && context.token_id(machine).is_some_and(|id| world.bootstrap_tokens.contains_key(id))
    {
        chain.push_elsewhere(
            Action::RevokeJoinToken { machine: machine.key() },
            "take its join token out of the cluster",
        );
    }
}

/// Wipes and deletes a seed's file.
pub(super) fn seed_file(view: &HostView<'_>, volume: &Volume, machine: &Machine, chain: &mut Chain) {
    match view.volume(volume) {
        Ok(None) => return,
        Ok(Some(_)) => {}
        Err(hold) => chain.hold(hold),
    }
    if let Err(hold) = view.unused_by_others(volume, machine.spec.domain.uuid) {
        chain.hold(hold);
    }
    if !volume.record.wiped {
        chain.push(Action::WipeVolume { volume: volume.key() }, "wipe its seed");
    }
    delete_volume(volume, MachineVolumeRole::Seed, chain);
}

fn disk(view: &HostView<'_>, volume: &Volume, machine: &Machine, chain: &mut Chain) {
    match view.volume(volume) {
        Ok(None) => return,
        Ok(Some(_)) => {}
        Err(hold) => chain.hold(hold),
    }
    if let Err(hold) = view.unused_by_others(volume, machine.spec.domain.uuid) {
        chain.hold(hold);
    }
    let role = match &volume.spec.content {
        VolumeContent::MachineDisk { role, .. } => *role,
        VolumeContent::ImageFile { .. } | VolumeContent::Leftover { .. } => return,
    };
    wipe(volume, Some(machine), chain);
    delete_volume(volume, role, chain);
}

/// Overwrites a disk, where its cluster asks for that.
pub(super) fn wipe(volume: &Volume, owner: Option<&Machine>, chain: &mut Chain) {
    if lifecycle::is_wiping_due(volume, owner) {
        let why = format!("overwrite {} with zeros (wipeDisks of its cluster)", volume.spec.path());
        chain.push(Action::WipeVolume { volume: volume.key() }, why);
    }
}

/// What is said of a disk that could not be overwritten.
pub(super) fn unwiped(volume: &Volume) -> String {
    match volume.record.not_wiped.as_str() {
        "" => String::new(),
        why => format!(" WITHOUT overwriting it: {why}"),
    }
}

fn delete_volume(volume: &Volume, role: MachineVolumeRole, chain: &mut Chain) {
    let what = match role {
        MachineVolumeRole::Root => "root disk",
        MachineVolumeRole::Etcd => "etcd disk",
        MachineVolumeRole::Seed => "seed",
    };
    chain.push(
        Action::DeleteVolume { volume: volume.key() },
        format!("delete its {what} {}{}", volume.spec.path(), unwiped(volume)),
    );
}
