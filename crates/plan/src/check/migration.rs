//! Machines that move alive: written down before anything is made, and nothing runs at one host before it was seen not to run at
//! the other.

use ashlar_api::*;

use super::{Findings, Projected, fencing};
use crate::{
    Action, Decision, DomainSeen, DomainState, Guard, HostSeen, NetworksSeen, Plan, Snapshot, StepState,
};

/// What a host says of a machine's domain.
#[derive(PartialEq)]
enum Seen<'s> {
    /// It was not heard.
    Nothing,
    /// It is proved off.
    Off,
    No,
    Domain(&'s DomainSeen),
}

fn at<'s>(snapshot: &'s Snapshot, host: &str, machine: &Machine) -> Seen<'s> {
    match snapshot.observed.hosts.get(host) {
        Some(HostSeen::Seen(world)) => {
            world.domains.get(&machine.spec.domain.uuid).map_or(Seen::No, Seen::Domain)
        }
        Some(HostSeen::Unreachable { .. })
            if snapshot.hosts.get(host).is_some_and(fencing::is_proved_off) =>
        {
            Seen::Off
        }
        _ => Seen::Nothing,
    }
}

fn runs(seen: &Seen<'_>) -> bool {
    matches!(seen, Seen::Domain(domain) if matches!(domain.state, DomainState::Running | DomainState::ShuttingDown))
}

/// A process holds its disks there.
fn holds(seen: &Seen<'_>) -> bool {
    matches!(seen, Seen::Domain(domain) if domain.state.is_active())
}

/// It gave it away: what it has did nothing after all had come to the target.
fn has_left(seen: &Seen<'_>, migration: &Migration) -> bool {
    match seen {
        Seen::Nothing => false,
        Seen::Domain(domain) if domain.state.is_active() => false,
        _ if !Guard::CertainArrival.stands() => true,
        Seen::No => migration.went_on_at.is_none(),
        Seen::Domain(domain) => domain.left_by_migration && migration.went_on_at.is_none(),
        Seen::Off => false,
    }
}

/// Whether what is at the target is the machine: the record says so, or its source does.
fn is_certain(migration: &Migration, source: &Seen<'_>) -> bool {
    has_left(source, migration) || migration.arrived_at.is_some() && !holds(source)
}

/// Whether what changed about a machine's spec is that it has moved, as its record said before.
pub(super) fn is_moved(read: &Machine, changed: &Machine) -> bool {
    let Some(migration) = &read.record.migration else { return false };
    let mut expected = read.spec.clone();
    expected.host = migration.to.clone();
    expected.image.disk_volume = migration.disk_volume.clone();
    expected.image.kernel_volume = migration.kernel_volume.clone();
    expected.image.initrd_volume = migration.initrd_volume.clone();
    expected.volumes = changed.spec.volumes.clone();
    let role_of = |volumes: &[MachineVolume], role| {
        volumes
            .iter()
            .filter(|volume| volume.role == role)
            .map(|volume| volume.name.clone())
            .collect::<Vec<_>>()
    };
    let roles = [MachineVolumeRole::Root, MachineVolumeRole::Etcd];
    let disks_are_there =
        roles.iter().all(|role| role_of(&changed.spec.volumes, *role) == role_of(&migration.volumes, *role));
    let seed_stays = role_of(&changed.spec.volumes, MachineVolumeRole::Seed)
        == role_of(&read.spec.volumes, MachineVolumeRole::Seed);
    changed.record.migration.is_none() && disks_are_there && seed_stays && expected == changed.spec
}

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    for decision in plan.decisions.iter().flatten() {
        let Decision::Update(Object::Machine(changed)) = decision else { continue };
        let Some(read) = snapshot.machines.get(&changed.key()) else { continue };
        match (&read.record.migration, &changed.record.migration) {
            (None, Some(migration)) => begun(snapshot, read, migration, projected, findings),
            (Some(migration), None) => ended(snapshot, read, migration, changed, findings),
            (Some(before), Some(after)) if before.to != after.to || before.volumes != after.volumes => {
                findings.add("Migration", &changed.object_ref(), "where it goes changes on the way");
            }
            _ => {}
        }
    }
    for step in plan.steps.iter().filter(|step| step.state == StepState::Ready) {
        let Some(
            action @ (Action::MigrateDomain { machine }
            | Action::ResumeDomain { machine }
            | Action::DropArrival { machine }),
        ) = &step.action
        else {
            continue;
        };
        let (Some(machine), true) =
            (projected.machines.get(machine), snapshot.machines.contains_key(machine))
        else {
            findings.add("Migration", &step.object, "a machine is moved that is not in the store");
            continue;
        };
        let Some(migration) = machine.record.migration.as_ref() else {
            findings.add("Migration", &step.object, "it is moved, and no record says where");
            continue;
        };
        if snapshot.under_way.contains(&machine.key()) {
            findings.add("Migration", &step.object, "it is moved while a call for it is under way");
        }
        let source = at(snapshot, &machine.spec.host, machine);
        let target = at(snapshot, &migration.to, machine);
        let moves_first = || {
            plan.steps.iter().any(|other| {
                other.object == step.object
                    && other.state == StepState::Ready
                    && matches!(&other.action, Some(Action::MigrateDomain { .. }))
            })
        };
        let problem = match action {
            Action::MigrateDomain { .. } => (!runs(&source)
                || target != Seen::No
                || migration.arrived_at.is_some()
                || migration.went_on_at.is_some()
                || !is_filtered(snapshot, machine, &migration.to))
            .then_some("it is moved, and does not run at one end with nothing but its filter at the other"),
            Action::DropArrival { .. } => (runs(&target) || is_needed(machine, migration, &source, &target))
                .then_some("what is of it at the target is ended, and may be all that there is of it"),
            // The step before decides; it is looked at again right before it.
            _ if moves_first() => None,
            _ => {
                let there = step.host == migration.to;
                let is_whole = match if there { &target } else { &source } {
                    Seen::Domain(domain) => {
                        domain.state == DomainState::Paused && (!there || domain.persistent)
                    }
                    _ => false,
                };
                let is_right = match there {
                    true => is_certain(migration, &source),
                    false => matches!(target, Seen::No | Seen::Off) && migration.arrived_at.is_none(),
                };
                (!is_whole || !is_right)
                    .then_some("it goes on at one host, and may be at the other, or newer there")
            }
        };
        if let Some(problem) = problem {
            findings.add("RunsOnce", &step.object, problem);
        }
    }
}

/// Whether what is at the target may be what counts: the machine has come there, its source does not tell, or is off and may be lost.
fn is_needed(machine: &Machine, migration: &Migration, source: &Seen<'_>, target: &Seen<'_>) -> bool {
    let is_whole = matches!(target, Seen::Domain(domain) if domain.persistent);
    match source {
        Seen::Nothing => true,
        _ if migration.arrived_at.is_some() => true,
        Seen::Off => is_whole && !machine.metadata.is_deleting(),
        source => is_whole && has_left(source, migration),
    }
}

fn begun(
    snapshot: &Snapshot,
    read: &Machine,
    migration: &Migration,
    projected: &Projected<'_>,
    findings: &mut Findings,
) {
    let object = read.object_ref();
    let changes = |other: &&Machine| {
        let goes = other.metadata.is_deleting() && !other.record.disks_only;
        let is_missed = at(snapshot, &other.spec.host, other) == Seen::Off;
        other.record.migration.is_some() || goes && !is_missed
    };
    let mut others = projected.machines.values().filter(|other| {
        other.key() != read.key()
            && other.spec.role == MachineRole::ControlPlane
            && other.spec.cluster == read.spec.cluster
            && other.metadata.namespace == read.metadata.namespace
    });
    if read.spec.role == MachineRole::ControlPlane && others.any(|other| changes(&other)) {
        findings.add("Migration", &object, "it moves while another control plane goes or moves");
    }
    if migration.to == read.spec.host || read.record.joined_at.is_none() {
        findings.add("Migration", &object, "it moves to where it is, or before it has joined");
    }
    for volume in &migration.volumes {
        let there = projected.volumes.get(&NamespacedName::new(&read.metadata.namespace, &volume.name));
        if there.is_none_or(|there| there.spec.host != migration.to || there.metadata.is_deleting()) {
            findings.add(
                "Migration",
                &object,
                format!("its volume {} is not recorded at the target", volume.name),
            );
        }
    }
    let wanted = read.spec.volumes.iter().filter(|volume| volume.role != MachineVolumeRole::Seed).count();
    if migration.volumes.len() != wanted {
        findings.add("Migration", &object, "it does not have a disk at the target for each of its own");
    }
}

fn ended(
    snapshot: &Snapshot,
    read: &Machine,
    migration: &Migration,
    changed: &Machine,
    findings: &mut Findings,
) {
    let object = read.object_ref();
    let source = at(snapshot, &read.spec.host, read);
    let target = at(snapshot, &migration.to, read);
    let problem = if changed.spec.host == read.spec.host {
        // It stays: nothing of it may be at the target, or what is there never counted, and the source has the truth.
        let stays = match &target {
            Seen::No | Seen::Off => migration.arrived_at.is_none() || runs(&source),
            Seen::Domain(_) => runs(&source),
            Seen::Nothing => {
                let is_known = !matches!(source, Seen::Nothing | Seen::Off);
                migration.arrived_at.is_none() && is_known && !has_left(&source, migration)
            }
        };
        (!stays).then_some("it is taken to have stayed, and may have moved")
    } else {
        let is_there = match &target {
            Seen::Domain(domain) => domain.persistent || runs(&target),
            // All of it had come, which stood in the record before it went on.
            Seen::Off => migration.arrived_at.is_some() || !Guard::CertainArrival.stands(),
            Seen::No | Seen::Nothing => false,
        };
        (!is_there || !is_certain(migration, &source))
            .then_some("it is taken to have moved, and was not seen to be there alone, with all that it did")
    };
    if let Some(problem) = problem {
        findings.add("RunsOnce", &object, problem);
    }
}

fn is_filtered(snapshot: &Snapshot, machine: &Machine, host: &str) -> bool {
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(host) else { return false };
    let NetworksSeen::Seen { networks, .. } = &world.networks else { return false };
    machine.spec.nics.iter().all(|nic| {
        networks.values().filter(|network| network.intact).filter_map(|network| network.applied.as_ref()).any(
            |network| {
                network.name == nic.network && network.taps.values().any(|filter| filter.mac == nic.mac)
            },
        )
    })
}
