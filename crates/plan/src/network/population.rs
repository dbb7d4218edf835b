//! Who is on which network, indexed once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::str::FromStr as _;
use std::sync::Arc;

use ashlar_api::{
    Cluster, Cni, Host, Isolation, Machine, MachineRole, NamespacedName, Network, Nic, host_uri::HostUri,
};
use ipnet::Ipv4Net;
use uuid::Uuid;

use super::host_network::{HostNetwork, MadeBridge, Overlay, TapFilter};
use super::names;
use crate::draft::cluster_of;

/// A machine, and the interface that it has on a network.
type Attached<'a> = (&'a Machine, &'a Nic);

/// Networks with their machines.
pub struct Population<'a> {
    installation: Uuid,
    networks: BTreeMap<&'a str, &'a Network>,
    hosts: BTreeMap<&'a str, &'a Host>,
    clusters: BTreeMap<NamespacedName, &'a Cluster>,
    /// Network and host → interfaces there.
    attached: BTreeMap<&'a str, BTreeMap<&'a str, Vec<Attached<'a>>>>,
    /// Segment → addresses with the cluster that holds them.
    held: BTreeMap<String, BTreeMap<NamespacedName, BTreeSet<Ipv4Addr>>>,
    /// Addresses of all hosts.
    host_addresses: Arc<BTreeSet<Ipv4Addr>>,
}

/// The host's address between hosts: for overlays, and for what moves from one to another.
pub fn underlay(host: &Host) -> Option<Ipv4Addr> {
    host.spec.underlay_address.or_else(|| ssh_address(host))
}

fn ssh_address(host: &Host) -> Option<Ipv4Addr> {
    HostUri::from_str(&host.spec.uri).ok()?.address.parse().ok()
}

impl<'a> Population<'a> {
    /// Indexes.
    pub fn new(
        installation: Uuid,
        networks: impl Iterator<Item = &'a Network>,
        machines: impl Iterator<Item = &'a Machine>,
        clusters: impl Iterator<Item = &'a Cluster>,
        hosts: impl Iterator<Item = &'a Host>,
    ) -> Self {
        let mut population = Population {
            installation,
            networks: networks.map(|network| (network.metadata.name.as_str(), network)).collect(),
            hosts: hosts.map(|host| (host.metadata.name.as_str(), host)).collect(),
            clusters: clusters.map(|cluster| (cluster.key(), cluster)).collect(),
            attached: BTreeMap::new(),
            held: BTreeMap::new(),
            host_addresses: Arc::default(),
        };
        let addresses =
            |host: &&Host| ssh_address(host).into_iter().chain(underlay(host)).collect::<Vec<_>>();
        population.host_addresses = Arc::new(population.hosts.values().flat_map(addresses).collect());
        for machine in machines {
            for nic in &machine.spec.nics {
                let on_host = population.attached.entry(nic.network.as_str()).or_default();
                for host in machine.hosts() {
                    on_host.entry(host).or_default().push((machine, nic));
                }
                let segment = population.segment(&nic.network);
                let holders = population.held.entry(segment).or_default();
                holders.entry(cluster_of(machine)).or_default().insert(nic.address.addr());
            }
        }
        let endpoints: Vec<_> = population
            .clusters
            .iter()
            .filter_map(|(key, cluster)| {
                let endpoint = cluster.record.endpoint.as_ref()?;
                Some((key.clone(), population.segment(&cluster.spec.network), endpoint.address))
            })
            .collect();
        for (cluster, segment, address) in endpoints {
            population.held.entry(segment).or_default().entry(cluster).or_default().insert(address);
        }
        population
    }

    fn segment(&self, network: &str) -> String {
        self.networks.get(network).map_or_else(|| network.to_owned(), |network| network.segment())
    }

    /// Hosts with a machine on the network.
    pub fn hosts_of(&self, network: &str) -> impl Iterator<Item = &'a str> {
        self.attached.get(network).into_iter().flat_map(|hosts| hosts.keys().copied())
    }

    /// Whether a machine on the host is attached to the network.
    pub fn is_used(&self, network: &str, host: &str) -> bool {
        self.attached.get(network).is_some_and(|hosts| hosts.contains_key(host))
    }

    /// What should be there of the network on the host.
    ///
    /// # Errors
    /// For people: what has to be added to the store first.
    pub fn desired(&self, network: &str, host: &str) -> Result<HostNetwork, String> {
        let object = self.networks.get(network).ok_or_else(|| {
            format!("network {network} is not in the store: bring it back with `ashlar apply`")
        })?;
        let uid = object.metadata.uid.unwrap_or_default();
        let spec = &object.spec;
        let mut wanted = HostNetwork {
            installation: self.installation,
            uid,
            name: network.to_owned(),
            bridge: bridge(object),
            mtu: spec.mtu(),
            made: self.made(object, host)?,
            guarded: spec.ranges.clone(),
            hosts: Arc::clone(&self.host_addresses),
            dns: spec.dns.iter().copied().collect(),
            taps: BTreeMap::new(),
            members: BTreeMap::new(),
            given_out: Vec::new(),
        };
        let there = self.attached.get(network).and_then(|hosts| hosts.get(host));
        // Where nobody else is on the segment, a cluster's new machine concerns its own host only.
        let segment = object.segment();
        let holders = self.held.get(&segment).filter(|holders| holders.len() > 1);
        let apart = holders.filter(|_| spec.isolation == Isolation::Clusters);
        if apart.is_some() {
            let same = self.networks.values().filter(|network| network.segment() == segment);
            wanted.given_out = same.flat_map(|network| network.spec.ranges.iter().cloned()).collect();
        }
        for (machine, nic) in there.into_iter().flatten() {
            let cluster = cluster_of(machine);
            if let Some(own) = apart.and_then(|holders| holders.get(&cluster)) {
                wanted.members.entry(cluster.to_string()).or_insert_with(|| own.clone());
            }
            wanted.taps.insert(names::tap(&nic.mac), self.tap(machine, nic, &cluster));
        }
        Ok(wanted)
    }

    fn tap(&self, machine: &Machine, nic: &Nic, cluster: &NamespacedName) -> TapFilter {
        let object = self.clusters.get(cluster);
        let mut addresses = BTreeSet::from([nic.address.addr()]);
        let endpoint = object.and_then(|cluster| cluster.record.endpoint.as_ref());
        if machine.spec.role == MachineRole::ControlPlane {
            addresses.extend(endpoint.map(|endpoint| endpoint.address));
        }
        let pods =
            object.filter(|cluster| cluster.spec.cni == Cni::None).map(|cluster| cluster.spec.pod_cidr);
        TapFilter {
            machine: machine.key().to_string(),
            cluster: cluster.to_string(),
            mac: nic.mac.clone(),
            addresses,
            pod_sources: pods.into_iter().collect(),
        }
    }

    fn made(&self, network: &Network, host: &str) -> Result<Option<MadeBridge>, String> {
        let spec = &network.spec;
        if !spec.is_made_by_us() {
            return Ok(None);
        }
        let name = &network.metadata.name;
        let uid = network.metadata.uid.unwrap_or_default();
        let prefix = spec.cidrs.first().map_or(32, Ipv4Net::prefix_len);
        let gateway = Ipv4Net::new(spec.gateway, prefix).map_err(|error| error.to_string())?;
        let overlay = match &spec.attachment.vxlan {
            None => None,
            Some(vxlan) => {
                let local = self.underlay(host, name)?;
                let peers = self.hosts_of(name).filter(|peer| *peer != host);
                let peers = peers.map(|peer| self.underlay(peer, name)).collect::<Result<_, _>>()?;
                Some(Overlay { vni: vxlan.vni, port: vxlan.port, local, peers })
            }
        };
        Ok(Some(MadeBridge {
            gateway,
            gateway_mac: names::gateway_mac(uid),
            egress: spec.has_egress(),
            overlay,
        }))
    }

    fn underlay(&self, host: &str, network: &str) -> Result<Ipv4Addr, String> {
        let missing = || {
            format!(
                "host {host} has no IPv4 address for the overlay {network}: its URI names it by name, so set \
                 spec.underlayAddress of the host"
            )
        };
        self.hosts.get(host).and_then(|host| underlay(host)).ok_or_else(missing)
    }
}

/// The bridge that machines of a network are attached to.
pub(crate) fn bridge(network: &Network) -> String {
    match network.spec.attachment.existing_bridge() {
        Some(bridge) => bridge.to_owned(),
        None => names::bridge(network.metadata.uid.unwrap_or_default()),
    }
}
