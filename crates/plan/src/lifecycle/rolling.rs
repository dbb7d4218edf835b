//! Machines of another class or image than what is asked for: each is replaced, the new one first where there is room.

use std::sync::Arc;

use ashlar_api::*;

use crate::draft::Draft;
use crate::machine::wait;
use crate::{ClusterSeen, ClusterWorld, NoteKind, Snapshot, certificates, health, migration};

/// What machines are to be made of.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'w> {
    pub(super) class: &'w str,
    pub(super) image: &'w Image,
    /// Some hosts are being emptied, some certificates run out.
    pub(super) snapshot: &'w Snapshot,
}

impl Wanted<'_> {
    /// Whether a machine is made of it.
    pub(super) fn is_met_by(&self, machine: &Machine) -> bool {
        self.difference(machine).is_none()
    }

    fn difference(&self, machine: &Machine) -> Option<String> {
        let (spec, image) = (&machine.spec, &self.image);
        if spec.class != self.class {
            return Some(format!("its class changes from {} to {}", spec.class, self.class));
        }
        if spec.image.name == image.metadata.name {
            let host = self.snapshot.hosts.get(&spec.host).filter(|host| host.spec.draining);
            let emptied = host.and_then(|host| {
                let obstacle = migration::obstacle(self.snapshot, machine)?;
                let why = format!("its host {} is being emptied", host.metadata.name);
                let is_asked = host.spec.drain_by == DrainBy::Replacement;
                Some(if is_asked { why } else { format!("{why}, and it is not moved alive: {obstacle}") })
            });
            let is_wished = machine.record.replacement_asked_at.is_some();
            let wished = || is_wished.then(|| "somebody asked for that".to_owned());
            return emptied.or_else(wished).or_else(|| {
                let run_out_at = certificates::run_out_at(machine)?;
                let is_due = certificates::are_due(machine, self.snapshot.now);
                is_due.then(|| format!("its certificates run out at {run_out_at}"))
            });
        }
        let (from, to) = (&spec.image.kubernetes_version, &image.spec.kubernetes_version);
        Some(if from == to {
            format!("its image changes from {} to {}", spec.image.name, image.metadata.name)
        } else {
            format!("its version changes from {from} to {to}")
        })
    }
}

/// Tells each machine's fate before anything happens.
pub(super) fn announce(draft: &mut Draft<'_>, present: &[Arc<Machine>], wanted: Wanted<'_>) {
    for machine in present {
        let Some(difference) = wanted.difference(machine) else { continue };
        let message =
            format!("{difference}: another machine takes its place, in its turn, and its disks go with it");
        draft.note(machine.object_ref(), NoteKind::Notice, "Replaced", message);
    }
}

/// Why a machine's node is not healthy, if it is not.
pub(super) fn node_ailment(snapshot: &Snapshot, world: &ClusterWorld, machine: &Machine) -> Option<String> {
    let config = &machine.spec.node;
    match world.nodes.get(&config.name).filter(|node| node.provider_id == config.provider_id) {
        None => Some("it has no node".to_owned()),
        Some(node) if !node.ready && config.cni != Cni::None => {
            Some(format!("its node is not Ready: {}", node.message))
        }
        Some(node) => health::silence(snapshot, world, node)
            .map(|since| format!("its kubelet has not renewed its lease since {since}")),
    }
}

/// What is held while a machine is not well.
pub(crate) const ROLLOUT_GOES_ON: &str = "the rollout goes on";

/// Holds a rollout at the first machine that is not well: among the new ones, and of control planes among all.
pub(super) fn is_stopped(draft: &mut Draft<'_>, cluster: &Cluster, about: &[Arc<Machine>]) -> bool {
    let why = ROLLOUT_GOES_ON;
    let world = match draft.snapshot.observed.clusters.get(&cluster.key()) {
        Some(ClusterSeen::Seen(world)) => world,
        _ => {
            let message = format!("the API of {} does not answer", cluster.key());
            draft.hold(cluster.object_ref(), why.to_owned(), wait("ApiNotAnswering", message));
            return true;
        }
    };
    let sick = about.iter().find_map(|machine| {
        let ailment = match &machine.record.failure {
            Some(failure) => Some(failure.message.clone()),
            None if machine.record.joined_at.is_some() => node_ailment(draft.snapshot, world, machine),
            None => None,
        };
        Some((machine.key(), ailment?))
    });
    let Some((machine, ailment)) = sick else { return false };
    let message = format!("no further machine is replaced before {machine} is healthy: {ailment}");
    draft.hold(cluster.object_ref(), why.to_owned(), wait("RolloutStopped", message));
    true
}

/// Says that a rollout rests. That of a stopped cluster does too, and needs no word: nobody there could be asked.
pub(super) fn is_paused(draft: &mut Draft<'_>, cluster: &Cluster) -> bool {
    if cluster.record.stopped {
        return true;
    }
    if cluster.spec.paused {
        let message = format!(
            "no further machine is replaced before `ashlar cluster resume {}`",
            cluster.metadata.name
        );
        draft.note(cluster.object_ref(), NoteKind::Notice, "Paused", message);
    }
    cluster.spec.paused
}

/// What becomes of a group in this pass.
pub(super) struct Next {
    /// Those that go.
    pub(super) go: Vec<Arc<Machine>>,
    /// How many there are to be, with those that are there more than asked for meanwhile.
    pub(super) wanted: u32,
}

/// The next step of a group some of whose machines are not what is wanted: never more than `maxSurge` above, never
/// fewer that work than `maxUnavailable` below what is asked for.
pub(super) fn next(
    draft: &mut Draft<'_>,
    (group, cluster): (&WorkerGroup, &Cluster),
    (present, going): (&[Arc<Machine>], &[Arc<Machine>]),
    replicas: u32,
    wanted: Wanted<'_>,
) -> Next {
    let have = count(present.len());
    let (current, outdated): (Vec<Arc<Machine>>, Vec<Arc<Machine>>) =
        present.iter().cloned().partition(|machine| wanted.is_met_by(machine));
    // Too many: the newest of what is wanted, after all others.
    if outdated.is_empty() {
        let surplus = have.saturating_sub(replicas) as usize;
        return Next { go: current.into_iter().rev().take(surplus).collect(), wanted: replicas };
    }
    if group.spec.replicas.is_none() {
        let message = format!(
            "machines of another class or version than {} and {}, or on hosts that are being emptied, stay: the group has no number of replicas, so that nobody can \
             tell a replacement from growth; set spec.replicas to have them replaced",
            wanted.class, wanted.image.spec.kubernetes_version
        );
        draft.note(group.object_ref(), NoteKind::Notice, "NotReplaced", message);
        return Next { go: Vec::new(), wanted: replicas };
    }
    let Rollout { max_surge, max_unavailable } = group.spec.rollout;
    let total = have + count(going.len());
    if is_paused(draft, cluster) || is_stopped(draft, cluster, &current) {
        // Fewer are wanted, whatever they are made of.
        let surplus = have.saturating_sub(replicas + max_surge) as usize;
        return Next { go: outdated.into_iter().take(surplus).collect(), wanted: replicas };
    }
    let works =
        |machine: &Arc<Machine>| machine.record.joined_at.is_some() && machine.record.failure.is_none();
    let working = count(present.iter().filter(|machine| works(machine)).count());
    // Who does not work is missed by nobody, and goes first.
    let (well, sick): (Vec<Arc<Machine>>, Vec<Arc<Machine>>) = outdated.into_iter().partition(works);
    let may_go = working.saturating_sub(replicas.saturating_sub(max_unavailable)) as usize;
    let outdated = well.len() + sick.len();
    let go: Vec<Arc<Machine>> = sick.into_iter().chain(well.into_iter().take(may_go)).collect();
    let left = have - count(go.len());
    let room = (replicas + max_surge).saturating_sub(total);
    let more = room.min(replicas.saturating_sub(count(current.len())));
    if go.is_empty() && more == 0 && outdated > 0 {
        let open = current.iter().find(|machine| machine.record.joined_at.is_none());
        if let Some(other) = open.or(going.first()) {
            let verb = if open.is_some() { "joins" } else { "goes" };
            let message = format!("machines are replaced in turn: {} {verb} first", other.key());
            draft.note(group.object_ref(), NoteKind::Waiting, "InTurn", message);
        }
    }
    Next { go, wanted: left + more }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
