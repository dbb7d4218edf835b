//! A machine on its way to another host, alive: its disks and its filter are there first, then it goes.

use ashlar_api::*;

use super::boot::{File, image_files, look, missing_object, paused};
use super::chain::{Chain, block, wait};
use super::context::ClusterContext;
use super::host_view::{HostView, HostViews};
use crate::draft::Draft;
use crate::etcd::Etcd;
use crate::migration::{Whereabouts, is_calling, tried_again_at, whereabouts};
use crate::{Action, DomainState, HostSeen, Step, StepState, fence, network};

/// Steps of a machine on its way.
pub(super) fn steps(
    context: &ClusterContext<'_>,
    hosts: &HostViews<'_>,
    machine: &Machine,
    chain: &mut Chain,
) {
    let (Some(migration), Some(moved)) = (&machine.record.migration, machine.moved()) else { return };
    let Some(there) = whereabouts(context.draft.snapshot, machine) else { return };
    let (key, from, to) = (machine.key(), &machine.spec.host, &migration.to);
    match there {
        Whereabouts::Source if !is_calling(context.draft.snapshot, machine) => {
            source_runs(hosts, machine, chain);
            disks(context, hosts, &moved, chain);
            image_files(context, &moved, chain);
            if !chain.is_held()
                && let Err(hold) = network::ready(context.draft, &moved)
            {
                chain.hold(hold);
            }
            leader(context, machine, chain);
            let again = tried_again_at(migration).filter(|at| *at > context.draft.snapshot.now);
            if let Some(again) = again {
                let message =
                    format!("that failed, and is tried again at {again}: {}", migration.last_failure);
                chain.wait_for("TriedAgain", message);
            }
            chain.push(
                Action::MigrateDomain { machine: key },
                format!(
                    "move it alive from {from} to {to}, with its disks (not encrypted between the hosts)"
                ),
            );
            resume(machine, to, chain);
        }
        Whereabouts::Source | Whereabouts::UnderWay => {
            let message = format!("it moves alive from {from} to {to}");
            chain.push_wait(format!("{key} is on {to}"), wait("Migrating", message));
        }
        // Decided on in this very pass.
        Whereabouts::Target => {}
        Whereabouts::HalfThere => chain.push_on(
            to,
            Action::DropArrival { machine: key },
            format!(
                "take away what is of it on {to}: its move there ended in the middle, and it never ran there"
            ),
        ),
        Whereabouts::StoppedAtSource => resume(machine, from, chain),
        Whereabouts::Arrived => resume(machine, to, chain),
        Whereabouts::Unknown(host) => {
            let message = format!(
                "host {host} does not answer, and {key} may be there since its move from {from} to {to}: it is not started \
                 anywhere before that is known"
            );
            chain.push_wait(format!("see whether {key} runs"), wait("HostUnreachable", message));
        }
        Whereabouts::Unproved => {
            let message = format!(
                "host {from} went off while {key} moved to {to}, and nobody knows whether it went on at {from} after all of it had \
                 come to {to}: what stands still there may be older than what it has acknowledged, and is not let go on. Turn {from} \
                 on, and it goes on with its disks there. If they are lost for good, delete {}: what {to} has of it goes then",
                machine.object_ref()
            );
            // Who gets another machine in its place by itself needs no person.
            let hold = match context.draft.waited_for.contains(&key) {
                true => wait("MayBeOlder", message),
                false => block("MayBeOlder", message),
            };
            chain.push_wait(format!("see where the newest of {key} is"), hold);
        }
        Whereabouts::Strange(what) => {
            let message = format!(
                "{} was to move from {from} to {to}, and somebody else let it go on: {what}. Nothing is started or deleted before \
                 a person has left one of the two: end and undefine domain {} on the host that is not to have it",
                machine.object_ref(),
                machine.spec.domain.name
            );
            chain.push_wait(format!("see where {key} is"), block("GoesOnTwice", message));
        }
        Whereabouts::Nowhere => {
            let message = format!(
                "domain {} was to move from {from} to {to}, and neither host has it any more: somebody undefined it. Its newest \
                 disks are on the host that had it last; nothing is started or deleted before a person says which: define it \
                 there again, or delete {}",
                machine.spec.domain.name,
                machine.object_ref()
            );
            chain.push_wait(format!("see where {key} is"), block("DomainGone", message));
        }
        Whereabouts::Foreign => {
            let message = format!(
                "a domain with the UUID {} of {} is on {to} and does not carry its mark: it is left alone; find out who made it",
                machine.spec.domain.uuid,
                machine.object_ref()
            );
            chain.push_wait(format!("see whose the domain on {to} is"), block("NotOurs", message));
        }
    }
}

fn resume(machine: &Machine, host: &str, chain: &mut Chain) {
    chain.push_on(
        host,
        Action::ResumeDomain { machine: machine.key() },
        format!("let it go on at {host}, where all of it is"),
    );
}

/// Only what runs can be moved alive, without a medium that stays behind.
fn source_runs(hosts: &HostViews<'_>, machine: &Machine, chain: &mut Chain) {
    let seen = match hosts.get(&machine.spec.host) {
        Ok(view) => view.domain_seen(machine.spec.domain.uuid),
        Err(hold) => return chain.hold(hold),
    };
    match seen.map(|domain| domain.state) {
        Some(DomainState::Running) => {}
        Some(DomainState::Paused) => chain.hold(paused(machine)),
        _ => chain.wait_for("NotRunning", format!("{} does not run", machine.key())),
    }
    if seen.is_some_and(|domain| domain.medium_path.is_some()) {
        chain.wait_for("SeedFirst", format!("the drive of {} is emptied first", machine.key()));
    }
}

/// Its disks on the host that it moves to: what an attempt before has left in them is written over.
fn disks(context: &ClusterContext<'_>, hosts: &HostViews<'_>, moved: &Machine, chain: &mut Chain) {
    let view = match hosts.get(&moved.spec.host) {
        Ok(view) => Some(view),
        Err(hold) => {
            chain.hold(hold);
            None
        }
    };
    for role in [MachineVolumeRole::Root, MachineVolumeRole::Etcd] {
        if moved.spec.volume(role).is_none() {
            continue;
        }
        let Some(volume) = context.volume(moved, role) else {
            chain.hold(missing_object(moved, role));
            continue;
        };
        match look(view, volume, moved) {
            Ok(File::Right) => continue,
            // A file of another size is one whose making was cut off: it was never used.
            Ok(File::Absent | File::Vanished | File::OtherSize) => {}
            Err(hold) => chain.hold(hold),
        }
        if role == MachineVolumeRole::Root {
            image_files(context, moved, chain);
        }
        let why = format!("create its {} disk on {}: {}", role.serial(), moved.spec.host, volume.spec.path());
        chain.push_on(&moved.spec.host, Action::CreateVolume { volume: volume.key() }, why);
    }
}

/// Who leads etcd hands that over before it stands still.
fn leader(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    if machine.spec.role != MachineRole::ControlPlane || context.control_planes().count() < 2 {
        return;
    }
    let etcd = match Etcd::of(context.draft.snapshot, &context.key()) {
        Ok(etcd) => etcd,
        Err(hold) => return chain.hold(StepState::Waiting(hold)),
    };
    if let Some(sick) = etcd.sick() {
        return chain.wait_for("EtcdNotHealthy", format!("etcd has to be healthy first: {sick}"));
    }
    let leads = etcd.member_of(machine).is_some_and(|member| etcd.leader() == Some(member.id));
    let heir = context.control_planes().find(|other| {
        other.key() != machine.key()
            && !other.metadata.is_deleting()
            && etcd.member_of(other).is_some_and(|member| !member.is_learner)
    });
    if let Some(heir) = heir.filter(|_| leads) {
        chain.push_elsewhere(
            Action::MoveEtcdLeader { machine: machine.key(), to: heir.key() },
            format!("give the leadership of etcd to {} before it moves", heir.key()),
        );
    }
}

/// A disk that a machine has left behind on another host, or will not come to.
pub(super) fn left_volume(
    draft: &Draft<'_>,
    view: Result<&HostView<'_>, StepState>,
    owner: &Machine,
    volume: &Volume,
) -> Vec<Step> {
    let mut chain = Chain::new(volume.object_ref(), &volume.spec.host);
    let seen = view.and_then(|view| {
        view.unused_by_others(volume, owner.spec.domain.uuid)?;
        Ok((view.volume(volume)?, view.domain_seen(owner.spec.domain.uuid)))
    });
    match seen {
        Ok((None, _)) => return Vec::new(),
        Ok((Some(_), None)) => {}
        Ok((Some(_), Some(domain))) => {
            if domain.disk_paths.contains(&volume.spec.path()) {
                let message = format!("what is left of {} there goes first", domain.name);
                chain.wait_for("DomainFirst", message);
            }
        }
        Err(hold) => chain.hold(hold),
    }
    if !is_sure(draft, owner, volume) {
        chain.wait_for("DomainFirst", format!("{} has to be seen on {} first", owner.key(), owner.spec.host));
    }
    super::delete::wipe(volume, Some(owner), &mut chain);
    let unwiped = super::delete::unwiped(volume);
    chain.push(
        Action::DeleteVolume { volume: volume.key() },
        format!("delete {}{unwiped}: {} is on {}", volume.spec.path(), owner.key(), owner.spec.host),
    );
    chain.finish()
}

/// Its disks where it is are the ones that count: the domain was seen there, or went down with that host.
fn is_sure(draft: &Draft<'_>, owner: &Machine, volume: &Volume) -> bool {
    if volume.spec.host != owner.spec.host && fence::proof(draft.snapshot, &owner.spec.host).is_some() {
        return true;
    }
    let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(&owner.spec.host) else {
        return false;
    };
    volume.spec.host != owner.spec.host && world.domains.contains_key(&owner.spec.domain.uuid)
}
