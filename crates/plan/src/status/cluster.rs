//! Counts and conditions of clusters and groups.

use ashlar_api::*;

use super::{Judged, Judgement, RESOLVED_REFS, hold_text, warn};
use crate::lost;
use crate::{ClusterSeen, EtcdSeen, EtcdWorld, Step, StepState};

pub(super) fn group(judged: &Judged<'_>, group: &WorkerGroup) -> WorkerGroupStatus {
    let mut status = group.status.clone();
    let cluster = NamespacedName::new(&group.metadata.namespace, &group.spec.cluster);
    let members =
        || judged.machines_of(&cluster).iter().filter(|machine| machine.spec.group == group.metadata.name);
    let ready = members().filter(|machine| judged.is_ready(machine)).count();
    let wanted = group.spec.replicas.map_or_else(|| members().count(), |replicas| replicas as usize);
    status.ready_replicas = u32::try_from(ready).unwrap_or(u32::MAX);
    let hold =
        judged.holds_of(&cluster).iter().copied().find(|step| is_group_member(&step.object, &group.metadata));
    counted("Ready", ready, wanted, members().count(), hold).set(
        &mut status.conditions,
        judged.snapshot.now,
        group.metadata.generation,
    );
    let missing = lost::of_group(judged.snapshot, group);
    warn(RESOLVED_REFS, missing, &mut status.conditions, judged.snapshot.now, group.metadata.generation);
    status
}

/// Machines that have no host yet are only names.
fn is_group_member(object: &ObjectRef, group: &ObjectMeta) -> bool {
    object.kind == Kind::Machine
        && object.namespace == group.namespace
        && object
            .name
            .strip_prefix(&group.name)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A condition about so many of so many.
fn counted(kind: &'static str, ready: usize, wanted: usize, there: usize, hold: Option<&Step>) -> Judgement {
    if ready >= wanted && there == ready {
        return Judgement::new(kind, ConditionStatus::True, "AllReady", "");
    }
    let mut message = format!("{ready} of {} machines are ready", wanted.max(there));
    let mut reason = "MachinesNotReady".to_owned();
    if let Some(step) = hold {
        let (hold_reason, hold_message) = hold_text(step);
        message = format!("{message}; {}: {hold_message}", step.object);
        if matches!(step.state, StepState::Blocked(_)) || hold_reason == "Unschedulable" {
            reason = hold_reason.to_owned();
        }
    }
    Judgement::new(kind, ConditionStatus::False, &reason, message)
}

pub(super) fn cluster(judged: &Judged<'_>, cluster: &Cluster) -> ClusterStatus {
    let mut status = cluster.status.clone();
    let (key, now, generation) = (cluster.key(), judged.snapshot.now, cluster.metadata.generation);
    let machines = judged.machines_of(&key);
    let ready = machines.iter().filter(|machine| judged.is_ready(machine)).count();
    status.machines = u32::try_from(machines.len()).unwrap_or(u32::MAX);
    status.ready_machines = u32::try_from(ready).unwrap_or(u32::MAX);
    if let Some(judgement) = control_plane(judged, cluster) {
        judgement.set(&mut status.conditions, now, generation);
    }
    match etcd(judged, cluster) {
        Some(judgement) => judgement.set(&mut status.conditions, now, generation),
        // One member alone is not asked, and lives as long as the API answers.
        None if cluster.spec.control_plane.replicas == 1 => {
            status.conditions.retain(|condition| condition.kind != ETCD_HEALTHY);
        }
        None => {}
    }
    if let Some(judgement) = up_to_date(judged, cluster) {
        judgement.set(&mut status.conditions, now, generation);
    }
    overall(judged, cluster, ready).set(&mut status.conditions, now, generation);
    let missing = lost::of_cluster(judged.snapshot, cluster);
    warn(RESOLVED_REFS, missing, &mut status.conditions, now, generation);
    status
}

const UP_TO_DATE: &str = "UpToDate";

/// How far a rollout is, and what holds it up; none in a cluster that never had one.
fn up_to_date(judged: &Judged<'_>, cluster: &Cluster) -> Option<Judgement> {
    let machines = judged.machines_of(&cluster.key());
    let version = &cluster.spec.kubernetes_version;
    let is_behind = |machine: &&&Machine| {
        let group = NamespacedName::new(&machine.metadata.namespace, &machine.spec.group);
        let class = match (machine.spec.role, judged.snapshot.groups.get(&group)) {
            (MachineRole::ControlPlane, _) => &cluster.spec.control_plane.class,
            // Of a group without a number none is replaced.
            (MachineRole::Worker, Some(group)) if group.spec.replicas.is_some() => &group.spec.class,
            (MachineRole::Worker, _) => return false,
        };
        machine.spec.class != *class || machine.spec.image.kubernetes_version != *version
    };
    let behind = machines.iter().filter(is_behind).count();
    if behind == 0 {
        let had_one = cluster.status.conditions.iter().any(|condition| condition.kind == UP_TO_DATE);
        return had_one.then(|| Judgement::new(UP_TO_DATE, ConditionStatus::True, "AllCurrent", ""));
    }
    let mut message = format!(
        "{} of {} machines are of {version} and of the class that is asked for",
        machines.len() - behind,
        machines.len()
    );
    let about = cluster.object_ref();
    let hold = judged.holds_of(&cluster.key()).iter().find(|step| step.object == about);
    let reason = match hold.map(|step| hold_text(step)) {
        _ if cluster.spec.paused => "Paused",
        Some((reason, why)) => {
            message = format!("{message}; {why}");
            reason
        }
        None => "RollingOut",
    };
    Some(Judgement::new(UP_TO_DATE, ConditionStatus::False, reason, message))
}

fn control_plane(judged: &Judged<'_>, cluster: &Cluster) -> Option<Judgement> {
    let kind = "ControlPlaneReady";
    match judged.snapshot.observed.clusters.get(&cluster.key()) {
        // Not asked: what was said before stays, unless nothing was.
        None if cluster.status.conditions.iter().any(|condition| condition.kind == kind) => None,
        None => Some(Judgement::new(kind, ConditionStatus::Unknown, "NotObserved", "")),
        Some(ClusterSeen::Unreachable { reason }) => Some(Judgement::new(
            kind,
            ConditionStatus::False,
            "ApiNotAnswering",
            format!("the API does not answer: {reason}"),
        )),
        Some(ClusterSeen::NotOurs { reason }) => {
            let lost = lost::api_of_another(cluster, reason);
            Some(Judgement::new(kind, ConditionStatus::False, lost.reason, lost.message))
        }
        Some(ClusterSeen::Seen(_)) => {
            let members = judged
                .machines_of(&cluster.key())
                .iter()
                .filter(|machine| machine.spec.role == MachineRole::ControlPlane);
            let there = members.clone().count();
            let ready = members.filter(|machine| judged.is_ready(machine)).count();
            let wanted = cluster.spec.control_plane.replicas as usize;
            Some(counted(kind, ready, wanted, there, None))
        }
    }
}

const ETCD_HEALTHY: &str = "EtcdHealthy";

/// What etcd's members said; none if they were not asked.
fn etcd(judged: &Judged<'_>, cluster: &Cluster) -> Option<Judgement> {
    let judgement =
        |status, reason: &str, message: String| Some(Judgement::new(ETCD_HEALTHY, status, reason, message));
    let world = match judged.snapshot.observed.etcd.get(&cluster.key())? {
        EtcdSeen::Seen(world) if world.members.len() > 1 => world,
        EtcdSeen::Seen(_) => return None,
        EtcdSeen::Unreachable { .. } if cluster.spec.control_plane.replicas == 1 => return None,
        EtcdSeen::Unreachable { reason } => {
            return judgement(ConditionStatus::False, "NoMajority", format!("no majority answers: {reason}"));
        }
    };
    let voters = world.members.values().filter(|member| !member.is_learner);
    if let Some(machine) = without_member(judged, cluster, world) {
        let name = &machine.metadata.name;
        return judgement(
            ConditionStatus::False,
            "MemberMissing",
            format!(
                "{name} has joined and is no member of etcd any more: somebody removed it, and it cannot come back. \
                 `ashlar delete machine {name}` has another made in its place"
            ),
        );
    }
    let sick: Vec<String> = voters
        .clone()
        .filter_map(|member| {
            let ailment = match world.nodes.get(&member.name) {
                Some(Ok(status)) => status.ailment_as(member)?,
                Some(Err(reason)) => reason.clone(),
                None => "it was not asked".to_owned(),
            };
            Some(format!("{}: {ailment}", member.name))
        })
        .collect();
    let (all, learners) = (voters.count(), world.members.values().filter(|member| member.is_learner).count());
    if sick.is_empty() && learners == 0 {
        return judgement(ConditionStatus::True, "AllHealthy", format!("{all} voters"));
    }
    let learners = if learners == 0 { String::new() } else { format!("; {learners} not voting yet") };
    let message = format!("{} of {all} voters are healthy{learners}; {}", all - sick.len(), sick.join("; "));
    let status = if sick.is_empty() { ConditionStatus::True } else { ConditionStatus::False };
    judgement(status, if sick.is_empty() { "Changing" } else { "MembersNotHealthy" }, message)
}

/// A control plane that joined, is to stay, and that no member of etcd is.
fn without_member<'p>(judged: &Judged<'p>, cluster: &Cluster, world: &EtcdWorld) -> Option<&'p Machine> {
    judged.machines_of(&cluster.key()).iter().copied().find(|machine| {
        machine.spec.role == MachineRole::ControlPlane
            && machine.record.joined_at.is_some()
            && !machine.metadata.is_deleting()
            && !world.members.values().any(|member| member.is_of(machine))
    })
}

fn overall(judged: &Judged<'_>, cluster: &Cluster, ready: usize) -> Judgement {
    let key = cluster.key();
    if cluster.metadata.is_deleting() {
        return Judgement::new("Ready", ConditionStatus::False, "Deleting", "");
    }
    if cluster.record.stopped {
        return Judgement::new("Ready", ConditionStatus::False, "Stopped", "");
    }
    let machines = judged.machines_of(&key);
    let workers: usize = judged
        .groups_of(&key)
        .iter()
        .map(|group| {
            let there = machines.iter().filter(|machine| machine.spec.group == group.metadata.name).count();
            group.spec.replicas.map_or(there, |replicas| replicas as usize)
        })
        .sum();
    let wanted = cluster.spec.control_plane.replicas as usize + workers;
    let holds = judged.holds_of(&key);
    // What only a person can mend comes first.
    let hold =
        holds.iter().find(|step| matches!(step.state, StepState::Blocked(_))).or(holds.first()).copied();
    let judgement = counted("Ready", ready, wanted, machines.len(), hold);
    match hold {
        Some(step) if judgement.status == ConditionStatus::True => {
            let (reason, message) = hold_text(step);
            Judgement::new("Ready", ConditionStatus::Unknown, reason, message)
        }
        _ => judgement,
    }
}
