//! No host is turned off that answers Ashlar, nor any while many are silent; none is called off that runs; and where another one
//! is turned off in a host's place, that happens once.

use ashlar_store::{Transaction, Write};

use crate::State;

/// Of all hosts at most so many percent, and one, may be silent while one is turned off.
const PERCENT: usize = 20;

impl State {
    /// What is wrong with turning a host off now.
    pub(crate) fn wrongly_turned_off(&self, host: &str) -> Option<String> {
        if self.oracle.is_off {
            return None;
        }
        if self.host_answers(host) {
            return Some(format!("host {host} is turned off, and answers"));
        }
        let bmc = self.hosts.get(host).map(|host| &host.bmc);
        if let Some(other) = bmc.filter(|bmc| bmc.cut_another > 0).and_then(|bmc| bmc.is_of.as_deref()) {
            return Some(format!("host {other} is turned off once more in the place of host {host}"));
        }
        let hosts = self.oracle.stored("Host");
        let silent = hosts.iter().filter(|(key, _)| !self.host_answers(&key.name)).count();
        let (all, allowed) = (hosts.len(), (hosts.len() * PERCENT / 100).max(1));
        (silent > allowed || silent * 2 >= all)
            .then(|| format!("host {host} is turned off while {silent} of {all} hosts are silent"))
    }

    pub(crate) fn blame_fencing(&mut self, what: String) {
        self.oracle.violated("fencing", what);
    }

    /// Hosts of which a commit says that they are off, and whether they run.
    pub(crate) fn newly_called_off(&self, transaction: &Transaction) -> Vec<(String, bool)> {
        if self.oracle.is_off {
            return Vec::new();
        }
        let put = transaction.writes.iter().filter_map(|write| match write {
            Write::Put { key, value, .. } if key.kind == "Host" => {
                value.pointer("/record/fence").filter(|fence| fence.is_object())?;
                Some(&key.name)
            }
            _ => None,
        });
        put.filter(|name| {
            let key = ashlar_api::NamespacedName::new("", name.as_str());
            let before = self.stored_object("Host", &key);
            before.is_some_and(|before| {
                !before.pointer("/record/fence").is_some_and(serde_json::Value::is_object)
            })
        })
        .map(|name| (name.clone(), self.hosts.get(name).is_some_and(|host| !host.off)))
        .collect()
    }

    /// Judges one of them, once it is recorded.
    pub(crate) fn judge_called_off(&mut self, host: &str, runs: bool) {
        self.oracle.losses.proofs += 1;
        if runs {
            self.blame("fencing", format!("host {host} is called off, and runs"));
        }
    }
}
