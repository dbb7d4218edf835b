//! Networks.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Report, syntax};
use crate::{AddressRange, NetworkAttachment, NetworkSpec, VXLAN_OVERHEAD};

/// What IPv6 needs at least (RFC 8200), so that dual stack fits later; IPv4 alone would do with 576.
const LEAST_MTU: u16 = 1280;
/// Jumbo frames as switches have them.
const MOST_MTU: u16 = 9216;
/// The highest VLAN id: 4095 is reserved (IEEE 802.1Q).
const MOST_VLAN: u16 = 4094;
/// 24 bits (RFC 7348).
const MOST_VNI: u32 = 0x00ff_ffff;
/// Smallest network with room for gateway, endpoint and nodes.
const LONGEST_PREFIX: u8 = 29;
const SHORTEST_PREFIX: u8 = 8;

pub(super) fn check(report: &mut Report<'_>, spec: &NetworkSpec) {
    attachment(report, spec);
    let mtu = spec.mtu();
    if !(LEAST_MTU..=MOST_MTU).contains(&mtu) {
        report.add("spec.mtu", format!("{mtu} is outside of {LEAST_MTU} to {MOST_MTU}"));
    } else if spec.attachment.vxlan.is_some() && mtu > MOST_MTU - VXLAN_OVERHEAD {
        let most = MOST_MTU - VXLAN_OVERHEAD;
        let message = format!("{mtu} is above {most}: VXLAN adds {VXLAN_OVERHEAD} bytes to each frame");
        report.add("spec.mtu", message);
    }
    if spec.vrrp_ids.first == 0 {
        report.add("spec.vrrpIds.first", "is 0: VRRP router ids are 1 to 255 (RFC 5798)");
    }
    if spec.vrrp_ids.first > spec.vrrp_ids.last {
        let (first, last) = (spec.vrrp_ids.first, spec.vrrp_ids.last);
        report.add("spec.vrrpIds", format!("the first id, {first}, is above the last, {last}"));
    }
    for (index, address) in spec.dns.iter().enumerate() {
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            report.add(format!("spec.dns[{index}]"), format!("{address} is not the address of a server"));
        }
    }
    let [cidr] = spec.cidrs.as_slice() else {
        let message = format!("has {} networks: exactly one is possible for now", spec.cidrs.len());
        report.add("spec.cidrs", message);
        check_ranges(report, spec, None);
        return;
    };
    report.check("spec.cidrs[0]", syntax::cidr_problem(*cidr));
    report.check("spec.cidrs[0]", syntax::special_network(*cidr));
    if !(SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&cidr.prefix_len()) {
        let message = format!("/{} is outside of /{SHORTEST_PREFIX} to /{LONGEST_PREFIX}", cidr.prefix_len());
        report.add("spec.cidrs[0]", message);
    }
    report.check("spec.gateway", host_address_problem(spec.gateway, *cidr));
    check_ranges(report, spec, Some(*cidr));
}

fn attachment(report: &mut Report<'_>, spec: &NetworkSpec) {
    const PATH: &str = "spec.attachment";
    let NetworkAttachment { bridge, vlan, nat, vxlan, hosts } = &spec.attachment;
    let kinds = [
        ("bridge", bridge.is_some()),
        ("vlan", vlan.is_some()),
        ("nat", nat.is_some()),
        ("vxlan", vxlan.is_some()),
    ];
    let given: Vec<&str> = kinds.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if given.len() != 1 {
        let what =
            if given.is_empty() { "says nothing".to_owned() } else { format!("has {}", given.join(" and ")) };
        report.add(PATH, format!("{what}: write exactly one of bridge, vlan, nat and vxlan"));
    }
    if let Some(bridge) = bridge {
        report.check("spec.attachment.bridge", syntax::interface_problem(bridge));
    }
    if let Some(vlan) = vlan {
        report.check("spec.attachment.vlan.bridge", syntax::interface_problem(&vlan.bridge));
        if !(1..=MOST_VLAN).contains(&vlan.tag) {
            let message = format!("{} is no VLAN id: they are 1 to {MOST_VLAN}", vlan.tag);
            report.add("spec.attachment.vlan.tag", message);
        }
    }
    if nat.is_some() && hosts.len() != 1 {
        let message =
            format!("names {} hosts: a nat network lies on exactly one; for more, use vxlan", hosts.len());
        report.add("spec.attachment.hosts", message);
    }
    if let Some(vxlan) = vxlan {
        if !(1..=MOST_VNI).contains(&vxlan.vni) {
            let message = format!("{} is no VXLAN identifier: they are 1 to {MOST_VNI}", vxlan.vni);
            report.add("spec.attachment.vxlan.vni", message);
        }
        if vxlan.port == 0 {
            report.add("spec.attachment.vxlan.port", "is 0");
        }
    }
    if spec.egress.is_some() && !spec.is_made_by_us() {
        let message = "says how machines leave a network that Ashlar makes (vxlan, nat); on an existing bridge its own \
                       router decides";
        report.add("spec.egress", message);
    }
}

/// What keeps an address from being that of a host in a network.
pub(super) fn host_address_problem(address: Ipv4Addr, cidr: Ipv4Net) -> Option<String> {
    if !cidr.contains(&address) {
        Some(format!("{address} is not in {}", cidr.trunc()))
    } else if address == cidr.network() {
        Some(format!("{address} is the address of the network {} itself", cidr.trunc()))
    } else if address == cidr.broadcast() {
        Some(format!("{address} is the broadcast address of {}", cidr.trunc()))
    } else {
        None
    }
}

fn check_ranges(report: &mut Report<'_>, spec: &NetworkSpec, cidr: Option<Ipv4Net>) {
    if spec.ranges.is_empty() {
        let message = "is empty: name the addresses that Ashlar may give to nodes and endpoints";
        report.add("spec.ranges", message);
    }
    for (index, range) in spec.ranges.iter().enumerate() {
        let path = format!("spec.ranges[{index}]");
        let AddressRange { first, last } = range;
        if first > last {
            report.add(path, format!("the first address, {first}, is above the last, {last}"));
            continue;
        }
        if let Some(cidr) = cidr {
            report.check(&format!("{path}.first"), host_address_problem(*first, cidr));
            report.check(&format!("{path}.last"), host_address_problem(*last, cidr));
        }
        if range.contains(spec.gateway) {
            let message = format!("{} holds the gateway {}: leave it out", show(range), spec.gateway);
            report.add(path.clone(), message);
        }
        for server in spec.dns.iter().filter(|server| **server != spec.gateway && range.contains(**server)) {
            report.add(path.clone(), format!("{} holds the DNS server {server}: leave it out", show(range)));
        }
        for (other_index, other) in spec.ranges.iter().enumerate().take(index) {
            if other.first <= *last && *first <= other.last {
                let message =
                    format!("{} overlaps with spec.ranges[{other_index}] ({})", show(range), show(other));
                report.add(path.clone(), message);
            }
        }
    }
}

/// A range for messages.
pub(super) fn show(range: &AddressRange) -> String {
    format!("{}-{}", range.first, range.last)
}

impl AddressRange {
    /// Whether an address lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}
