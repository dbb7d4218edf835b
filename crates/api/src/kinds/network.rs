//! Network: an L2 segment with its addresses, on which machines live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Kind, Nothing, Resource, Spec};

/// An L2 segment with its addresses.
pub type Network = Resource<NetworkSpec>;

/// A network that machines can be attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// How the segment exists on the hosts.
    pub attachment: NetworkAttachment,
    /// IPv4 CIDRs; exactly one for now (a list, so that dual stack fits later).
    #[schemars(with = "Vec<crate::schema::CidrText>")]
    pub cidrs: Vec<Ipv4Net>,
    /// Default gateway. Nodes always have one: host-network traffic to Service addresses fails without.
    #[schemars(with = "crate::schema::Ipv4Text")]
    pub gateway: Ipv4Addr,
    /// DNS servers of the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::schema::Ipv4Text>")]
    pub dns: Vec<Ipv4Addr>,
    /// MTU of the segment, told truthfully to VMs and CNI; default: 1500, on an overlay 1450.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// How machines get out of a network that Ashlar makes (`vxlan`, `nat`); default: `nat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Whether clusters that share the segment may reach each other's nodes; default: no.
    #[serde(default, skip_serializing_if = "Isolation::is_default")]
    pub isolation: Isolation,
    /// Addresses that Ashlar may give out (nodes and endpoints); nothing outside is ever used.
    pub ranges: Vec<AddressRange>,
    /// VRRP router ids that Ashlar may use on this segment.
    #[serde(default)]
    pub vrrp_ids: VrrpIds,
}

/// How a network exists on the hosts: exactly one of `bridge`, `vlan`, `nat` and `vxlan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkAttachment {
    /// An existing Linux bridge of this name on every host that carries the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// A VLAN of an existing bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanAttachment>,
    /// A bridge that Ashlar makes on one host, behind address translation: to try things out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatAttachment>,
    /// Ashlar's own overlay between hosts. What it carries is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vxlan: Option<VxlanAttachment>,
    /// Hosts that carry it; empty means all. A `nat` network names exactly one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// A VLAN of an existing bridge, which passes its tag on to the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VlanAttachment {
    /// The bridge, of this name on every host that carries the network.
    pub bridge: String,
    /// VLAN id, 1 to 4094.
    pub tag: u16,
    /// Whether the bridge is one of Open vSwitch. A Linux bridge must be VLAN-aware, and needs libvirt 11.0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open_vswitch: bool,
}

/// A bridge behind address translation; it needs nothing but its host, named in `hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NatAttachment {}

/// An overlay: one VXLAN between the hosts on which the network's machines are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VxlanAttachment {
    /// VXLAN network identifier, 1 to 16777215: one network each.
    pub vni: u32,
    /// UDP port between the hosts.
    #[serde(default = "default_vxlan_port")]
    pub port: u16,
}

fn default_vxlan_port() -> u16 {
    4789
}

/// Bytes that VXLAN over IPv4 adds to a frame: outer Ethernet, IPv4, UDP and VXLAN header.
pub const VXLAN_OVERHEAD: u16 = 50;

/// How machines get out of a network that Ashlar makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// Through their host, with its address; never to the hosts themselves.
    #[default]
    Nat,
    /// Not at all.
    None,
}

/// Who on a segment may reach whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Machines of a cluster reach each other, not those of other clusters.
    #[default]
    Clusters,
    /// All machines on the segment reach each other.
    None,
}

impl Isolation {
    fn is_default(&self) -> bool {
        *self == Isolation::default()
    }
}

impl NetworkSpec {
    /// The MTU: as written, or what fits into 1500.
    pub fn mtu(&self) -> u16 {
        self.mtu.unwrap_or(if self.attachment.vxlan.is_some() { 1500 - VXLAN_OVERHEAD } else { 1500 })
    }

    /// Whether Ashlar makes the bridge, its gateway and what is behind it.
    pub fn is_made_by_us(&self) -> bool {
        self.attachment.vxlan.is_some() || self.attachment.nat.is_some()
    }

    /// Whether machines get out of a network that Ashlar makes.
    pub fn has_egress(&self) -> bool {
        self.is_made_by_us() && self.egress.unwrap_or_default() == Egress::Nat
    }

    /// Whether a host carries the network.
    pub fn is_on(&self, host: &str) -> bool {
        self.attachment.hosts.is_empty() || self.attachment.hosts.iter().any(|name| name == host)
    }
}

impl NetworkAttachment {
    /// What it is, in one word.
    pub fn kind_name(&self) -> &'static str {
        match (&self.bridge, &self.vlan, &self.nat, &self.vxlan) {
            (Some(_), ..) => "bridge",
            (_, Some(_), ..) => "vlan",
            (_, _, Some(_), _) => "nat",
            (.., Some(_)) => "vxlan",
            (None, None, None, None) => "none",
        }
    }

    /// The existing bridge, if the network has one.
    pub fn existing_bridge(&self) -> Option<&str> {
        self.bridge.as_deref().or(self.vlan.as_ref().map(|vlan| vlan.bridge.as_str()))
    }
}

impl Network {
    /// The broadcast domain: networks on the same bridge (and VLAN) are one, whatever they are called; one that Ashlar
    /// makes is one of its own.
    pub fn segment(&self) -> String {
        match (&self.spec.attachment.bridge, &self.spec.attachment.vlan) {
            (Some(bridge), _) => bridge.clone(),
            (None, Some(vlan)) => format!("{} vlan {}", vlan.bridge, vlan.tag),
            (None, None) => format!("network {}", self.metadata.name),
        }
    }
}

/// First and last address, both included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressRange {
    /// First.
    #[schemars(with = "crate::schema::Ipv4Text")]
    pub first: Ipv4Addr,
    /// Last.
    #[schemars(with = "crate::schema::Ipv4Text")]
    pub last: Ipv4Addr,
}

/// A span of VRRP router ids (1–255 on one segment, RFC 5798).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VrrpIds {
    /// First.
    pub first: u8,
    /// Last.
    pub last: u8,
}

impl Default for VrrpIds {
    fn default() -> Self {
        VrrpIds { first: 1, last: 255 }
    }
}

/// The planner's ledger of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkRecord {
    /// Bumped by every address, MAC or VRRP id given out, so that two planners conflict instead of giving one twice.
    #[serde(default)]
    pub ledger_sequence: u64,
    /// Hosts on which something of the network may be: written before it is made, taken out once the host was seen
    /// without.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub hosts: BTreeSet<String>,
    /// Hosts on which a call to set it up had no answer, and since when: it may take effect when nobody waits for it any
    /// more, and so the host is looked at for a day.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, crate::schema::TimeText>")]
    pub unanswered: BTreeMap<String, Timestamp>,
}

impl Spec for NetworkSpec {
    const KIND: Kind = Kind::Network;
    type Record = NetworkRecord;
    type Status = Nothing;
}
