//! Network: an L2 segment with its addresses, on which machines live.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
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
    /// MTU of the segment, told truthfully to VMs and CNI.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Addresses that Ashlar may give out (nodes and endpoints); nothing outside is ever used.
    pub ranges: Vec<AddressRange>,
    /// VRRP router ids that Ashlar may use on this segment.
    #[serde(default)]
    pub vrrp_ids: VrrpIds,
}

fn default_mtu() -> u16 {
    1500
}

/// How a network exists on the hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkAttachment {
    /// An existing Linux bridge of this name on every host that carries the network.
    pub bridge: String,
    /// Hosts that carry it; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
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
}

impl Spec for NetworkSpec {
    const KIND: Kind = Kind::Network;
    type Record = NetworkRecord;
    type Status = Nothing;
}
