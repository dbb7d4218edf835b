//! What must hold in the world at every moment, whoever did what.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ashlar_api::{Machine, NamespacedName};

use crate::{SimDomain, State};

type Found = Vec<(&'static str, String)>;

/// A domain with where it is.
struct Placed<'a> {
    host: &'a str,
    domain: &'a SimDomain,
}

impl Placed<'_> {
    fn name(&self) -> String {
        format!("{} on {}", self.domain.name, self.host)
    }

    fn machine(&self) -> Option<&Machine> {
        self.domain.mark.as_ref()?.machine.as_deref()
    }
}

pub(super) fn judge(state: &State) -> Found {
    let mut found = Found::new();
    let running: Vec<Placed<'_>> = state
        .hosts
        .iter()
        .flat_map(|(host, world)| world.domains.values().map(move |domain| Placed { host, domain }))
        .filter(|placed| placed.domain.is_alive())
        .collect();
    foreign(state, &mut found);
    disks(state, &running, &mut found);
    uniqueness(&running, &mut found);
    capacity(state, &mut found);
    found
}

/// 1, 2: what is not ours is as it was.
fn foreign(state: &State, found: &mut Found) {
    for ((host, uuid), before) in &state.oracle.foreign_domains {
        let now = state.hosts.get(host).and_then(|host| host.domains.get(uuid));
        if !now.is_some_and(|now| before.is_as_before(now)) {
            found.push(("identity", format!("the foreign domain {} on {host} was touched", before.name)));
        }
    }
    for ((host, pool, file), before) in &state.oracle.foreign_volumes {
        let pool = state.hosts.get(host).and_then(|host| host.pools.get(pool));
        if pool.and_then(|pool| pool.volumes.get(file)) != Some(before) {
            found.push(("identity", format!("the foreign file {file} on {host} was touched")));
        }
    }
}

/// 3: a disk never runs twice, and nothing takes away a file that is in use.
fn disks(state: &State, running: &[Placed<'_>], found: &mut Found) {
    let mut users: Vec<((&str, &str), &Placed<'_>)> = Vec::new();
    let mut machines: Vec<(uuid::Uuid, &Placed<'_>)> = Vec::new();
    for placed in running {
        users.extend(placed.domain.disk_paths.iter().map(|path| ((placed.host, path.as_str()), placed)));
        machines.extend(placed.domain.mark.as_ref().map(|mark| (mark.machine_uid, placed)));
        let Some(spec) = &placed.domain.spec else { continue };
        let Some(host) = state.hosts.get(placed.host) else { continue };
        let backing = spec.disks.iter().filter_map(|disk| disk.backing_path.as_ref());
        let used = placed.domain.disk_paths.iter().chain(&placed.domain.medium_path).chain(backing);
        for path in used {
            if host.volume_at(path).is_none() {
                found.push(("disks", format!("{} runs without its file {path}", placed.name())));
            }
        }
    }
    shared(users, |(host, path), names| {
        found.push(("disks", format!("{path} on {host} is used by {names}")));
    });
    shared(machines, |_, names| found.push(("disks", format!("one machine runs twice: {names}"))));
}

/// Who holds something.
trait Holder {
    fn name(&self) -> String;
}

impl Holder for &Placed<'_> {
    fn name(&self) -> String {
        Placed::name(self)
    }
}

/// Tells of what more than one holds. Names are made only then: this runs after every step.
fn shared<T: Ord + Copy, H: Holder>(mut held: Vec<(T, H)>, mut tell: impl FnMut(T, &str)) {
    held.sort_by_key(|(what, _)| *what);
    for same in held.chunk_by(|(one, _), (other, _)| one == other).filter(|same| same.len() > 1) {
        let names: Vec<String> = same.iter().map(|(_, holder)| holder.name()).collect();
        tell(same[0].0, &names.join(" and "));
    }
}

/// Who holds an address.
enum AddressHolder<'a> {
    Domain(&'a Placed<'a>),
    Endpoint((&'a str, &'a str)),
}

impl Holder for AddressHolder<'_> {
    fn name(&self) -> String {
        match self {
            AddressHolder::Domain(placed) => placed.name(),
            AddressHolder::Endpoint((namespace, name)) => {
                format!("the endpoint of {}", NamespacedName::new(*namespace, *name))
            }
        }
    }
}

struct ClusterHolder<'a>((&'a str, &'a str));

impl Holder for ClusterHolder<'_> {
    fn name(&self) -> String {
        let (namespace, name) = self.0;
        format!("cluster {}", NamespacedName::new(namespace, name))
    }
}

/// 5: a name, an address, a MAC, a VRRP id belongs to one.
fn uniqueness(running: &[Placed<'_>], found: &mut Found) {
    let mut names: Vec<((&str, &str), &Placed<'_>)> = Vec::new();
    let mut macs: Vec<((&str, &str), &Placed<'_>)> = Vec::new();
    let mut addresses: Vec<((&str, Ipv4Addr), AddressHolder<'_>)> = Vec::new();
    let mut endpoints: BTreeMap<(&str, &str), (&str, Ipv4Addr, u8)> = BTreeMap::new();
    for placed in running {
        let Some(machine) = placed.machine() else { continue };
        names.push(((&machine.metadata.namespace, &machine.metadata.name), placed));
        for nic in &machine.spec.nics {
            macs.push(((&nic.bridge, &nic.mac), placed));
            addresses.push(((&nic.bridge, nic.address.addr()), AddressHolder::Domain(placed)));
        }
        if let Some(nic) = machine.spec.nics.first() {
            let endpoint = &machine.spec.node.endpoint;
            let cluster = (machine.metadata.namespace.as_str(), machine.spec.cluster.as_str());
            endpoints.insert(cluster, (&nic.bridge, endpoint.address, endpoint.vrrp_id));
        }
    }
    let mut vrrp_ids: Vec<((&str, u8), ClusterHolder<'_>)> = Vec::new();
    for (cluster, (bridge, address, vrrp_id)) in endpoints {
        addresses.push(((bridge, address), AddressHolder::Endpoint(cluster)));
        vrrp_ids.push(((bridge, vrrp_id), ClusterHolder(cluster)));
    }
    let mut report = |what: String, names: &str| {
        found.push(("uniqueness", format!("{what} is held by {names}")));
    };
    shared(names, |(_, name), names| report(format!("name {name}"), names));
    shared(macs, |(_, mac), names| report(format!("MAC {mac}"), names));
    shared(addresses, |(_, address), names| report(format!("address {address}"), names));
    shared(vrrp_ids, |(_, id), names| report(format!("VRRP id {id}"), names));
}

/// 6: no host is promised more than it has; a domain that is off keeps its claim.
fn capacity(state: &State, found: &mut Found) {
    for (name, host) in &state.hosts {
        let Some((vcpus_limit, memory_limit)) = state.oracle.limits.get(name) else { continue };
        let specs = || host.domains.values().filter_map(|domain| domain.spec.as_ref());
        let vcpus: u64 = specs().map(|spec| u64::from(spec.vcpus)).sum();
        let memory_mib: u64 = specs().map(|spec| spec.memory_mib).sum();
        if vcpus > *vcpus_limit {
            found.push(("capacity", format!("{name}: {vcpus} vCPUs are more than {vcpus_limit}")));
        }
        if memory_mib > *memory_limit {
            found.push(("capacity", format!("{name}: {memory_mib} MiB are more than {memory_limit}")));
        }
    }
}
