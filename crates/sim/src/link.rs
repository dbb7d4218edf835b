//! Links between hosts: what guests on them say to each other, and what comes to a guest through a tunnel over another
//! host, goes over them. Ashlar's own way to each host is another one: both may answer it while they do not hear each
//! other.

use std::collections::BTreeSet;

use ashlar_api::{Machine, NamespacedName};
use uuid::Uuid;

use crate::{State, guest};

/// Whose packets get lost on their way to whom.
pub(crate) type BrokenLinks = BTreeSet<(String, String)>;

impl State {
    /// Cuts the link between two hosts, one way only if so asked, or mends it.
    pub(crate) fn set_link(&mut self, from: &str, to: &str, cut: bool, one_way: bool) {
        let ways = [(from, to), (to, from)];
        for (from, to) in ways.into_iter().take(if one_way { 1 } else { 2 }) {
            let way = (from.to_owned(), to.to_owned());
            if cut {
                self.broken_links.insert(way);
            } else {
                self.broken_links.remove(&way);
            }
        }
        self.touched();
    }

    /// Cuts all links of a host, or mends them.
    pub(crate) fn set_links_of(&mut self, host: &str, cut: bool) {
        let others: Vec<String> = self.hosts.keys().filter(|other| *other != host).cloned().collect();
        for other in others {
            self.set_link(host, &other, cut, false);
        }
    }

    /// Whether a question and its answer get through.
    pub(crate) fn is_whole(&self, one: &str, other: &str) -> bool {
        let lost = |from: &str, to: &str| self.broken_links.contains(&(from.to_owned(), to.to_owned()));
        one == other || self.broken_links.is_empty() || !(lost(one, other) || lost(other, one))
    }

    /// The host on which a machine runs.
    fn host_running(&self, machine: Uuid) -> Option<&str> {
        self.hosts
            .iter()
            .find(|(_, host)| {
                host.domains.values().any(|domain| {
                    let mark = domain.mark.as_ref();
                    domain.is_alive() && mark.is_some_and(|mark| mark.machine_uid == machine)
                })
            })
            .map(|(name, _)| name.as_str())
    }

    /// Whether two machines that run hear each other.
    pub(crate) fn hear_each_other(&self, one: Uuid, other: Uuid) -> bool {
        if one == other || self.broken_links.is_empty() {
            return true;
        }
        match (self.host_running(one), self.host_running(other)) {
            (Some(one), Some(other)) => self.is_whole(one, other),
            _ => false,
        }
    }

    /// Whether the machine is heard on a host.
    pub(crate) fn is_heard_on(&self, host: &str, machine: Option<Uuid>) -> bool {
        self.broken_links.is_empty()
            || machine
                .and_then(|machine| self.host_running(machine))
                .is_some_and(|there| self.is_whole(host, there))
    }

    /// Whether an API server of the cluster is heard on a host.
    pub(crate) fn api_is_heard_on(&self, host: &str, cluster: &NamespacedName) -> bool {
        let is_heard = |machine: &Machine| self.is_heard_on(host, machine.metadata.uid);
        self.broken_links.is_empty() || guest::any_serving(self, cluster, is_heard)
    }
}
