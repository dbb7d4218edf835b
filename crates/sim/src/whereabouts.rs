//! Where each machine's domains are: the world asks all the time, and a look at every domain of a big one takes long.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ashlar_api::{Machine, NamespacedName};
use uuid::Uuid;

use crate::guest::cluster_of;
use crate::{SimDomain, SimHost};

/// Stamps given out so far, in all worlds: each stands for one content.
static STAMPS: AtomicU64 = AtomicU64::new(0);

fn new_stamp() -> u64 {
    STAMPS.fetch_add(1, Ordering::Relaxed) + 1
}

/// A value that tells whether somebody may have changed it.
#[derive(Clone, Debug)]
pub struct Stamped<T> {
    value: T,
    stamp: u64,
}

impl<T> Stamped<T> {
    /// To change what nobody looks for by the stamp.
    pub(crate) fn quietly(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: Default> Default for Stamped<T> {
    fn default() -> Self {
        Stamped { value: T::default(), stamp: new_stamp() }
    }
}

impl<T> Deref for Stamped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Stamped<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.stamp = new_stamp();
        &mut self.value
    }
}

impl<'a, K, V> IntoIterator for &'a Stamped<BTreeMap<K, V>> {
    type Item = (&'a K, &'a V);
    type IntoIter = std::collections::btree_map::Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut Stamped<BTreeMap<K, V>> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = std::collections::btree_map::IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// A domain: its host and its UUID.
type Place = (String, Uuid);

/// What is known of a world's domains; a copy of the world finds it out anew.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<Whereabouts>);

impl Index {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Whereabouts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Index {
    fn clone(&self) -> Self {
        Index::default()
    }
}

/// Domains by what their marks say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whereabouts {
    /// Nothing has changed anywhere since this stamp.
    seen_to: u64,
    hosts: BTreeMap<String, Noted>,
    machines: HashMap<Uuid, Vec<Place>>,
    clusters: BTreeMap<NamespacedName, Vec<Place>>,
    addresses: HashMap<Ipv4Addr, Vec<Place>>,
}

/// What was noted of one host.
#[derive(Clone, Debug)]
struct Noted {
    stamp: u64,
    domains: Vec<(Uuid, Keys)>,
}

/// By what one looks for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Keys {
    machine: Option<Uuid>,
    cluster: NamespacedName,
    addresses: Vec<Ipv4Addr>,
}

impl Keys {
    fn of(machine: &Machine) -> Self {
        let own = machine.spec.nics.iter().map(|nic| nic.address.addr());
        let addresses = own.chain([machine.spec.node.endpoint.address]).collect();
        Keys { machine: machine.metadata.uid, cluster: cluster_of(machine), addresses }
    }
}

/// The machine of a live domain.
pub(crate) fn live_machine(domain: &SimDomain) -> Option<&std::sync::Arc<Machine>> {
    domain.mark.as_ref()?.machine.as_ref()
}

impl Whereabouts {
    /// Takes in what has changed.
    pub(crate) fn catch_up(&mut self, hosts: &BTreeMap<String, SimHost>) {
        let seen_to = STAMPS.load(Ordering::Relaxed);
        if self.seen_to == seen_to && self.hosts.len() == hosts.len() {
            return;
        }
        self.seen_to = seen_to;
        let gone: Vec<String> =
            self.hosts.keys().filter(|name| !hosts.contains_key(*name)).cloned().collect();
        for name in gone {
            self.forget(&name);
        }
        for (name, host) in hosts {
            let stamp = host.domains.stamp;
            if self.hosts.get(name).is_some_and(|noted| noted.stamp == stamp) {
                continue;
            }
            let keys = |(uuid, domain): (&Uuid, &SimDomain)| Some((*uuid, Keys::of(live_machine(domain)?)));
            let domains: Vec<(Uuid, Keys)> = host.domains.iter().filter_map(keys).collect();
            match self.hosts.get_mut(name).filter(|noted| noted.domains == domains) {
                Some(noted) => noted.stamp = stamp,
                None => {
                    self.forget(name);
                    self.note(name, &domains);
                    self.hosts.insert(name.clone(), Noted { stamp, domains });
                }
            }
        }
    }

    fn note(&mut self, host: &str, domains: &[(Uuid, Keys)]) {
        for (domain, keys) in domains {
            let place = || (host.to_owned(), *domain);
            if let Some(machine) = keys.machine {
                self.machines.entry(machine).or_default().push(place());
            }
            self.clusters.entry(keys.cluster.clone()).or_default().push(place());
            for address in &keys.addresses {
                self.addresses.entry(*address).or_default().push(place());
            }
        }
    }

    fn forget(&mut self, host: &str) {
        let Some(noted) = self.hosts.remove(host) else { return };
        for (domain, keys) in noted.domains {
            let others = |place: &Place| place.0 != host || place.1 != domain;
            let lists = keys
                .machine
                .and_then(|machine| self.machines.get_mut(&machine))
                .into_iter()
                .chain(self.clusters.get_mut(&keys.cluster));
            for places in lists {
                places.retain(others);
            }
            for address in &keys.addresses {
                if let Some(places) = self.addresses.get_mut(address) {
                    places.retain(others);
                }
            }
        }
    }

    pub(crate) fn of_machine(&self, machine: Uuid) -> &[Place] {
        self.machines.get(&machine).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn of_cluster(&self, cluster: &NamespacedName) -> &[Place] {
        self.clusters.get(cluster).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn of_address(&self, address: Ipv4Addr) -> &[Place] {
        self.addresses.get(&address).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_what_a_look_at_every_domain_says() {
        let simulation = crate::Simulation::with_pool(1, 2).unwrap();
        simulation.apply(&crate::fixtures::cluster("demo", 1, 2)).unwrap();
        let demo = NamespacedName::new("default", "demo");
        let goal = ashlar_engine::Goal::ClusterReady(demo.clone());
        let done = simulation.run(
            &ashlar_engine::Scope::Cluster(demo.clone()),
            &goal,
            std::time::Duration::from_secs(3600),
        );
        assert!(matches!(done, crate::executor::Ended::Done(Ok(_))));
        let mut index = Whereabouts::default();
        let compare = |index: &mut Whereabouts| {
            let state = simulation.world.state();
            index.catch_up(&state.hosts);
            let mut all = 0;
            for (host, world) in &state.hosts {
                for (uuid, domain) in world.domains.iter() {
                    let place = (host.clone(), *uuid);
                    let machine = live_machine(domain).unwrap();
                    assert!(index.of_machine(machine.metadata.uid.unwrap()).contains(&place));
                    assert!(index.of_cluster(&demo).contains(&place));
                    assert!(index.of_address(machine.spec.nics[0].address.addr()).contains(&place));
                    all += 1;
                }
            }
            assert_eq!(index.of_cluster(&demo).len(), all);
            assert_eq!(index.machines.values().map(Vec::len).sum::<usize>(), all);
            all
        };
        assert_eq!(compare(&mut index), 3);
        // One goes to another host, and vanishes there.
        let moved = {
            let mut state = simulation.world.state();
            let (name, host) = state.hosts.iter_mut().find(|(_, host)| !host.domains.is_empty()).unwrap();
            let (name, uuid) = (name.clone(), *host.domains.keys().next().unwrap());
            let domain = host.domains.remove(&uuid).unwrap();
            let other = state.hosts.iter_mut().find(|(other, _)| **other != name).unwrap().1;
            other.domains.insert(uuid, domain);
            uuid
        };
        assert_eq!(compare(&mut index), 3);
        for host in simulation.world.state().hosts.values_mut() {
            host.domains.remove(&moved);
        }
        assert_eq!(compare(&mut index), 2);
    }
}
