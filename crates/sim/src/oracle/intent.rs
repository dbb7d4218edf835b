//! What must stand in the store before a call changes the world.

use std::sync::Arc;

use ashlar_api::{Bootstrap, Machine, MachineRole, NamespacedName};
use ashlar_engine::effects::HostTarget;
use ashlar_plan::DomainSpec;
use ashlar_store::Key;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::{field, is_deleting};
use crate::etcd::member_id;
use crate::guest::cluster_of;
use crate::{SimDomain, State};

/// How old what Ashlar saw may be when it acts on it.
pub(super) const VIEW_LASTS: SignedDuration = SignedDuration::from_mins(1);
/// Longest life of a join token.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_mins(15);

impl State {
    pub(super) fn blame(&mut self, invariant: &str, what: String) {
        if self.oracle.forgiving && invariant != "disks" {
            return;
        }
        self.oracle.violated(invariant, what);
    }

    pub(super) fn stored_object(&self, kind: &str, name: &NamespacedName) -> Option<Arc<Value>> {
        self.oracle.truth.as_ref()?.peek(&Key::new(kind, &name.namespace, &name.name))
    }

    fn domain_there(&self, host: &HostTarget, domain: Uuid) -> Option<&SimDomain> {
        // A host that refuses is not changed.
        self.host_at(host).filter(|_| self.takes_calls(host))?.domains.get(&domain)
    }

    /// The stored Machine of a domain, if the domain is the one that was recorded.
    fn recorded_machine(&self, domain: &SimDomain, uuid: Uuid) -> Option<Arc<Value>> {
        let machine = domain.machine()?;
        let stored = self.stored_object("Machine", &machine.key())?;
        let same = field(&stored, "/spec/domain/uuid") == uuid.to_string();
        same.then_some(stored)
    }

    fn cluster_is(&self, cluster: &NamespacedName, fits: impl Fn(&Value) -> bool) -> bool {
        self.stored_object("Cluster", cluster).is_some_and(|cluster| fits(&cluster))
    }

    pub(crate) fn judge_define(&mut self, host: &HostTarget, spec: &DomainSpec) {
        self.oracle.dirty = true;
        if !self.takes_calls(host) {
            return;
        }
        let name = &spec.name;
        let stored =
            spec.mark.machine.as_ref().and_then(|machine| self.stored_object("Machine", &machine.key()));
        let recorded = stored.is_some_and(|stored| {
            field(&stored, "/spec/domain/uuid") == spec.uuid.to_string()
                && field(&stored, "/spec/host") == host.name
                && (!self.was_deleting(&stored) || self.is_needed_to_vote(spec.mark.machine.as_deref()))
        });
        if !recorded {
            self.blame("identity", format!("domain {name} is defined and no such Machine is recorded"));
        }
    }

    pub(crate) fn judge_start(&mut self, host: &HostTarget, uuid: Uuid) {
        self.oracle.dirty = true;
        if self.oracle.is_off {
            return;
        }
        let Some(domain) = self.domain_there(host, uuid) else { return };
        let (name, machine) = (domain.name.clone(), domain.machine().cloned());
        let domain_ran = domain.has_run;
        let stored = self.recorded_machine(domain, uuid);
        let Some(stored) = stored else {
            return self.blame("identity", format!("domain {name} is started and is not the recorded one"));
        };
        if self.was_deleting(&stored) && !self.is_needed_to_vote(machine.as_ref()) {
            self.blame("intent", format!("domain {name} is started although its deletion is recorded"));
        }
        if stored.pointer("/record/firstStartedAt").is_none() {
            self.blame("crash", format!("domain {name} is started before its start is recorded"));
        }
        let Some(machine) = machine else { return };
        let networks = self.host_at(host).map(|host| host.networks.clone()).unwrap_or_default();
        // Taken away after the host was looked at, nobody could know.
        let lost_at = self.host_at(host).and_then(|host| host.filters_lost_at);
        let asked_at = self.oracle.asked_at.unwrap_or(self.now);
        let decided_at = self.decided_at();
        let is_unseen = lost_at.is_some_and(|lost| decided_at.duration_since(lost) < VIEW_LASTS);
        for nic in &machine.spec.nics {
            let filtered = networks.values().filter(|network| network.intact).any(|network| {
                let taps = network.applied.iter().flat_map(|network| network.taps.values());
                taps.into_iter().any(|tap| tap.mac == nic.mac && tap.addresses.contains(&nic.address.addr()))
            });
            if !filtered && !is_unseen {
                self.blame("filter", format!("domain {name} is started without a filter for {}", nic.mac));
            }
        }
        let is_new = stored.pointer("/record/joinedAt").is_none() && !domain_ran;
        if is_new
            && machine.spec.role == MachineRole::ControlPlane
            && machine.spec.bootstrap == Bootstrap::Join
        {
            let first = field(&stored, "/record/firstStartedAt").parse::<Timestamp>();
            // By this process, or by one that ended right then.
            let ended_at = self.ended_at;
            let is_earlier = |first| first < asked_at || first == asked_at && ended_at == Some(asked_at);
            self.judge_join(&cluster_of(&machine), &name, first.is_ok_and(is_earlier));
        }
        self.judge_images(host, &machine);
        if is_new {
            self.judge_disks(host, &machine);
        }
        let taken: Vec<_> = machine
            .spec
            .nics
            .iter()
            .filter(|nic| self.foreign_addresses.contains(&(nic.bridge.clone(), nic.address.addr())))
            .map(|nic| nic.address.addr().to_string())
            .collect();
        // One that was in use already when the domain ran first; who comes later is the intruder.
        if stored.pointer("/record/joinedAt").is_none() && !taken.is_empty() {
            self.blame(
                "uniqueness",
                format!("domain {name} starts with {}, which others use", taken.join(", ")),
            );
        }
    }

    /// A control plane that is to go can only leave an etcd that has a majority, and it may be what lacks.
    fn is_needed_to_vote(&self, machine: Option<&Machine>) -> bool {
        let Some(machine) = machine.filter(|machine| machine.spec.role == MachineRole::ControlPlane) else {
            return false;
        };
        let cluster = cluster_of(machine);
        self.clusters.contains_key(&cluster)
            && !self.has_quorum(&cluster)
            && self.cluster_is(&cluster, |cluster| !is_deleting(cluster))
    }

    /// Shutdown or destroy.
    pub(crate) fn judge_stop(&mut self, host: &HostTarget, uuid: Uuid, call: &str) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        if self.oracle.is_off {
            return;
        }
        let Some(domain) = self.domain_there(host, uuid) else { return };
        let (name, was_running) = (domain.name.clone(), domain.state.is_active());
        let Some(machine) = domain.machine().cloned() else {
            return self.blame("identity", format!("{call} of the foreign domain {name}"));
        };
        let cluster = cluster_of(&machine);
        // What came by a move and was never let go on.
        let never_went_on = domain.never_went_on;
        let Some(stored) = self.recorded_machine(domain, uuid) else {
            if never_went_on && self.is_remembered(&host.name, uuid) {
                return;
            }
            return self.blame("identity", format!("{call} of {name}, which is not the recorded domain"));
        };
        let stopped = self.cluster_is(&cluster, |cluster| {
            cluster.pointer("/record/stopped").and_then(Value::as_bool) == Some(true)
        });
        let is_left = field(&stored, "/spec/host") != host.name && self.is_remembered(&host.name, uuid);
        if self.is_half_moved(&host.name, uuid) || is_left && never_went_on {
            return;
        }
        if !is_deleting(&stored) && !stopped {
            self.blame("intent", format!("{call} of {name} without recorded intent"));
        }
        let whole = stopped || self.cluster_is(&cluster, is_deleting);
        if was_running && !whole {
            match machine.spec.role {
                MachineRole::ControlPlane => {
                    self.judge_quorum(&cluster, machine.metadata.uid, call);
                    self.judge_disturbance(&cluster, call);
                }
                MachineRole::Worker => self.judge_drained(&machine, call),
            }
        }
    }

    /// No worker is turned off under pods that were not asked to go, unless the cluster says how long that may take, or
    /// its kubelet does not run.
    fn judge_drained(&mut self, machine: &Machine, call: &str) {
        let (cluster, node) = (cluster_of(machine), &machine.spec.node.name);
        let limited = self.cluster_is(&cluster, |cluster| cluster.pointer("/spec/drainTimeoutS").is_some());
        let Some(world) = self.clusters.get(&cluster) else { return };
        if limited || !crate::guest::is_node(self, &cluster, node) || !world.nodes.contains_key(node) {
            return;
        }
        let pods = world.pods_on(node, self.now);
        let asked = pods.iter().all(|pod| pod.terminating);
        if !asked {
            self.blame("drain", format!("{call} of {node}, on which {} pods run", pods.len()));
        }
    }

    /// 4: taking this member away must leave a majority, unless there was none before.
    fn judge_quorum(&mut self, cluster: &NamespacedName, machine: Option<Uuid>, call: &str) {
        let Some(world) = self.clusters.get(cluster) else { return };
        // An etcd that no node ever registered in holds nothing: its `kubeadm init` did not come to its end.
        if world.nodes.is_empty() && world.etcd.members.len() == 1 {
            return;
        }
        // A slow host was asked when nobody voted yet.
        let had_voters = self.oracle.asked_votes.get(cluster).is_some_and(|(_, voters)| *voters > 0);
        if self.oracle.asked_at.is_some() && !had_voters {
            return;
        }
        let Some(id) = machine.map(member_id) else { return };
        let Some(name) = world.etcd.members.get(&id).map(|member| member.name.clone()) else { return };
        let voters = world.etcd.voters().len();
        let left = self.living_voters(cluster).iter().filter(|voter| **voter != id).count();
        if self.has_quorum(cluster) && left <= voters / 2 {
            self.blame("quorum", format!("{call} of {name} leaves {left} of {voters} voters of {cluster}"));
        }
    }

    /// 4: a member goes only with the recorded intent to delete its machine, or after its join failed; and its going
    /// leaves a majority of those who are left, unless there was none before.
    pub(crate) fn judge_remove_member(&mut self, cluster: &NamespacedName, id: u64) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        if self.oracle.is_off {
            return;
        }
        let Some(member) = self.clusters.get(cluster).and_then(|world| world.etcd.members.get(&id)) else {
            return;
        };
        let (name, is_learner) = (member.name.clone(), member.is_learner);
        let stored = self.stored_object("Machine", &NamespacedName::new(&cluster.namespace, &name));
        let wished = stored.as_ref().is_some_and(|stored| {
            is_deleting(stored) || is_learner && stored.pointer("/record/failure").is_some()
        });
        if !wished {
            self.blame(
                "intent",
                format!("etcd member {name} of {cluster} is removed without recorded intent"),
            );
        }
        if let Some(stored) = stored {
            self.judge_lost_member(&NamespacedName::new(&cluster.namespace, &name), &stored);
        }
        self.judge_disturbance(cluster, "remove_member");
        if is_learner {
            return;
        }
        let (living, voters) = self.etcd_votes(cluster);
        let left = self.living_voters(cluster).iter().filter(|voter| **voter != id).count();
        if living > voters / 2 && left <= (voters - 1) / 2 {
            self.blame(
                "quorum",
                format!("the removal of {name} leaves {left} living of {} voters of {cluster}", voters - 1),
            );
        }
    }

    /// 4: a control plane that joins brings a vote before anybody knows whether it is healthy: together with those that
    /// are dead it must leave a majority. And a dead one is removed before its replacement comes.
    fn judge_join(&mut self, cluster: &NamespacedName, name: &str, was_begun: bool) {
        // As they were when a slow host was asked, or when who asks fell asleep right before.
        let asked = self.oracle.asked_votes.get(cluster).copied();
        let asleep = self.who_just_woke().find_map(|process| process.votes_when_asleep.get(cluster).copied());
        let is_too_few = |(living, voters): (usize, usize)| voters > 1 && living <= voters.div_ceil(2);
        let (living, voters) = asked.unwrap_or_else(|| self.etcd_votes(cluster));
        // Who has begun may be half in, and may be the vote that is missing: only going on makes that whole.
        if !was_begun && is_too_few((living, voters)) && asleep.is_none_or(is_too_few) {
            self.blame("quorum", format!("{name} joins {living} living of {voters} voters of {cluster}"));
        }
        // Itself it may be: it was half in when its domain was undefined by hand.
        let learners = self.clusters.get(cluster).map(|world| world.etcd.learners()).unwrap_or_default();
        if learners.iter().any(|learner| *learner != name) {
            self.blame("quorum", format!("{name} joins {cluster} beside another learner"));
        }
    }

    pub(crate) fn judge_undefine(&mut self, host: &HostTarget, uuid: Uuid) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        if self.oracle.is_off {
            return;
        }
        let Some(domain) = self.domain_there(host, uuid) else { return };
        let name = domain.name.clone();
        let is_off = !domain.state.is_active();
        match self.recorded_machine(domain, uuid) {
            None if is_off && self.is_remembered(&host.name, uuid) => {}
            Some(_) if is_off && self.is_half_moved(&host.name, uuid) => {}
            // What it left where it was before it moved.
            Some(stored)
                if is_off
                    && self.is_remembered(&host.name, uuid)
                    && field(&stored, "/spec/host") != host.name => {}
            None => self.blame("identity", format!("undefine of {name}, which is not the recorded domain")),
            Some(stored) if !is_deleting(&stored) => {
                self.blame("intent", format!("undefine of {name} without recorded intent"));
            }
            Some(_) => {}
        }
    }

    /// Whether the host's record says that a call or a move may have left this domain.
    pub(super) fn is_remembered(&self, host: &str, uuid: Uuid) -> bool {
        let stored = self.stored_object("Host", &NamespacedName::new("", host));
        stored.is_some_and(|host| remembers(&host, uuid))
    }

    pub(crate) fn judge_eject(&mut self, host: &HostTarget, uuid: Uuid) {
        self.oracle.dirty = true;
        if self.oracle.is_off {
            return;
        }
        let Some(domain) = self.domain_there(host, uuid) else { return };
        let name = domain.name.clone();
        // Whoever takes the mark off between look and deed takes nothing but a seed with it, which nobody needs.
        let by_uuid = || {
            let machines = self.oracle.stored("Machine").into_iter();
            let mut machines = machines.map(|(_, machine)| machine);
            machines.find(|machine| field(machine, "/spec/domain/uuid") == uuid.to_string())
        };
        let allowed = self
            .recorded_machine(domain, uuid)
            .or_else(|| domain.mark.is_none().then(by_uuid).flatten())
            .is_some_and(|stored| is_deleting(&stored) || stored.pointer("/record/joinedAt").is_some());
        if !allowed {
            self.blame("intent", format!("the seed of {name} is ejected before it has joined"));
        }
        // Nobody could know of a mark that was taken between look and deed; of the rest of the domain nothing may change.
        let decided_at = self.decided_at();
        let key = (host.name.clone(), uuid);
        if let Some(before) = self.oracle.foreign_domains.get_mut(&key)
            && before.disowned_at.is_some_and(|at| decided_at < at)
        {
            before.medium_path = None;
        }
    }

    /// 4: what was acknowledged stays.
    pub(crate) fn judge_lost_writes(&mut self, cluster: &NamespacedName, count: usize) {
        let what = format!("{count} writes that the etcd of {cluster} has acknowledged are gone");
        self.blame("durability", what);
    }

    pub(crate) fn judge_token(&mut self, cluster: &NamespacedName, expires: Timestamp, secret: &str) {
        self.oracle.dirty = true;
        if self.oracle.is_off {
            return;
        }
        self.oracle.learn_secret("a join token", secret.as_bytes());
        // By the clock of whoever gives it: that is wrong at times, and nobody can know.
        // What arrives late was given by the clock of then.
        let (was, until) = self.clock_was;
        let is_fresh = self.now.duration_since(until) < TOKEN_LIFE;
        let error = if is_fresh { was.max(self.clock_error) } else { self.clock_error };
        if expires.duration_since(self.now) - error > TOKEN_LIFE {
            self.blame("secrets", format!("a join token of {cluster} lives longer than 15 minutes"));
        }
    }
}

/// Whether a host's object says that a call or a move may have left this domain there.
pub(super) fn remembers(host: &Value, uuid: Uuid) -> bool {
    let left = host.pointer("/record/leftDomains").and_then(Value::as_array);
    left.is_some_and(|left| left.iter().any(|left| field(left, "/uuid") == uuid.to_string()))
}
