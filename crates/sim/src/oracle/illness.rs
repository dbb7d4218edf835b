//! Whether who is given up for its health was ill for long, by the world's own truth: since when its node works or does not,
//! and since when its VM runs.

use std::collections::BTreeMap;

use ashlar_api::NamespacedName;
use jiff::Timestamp;
use serde_json::Value;

use super::field;
use crate::guest::{is_node, panics, running_nodes};
use crate::{SimDomain, State};

/// While anything changes, nodes are looked at once in so many seconds.
const LOOK_S: i64 = 10;
/// What was seen a moment before it is recorded may be over by then, and a look of the judge is as late as another.
const SLACK_S: i64 = 60;
/// Whoever went off so often while it was waited for is one that does not come up, however long it ran this time.
const RESTARTS: u64 = 3;

/// What is known of nodes.
#[derive(Clone, Default)]
pub(super) struct Nodes {
    /// Of each node that its API knows: whether it works, and since when that is so.
    known: BTreeMap<NamespacedName, BTreeMap<String, (bool, Timestamp)>>,
    looked_at: Option<Timestamp>,
    /// Something changed since.
    is_old: bool,
}

impl State {
    /// Looks who works, before time goes on.
    pub(crate) fn watch_nodes(&mut self, moved: bool) {
        if self.oracle.is_off {
            return;
        }
        let now = self.now;
        let nodes = &mut self.oracle.nodes;
        nodes.is_old |= moved;
        let was_looked = |at: Timestamp| now.duration_since(at).as_secs() < LOOK_S;
        // Where nothing moves any more, it may be long until the next look.
        if !nodes.is_old || moved && nodes.looked_at.is_some_and(was_looked) {
            return;
        }
        let mut nodes = std::mem::take(nodes);
        (nodes.looked_at, nodes.is_old) = (Some(now), false);
        nodes.known.retain(|cluster, _| self.clusters.contains_key(cluster));
        let running = running_nodes(self);
        for (cluster, world) in &self.clusters {
            let running = running.get(cluster);
            let known = nodes.known.entry(cluster.clone()).or_default();
            known.retain(|node, _| world.nodes.contains_key(node));
            for node in world.nodes.keys() {
                let works = running.is_some_and(|running| running.contains(node.as_str()))
                    && (self.broken_links.is_empty() || is_node(self, cluster, node));
                match known.get_mut(node) {
                    Some((worked, _)) if *worked == works => {}
                    Some(before) => *before = (works, now),
                    None => drop(known.insert(node.clone(), (works, now))),
                }
            }
        }
        drop(running);
        self.oracle.nodes = nodes;
    }

    /// Judges a machine that is given up now: whether it was ill for a quarter of its patience at the least, without a break.
    pub(super) fn judge_illness(&mut self, name: &NamespacedName, machine: &Value, cluster: Option<&Value>) {
        let kind = field(machine, "/record/remediation/kind");
        let (patience, usual_s) = match kind {
            "NodeNotReady" => ("/spec/health/nodeNotReadyS", 300),
            "KubeletSilent" => ("/spec/health/kubeletSilentS", 300),
            "GuestNotUp" => ("/spec/health/guestNotUpS", 600),
            _ => return,
        };
        let patience_s = cluster.and_then(|cluster| cluster.pointer(patience)?.as_i64()).unwrap_or(usual_s);
        let ago_s = |at: Timestamp| self.now.duration_since(at).as_secs();
        // Who sleeps before he writes knows nothing newer, and a clock that was set shortens what is counted.
        if self.decided_at() != self.now || ago_s(self.clock_was.1) < patience_s {
            return;
        }
        let key = NamespacedName::new(&name.namespace, field(machine, "/spec/cluster"));
        let known =
            self.oracle.nodes.known.get(&key).and_then(|nodes| nodes.get(field(machine, "/spec/node/name")));
        let mut found = Vec::new();
        match known.map(|(works, since)| (*works, ago_s(*since))) {
            Some((true, for_s)) if for_s > SLACK_S => found.push(format!("its node works for {for_s} s")),
            Some((false, for_s)) if for_s + LOOK_S < patience_s / 4 => {
                found.push(format!("its node worked {for_s} s ago"));
            }
            _ => {}
        }
        let restarts = machine.pointer("/record/ailment/restarts").and_then(Value::as_u64).unwrap_or(0);
        if kind == "GuestNotUp" && restarts < RESTARTS && !panics(self, &name.name) {
            let runs_s = self.runs_since(field(machine, "/metadata/uid")).map(ago_s);
            found.extend(
                runs_s
                    .filter(|runs_s| runs_s + LOOK_S < patience_s / 4)
                    .map(|s| format!("its VM was started {s} s ago")),
            );
        }
        for what in found {
            self.blame("remediation", format!("{name} is given up for its health ({kind}), and {what}"));
        }
    }

    /// Since when a machine's domain runs.
    fn runs_since(&self, machine: &str) -> Option<Timestamp> {
        let is_of = |domain: &&SimDomain| {
            domain.is_alive()
                && domain.mark.as_ref().is_some_and(|mark| mark.machine_uid.to_string() == machine)
        };
        self.hosts.values().flat_map(|host| host.domains.values()).find(is_of)?.started_at
    }
}
