//! What was observed and has to be remembered: a node that joined, a first boot that failed, a file that is gone.

use std::sync::Arc;

use ashlar_api::*;
use jiff::SignedDuration;

use crate::draft::{Draft, Unit, cluster_of};
use crate::etcd::{self, Etcd};
use crate::{ClusterSeen, ClusterWorld, Guard, HostSeen, NodeSeen, NoteKind, fence};

/// Records machines that somebody else started, joined nodes, failed first boots and initialized clusters.
pub(super) fn record(draft: &mut Draft<'_>) {
    end_fences(draft);
    record_initialized(draft);
    record_started(draft);
    record_certificates(draft);
    correct_deletions(draft);
    record_left_etcd(draft);
    let open: Vec<Machine> = draft
        .snapshot
        .machines
        .values()
        .filter(|machine| {
            machine.record.joined_at.is_none()
                && machine.record.failure.as_ref().is_none_or(|failure| failure.overdue)
                && machine.record.first_started_at.is_some()
                && !machine.metadata.is_deleting()
        })
        .cloned()
        .collect();
    for machine in open {
        let judge = if machine.record.failure.is_some() { came_late } else { judge };
        let Some(record) = judge(draft, &machine) else { continue };
        let machine = Machine { record, ..machine };
        let mut unit = Unit::default();
        if machine.spec.role == MachineRole::ControlPlane && machine.record.joined_at.is_some() {
            forget_failed_joins(draft, &mut unit, &cluster_of(&machine));
        }
        unit.update(machine.clone());
        draft.put_machine(machine);
        draft.commit(unit);
    }
}

/// Disagreement of clocks that nobody has to mend.
const CLOCKS_DISAGREE: SignedDuration = SignedDuration::from_secs(60);

/// A deletion that is recorded in the future was so by a clock that was ahead. Deadlines count from it: now is the
/// earliest that it can have been, as far as anybody knows.
fn correct_deletions(draft: &mut Draft<'_>) {
    let now = draft.snapshot.now;
    let is_ahead = |machine: &&Machine| {
        machine.metadata.deletion_timestamp.is_some_and(|at| at.duration_since(now) > CLOCKS_DISAGREE)
    };
    let ahead: Vec<Machine> = draft.snapshot.machines.values().filter(is_ahead).cloned().collect();
    for mut machine in ahead {
        machine.metadata.deletion_timestamp = Some(now);
        let mut unit = Unit::default();
        unit.update(machine.clone());
        draft.put_machine(machine);
        draft.commit(unit);
    }
}

/// Control planes that go, and whose members were seen to be gone. Who has not joined may yet come in by itself.
fn record_left_etcd(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    let has_left = |machine: &&Machine| {
        let is_going = machine.metadata.is_deleting() && !machine.record.left_etcd;
        let was_in = machine.spec.role == MachineRole::ControlPlane && machine.record.joined_at.is_some();
        is_going && was_in && is_seen_out_of_etcd(draft, machine)
    };
    let left: Vec<NamespacedName> =
        snapshot.machines.values().filter(has_left).map(|machine| machine.key()).collect();
    for key in left {
        let Some(mut machine) = draft.machines.get(&key).cloned() else { continue };
        machine.record.left_etcd = true;
        let mut unit = Unit::default();
        unit.update(machine.clone());
        draft.put_machine(machine);
        draft.commit(unit);
    }
}

fn is_seen_out_of_etcd(draft: &Draft<'_>, machine: &Machine) -> bool {
    let key = cluster_of(machine);
    let machines: Vec<&Machine> = draft.machines_of(&key).into_iter().map(Arc::as_ref).collect();
    draft.clusters.get(&key).is_some_and(etcd::is_living)
        && Etcd::of(draft.snapshot, &key).is_ok_and(|etcd| {
            // Members that are nobody's: this may be another etcd.
            etcd.member_of(machine).is_none() && etcd.stranger(&machines).is_none()
        })
}

/// A host that answers is not off, whatever was said of it: should it fall silent again, its VMs may run.
fn end_fences(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    let hosts = snapshot.hosts.values().filter(|host| fence::has_ended(snapshot, host)).cloned();
    for mut host in hosts.collect::<Vec<Host>>() {
        host.record.fence = None;
        let message = format!(
            "it answers again: what machines that were replaced left there is removed, and it stays cordoned until \
             `ashlar host uncordon {}`",
            host.metadata.name
        );
        draft.note(host.object_ref(), NoteKind::Notice, "FenceEnded", message);
        let mut unit = Unit::default();
        unit.update(host.clone());
        draft.hosts.insert(host.metadata.name.clone(), host);
        draft.commit(unit);
    }
    // It is nobody's but the hosts', so that whoever sees it writes it, a run for one cluster too.
    draft.end_commit();
}

/// A machine that runs, and that nobody recorded as started: a person did it (`virsh start`). From now on its disks may
/// hold something, and its first boot is under way.
fn record_started(draft: &mut Draft<'_>) {
    let runs = |machine: &Machine| {
        let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(&machine.spec.host) else {
            return false;
        };
        world.domains.get(&machine.spec.domain.uuid).is_some_and(|domain| {
            domain.state.is_active()
                && domain.mark.as_ref().is_some_and(|mark| {
                    mark.installation == draft.snapshot.installation
                        && Some(mark.machine_uid) == machine.metadata.uid
                })
        })
    };
    let machines = draft.snapshot.machines.values();
    let started: Vec<Machine> = machines
        .filter(|machine| machine.record.first_started_at.is_none() && runs(machine))
        .cloned()
        .collect();
    for mut machine in started {
        machine.record.first_started_at = Some(draft.snapshot.now);
        let mut unit = Unit::default();
        unit.update(machine.clone());
        draft.put_machine(machine);
        draft.commit(unit);
    }
}

/// An API server showed its certificate, which names its node: when it runs out is known from then on.
fn record_certificates(draft: &mut Draft<'_>) {
    let shown = |machine: &Machine| {
        let may_be_its = machine.spec.role == MachineRole::ControlPlane
            && machine.record.joined_at.is_some()
            && !machine.metadata.is_deleting();
        let world = may_be_its.then(|| world(draft, &cluster_of(machine)))??;
        let shown = world.api_certificate.as_ref()?;
        let is_its = shown.dns_names.contains(&machine.spec.node.name);
        (is_its && machine.record.certificates_end_at != Some(shown.ends_at)).then_some(shown.ends_at)
    };
    let machines = draft.snapshot.machines.values();
    let seen: Vec<(Machine, _)> =
        machines.filter_map(|machine| Some((Machine::clone(machine), shown(machine)?))).collect();
    for (mut machine, ends_at) in seen {
        machine.record.certificates_end_at = Some(ends_at);
        let mut unit = Unit::default();
        unit.update(machine.clone());
        draft.put_machine(machine);
        draft.commit(unit);
    }
}

/// A control plane joined: whatever kept those before it from it is over.
fn forget_failed_joins(draft: &mut Draft<'_>, unit: &mut Unit, cluster: &NamespacedName) {
    if let Some(cluster) = draft.clusters.get(cluster).filter(|cluster| cluster.record.failed_joins > 0) {
        let mut changed = cluster.clone();
        changed.record.failed_joins = 0;
        unit.update(changed.clone());
        draft.clusters.insert(changed.key(), changed);
    }
}

/// An API server that answered with our certificates: from now on they are never made anew.
fn record_initialized(draft: &mut Draft<'_>) {
    let answered: Vec<Cluster> = draft
        .snapshot
        .clusters
        .values()
        .filter(|cluster| !cluster.record.initialized && !cluster.metadata.is_deleting())
        .filter(|cluster| world(draft, &cluster.key()).is_some())
        .cloned()
        .collect();
    for mut cluster in answered {
        cluster.record.initialized = true;
        let mut unit = Unit::default();
        unit.update(cluster.clone());
        draft.clusters.insert(cluster.key(), cluster);
        draft.commit(unit);
    }
}

fn world<'s>(draft: &Draft<'s>, cluster: &NamespacedName) -> Option<&'s ClusterWorld> {
    match draft.snapshot.observed.clusters.get(cluster) {
        Some(ClusterSeen::Seen(world)) => Some(world),
        Some(ClusterSeen::Unreachable { .. } | ClusterSeen::NotOurs { .. }) | None => None,
    }
}

/// The new record of a machine whose first boot ended, well or not.
fn judge(draft: &Draft<'_>, machine: &Machine) -> Option<MachineRecord> {
    let snapshot = draft.snapshot;
    let started = machine.record.first_started_at?;
    let cluster_key = cluster_of(machine);
    let console = snapshot.observed.consoles.get(&machine.key());
    if let Some(failure) = console.and_then(|console| console.failure.as_ref()) {
        let failure = MachineFailure {
            phase: failure.phase.clone(),
            message: format!("{}. {}", failure.message, next_step(machine)),
            log_lines: failure.log_lines.clone(),
            overdue: false,
            at: snapshot.now,
        };
        return Some(MachineRecord { failure: Some(failure), ..machine.record.clone() });
    }
    let finished = console.is_none_or(|console| console.finished);
    let timeout = SignedDuration::from_secs(i64::from(machine.spec.node.startup_timeout_s));
    let overdue = snapshot.now.duration_since(started) > timeout;
    let node = node(draft, machine);
    // Without a CNI of ours a node stays NotReady until the user installs one.
    let ready = node.is_some_and(|node| {
        node.ready || (machine.spec.node.cni == Cni::None && console.is_some_and(|console| console.finished))
    });
    // The seed may be read until first boot's last line; past the deadline a Ready node is proof enough.
    if ready && (finished || overdue) {
        return Some(MachineRecord { joined_at: Some(snapshot.now), ..machine.record.clone() });
    }
    let host_seen = matches!(snapshot.observed.hosts.get(&machine.spec.host), Some(HostSeen::Seen(_)));
    let stopped = draft.clusters.get(&cluster_key).is_some_and(|cluster| cluster.record.stopped);
    if !overdue || !host_seen || stopped {
        return None;
    }
    let phase = console.map_or("power-on", |console| console.phase.as_str()).to_owned();
    let why = match (node, world(draft, &cluster_key)) {
        (Some(node), _) => format!("its node is not Ready: {}", node.message),
        (None, Some(_)) => "it did not register as a node".to_owned(),
        (None, None) => "the cluster's API does not answer".to_owned(),
    };
    let failure = MachineFailure {
        message: format!(
            "not Ready {} s after power-on, last seen in phase {phase}; {why}. See `ashlar console {}`. {}",
            machine.spec.node.startup_timeout_s,
            in_namespace(machine),
            next_step(machine)
        ),
        phase,
        log_lines: Vec::new(),
        overdue: true,
        at: snapshot.now,
    };
    Some(MachineRecord { failure: Some(failure), ..machine.record.clone() })
}

/// The new record of a machine that was given up as too late, and came all the same: a slow host, or a clock that was set
/// while it booted. Nothing was done about it but to say so.
fn came_late(draft: &Draft<'_>, machine: &Machine) -> Option<MachineRecord> {
    if !node(draft, machine).is_some_and(|node| node.ready) {
        return None;
    }
    // A learner that its failed join left behind is taken out: such a node is Ready, and no control plane.
    let votes = || {
        let etcd = Etcd::of(draft.snapshot, &cluster_of(machine)).ok()?;
        etcd.member_of(machine).map(|member| !member.is_learner)
    };
    let is_whole = machine.spec.role == MachineRole::Worker || votes().unwrap_or(false);
    is_whole.then(|| MachineRecord {
        joined_at: Some(draft.snapshot.now),
        failure: None,
        ..machine.record.clone()
    })
}

/// The machine's node. One of the name with another provider id is not this machine's.
fn node<'s>(draft: &Draft<'s>, machine: &Machine) -> Option<&'s NodeSeen> {
    world(draft, &cluster_of(machine))
        .and_then(|world| world.nodes.get(&machine.spec.node.name))
        .filter(|node| node.provider_id == machine.spec.node.provider_id)
}

/// What a person does about a failed first boot. The order matters: until the machine is deleted it is kept as it is,
/// and applying again does not try again.
fn next_step(machine: &Machine) -> String {
    let cluster = in_namespace_of(machine, &machine.spec.cluster);
    format!(
        "It is kept as it is, to be looked at. Once the cause is gone: first `ashlar delete machine {}`, then \
         `ashlar cluster create {cluster}`, which makes another in its place",
        in_namespace(machine)
    )
}

fn in_namespace(machine: &Machine) -> String {
    in_namespace_of(machine, &machine.metadata.name)
}

/// A name with the flag that a command needs for it.
fn in_namespace_of(machine: &Machine, name: &str) -> String {
    match machine.metadata.namespace.as_str() {
        DEFAULT_NAMESPACE => name.to_owned(),
        namespace => format!("{name} -n {namespace}"),
    }
}

/// A file that was filled and is gone has to be filled again: recorded before it is made anew, so that a crash in
/// between leaves no empty file that counts as full. Only of what can be made again byte by byte, or was never used.
pub(super) fn forget_lost_files(draft: &mut Draft<'_>) {
    let lost: Vec<Volume> = draft
        .snapshot
        .volumes
        .values()
        .filter(|volume| volume.record.filled && !volume.record.wiped && !volume.metadata.is_deleting())
        .filter(|volume| match &volume.spec.content {
            VolumeContent::ImageFile { .. } => true,
            VolumeContent::Leftover { .. } => false,
            VolumeContent::MachineDisk { machine, role, .. } => {
                let key = NamespacedName::new(&volume.metadata.namespace, machine);
                *role == MachineVolumeRole::Seed
                    && draft.machines.get(&key).is_some_and(|machine| machine.record.joined_at.is_none())
            }
        })
        .filter(|volume| is_seen_absent(draft, volume))
        .cloned()
        .collect();
    for mut volume in lost {
        draft.note(
            volume.object_ref(),
            NoteKind::Waiting,
            "FileLost",
            format!("{} is gone from {}: it is made again", volume.spec.path(), volume.spec.host),
        );
        volume.record.filled = false;
        let mut unit = Unit::default();
        unit.update(volume.clone());
        draft.volumes.insert(volume.key(), volume);
        draft.commit(unit);
    }
}

/// Host and pool answered, and the file is not there.
pub(super) fn is_seen_absent(draft: &Draft<'_>, volume: &Volume) -> bool {
    match draft.snapshot.observed.hosts.get(&volume.spec.host) {
        Some(HostSeen::Seen(world)) => world
            .pools
            .get(&volume.spec.pool_uuid)
            .is_some_and(|pool| !pool.volumes.contains_key(&volume.spec.file_name)),
        Some(HostSeen::Unreachable { .. } | HostSeen::NotOurs { .. } | HostSeen::Fenced { .. }) | None => {
            !Guard::SeenGone.stands()
        }
    }
}
