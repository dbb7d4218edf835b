//! What the planner makes of a cluster's etcd: which member is whose, who is healthy, and what the arithmetic allows.

use ashlar_api::{Cluster, Machine, NamespacedName};

use crate::{EtcdMember, EtcdSeen, EtcdWorld, Guard, Snapshot, Wait};

/// One cluster's etcd, as a majority of it answered.
#[derive(Clone, Copy)]
pub(crate) struct Etcd<'s> {
    world: &'s EtcdWorld,
}

/// A change of membership, judged before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A machine joins: a vote more, by a member that nobody knows yet.
    Add,
    /// The member with this id goes.
    Remove(u64),
}

impl<'s> Etcd<'s> {
    /// What was seen of a cluster's etcd, or why nothing was.
    pub(crate) fn of(snapshot: &'s Snapshot, cluster: &NamespacedName) -> Result<Self, Wait> {
        let message = match snapshot.observed.etcd.get(cluster) {
            Some(EtcdSeen::Seen(world)) => return Ok(Etcd { world }),
            Some(EtcdSeen::Unreachable { reason }) => format!(
                "no majority of the etcd of {cluster} answers, and without one nobody can join or leave: {reason}"
            ),
            None => format!("the etcd of {cluster} was not asked yet"),
        };
        Err(Wait { reason: "EtcdNotAnswering".to_owned(), message })
    }

    /// The member of a machine: by its name, or before it has one by the address of its peers.
    pub(crate) fn member_of(&self, machine: &Machine) -> Option<&'s EtcdMember> {
        self.world.members.values().find(|member| member.is_of(machine))
    }

    fn voters(&self) -> impl Iterator<Item = &'s EtcdMember> {
        self.world.members.values().filter(|member| !member.is_learner)
    }

    /// A member without a vote, if there is one.
    pub(crate) fn learner(&self) -> Option<&'s EtcdMember> {
        self.world.members.values().find(|member| member.is_learner)
    }

    /// A member that belongs to none of the machines.
    pub(crate) fn stranger(&self, machines: &[&Machine]) -> Option<&'s EtcdMember> {
        self.world.members.values().find(|member| !machines.iter().any(|machine| member.is_of(machine)))
    }

    /// Whom the members follow.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.world.nodes.values().filter_map(|answer| answer.as_ref().ok()).find_map(|status| status.leader)
    }

    /// Why the member is not healthy, if it is not.
    pub(crate) fn ailment(&self, member: &EtcdMember) -> Option<String> {
        match self.world.nodes.get(&member.name) {
            None => Some("it was not asked".to_owned()),
            Some(Err(reason)) => Some(reason.clone()),
            Some(Ok(status)) => status.ailment_as(member),
        }
    }

    /// A member that is not as it should be, and why.
    pub(crate) fn sick(&self) -> Option<String> {
        self.world.members.values().find_map(|member| {
            let ailment =
                if member.is_learner { Some("it has no vote".to_owned()) } else { self.ailment(member) };
            Some(format!("{}: {}", member.name, ailment?))
        })
    }

    /// Whether the change leaves a majority even if the member that comes is bad, as the Kubernetes project's own
    /// control-plane controller counts (`kubernetes.md` §2.3 of the reference; Cluster API, `targetEtcdClusterHealthy`):
    /// a new member counts as unhealthy, unless it is the second.
    pub(crate) fn allows(&self, change: Change) -> Result<(), String> {
        let removed = match change {
            Change::Remove(id) => Some(id),
            Change::Add => None,
        };
        let current = self.voters().count();
        let staying: Vec<&EtcdMember> = self.voters().filter(|member| Some(member.id) != removed).collect();
        let sick: Vec<&str> = staying
            .iter()
            .filter(|member| self.ailment(member).is_some())
            .map(|member| member.name.as_str())
            .collect();
        let (voters, unknown) = match change {
            Change::Add => (staying.len() + 1, usize::from(current > 1)),
            Change::Remove(_) => (staying.len(), 0),
        };
        let (healthy, majority) = (voters.saturating_sub(sick.len() + unknown), voters / 2 + 1);
        if healthy >= majority || !Guard::Quorum.stands() {
            return Ok(());
        }
        let verb = if change == Change::Add { "one more" } else { "one less" };
        Err(format!(
            "with {verb}, etcd would have {voters} voters and need {majority} of them, and only {healthy} would be sure to be healthy{}",
            if sick.is_empty() { String::new() } else { format!(" (not healthy: {})", sick.join(", ")) }
        ))
    }
}

/// Whether a cluster has an etcd that must not lose its majority: not one that goes, or never came.
pub(crate) fn is_living(cluster: &Cluster) -> bool {
    cluster.record.initialized && !cluster.metadata.is_deleting()
}
