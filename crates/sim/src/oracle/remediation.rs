//! How many machines are given up for their health at a time, and of whose clusters, counted when that is recorded.

use ashlar_api::NamespacedName;
use ashlar_store::{Transaction, Write};
use serde_json::Value;

use super::{field, is_deleting};
use crate::State;

/// What is known of a machine whose host gives no answer: that it is off, and what its console said before.
const WITHOUT_ITS_HOST: [&str; 2] = ["HostOff", "FirstBootFailed"];
/// Of a group at most so many percent, unless its cluster says otherwise.
const PERCENT: u64 = 40;

impl State {
    /// Machines that a commit gives up for their health.
    pub(crate) fn newly_given_up(&self, transaction: &Transaction) -> Vec<NamespacedName> {
        if self.oracle.is_off {
            return Vec::new();
        }
        let put = transaction.writes.iter().filter_map(|write| match write {
            Write::Put { key, value, .. } if key.kind == "Machine" && is_given_up(value) => {
                Some(NamespacedName::new(&key.namespace, &key.name))
            }
            _ => None,
        });
        put.filter(|name| {
            let before = self.stored_object("Machine", name);
            before.is_some_and(|before| !is_deleting(&before))
        })
        .collect()
    }

    /// Judges one of them, once it is recorded.
    pub(crate) fn judge_given_up(&mut self, name: &NamespacedName) {
        let Some(machine) = self.stored_object("Machine", name) else { return };
        self.heed_silence();
        let (kind, host) = (field(&machine, "/record/remediation/kind"), field(&machine, "/spec/host"));
        if !WITHOUT_ITS_HOST.contains(&kind) && self.was_silent(host) {
            let what = format!("{name} is given up ({kind}), and of its host {host} nobody has heard");
            self.blame("fencing", what);
        }
        let is_beside = |other: &Value| {
            ["/spec/cluster", "/spec/role", "/spec/group"]
                .iter()
                .all(|pointer| field(other, pointer) == field(&machine, pointer))
        };
        let going = self
            .oracle
            .stored("Machine")
            .iter()
            .filter(|(key, other)| {
                key.namespace == name.namespace
                    && is_beside(other)
                    && is_given_up(other)
                    && !is_for_its_host(other)
                    && !other.pointer("/record/disksOnly").is_some_and(|only| only == true)
            })
            .count() as u64;
        let object = |kind, pointer| {
            self.stored_object(kind, &NamespacedName::new(&name.namespace, field(&machine, pointer)))
        };
        let number = |value: Option<&Value>, pointer: &str| {
            value.and_then(|value| value.pointer(pointer)).and_then(Value::as_u64)
        };
        let (cluster, group) = (object("Cluster", "/spec/cluster"), object("WorkerGroup", "/spec/group"));
        if cluster.as_deref().is_some_and(rests) {
            self.blame(
                "remediation",
                format!("{name} is given up for its health, and its cluster wants that of nobody"),
            );
        }
        self.judge_illness(name, &machine, cluster.as_deref());
        if is_for_its_host(&machine) {
            return self.judge_given_up_for_its_host(name, &machine, cluster.as_deref());
        }
        if field(&machine, "/spec/role") == "control-plane" {
            let asked = number(cluster.as_deref(), "/spec/controlPlane/replicas").unwrap_or(0);
            if going > 1 || asked < 3 {
                self.blame(
                    "remediation",
                    format!("control plane {name} of {asked} is given up for its health, {going} at once"),
                );
            }
            return;
        }
        let asked = number(group.as_deref(), "/spec/replicas").unwrap_or(0);
        let percent = number(cluster.as_deref(), "/spec/health/maxPercent").unwrap_or(PERCENT);
        let allowed = (asked * percent / 100).max(1);
        if going > allowed {
            self.blame(
                "remediation",
                format!(
                    "{name} is given up for its health: {going} of {asked} workers at once, and {allowed} may"
                ),
            );
        }
    }
}

impl State {
    /// Nobody works on a host that is off, so that no number is too many; but somebody has to have said so.
    fn judge_given_up_for_its_host(
        &mut self,
        name: &NamespacedName,
        machine: &Value,
        cluster: Option<&Value>,
    ) {
        let host = NamespacedName::new("", field(machine, "/spec/host"));
        let proof = self.stored_object("Host", &host);
        let is_proved =
            proof.as_deref().and_then(|host| host.pointer("/record/fence")).is_some_and(Value::is_object);
        if !is_proved {
            self.blame(
                "remediation",
                format!("{name} is given up for its host, of which nobody said that it is off"),
            );
        }
        for what in self.wrongly_given_up(name, machine) {
            self.blame("fencing", what);
        }
        let asked = cluster.and_then(|cluster| cluster.pointer("/spec/controlPlane/replicas")?.as_u64());
        if field(machine, "/spec/role") == "control-plane" && asked.unwrap_or(0) < 3 {
            self.blame("remediation", format!("{name}, an only control plane, is given up for its host"));
        }
    }
}

/// People want no machine of it replaced.
fn rests(cluster: &Value) -> bool {
    let says = |pointer, what| cluster.pointer(pointer).and_then(Value::as_bool) == Some(what);
    says("/spec/paused", true) || says("/spec/health/remediate", false)
}

/// It is given up because its host is off.
pub(super) fn is_for_its_host(machine: &Value) -> bool {
    field(machine, "/record/remediation/kind") == "HostOff"
}

fn is_given_up(machine: &Value) -> bool {
    is_deleting(machine) && machine.pointer("/record/remediation").is_some_and(|why| !why.is_null())
}
