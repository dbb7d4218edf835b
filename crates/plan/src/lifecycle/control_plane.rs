//! Control planes: missing ones are made, surplus ones go one at a time, failed joins are replaced.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_api::*;

use super::cluster::{self, Parts};
use super::create::{NewMachine, create};
use super::replicas::{fits_as_a_whole, name, no_address, numbers, place_one, pool};
use super::{PoolTier, ensure_finalizer, removal, rolling, wiping};
use crate::draft::{Draft, Unit};
use crate::etcd::{Etcd, is_living};
use crate::place::Request;
use crate::{Ids, NoteKind};

/// Joins that fail one after the other before Ashlar stops making new machines: the next would fail as well, and the
/// last one is kept for whoever looks.
const FAILED_JOINS: u32 = 3;

/// Brings the number of control planes to what is asked for. A new control plane is placed as a whole or not at all.
pub(super) fn control_plane(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    ids: &mut dyn Ids,
    key: &NamespacedName,
    parts: Parts<'_>,
) -> Option<()> {
    replace_failed_join(draft, key);
    scale_down(draft, key);
    replace_orphaned_join(draft, key);
    replace_second_beginning(draft, key);
    replace_outdated(draft, key, parts.image);
    let cluster = Arc::clone(draft.clusters.get_shared(key)?);
    let about = cluster.object_ref();
    let wanted = cluster.spec.control_plane.replicas;
    let (going, present): (Vec<Arc<Machine>>, Vec<Arc<Machine>>) =
        members(draft, key).into_iter().partition(|machine| machine.metadata.is_deleting());
    let have = u32::try_from(present.len()).unwrap_or(u32::MAX);
    if have >= wanted {
        return Some(());
    }
    let class = cluster::class(draft, about.clone(), &cluster.spec.control_plane.class, parts.image)?;
    let pool = pool(draft, about.clone(), class)?;
    let mut request = Request {
        machine: key.clone(),
        domain_name: String::new(),
        cluster: &cluster,
        role: MachineRole::ControlPlane,
        group: "",
        class,
        image: parts.image,
        network: parts.network,
        pool,
        control_plane_hosts: hosts_of(&present),
        own_domain: None,
        moves: None,
    };
    let prefix = format!("{}-{}", key.name, ashlar_api::names::CONTROL_PLANE_GROUP);
    let numbers = numbers(draft, key, &prefix, cluster.record.last_control_plane_number, wanted - have);
    if have == 0 && going.is_empty() && !fits_as_a_whole(draft, tier, &request, &prefix, &numbers) {
        return None;
    }
    let endpoint = match cluster::endpoint(tier, &cluster, parts.network) {
        Ok(endpoint) => endpoint,
        Err(message) => {
            draft.block(about, "NoEndpoint", message);
            return None;
        }
    };
    let mut init_is_there =
        cluster.record.initialized || present.iter().any(|machine| machine.spec.bootstrap == Bootstrap::Init);
    for number in numbers {
        name(&mut request, key, &prefix, number);
        let Some(host) = place_beside(draft, tier, &mut request, &going) else { continue };
        let new = NewMachine {
            request: request.clone(),
            bootstrap: if init_is_there { Bootstrap::Join } else { Bootstrap::Init },
            endpoint: endpoint.clone(),
            labels: BTreeMap::new(),
            taints: vec![Taint {
                key: "node-role.kubernetes.io/control-plane".to_owned(),
                value: String::new(),
                effect: TaintEffect::NoSchedule,
            }],
        };
        let Some(mut unit) = create(draft, tier, ids, &new, &host) else {
            no_address(draft, &request);
            continue;
        };
        init_is_there = true;
        request.control_plane_hosts.push(host);
        let mut changed = draft.clusters.get(key)?.clone();
        changed.record.endpoint = Some(endpoint.clone());
        changed.record.image = parts.image.metadata.name.clone();
        changed.record.last_control_plane_number = number;
        ensure_finalizer(&mut changed.metadata);
        unit.update(changed.clone());
        draft.clusters.insert(key.clone(), changed);
        draft.commit(unit);
    }
    Some(())
}

/// Hosts of control planes, and those that some of them are on their way to.
pub(super) fn hosts_of(machines: &[Arc<Machine>]) -> Vec<String> {
    machines.iter().flat_map(|machine| machine.hosts().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A host apart from those of all other control planes, also of those that are going. If there is none, one of those
/// that are going, who leave it soon: sooner than beside one that stays.
fn place_beside(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    request: &mut Request<'_>,
    going: &[Arc<Machine>],
) -> Option<String> {
    let theirs: Vec<String> = going
        .iter()
        .map(|machine| machine.spec.host.clone())
        .filter(|host| !request.control_plane_hosts.contains(host))
        .collect();
    if theirs.is_empty() {
        return place_one(draft, tier, request);
    }
    let kept = request.control_plane_hosts.len();
    request.control_plane_hosts.extend(theirs);
    let placement = crate::place::place(draft, tier.fleet(draft), request);
    // With `spread: preferred` there may be a host that is not apart.
    let apart = placement.host.clone().filter(|host| !request.control_plane_hosts.contains(host));
    request.control_plane_hosts.truncate(kept);
    match apart {
        Some(host) => {
            draft.report.placements.push(placement);
            Some(host)
        }
        None => place_one(draft, tier, request),
    }
}

/// Control planes, without those that are gone but for what a host that is off still has of them, or for their disks.
pub(super) fn members(draft: &Draft<'_>, key: &NamespacedName) -> Vec<Arc<Machine>> {
    draft
        .machines_of(key)
        .into_iter()
        .filter(|machine| machine.spec.role == MachineRole::ControlPlane && !wiping::is_past(draft, machine))
        .cloned()
        .collect()
}

/// A control plane of another class or version is replaced: a healthy one, so that another joins before it leaves.
fn replace_outdated(draft: &mut Draft<'_>, key: &NamespacedName, image: &Image) {
    let Some(cluster) = draft.clusters.get_shared(key).cloned() else { return };
    let wanted =
        rolling::Wanted { class: &cluster.spec.control_plane.class, image, snapshot: draft.snapshot };
    let (going, present): (Vec<Arc<Machine>>, Vec<Arc<Machine>>) =
        members(draft, key).into_iter().partition(|machine| machine.metadata.is_deleting());
    rolling::announce(draft, &present, wanted);
    let Some(outdated) = present.iter().find(|machine| !wanted.is_met_by(machine)) else { return };
    if !is_living(&cluster) || rolling::is_paused(draft, &cluster) {
        return;
    }
    // One at a time, and never while the number changes too or somebody else is on the way.
    let moves = |machine: &Machine| machine.record.migration.is_some() && machine.key() != outdated.key();
    let settled = going.is_empty()
        && present.len() == cluster.spec.control_plane.replicas as usize
        && present.iter().all(|machine| machine.record.joined_at.is_some() && !moves(machine));
    if settled && !rolling::is_stopped(draft, &cluster, &present) {
        removal::delete_machine(draft, outdated);
    }
}

/// Whether some control plane, also of those that go, still runs another version than the image's: until then workers stay as
/// they are, because a kubelet may not be newer than an API server, and its kubeadm has to be of the control plane's minor.
pub(super) fn lags_behind(draft: &Draft<'_>, key: &NamespacedName, image: &Image) -> bool {
    members(draft, key)
        .iter()
        .any(|machine| machine.spec.image.kubernetes_version != image.spec.kubernetes_version)
}

/// A control plane whose join failed is given up, and another one made in its place, a few times.
fn replace_failed_join(draft: &mut Draft<'_>, key: &NamespacedName) {
    let living = draft.clusters.get_shared(key).filter(|cluster| is_living(cluster));
    let Some(cluster) = living.cloned() else { return };
    let failed = members(draft, key).into_iter().find(|machine| {
        machine.spec.bootstrap == Bootstrap::Join
            && machine.record.failure.is_some()
            && !machine.metadata.is_deleting()
    });
    let Some(machine) = failed else { return };
    let times = cluster.record.failed_joins + 1;
    if times > FAILED_JOINS {
        return;
    }
    draft.note(
        machine.object_ref(),
        NoteKind::Notice,
        "FailedJoinReplaced",
        format!("its join failed (failure {times} of {FAILED_JOINS} in a row that are replaced): it goes, and another is made"),
    );
    removal::delete_machine(draft, &machine);
    let mut changed = Cluster::clone(&cluster);
    changed.record.failed_joins = times;
    let mut unit = Unit::default();
    unit.update(changed.clone());
    draft.clusters.insert(key.clone(), changed);
    draft.commit(unit);
}

/// Of a cluster that never was, the machine that would have begun it was deleted, and there are enough others: they wait
/// to join what nobody begins. One gives its place to another that begins.
fn replace_orphaned_join(draft: &mut Draft<'_>, key: &NamespacedName) {
    let Some(cluster) = draft.clusters.get(key).filter(|cluster| !cluster.record.initialized) else { return };
    let wanted = cluster.spec.control_plane.replicas as usize;
    let mut present = members(draft, key);
    present.retain(|machine| !machine.metadata.is_deleting());
    let waits = |machine: &Arc<Machine>| {
        machine.spec.bootstrap == Bootstrap::Join && machine.record.first_started_at.is_none()
    };
    if present.len() < wanted || !present.iter().all(waits) {
        return;
    }
    let Some(last) = present.last() else { return };
    let message =
        "no machine is left that would begin the cluster: it goes, and one that does takes its place";
    draft.note(last.object_ref(), NoteKind::Notice, "NobodyToJoin", message.to_owned());
    removal::delete_machine(draft, last);
}

/// The machine that began the cluster was deleted before its API answered, another one was made that would begin it, and
/// then the API answered after all. A cluster begins once: the second one gives its place to another that joins.
fn replace_second_beginning(draft: &mut Draft<'_>, key: &NamespacedName) {
    let is_initialized = draft.clusters.get(key).is_some_and(|cluster| cluster.record.initialized);
    let waits = |machine: &Arc<Machine>| {
        machine.spec.bootstrap == Bootstrap::Init
            && machine.record.first_started_at.is_none()
            && !machine.metadata.is_deleting()
    };
    let Some(second) = members(draft, key).into_iter().find(waits).filter(|_| is_initialized) else { return };
    let message = "the cluster has begun without it: it goes, and one that joins takes its place";
    draft.note(second.object_ref(), NoteKind::Notice, "HasBegun", message.to_owned());
    removal::delete_machine(draft, &second);
}

/// Chooses who goes where there are too many. Who never ran goes at once; of the others one at a time, the next when
/// the one before is out of etcd and gone.
fn scale_down(draft: &mut Draft<'_>, key: &NamespacedName) {
    let Some(cluster) = draft.clusters.get_shared(key).cloned() else { return };
    let wanted = cluster.spec.control_plane.replicas as usize;
    loop {
        let all = members(draft, key);
        let (going, present): (Vec<&Machine>, Vec<&Machine>) =
            all.iter().map(Arc::as_ref).partition(|machine| machine.metadata.is_deleting());
        if present.len() <= wanted {
            return;
        }
        let tell = |message: String| {
            format!("{} control planes are there and {wanted} are asked for: {message}", present.len())
        };
        let about = cluster.object_ref();
        let etcd = Etcd::of(draft.snapshot, key);
        let Some((reason, machine)) = who_goes(&present, etcd.as_ref().ok()) else { return };
        let never_ran = machine.record.first_started_at.is_none();
        if !never_ran {
            if let Some(before) = going.iter().find(|machine| machine.record.first_started_at.is_some()) {
                let message = tell(format!("they go one at a time, and {} is first", before.key()));
                return draft.note(about, NoteKind::Waiting, "OneAtATime", message);
            }
            if let Err(wait) = etcd
                && is_living(&cluster)
            {
                let message = tell(format!("who goes is decided once etcd answers; {}", wait.message));
                return draft.note(about, NoteKind::Waiting, &wait.reason, message);
            }
        }
        let message =
            tell(format!("{} goes ({reason}), out of etcd first, then its machine and disks", machine.key()));
        draft.note(about, NoteKind::Notice, "ControlPlaneScaleDown", message);
        removal::delete_machine(draft, &machine.clone());
        if !never_ran {
            return;
        }
    }
}

/// Who is missed least: who never ran, whose join failed or is under way, who is not healthy, then who shares its host
/// with most others, then the oldest.
fn who_goes<'m>(present: &[&'m Machine], etcd: Option<&Etcd<'_>>) -> Option<(&'static str, &'m Machine)> {
    const HEALTHY: u8 = 5;
    let rank = |machine: &Machine| {
        let record = &machine.record;
        if record.first_started_at.is_none() {
            // Without the one that begins the cluster, the others would have nothing to join.
            return (u8::from(machine.spec.bootstrap == Bootstrap::Init), "it never ran");
        }
        if record.failure.is_some() {
            return (2, "its join failed");
        }
        if record.joined_at.is_none() {
            return (3, "it has not joined yet");
        }
        let healthy = etcd
            .is_none_or(|etcd| etcd.member_of(machine).is_some_and(|member| etcd.ailment(member).is_none()));
        if healthy { (HEALTHY, "") } else { (4, "it is not healthy") }
    };
    let on_host =
        |machine: &Machine| present.iter().filter(|other| other.spec.host == machine.spec.host).count();
    let (index, machine) = present.iter().enumerate().min_by_key(|(index, machine)| {
        let (rank, _) = rank(machine);
        // Of those that are not in yet the last one, of the others the first one.
        let age = if rank < 4 { usize::MAX - index } else { *index };
        (rank, usize::MAX - on_host(machine), age)
    })?;
    let reason = match rank(machine) {
        (HEALTHY, _) if on_host(machine) > 1 => "it shares its host with another",
        (HEALTHY, _) if index == 0 => "it is the oldest",
        (HEALTHY, _) => "it is the oldest of those that could go",
        (_, reason) => reason,
    };
    Some((reason, *machine))
}
