//! No step leaves an etcd cluster with fewer healthy voters than a majority; one change of its members at a time.
//!
//! Written without the planner's own judgement of members and arithmetic, so that a mistake there is found here.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use jiff::SignedDuration;

use super::{Findings, Projected};
use crate::{Action, Decision, EtcdSeen, EtcdWorld, Guard, Plan, Snapshot, StepState};

/// No defragmentation of a member is waited for longer.
const DEFRAGMENTATION: SignedDuration = SignedDuration::from_mins(10);

/// What a plan does at once to one cluster's control planes.
#[derive(Default)]
struct Changes {
    /// Machines that are started to join.
    joins: BTreeSet<NamespacedName>,
    /// Machines whose members are taken out.
    removals: BTreeSet<NamespacedName>,
    /// Machines that are turned off or lose something, without having left etcd earlier in the plan.
    hits: BTreeSet<NamespacedName>,
    /// Who gets the leadership.
    heirs: BTreeSet<NamespacedName>,
    /// Machines that are moved alive: they stand still for a moment.
    moves: BTreeSet<NamespacedName>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        [&self.joins, &self.removals, &self.hits, &self.heirs, &self.moves]
            .iter()
            .all(|machines| machines.is_empty())
    }
}

impl Changes {
    fn is_only_moves(&self) -> bool {
        [&self.joins, &self.removals, &self.hits, &self.heirs].iter().all(|machines| machines.is_empty())
    }
}

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    for decision in plan.decisions.iter().flatten() {
        let Decision::Update(Object::Machine(machine)) = decision else { continue };
        let read = snapshot.machines.get(&machine.key());
        if machine.record.left_etcd && read.is_none_or(|read| !read.record.left_etcd) {
            left(snapshot, projected, machine, findings);
        }
    }
    let mut clusters: BTreeMap<NamespacedName, Changes> = BTreeMap::new();
    for step in plan.steps.iter().filter(|step| step.state == StepState::Ready) {
        let Some(action) = &step.action else { continue };
        let Some(key) = machine_of(action, projected) else { continue };
        let Some(machine) = projected.machines.get(&key) else { continue };
        let Some(cluster) = projected.cluster_of(machine) else { continue };
        // A cluster that goes, or is turned off as a whole, has no quorum to keep.
        let is_free = cluster.metadata.is_deleting() || cluster.record.stopped || !cluster.record.initialized;
        if machine.spec.role != MachineRole::ControlPlane || is_free {
            continue;
        }
        let disturbs = matches!(
            action,
            Action::ShutdownDomain { .. }
                | Action::DestroyDomain { .. }
                | Action::MigrateDomain { .. }
                | Action::RemoveEtcdMember { .. }
                | Action::MoveEtcdLeader { .. }
        );
        let is_defragmented = cluster.record.defragmenting.as_ref().is_some_and(|it| {
            it.until > snapshot.now && it.until.duration_since(snapshot.now) <= DEFRAGMENTATION
        });
        if disturbs && is_defragmented && Guard::OneJoinAtATime.stands() {
            let what = format!("{key} is disturbed while a member of its etcd is defragmented");
            findings.add("OneAtATime", &cluster.object_ref(), what);
        }
        let changes = clusters.entry(cluster.key()).or_default();
        let ran = machine.record.first_started_at.is_some();
        match action {
            Action::StartDomain { .. } if has_left(machine) && Guard::Quorum.stands() => {
                findings.add("Quorum", &machine.object_ref(), "it is started again, and has left etcd");
            }
            // Turning a member on again disturbs nobody.
            Action::StartDomain { .. } if ran || machine.spec.bootstrap == Bootstrap::Init => {}
            Action::StartDomain { .. } => _ = changes.joins.insert(key),
            Action::RemoveEtcdMember { .. } => _ = changes.removals.insert(key),
            Action::MoveEtcdLeader { .. } => _ = changes.heirs.insert(key),
            Action::MigrateDomain { .. } => _ = changes.moves.insert(key),
            // What never ran is no member, and what has left, or only has disks left, is none any more.
            _ if !ran || has_left(machine) || changes.removals.contains(&key) => {}
            _ => _ = changes.hits.insert(key),
        }
    }
    clusters.retain(|_, changes| !changes.is_empty());
    if clusters.is_empty() {
        return;
    }
    let mut machines: BTreeMap<NamespacedName, Vec<&Machine>> = BTreeMap::new();
    for machine in
        projected.machines.values().filter(|machine| machine.spec.role == MachineRole::ControlPlane)
    {
        let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
        if clusters.contains_key(&cluster) {
            machines.entry(cluster).or_default().push(machine);
        }
    }
    for (cluster, changes) in clusters {
        let machines = machines.remove(&cluster).unwrap_or_default();
        Judge { snapshot, projected, cluster, machines, findings }.judge(&changes);
    }
}

/// Whether it is on record that the machine is no member any more.
pub(super) fn has_left(machine: &Machine) -> bool {
    machine.record.left_etcd || machine.record.disks_only
}

/// That a machine has left is recorded where etcd was seen without it, among machines that are known.
fn left(snapshot: &Snapshot, projected: &Projected<'_>, machine: &Machine, findings: &mut Findings) {
    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    let is_known = |member: &crate::EtcdMember| {
        projected.machines.values().any(|other| {
            other.spec.cluster == cluster.name
                && other.metadata.namespace == cluster.namespace
                && belongs(member, other)
        })
    };
    let is_out = match snapshot.observed.etcd.get(&cluster) {
        Some(EtcdSeen::Seen(etcd)) => {
            etcd.members.values().all(|member| !belongs(member, machine) && is_known(member))
        }
        Some(EtcdSeen::Unreachable { .. }) | None => false,
    };
    let is_going = machine.metadata.is_deleting() && machine.record.joined_at.is_some();
    if !(is_out && is_going) && Guard::Quorum.stands() {
        findings.add(
            "Quorum",
            &machine.object_ref(),
            "it is taken to have left etcd, and was not seen to have",
        );
    }
}

/// The control plane that an action brings, takes, disturbs or makes the leader.
fn machine_of(action: &Action, projected: &Projected<'_>) -> Option<NamespacedName> {
    match action {
        Action::DestroyDomain { machine }
        | Action::UndefineDomain { machine }
        | Action::ShutdownDomain { machine }
        | Action::TaintOutOfService { machine }
        | Action::DeleteNode { machine }
        | Action::StartDomain { machine }
        | Action::MigrateDomain { machine }
        | Action::RemoveEtcdMember { machine } => Some(machine.clone()),
        Action::MoveEtcdLeader { to, .. } => Some(to.clone()),
        Action::DeleteVolume { volume } => match &projected.volumes.get(volume)?.spec.content {
            VolumeContent::MachineDisk { role: MachineVolumeRole::Seed, .. }
            | VolumeContent::ImageFile { .. }
            | VolumeContent::Leftover { .. } => None,
            VolumeContent::MachineDisk { machine, .. } => {
                let key = NamespacedName::new(&volume.namespace, machine);
                // What it left on another host is no part of it.
                let has = |machine: &Machine| machine.volume_names().any(|name| name == volume.name);
                projected.machines.get(&key).is_none_or(has).then_some(key)
            }
        },
        _ => None,
    }
}

struct Judge<'j, 'p, 'f> {
    snapshot: &'j Snapshot,
    projected: &'j Projected<'p>,
    cluster: NamespacedName,
    /// Its control planes.
    machines: Vec<&'p Machine>,
    findings: &'f mut Findings,
}

impl<'p> Judge<'_, 'p, '_> {
    fn judge(mut self, changes: &Changes) {
        let under_way = self
            .machines
            .iter()
            .filter(|machine| {
                machine.spec.bootstrap == Bootstrap::Join
                    && machine.record.first_started_at.is_some()
                    && machine.record.joined_at.is_none()
                    && machine.record.failure.is_none()
                    && !machine.metadata.is_deleting()
            })
            .count();
        if changes.joins.len() > 1 || (under_way > 0 && !changes.joins.is_empty()) {
            self.find("OneAtATime", "two control planes join at once");
        }
        if changes.hits.len() > 1 && self.votes_of(&changes.hits) > 1 {
            self.find("OneAtATime", "two control planes are disrupted at once");
        }
        // Alone, it takes its cluster's majority along.
        if changes.is_only_moves() && self.machines.len() == 1 {
            return;
        }
        let etcd = match self.snapshot.observed.etcd.get(&self.cluster) {
            Some(EtcdSeen::Seen(etcd)) => etcd,
            Some(EtcdSeen::Unreachable { .. }) | None => {
                // Without its answer nobody knows who is needed.
                return self.find("Quorum", "its control plane is changed, and its etcd was not seen");
            }
        };
        let known = |member: &crate::EtcdMember| self.machines.iter().any(|machine| belongs(member, machine));
        if !changes.hits.is_empty() && !etcd.members.values().any(known) {
            self.find(
                "Quorum",
                "a control plane is disrupted, and etcd tells of members that are all others'",
            );
        }
        for key in &changes.removals {
            self.removal(etcd, key);
        }
        let voters_go = self.votes_of(&changes.removals);
        if voters_go > 1 || (voters_go > 0 && (under_way > 0 || !changes.joins.is_empty())) {
            self.find("OneAtATime", "more than one member of etcd changes at once");
        }
        if !changes.joins.is_empty() {
            self.join(etcd);
        }
        for key in &changes.heirs {
            let good = self.projected.machines.get(key).is_some_and(|machine| {
                !machine.metadata.is_deleting() && healthy(etcd, &voters(etcd, Some(machine))) == 1
            });
            if !good {
                self.find("Quorum", format!("{key} is to lead etcd and is no healthy voter that stays"));
            }
        }
        if changes.moves.len() > 1 || !changes.moves.is_empty() && self.votes_of(&changes.hits) > 0 {
            self.find("OneAtATime", "a control plane is moved beside another that is moved or disrupted");
        }
        for key in &changes.moves {
            let others: Vec<u64> = {
                let own = self.projected.machines.get(key).map(|machine| voters(etcd, Some(machine)));
                let own = own.unwrap_or_default();
                voters(etcd, None).into_iter().filter(|id| !own.contains(id)).collect()
            };
            let needed = others.len().div_ceil(2) + 1;
            if !others.is_empty() && healthy(etcd, &others) < others.len().min(needed) {
                self.find("Quorum", format!("{key} is moved while others of etcd's voters are not healthy"));
            }
        }
        for key in &changes.hits {
            let Some(machine) = self.projected.machines.get(key) else { continue };
            if etcd.members.values().any(|member| belongs(member, machine)) {
                self.find("Quorum", format!("{key} is disrupted and is still a member of etcd"));
            }
        }
    }

    fn find(&mut self, rule: &'static str, message: impl Into<String>) {
        let guard = if rule == "OneAtATime" { Guard::OneJoinAtATime } else { Guard::Quorum };
        if !guard.stands() {
            return;
        }
        let object = ObjectRef::new(Kind::Cluster, &self.cluster.namespace, &self.cluster.name);
        self.findings.add(rule, &object, message);
    }

    /// How many of the machines vote, or may: where etcd was not seen, all that ran.
    fn votes_of(&self, machines: &BTreeSet<NamespacedName>) -> usize {
        let votes = |machine: &&Machine| match self.snapshot.observed.etcd.get(&self.cluster) {
            Some(EtcdSeen::Seen(etcd)) => !voters(etcd, Some(machine)).is_empty(),
            _ => true,
        };
        machines.iter().filter_map(|key| self.projected.machines.get(key)).filter(votes).count()
    }

    /// A member goes with the recorded intent to delete its machine, or as the learner of a failed join.
    fn removal(&mut self, etcd: &EtcdWorld, key: &NamespacedName) {
        let Some(machine) = self.projected.machines.get(key) else { return };
        let own = voters(etcd, Some(machine));
        let failed = machine.record.failure.is_some();
        if !(machine.metadata.is_deleting() || failed && own.is_empty()) {
            self.find("Intent", format!("{key} leaves etcd without a recorded intent to delete it"));
        }
        let Some(own) = own.first().copied() else { return };
        let others: Vec<u64> = voters(etcd, None).into_iter().filter(|id| *id != own).collect();
        if healthy(etcd, &others) * 2 <= others.len() {
            self.find("Quorum", format!("without {key} no majority of etcd's voters would be healthy"));
        }
        let works = healthy(etcd, &[own]) == 1 && !failed && machine.record.joined_at.is_some();
        let wanted = self.projected.cluster_of(machine).map(|cluster| cluster.spec.control_plane.replicas);
        let there = self
            .machines
            .iter()
            .filter(|other| other.record.joined_at.is_some() && !other.metadata.is_deleting())
            .count();
        if works && wanted.is_some_and(|wanted| there < wanted as usize) {
            self.find(
                "Quorum",
                format!("{key} is healthy, and leaves etcd before another has taken its place"),
            );
        }
    }

    /// Somebody joins: a vote more, and nobody knows yet what it is worth.
    fn join(&mut self, etcd: &EtcdWorld) {
        if etcd.members.values().any(|member| member.is_learner) {
            self.find("OneAtATime", "a control plane joins beside a learner");
        }
        let now = voters(etcd, None);
        let sure = healthy(etcd, &now) + usize::from(now.len() == 1);
        if sure * 2 <= now.len() + 1 {
            self.find("Quorum", "a control plane joins, and a bad one would cost etcd its majority");
        }
        let dead = self.machines.iter().filter(|machine| machine.metadata.is_deleting()).any(|machine| {
            let own = voters(etcd, Some(machine));
            !own.is_empty() && healthy(etcd, &own) == 0
        });
        if dead {
            self.find(
                "Quorum",
                "a control plane joins before the unhealthy one that it replaces has left etcd",
            );
        }
    }
}

/// Ids of the members that vote; only the machine's own, if one is given.
fn voters(etcd: &EtcdWorld, of: Option<&Machine>) -> Vec<u64> {
    let own = |member: &&crate::EtcdMember| of.is_none_or(|machine| belongs(member, machine));
    etcd.members.values().filter(|member| !member.is_learner).filter(own).map(|member| member.id).collect()
}

/// How many of the members said themselves that they are well.
fn healthy(etcd: &EtcdWorld, members: &[u64]) -> usize {
    let well = |id: &&u64| {
        etcd.nodes
            .values()
            .flatten()
            .any(|status| status.member_id == **id && status.leader.is_some() && status.errors.is_empty())
    };
    members.iter().filter(well).count()
}

fn belongs(member: &crate::EtcdMember, machine: &Machine) -> bool {
    if member.name.is_empty() {
        let address = machine.spec.node_address().map(|address| address.to_string());
        let host = |url: &str| Some(url.rsplit_once(':')?.0.rsplit_once('/')?.1.to_owned());
        return member.peer_urls.iter().any(|url| host(url).is_some() && host(url) == address);
    }
    member.name == machine.spec.node.name
}
