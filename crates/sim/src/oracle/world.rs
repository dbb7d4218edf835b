//! What must hold in the world at every moment, whoever did what.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ashlar_api::{Machine, NamespacedName};

use super::ForeignDomain;
use crate::guest::cluster_of;
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
        .filter(|placed| placed.domain.state.is_active())
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
        let now = state.hosts.get(host).and_then(|host| host.domains.get(uuid)).map(ForeignDomain::of);
        if now.as_ref() != Some(before) {
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
    let mut users: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut machines: BTreeMap<uuid::Uuid, Vec<String>> = BTreeMap::new();
    for placed in running {
        for path in &placed.domain.disk_paths {
            users.entry((placed.host, path)).or_default().push(placed.name());
        }
        if let Some(mark) = placed.domain.mark.as_ref() {
            machines.entry(mark.machine_uid).or_default().push(placed.name());
        }
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
    for ((host, path), names) in users {
        if names.len() > 1 {
            found.push(("disks", format!("{path} on {host} is used by {}", names.join(" and "))));
        }
    }
    for names in machines.into_values().filter(|names| names.len() > 1) {
        found.push(("disks", format!("one machine runs twice: {}", names.join(" and "))));
    }
}

/// 5: an address, a MAC, a VRRP id belongs to one.
fn uniqueness(running: &[Placed<'_>], found: &mut Found) {
    let mut macs: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut addresses: BTreeMap<(&str, Ipv4Addr), Vec<String>> = BTreeMap::new();
    let mut endpoints: BTreeMap<NamespacedName, (&str, Ipv4Addr, u8)> = BTreeMap::new();
    for placed in running {
        let Some(machine) = placed.machine() else { continue };
        for nic in &machine.spec.nics {
            macs.entry((&nic.bridge, &nic.mac)).or_default().push(placed.name());
            addresses.entry((&nic.bridge, nic.address.addr())).or_default().push(placed.name());
        }
        if let Some(nic) = machine.spec.nics.first() {
            let endpoint = &machine.spec.node.endpoint;
            endpoints.insert(cluster_of(machine), (&nic.bridge, endpoint.address, endpoint.vrrp_id));
        }
    }
    let mut vrrp_ids: BTreeMap<(&str, u8), Vec<String>> = BTreeMap::new();
    for (cluster, (bridge, address, vrrp_id)) in endpoints {
        addresses.entry((bridge, address)).or_default().push(format!("the endpoint of {cluster}"));
        vrrp_ids.entry((bridge, vrrp_id)).or_default().push(format!("cluster {cluster}"));
    }
    let mut report = |what: String, holders: Vec<String>| {
        if holders.len() > 1 {
            found.push(("uniqueness", format!("{what} is held by {}", holders.join(" and "))));
        }
    };
    for ((_, mac), holders) in macs {
        report(format!("MAC {mac}"), holders);
    }
    for ((_, address), holders) in addresses {
        report(format!("address {address}"), holders);
    }
    for ((_, id), holders) in vrrp_ids {
        report(format!("VRRP id {id}"), holders);
    }
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
