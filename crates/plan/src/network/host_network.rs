//! What should be there of one network on one host, to the last rule; whoever makes it has no choice left.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ashlar_api::AddressRange;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One network on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostNetwork {
    /// This installation, for the marks.
    pub installation: Uuid,
    /// The Network's uid, from which all names on the host follow.
    pub uid: Uuid,
    /// The Network's name, for people.
    pub name: String,
    /// The bridge that taps are ports of.
    pub bridge: String,
    /// MTU.
    pub mtu: u16,
    /// What Ashlar makes; none where the bridge is an existing one.
    pub made: Option<MadeBridge>,
    /// Addresses that open no connections to the host: all that the network gives out.
    pub guarded: Vec<AddressRange>,
    /// Addresses of the hosts: no machine opens connections to them.
    pub hosts: Arc<BTreeSet<Ipv4Addr>>,
    /// DNS servers: they may be asked even if they are the host's own.
    pub dns: BTreeSet<Ipv4Addr>,
    /// Taps by interface name.
    pub taps: BTreeMap<String, TapFilter>,
    /// For each cluster with a tap here: its own addresses on the segment. Of `given_out` its machines reach these only.
    /// Empty where the segment has one cluster, or clusters are not kept apart.
    pub members: BTreeMap<String, BTreeSet<Ipv4Addr>>,
    /// All addresses that the segment's networks give out.
    pub given_out: Vec<AddressRange>,
}

/// A bridge of ours, with its gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeBridge {
    /// Address of the gateway with prefix length, the same on every host.
    pub gateway: Ipv4Net,
    /// Its MAC, the same on every host.
    pub gateway_mac: String,
    /// Whether machines get out through the host.
    pub egress: bool,
    /// The way to other hosts.
    pub overlay: Option<Overlay>,
}

/// A VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overlay {
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Address of this host.
    pub local: Ipv4Addr,
    /// Addresses of the other hosts that carry the network: a flood entry for each.
    pub peers: BTreeSet<Ipv4Addr>,
}

/// What may come out of a tap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TapFilter {
    /// The machine, for people.
    pub machine: String,
    /// Its cluster: namespace and name.
    pub cluster: String,
    /// Its MAC.
    pub mac: String,
    /// Addresses that it may claim by ARP: its own, and on a control plane the cluster's.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Further sources of its packets: pods, where the cluster's pod network is the user's and may route them.
    pub pod_sources: BTreeSet<Ipv4Net>,
}

impl HostNetwork {
    /// What is different from what was applied, for people.
    pub(crate) fn differences(&self, applied: &HostNetwork) -> Vec<String> {
        let mut found = Vec::new();
        let taps = |network: &HostNetwork| network.taps.keys().cloned().collect::<BTreeSet<_>>();
        let (new, old) = (taps(self), taps(applied));
        let machines = |network: &HostNetwork, taps: Vec<&String>| {
            let names: Vec<&str> = taps
                .iter()
                .filter_map(|tap| network.taps.get(*tap))
                .map(|tap| tap.machine.as_str())
                .collect();
            names.join(", ")
        };
        let added: Vec<&String> = new.difference(&old).collect();
        if !added.is_empty() {
            found.push(format!("a filter for {}", machines(self, added)));
        }
        let gone: Vec<&String> = old.difference(&new).collect();
        if !gone.is_empty() {
            found.push(format!("no filter for {} any more", machines(applied, gone)));
        }
        let peers = |network: &HostNetwork| {
            let overlay = network.made.as_ref().and_then(|made| made.overlay.as_ref());
            overlay.map(|overlay| overlay.peers.clone()).unwrap_or_default()
        };
        let (new, old) = (peers(self), peers(applied));
        let list =
            |peers: Vec<&Ipv4Addr>| peers.iter().map(|peer| peer.to_string()).collect::<Vec<_>>().join(", ");
        let added: Vec<&Ipv4Addr> = new.difference(&old).collect();
        if !added.is_empty() {
            found.push(format!("flood entries to {}", list(added)));
        }
        let gone: Vec<&Ipv4Addr> = old.difference(&new).collect();
        if !gone.is_empty() {
            found.push(format!("no flood entries to {} any more", list(gone)));
        }
        if found.is_empty() {
            found.push("other rules".to_owned());
        }
        found
    }
}
