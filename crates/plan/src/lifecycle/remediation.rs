//! Machines that are not well for too long are replaced under new names: few at a time, more and more seldom, and only
//! where what was seen leaves no doubt.

use std::sync::Arc;

use ashlar_api::*;
use jiff::{SignedDuration, Timestamp};

use super::{ailments, control_plane, removal, rolling, wiping};
use crate::draft::{Draft, Unit};
use crate::etcd::{Change, Etcd};
use crate::health::{self, Health};
use crate::machine::{block, wait};
use crate::{ClusterSeen, Guard, NoteKind, StepState, lost};

/// Decides for each machine of the cluster that is not well: it is waited for, replaced now, or left to a person.
pub(super) fn of_cluster(draft: &mut Draft<'_>, key: &NamespacedName, image: &Image) {
    let Some(cluster) = draft.clusters.get(key).filter(|cluster| health::is_judged(cluster)).cloned() else {
        return;
    };
    // A person who lets changes rest does not want machines exchanged either.
    if !cluster.spec.health.remediate || cluster.spec.paused {
        return;
    }
    let ill: Vec<Arc<Machine>> = draft
        .machines_of(key)
        .into_iter()
        .filter(|machine| machine.record.ailment.is_some() && !machine.metadata.is_deleting())
        .cloned()
        .collect();
    for machine in &ill {
        let Some(ailment) = &machine.record.ailment else { continue };
        let judged = health::judge(draft.snapshot, machine);
        // What a daemon sees over time, one look does not: that it waits for something is said all the same.
        if judged == Health::Unknown && ailment.kind == AilmentKind::KubeletSilent {
            let since = ailment.since;
            let message = format!(
                "its kubelet was silent from {since} on, as was seen before; whether it still is takes a second look"
            );
            draft.note(machine.object_ref(), NoteKind::Notice, "KubeletSilent", message);
        }
        let Health::Sick(kind, message) = judged else { continue };
        if kind != ailment.kind {
            continue;
        }
        let verdict = if was_due(draft, machine) {
            let scene = Scene::of(draft, &cluster, machine, image);
            scene.verdict(draft, machine, ailment)
        } else {
            let patience = SignedDuration::from_secs(cluster.spec.health.patience_s(kind).into());
            let at = ailments::count(ailment).over_at(ailment.since, patience, draft.snapshot.now);
            Err(wait("NotHealthy", format!("{message}; {}", if_it_stays_so(&cluster, machine, at))))
        };
        match verdict {
            Ok(()) => replace(draft, &cluster, machine, kind, message),
            Err(hold) => {
                // Who is waited for needs no person yet.
                if matches!(hold, StepState::Waiting(_)) {
                    draft.waited_for.insert(machine.key());
                }
                let hold = told(hold, machine);
                draft.hold(machine.object_ref(), format!("{} is well", machine.key()), hold);
            }
        }
    }
}

/// The last quarter of the patience has to be in the store before anything comes of it.
fn was_due(draft: &Draft<'_>, machine: &Machine) -> bool {
    let read = draft.snapshot.machines.get(&machine.key()).and_then(|read| read.record.ailment.as_ref());
    // Patience with one ailment is none with the next.
    let is_same = |now: &&Ailment| read.is_some_and(|read| now.kind == read.kind && read.is_due());
    machine.record.ailment.as_ref().filter(is_same).is_some_and(Ailment::is_due)
}

fn if_it_stays_so(cluster: &Cluster, machine: &Machine, at: Timestamp) -> String {
    if is_only_control_plane(cluster, machine) {
        return "nothing replaces the only control plane by itself".to_owned();
    }
    format!("if it stays so until {at}, another machine takes its place (spec.health)")
}

fn is_only_control_plane(cluster: &Cluster, machine: &Machine) -> bool {
    machine.spec.role == MachineRole::ControlPlane && cluster.spec.control_plane.replicas == 1
}

/// Adds the machine's name where it is spoken of by others.
fn told(state: StepState, machine: &Machine) -> StepState {
    match state {
        StepState::Blocked(mut block) => {
            block.message = format!("{}: {}", machine.object_ref(), block.message);
            StepState::Blocked(block)
        }
        other => other,
    }
}

fn replace(draft: &mut Draft<'_>, cluster: &Cluster, machine: &Machine, kind: AilmentKind, message: String) {
    let how = match kind {
        AilmentKind::HostOff => {
            "another machine takes its place, and what is left of it goes when its host answers again"
        }
        _ => "for longer than its patience: it goes with its disks, and another machine takes its place",
    };
    draft.note(machine.object_ref(), NoteKind::Notice, "Remediated", format!("{message}: {how}"));
    let mut going = Machine::clone(machine);
    going.record.remediation = Some(Remediation { kind, message });
    // All in one commit: who goes is counted, and only as long as nothing of this has changed.
    let mut unit = removal::deletion(draft, &going);
    match kind {
        AilmentKind::HostOff => still_off(draft, &mut unit, machine),
        // That a host died says nothing of those whose hosts did not.
        _ => count(draft, &mut unit, cluster, machine),
    }
    removal::check_owners(draft, &mut unit, machine);
    draft.commit(unit);
}

/// Counts it in the incident of its cluster's control planes, or of its group.
fn count(draft: &mut Draft<'_>, unit: &mut Unit, cluster: &Cluster, machine: &Machine) {
    let now = draft.snapshot.now;
    match machine.spec.role {
        MachineRole::ControlPlane => {
            let Some(mut changed) = draft.clusters.get(&cluster.key()).cloned() else { return };
            changed.record.incident = Some(next(changed.record.incident.as_ref(), cluster, machine, now));
            unit.update(changed.clone());
            draft.clusters.insert(changed.key(), changed);
        }
        MachineRole::Worker => {
            let key = NamespacedName::new(&machine.metadata.namespace, &machine.spec.group);
            let Some(mut changed) = draft.groups.get(&key).cloned() else { return };
            changed.record.incident = Some(next(changed.record.incident.as_ref(), cluster, machine, now));
            unit.update(changed.clone());
            draft.groups.insert(key, changed);
        }
    }
}

/// The proof counts as long as nobody heard of the host.
fn still_off(draft: &Draft<'_>, unit: &mut Unit, machine: &Machine) {
    if let Some(host) = draft.hosts.get(&machine.spec.host) {
        unit.check(host.object_ref(), &host.metadata.resource_version);
    }
}

/// The incident with one machine more.
fn next(before: Option<&Incident>, cluster: &Cluster, machine: &Machine, now: Timestamp) -> Incident {
    let replaced = before.filter(|before| is_same(before, cluster, machine)).map_or(0, |same| same.replaced);
    Incident { replaced: replaced + 1, last_at: now }
}

/// Whether the machine fell ill in the incident: so soon after the last replacement that they have to do with each other.
fn is_same(incident: &Incident, cluster: &Cluster, machine: &Machine) -> bool {
    let quiet = SignedDuration::from_secs(cluster.spec.health.incident_s.into());
    let since = machine.record.ailment.as_ref().map(|ailment| ailment.since);
    since.is_some_and(|since| since.duration_since(incident.last_at) < quiet)
}

/// A machine that is to be replaced, and those beside it.
struct Scene {
    cluster: Cluster,
    group: Option<WorkerGroup>,
    /// Those that stay, itself among them.
    present: Vec<Arc<Machine>>,
    going: Vec<Arc<Machine>>,
    /// Some are of another version or class than what is asked for.
    outdated: Option<NamespacedName>,
}

type Verdict = Result<(), StepState>;

impl Scene {
    fn of(draft: &Draft<'_>, cluster: &Cluster, machine: &Machine, image: &Image) -> Self {
        let key = cluster.key();
        let is_worker = machine.spec.role == MachineRole::Worker;
        let group = draft.groups.get(&NamespacedName::new(&key.namespace, &machine.spec.group)).cloned();
        let beside: Vec<Arc<Machine>> = if is_worker {
            let machines = draft.machines_of(&key).into_iter();
            let is_beside = |other: &&Arc<Machine>| {
                other.spec.group == machine.spec.group && !wiping::is_past(draft, other)
            };
            machines.filter(is_beside).cloned().collect()
        } else {
            control_plane::members(draft, &key)
        };
        let (mut going, present): (Vec<Arc<Machine>>, Vec<Arc<Machine>>) =
            beside.into_iter().partition(|machine| machine.metadata.is_deleting());
        // Those that this very plan sees gone are in the store until that is committed, and another's commit may prevent it.
        let is_beside = |other: &&Arc<Machine>| {
            other.spec.role == machine.spec.role && (!is_worker || other.spec.group == machine.spec.group)
        };
        going.extend(draft.removed_of(&key).into_iter().filter(is_beside).cloned());
        let class = match &group {
            Some(group) if is_worker => group.spec.class.as_str(),
            _ => cluster.spec.control_plane.class.as_str(),
        };
        let wanted = rolling::Wanted { class, image, snapshot: draft.snapshot };
        let outdated = present.iter().find(|machine| !wanted.is_met_by(machine)).map(|machine| machine.key());
        Scene { cluster: cluster.clone(), group, present, going, outdated }
    }

    fn verdict(&self, draft: &Draft<'_>, machine: &Machine, ailment: &Ailment) -> Verdict {
        let key = self.cluster.key();
        let Some(ClusterSeen::Seen(api)) = draft.snapshot.observed.clusters.get(&key) else {
            let message = format!("nobody is replaced while the API of {key} does not answer");
            return Err(wait("ApiNotAnswering", message));
        };
        if let Some(doubt) = doubt(draft) {
            let message = format!("nobody is replaced while the store may be an old one: {doubt}");
            return Err(block("StoreInDoubt", message));
        }
        let is_off = ailment.kind == AilmentKind::HostOff;
        if machine.spec.role == MachineRole::Worker && !is_off && health::no_controllers(api) {
            let message = format!(
                "no kube-controller-manager of {key} is Ready: pods that are evicted would come back nowhere, and no node could \
                 join in its place"
            );
            return Err(wait("NoControllers", message));
        }
        // A rollout would wait for it.
        if let Some(other) = self.outdated.as_ref().filter(|_| !is_off) {
            let message = format!(
                "a rollout is under way ({other} is to be replaced), and nobody is replaced for its health \
                 meanwhile: `ashlar machine replace` does it at once"
            );
            return Err(wait("RolloutFirst", message));
        }
        let incident = match machine.spec.role {
            MachineRole::Worker => {
                self.worker(machine, is_off)?;
                self.group.as_ref().and_then(|group| group.record.incident.as_ref())
            }
            MachineRole::ControlPlane => {
                self.control_plane(draft, machine, is_off)?;
                self.cluster.record.incident.as_ref()
            }
        };
        let incident = incident.filter(|incident| !is_off && is_same(incident, &self.cluster, machine));
        incident.map_or(Ok(()), |incident| self.backoff(draft, incident, ailment))
    }

    fn worker(&self, machine: &Machine, is_off: bool) -> Verdict {
        let replicas = self.group.as_ref().and_then(|group| group.spec.replicas);
        let Some(replicas) = replicas else {
            let message = "it is not well, and its group has no number of replicas, so that it would only shrink: set \
                           spec.replicas, or mend or delete the machine";
            return Err(block("NoReplicas", message));
        };
        // Limits keep those that may yet be well. Nobody works on a host that is off.
        if is_off || !Guard::RemediationLimits.stands() {
            return Ok(());
        }
        // One whose first boot failed in this very pass has no ailment on record yet, and is not well either.
        let is_ill =
            |machine: &&Arc<Machine>| machine.record.ailment.is_some() || machine.record.failure.is_some();
        let ill = self.present.iter().filter(is_ill).count();
        if ill == self.present.len() && ill > 1 {
            let message = format!(
                "all {ill} machines of its group are not well, so that what ails them is not their own: nobody is replaced. Look \
                 at the pod network, the hosts' network and the clocks; `ashlar machine replace` replaces one all the same"
            );
            return Err(block("AllNotHealthy", message));
        }
        let limit = limit(replicas, self.cluster.spec.health.max_percent);
        let coming: Vec<&Arc<Machine>> = self.present.iter().filter(|machine| is_coming(machine)).collect();
        let busy = self.going.len().max(coming.len());
        if busy >= limit {
            let other = self.going.first().or(coming.first().copied()).map_or(machine, Arc::as_ref);
            let ill = ill + self.going.len();
            let message = format!(
                "{ill} of {replicas} machines go or are not well, and at most {}% of a group, here {limit}, are replaced at a time: \
                 {} is first",
                self.cluster.spec.health.max_percent,
                other.key()
            );
            return Err(wait("InTurn", message));
        }
        self.complete(replicas)
    }

    /// A replacement that found no place leaves no room for another. Where there are too many, those that go are chosen
    /// first, and who is not well is the first of them.
    fn complete(&self, replicas: u32) -> Verdict {
        let there = self.present.len();
        if there == replicas as usize {
            return Ok(());
        }
        if there > replicas as usize {
            let message = format!("there are {there} machines, and {replicas} are asked for: some go first");
            return Err(wait("ScaleDownFirst", message));
        }
        let message = format!("there are {there} of {replicas} machines: those that lack come first");
        Err(wait("ReplacementFirst", message))
    }

    fn control_plane(&self, draft: &Draft<'_>, machine: &Machine, is_off: bool) -> Verdict {
        if is_only_control_plane(&self.cluster, machine) {
            return Err(block("OnlyControlPlane", only(machine)));
        }
        // It stands still for a moment at the end, and is lost if both of its hosts fail.
        let is_moved =
            |other: &&Arc<Machine>| other.record.migration.is_some() && !is_same_machine(other, machine);
        if let Some(other) = self.present.iter().find(is_moved) {
            let message =
                format!("control planes change one at a time: {} moves to another host first", other.key());
            return Err(wait("OneAtATime", message));
        }
        let etcd = Etcd::of(draft.snapshot, &self.cluster.key()).map_err(StepState::Waiting)?;
        if let Some(member) = etcd.member_of(machine) {
            etcd.allows(Change::Remove(member.id)).map_err(|why| {
                block(
                    "EtcdQuorum",
                    format!("{why}: nobody is taken out. Mend a control plane, or restore from a snapshot"),
                )
            })?;
        }
        if !Guard::RemediationLimits.stands() {
            return Ok(());
        }
        let is_coming =
            |other: &&Arc<Machine>| other.record.joined_at.is_none() && !is_same_machine(other, machine);
        let moving = self.going.first().or(self.present.iter().find(is_coming));
        if let Some(other) = moving {
            let message = format!("control planes are replaced one at a time: {} is first", other.key());
            return Err(wait("OneAtATime", message));
        }
        self.complete(self.cluster.spec.control_plane.replicas)?;
        for other in self.present.iter().filter(|other| other.key() != machine.key()) {
            match health::judge(draft.snapshot, other) {
                Health::Well => {}
                Health::Unknown | Health::Off => {
                    let message = format!(
                        "nobody knows whether {} is well, and one has to be sure of the others",
                        other.key()
                    );
                    return Err(wait("OthersUnknown", message));
                }
                // Of hosts that are off, each costs one member; etcd's majority was asked above.
                Health::Sick(AilmentKind::HostOff, _) if is_off => {}
                Health::Sick(_, message) => {
                    let message = format!(
                        "it is not well, and neither is {} ({message}): a control plane is replaced while all others are well. \
                         Mend one of them; `ashlar machine replace` replaces one as far as etcd's majority allows",
                        other.key()
                    );
                    return Err(block("OthersNotHealthy", message));
                }
            }
        }
        Ok(())
    }

    fn backoff(&self, draft: &Draft<'_>, incident: &Incident, ailment: &Ailment) -> Verdict {
        if !Guard::RemediationLimits.stands() {
            return Ok(());
        }
        let health = &self.cluster.spec.health;
        if incident.replaced >= health.max_replaced {
            let message = format!(
                "it has not been well since {}, and {} machines were replaced in this incident already, the last one at {}: a further \
                 one would not help. Find out what ails them; `ashlar machine replace` goes on",
                ailment.since, incident.replaced, incident.last_at
            );
            return Err(block("RemediationLimit", message));
        }
        // A first boot that failed after one that failed is kept twice as long.
        let (first_s, doublings) = match ailment.kind {
            AilmentKind::FirstBootFailed => (health.first_boot_failed_s, incident.replaced),
            _ => (health.backoff_s, incident.replaced.saturating_sub(1)),
        };
        let pause = SignedDuration::from_secs(i64::from(first_s).saturating_mul(1_i64 << doublings.min(16)));
        let next = incident.last_at.saturating_add(pause).unwrap_or(Timestamp::MAX);
        if draft.snapshot.now >= next {
            return Ok(());
        }
        let message = format!(
            "the last one was replaced at {} (number {} of at most {} in this incident): the next not before {next}",
            incident.last_at, incident.replaced, health.max_replaced
        );
        Err(wait("Backoff", message))
    }
}

fn is_same_machine(one: &Machine, other: &Machine) -> bool {
    one.key() == other.key()
}

/// Made, and not there yet.
fn is_coming(machine: &Machine) -> bool {
    machine.record.joined_at.is_none() && machine.record.failure.is_none()
}

/// How many of a group may be on their way out at a time.
fn limit(replicas: u32, percent: u32) -> usize {
    let share = u64::from(replicas) * u64::from(percent) / 100;
    usize::try_from(share.max(1)).unwrap_or(usize::MAX)
}

/// What can be done about the only control plane.
fn only(machine: &Machine) -> String {
    let name = &machine.metadata.name;
    let lost = machine.record.ailment.as_ref().is_some_and(|ailment| ailment.kind == AilmentKind::DiskLost);
    let more = if lost {
        "Bring the file back to its place, or restore etcd from a snapshot into a new cluster".to_owned()
    } else {
        format!(
            "Look at it (`ashlar console {name}`, `ashlar ssh {name}`), restart its kubelet or its VM; while its API answers, \
             `ashlar machine replace {name}` makes another one beside it first"
        )
    };
    format!(
        "it is the only control plane and not well, and what is in its etcd is nowhere else: it is never replaced by itself. {more}"
    )
}

/// Domains of ours that the store does not know: it may be an old one, and then machines that it misses are no sick ones.
fn doubt(draft: &Draft<'_>) -> Option<String> {
    if let Some(lost) = lost::store_is_behind(draft.snapshot) {
        return Some(lost.message);
    }
    let recorded = lost::recorded_domains(draft.snapshot);
    let hosts = draft.snapshot.hosts.keys();
    hosts.into_iter().find_map(|host| {
        let lost = lost::of_host(draft.snapshot, &recorded, host)?;
        Some(format!("host {host}: {}", lost.message))
    })
}
