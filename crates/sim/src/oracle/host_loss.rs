//! R7: a host that gives no answer may run all that it ran before. What is done about its loss is judged by what is so in the
//! world, whatever was recorded: whether its machines run, and since when nobody can have heard of it.

use ashlar_api::NamespacedName;
use ashlar_store::{Transaction, Write};
use serde_json::Value;
use uuid::Uuid;

use super::intent::{VIEW_LASTS, remembers};
use super::{field, is_deleting};
use crate::State;

/// What became of hosts that were lost, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostLosses {
    /// How often a host fell silent.
    pub silences: u64,
    /// How often Ashlar recorded that one is off, as who turned it off had seen.
    pub proofs: u64,
    /// How often a person said so.
    pub confirmed: u64,
    /// Machines that were given up because their host is off.
    pub given_up: u64,
    /// Nodes that were called out of service.
    pub out_of_service: u64,
}

impl HostLosses {
    /// Adds what became of others.
    pub fn add(&mut self, other: &HostLosses) {
        self.silences += other.silences;
        self.proofs += other.proofs;
        self.confirmed += other.confirmed;
        self.given_up += other.given_up;
        self.out_of_service += other.out_of_service;
    }
}

impl State {
    /// What became of hosts that were lost so far.
    pub fn host_losses(&self) -> HostLosses {
        self.oracle.losses
    }

    /// Notes which hosts give answers at this moment.
    pub(crate) fn heed_silence(&mut self) {
        if self.oracle.is_off {
            return;
        }
        for (name, host) in &self.hosts {
            let answers = host.reachable && !host.frozen && !host.mute && !host.hung;
            match self.oracle.heard.get_mut(name) {
                Some((before, _)) if *before == answers => continue,
                Some(heard) => *heard = (answers, self.now),
                None => drop(self.oracle.heard.insert(name.clone(), (answers, self.now))),
            }
            self.oracle.losses.silences += u64::from(!answers);
        }
    }

    /// Whether a host answers (or does not), and did for so long that whoever decided what is done now must have known.
    fn was_known_to_answer(&self, host: &str, answers: bool) -> bool {
        let decided_at = self.decided_at();
        let heard = self.oracle.heard.get(host);
        heard.is_some_and(|(is, since)| *is == answers && decided_at.duration_since(*since) > VIEW_LASTS)
    }

    /// Whether nobody can have heard of the host when was decided what is done now.
    pub(super) fn was_silent(&self, host: &str) -> bool {
        self.was_known_to_answer(host, false)
    }

    /// Where a machine runs, and did already when was decided what is done now.
    pub(super) fn runs_on(&self, machine: Uuid) -> Option<String> {
        let decided_at = self.decided_at();
        let is_it = |domain: &crate::SimDomain| {
            // Who starts it by hand right then is nobody's mistake.
            domain.is_alive()
                && domain.mark.as_ref().is_some_and(|mark| mark.machine_uid == machine)
                && domain.started_at.is_none_or(|at| decided_at.duration_since(at) > VIEW_LASTS)
        };
        let runs = self.hosts.iter().find(|(_, host)| host.domains.values().any(is_it));
        runs.map(|(host, _)| host.clone())
    }

    /// A silent host on which a machine's domain is, running or not, of which nothing else is known, nor is written down now.
    fn lies_unseen_on(&self, machine: Uuid, written: &Transaction) -> Option<String> {
        let is_written = |host: &str, uuid| {
            let mut writes = written.writes.iter();
            writes.any(|write| match write {
                Write::Put { key, value, .. } => {
                    key.kind == "Host" && key.name == host && remembers(value, uuid)
                }
                Write::Delete { .. } | Write::Check { .. } => false,
            })
        };
        let has_it = |(name, host): &(&String, &crate::SimHost)| {
            host.domains.iter().any(|(uuid, domain)| {
                domain.mark.as_ref().is_some_and(|mark| mark.machine_uid == machine)
                    && !self.is_remembered(name, *uuid)
                    && !is_written(name, *uuid)
            })
        };
        let on = self.hosts.iter().find(|host| has_it(host) && self.was_silent(host.0));
        on.map(|(host, _)| host.clone())
    }

    /// What is wrong with a machine being given up because its host is off, by what is so.
    pub(super) fn wrongly_given_up(&mut self, name: &NamespacedName, machine: &Value) -> Vec<String> {
        self.oracle.losses.given_up += 1;
        let mut wrong = Vec::new();
        let host = field(machine, "/spec/host");
        if let Some(on) = uid_of(machine).and_then(|uid| self.runs_on(uid)) {
            wrong.push(format!("{name} is given up for its host, and runs on {on}"));
        }
        if self.was_known_to_answer(host, true) {
            wrong.push(format!("{name} is given up for its host {host}, which answers"));
        }
        wrong
    }

    /// An etcd member that is taken out because its host is off does not run.
    pub(super) fn judge_lost_member(&mut self, name: &NamespacedName, machine: &Value) {
        self.heed_silence();
        let host = field(machine, "/spec/host");
        // One whose host is back goes as any other does that is to go.
        let is_silent = self.oracle.heard.get(host).is_some_and(|(answers, _)| !answers);
        let runs = uid_of(machine).and_then(|uid| self.runs_on(uid));
        if super::remediation::is_for_its_host(machine)
            && is_silent
            && let Some(on) = runs
        {
            self.blame("fencing", format!("etcd member {name} is removed for its host, and runs on {on}"));
        }
    }

    pub(crate) fn judge_delete_node(&mut self, cluster: &NamespacedName, node: &str) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        if self.oracle.is_off {
            return;
        }
        // Who woke up may say it once more when everything of the machine is gone.
        if self.clusters.get(cluster).is_none_or(|world| !world.nodes.contains_key(node)) {
            return;
        }
        let machine = self.stored_object("Machine", &NamespacedName::new(&cluster.namespace, node));
        if machine.as_deref().is_none_or(|machine| !is_deleting(machine)) {
            self.blame("intent", format!("node {node} of {cluster} is deleted without recorded intent"));
        }
        // Its pods are started elsewhere then, with their volumes.
        if let Some(on) = machine.as_deref().and_then(uid_of).and_then(|uid| self.runs_on(uid)) {
            self.blame("fencing", format!("node {node} of {cluster} is deleted, and runs on {on}"));
        }
        // Where nobody is left to let go of them, Kubernetes is told so first.
        let attached = self.clusters.get(cluster).map(|world| world.attached_to(node)).unwrap_or_default();
        if !attached.is_empty() && self.is_host_off(cluster, node) {
            let volumes = attached.join(", ");
            self.blame("volumes", format!("node {node} of {cluster} is deleted, and has {volumes}"));
        }
    }

    /// A node is out of service when nothing of it runs, and never will.
    pub(crate) fn judge_out_of_service(&mut self, cluster: &NamespacedName, node: &str) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        self.oracle.losses.out_of_service += 1;
        if self.oracle.is_off || self.oracle.forgiving {
            return;
        }
        let machine = NamespacedName::new(&cluster.namespace, node);
        let mut domains = self.hosts.values().flat_map(|host| host.domains.values());
        let runs = domains
            .any(|domain| domain.is_alive() && domain.machine().is_some_and(|found| found.key() == machine));
        if runs {
            self.blame("fencing", format!("node {node} of {cluster} is said to be out of service, and runs"));
        }
    }

    /// Whether the host of a machine that is recorded has no power.
    fn is_host_off(&self, cluster: &NamespacedName, node: &str) -> bool {
        let machine = self.stored_object("Machine", &NamespacedName::new(&cluster.namespace, node));
        let host = machine.as_ref().map(|machine| field(machine, "/spec/host").to_owned());
        host.and_then(|host| self.hosts.get(&host)).is_some_and(|host| host.off)
    }

    /// Machines that a commit forgets, and whose domains are where somebody would have to look first: their names, addresses and
    /// disks are free from then on.
    pub(crate) fn wrongly_forgotten(&self, transaction: &Transaction) -> Vec<String> {
        if self.oracle.is_off {
            return Vec::new();
        }
        let gone = transaction.writes.iter().filter_map(|write| match write {
            Write::Delete { key, .. } if key.kind == "Machine" => {
                Some(NamespacedName::new(&key.namespace, &key.name))
            }
            _ => None,
        });
        let told = |name: NamespacedName| {
            let uid = uid_of(&*self.stored_object("Machine", &name)?)?;
            let on = self.runs_on(uid).or_else(|| self.lies_unseen_on(uid, transaction))?;
            Some(format!("machine {name} is forgotten, and its domain is on {on}"))
        };
        gone.filter_map(told).collect()
    }
}

fn uid_of(machine: &Value) -> Option<Uuid> {
    field(machine, "/metadata/uid").parse().ok()
}
