//! The packet filters, as text for `nft`. Every table is deleted and made anew in one transaction: there is no moment
//! without rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use ashlar_plan::network::{HostNetwork, MadeBridge, TapFilter, names};
use uuid::Uuid;

/// Between the host and the gateways' namespaces; each network has four addresses of it. A part of the link-local block
/// that holds none of the addresses which clouds give a meaning.
pub(super) const UPLINKS: &str = "169.254.64.0/18";

/// Says whose a thing is: what an interface carries as its alias, a table as its comment.
pub(super) fn mark(installation: Uuid, network: Uuid) -> String {
    format!("ashlar {installation} {network}")
}

/// Rules at the bridge: what may come out of the machines' taps, and what may pass between hosts.
pub fn bridge_table(network: &HostNetwork) -> String {
    let mut text = head("bridge", network);
    let clusters: BTreeMap<&str, usize> =
        network.members.keys().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
    let given_out: Vec<String> =
        network.given_out.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
    for (cluster, members) in &network.members {
        let Some(index) = clusters.get(cluster.as_str()) else { continue };
        let (given_out, members) = (set(&given_out), set(members));
        let _ = writeln!(
            text,
            "\t# of the segment's addresses, {cluster} has its own only\n\tchain within_{index} {{"
        );
        let _ = writeln!(text, "\t\tip daddr {given_out} ip daddr != {members} drop");
        let _ = writeln!(text, "\t\tarp daddr ip {given_out} arp daddr ip != {members} drop\n\t}}");
    }
    for filter in network.taps.values() {
        tap(&mut text, network, filter, clusters.get(filter.cluster.as_str()).copied());
    }
    text.push_str("\tchain prerouting {\n\t\ttype filter hook prerouting priority -300; policy accept;\n");
    if !network.taps.is_empty() {
        let jumps: Vec<String> = network
            .taps
            .iter()
            .map(|(name, filter)| format!("\"{name}\" : jump {}", chain_name(filter)))
            .collect();
        let _ = writeln!(text, "\t\tiifname vmap {{ {} }}", jumps.join(", "));
    }
    if let Some(made) = &network.made {
        let (mac, gateway) = (&made.gateway_mac, made.gateway.addr());
        let (overlay, port) = (names::overlay(network.uid), names::gateway_port(network.uid));
        if made.overlay.is_some() {
            // Every host has a gateway of its own, of the same address and MAC: none of them is seen across.
            for rule in [
                format!("ether saddr {mac}"),
                format!("arp saddr ip {gateway}"),
                format!("arp daddr ip {gateway}"),
            ] {
                let _ = writeln!(text, "\t\tiifname \"{overlay}\" {rule} drop");
            }
        }
        text.push_str(
            "\t}\n\tchain forwarded {\n\t\ttype filter hook forward priority -300; policy accept;\n",
        );
        if made.overlay.is_some() {
            for rule in [
                format!("ether saddr {mac}"),
                format!("arp saddr ip {gateway}"),
                format!("arp daddr ip {gateway}"),
            ] {
                let _ = writeln!(text, "\t\toifname \"{overlay}\" {rule} drop");
            }
        }
        // The host itself is no party on a bridge of ours; it does not even answer ARP.
        text.push_str("\t}\n\tchain input {\n\t\ttype filter hook input priority -300; policy accept;\n");
        let mut ports: Vec<String> = network.taps.keys().map(|tap| format!("\"{tap}\"")).collect();
        ports.extend([format!("\"{overlay}\""), format!("\"{port}\"")]);
        let _ = writeln!(text, "\t\tiifname {{ {} }} drop", ports.join(", "));
    }
    text.push_str("\t}\n}\n");
    text
}

/// What may come out of one tap.
fn tap(text: &mut String, network: &HostNetwork, filter: &TapFilter, cluster: Option<usize>) {
    let TapFilter { machine, mac, addresses, pod_sources, .. } = filter;
    let claims = std::iter::once(Ipv4Addr::UNSPECIFIED).chain(addresses.iter().copied());
    let claims = set(claims.collect::<Vec<_>>());
    let sources: Vec<String> = addresses
        .iter()
        .map(ToString::to_string)
        .chain(pod_sources.iter().map(ToString::to_string))
        .collect();
    let sources = set(&sources);
    let _ = writeln!(text, "\t# {machine}\n\tchain {} {{", chain_name(filter));
    let mut rule = |rule: String| {
        let _ = writeln!(text, "\t\t{rule}");
    };
    rule(format!("ether saddr != {mac} drop"));
    rule("ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 drop".to_owned());
    rule(format!("arp saddr ether != {mac} drop"));
    // A question without a sender (does anybody have this address?) claims nothing.
    rule(format!("arp saddr ip != {claims} drop"));
    if let Some(index) = cluster {
        rule(format!("jump within_{index}"));
    }
    rule("ether type arp accept".to_owned());
    // How QEMU says where a guest has moved to (a RARP request that holds nothing but its MAC), and nothing else of RARP.
    let own = mac.replace(':', "");
    rule(format!("ether type 0x8035 @nh,0,64 0x1080006040003 @nh,64,48 0x{own} @nh,144,48 0x{own} accept"));
    rule("ether type ip udp sport 67 drop".to_owned());
    rule(format!("ip saddr != {sources} drop"));
    if network.made.is_none() && !network.hosts.is_empty() {
        // Without connection tracking, which a bridge need not have: nothing that begins one, answers pass.
        let hosts = set(&*network.hosts);
        rule(format!("ip daddr {hosts} tcp flags & (syn | ack) == syn drop"));
        rule(format!("ip daddr {hosts} ip protocol != {{ tcp, icmp }} drop"));
        rule(format!("ip daddr {hosts} icmp type echo-request drop"));
    }
    rule("ether type ip accept".to_owned());
    // Networks have no IPv6 addresses to give out: what is left is the one that a node makes of its MAC.
    if let Some(own) = link_local(mac) {
        rule("icmpv6 type { nd-router-advert, nd-redirect } drop".to_owned());
        rule("ether type ip6 udp sport 547 drop".to_owned());
        rule(format!("ip6 saddr != {{ ::, {own} }} drop"));
        rule(format!("icmpv6 type nd-neighbor-advert @th,64,128 != 0x{:032x} drop", u128::from(own)));
        rule("ether type ip6 accept".to_owned());
    }
    // VLAN tags of the guest's own choice, and protocols that no node speaks.
    rule("drop".to_owned());
    text.push_str("\t}\n");
}

/// Rules of the host's own stack: nobody on the network opens connections to the host, or through it.
pub fn host_table(network: &HostNetwork) -> String {
    let mut text = head("inet", network);
    let bridge = &network.bridge;
    text.push_str("\tchain input {\n\t\ttype filter hook input priority -10; policy accept;\n");
    let Some(made) = &network.made else {
        if !network.dns.is_empty() {
            let dns = set(&network.dns);
            let rule =
                format!("iifname \"{bridge}\" ip daddr {dns} meta l4proto {{ tcp, udp }} th dport 53 accept");
            let _ = writeln!(text, "\t\t{rule}");
        }
        let ranges: Vec<String> =
            network.guarded.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
        if !ranges.is_empty() {
            let ranges = set(&ranges);
            let _ = writeln!(
                text,
                "\t\tiifname \"{bridge}\" ip saddr {ranges} ct state != {{ established, related }} drop"
            );
        }
        text.push_str("\t}\n}\n");
        return text;
    };
    let uplink = names::uplink(network.uid);
    let _ = writeln!(text, "\t\tiifname \"{bridge}\" drop");
    if made.egress {
        let _ = writeln!(text, "\t\tiifname \"{uplink}\" ct state != {{ established, related }} drop");
    }
    text.push_str("\t}\n\tchain forwarded {\n\t\ttype filter hook forward priority -10; policy accept;\n");
    // Where bridged frames come by here (br_netfilter), both ends are the bridge.
    let _ = writeln!(text, "\t\tiifname \"{bridge}\" oifname != \"{bridge}\" drop");
    let _ = writeln!(text, "\t\toifname \"{bridge}\" iifname != \"{bridge}\" drop");
    if made.egress {
        if !network.hosts.is_empty() {
            let _ = writeln!(text, "\t\tiifname \"{uplink}\" ip daddr {} drop", set(&*network.hosts));
        }
        let _ = writeln!(text, "\t\tiifname \"{uplink}\" oifname \"asup-*\" drop");
        let _ = writeln!(text, "\t\toifname \"{uplink}\" ct state != {{ established, related }} drop");
        text.push_str("\t}\n\tchain leaving {\n\t\ttype nat hook postrouting priority 100; policy accept;\n");
        let _ = writeln!(text, "\t\tip saddr {UPLINKS} oifname != \"asup-*\" masquerade");
    }
    text.push_str("\t}\n}\n");
    text
}

/// Rules of the namespace with the gateway; it has no others.
pub fn namespace_table(network: &HostNetwork, made: &MadeBridge) -> String {
    let mut text = String::from("flush ruleset\ntable inet ashlar {\n\tchain input {\n");
    text.push_str("\t\ttype filter hook input priority 0; policy drop;\n");
    text.push_str("\t\tiifname \"lo\" accept\n\t\tct state { established, related } accept\n");
    text.push_str("\t\tiifname \"gw0\" icmp type echo-request accept\n\t}\n");
    text.push_str("\tchain forwarded {\n\t\ttype filter hook forward priority 0; policy drop;\n");
    if made.egress {
        text.push_str("\t\tct state { established, related } accept\n");
        let mut denied: Vec<String> = vec!["127.0.0.0/8".to_owned(), "169.254.0.0/16".to_owned()];
        denied.extend(network.hosts.iter().filter(|host| !host.is_link_local()).map(ToString::to_string));
        let _ = writeln!(text, "\t\tip daddr {} drop", set(&denied));
        let _ = writeln!(
            text,
            "\t\tiifname \"gw0\" oifname \"up0\" ip saddr {} accept\n\t}}",
            made.gateway.trunc()
        );
        text.push_str("\tchain leaving {\n\t\ttype nat hook postrouting priority 100; policy accept;\n");
        text.push_str("\t\toifname \"up0\" masquerade\n");
    }
    text.push_str("\t}\n}\n");
    text
}

/// Makes the table if it is missing, so that deleting it never fails, and makes it anew.
fn head(family: &str, network: &HostNetwork) -> String {
    let table = names::table(network.uid);
    let mark = mark(network.installation, network.uid);
    format!(
        "table {family} {table}\ndelete table {family} {table}\ntable {family} {table} {{\n\tcomment \"{mark}\"\n"
    )
}

fn chain_name(filter: &TapFilter) -> String {
    format!("t_{}", filter.mac.replace(':', ""))
}

fn set<T: Display>(elements: impl IntoIterator<Item = T>) -> String {
    let elements: BTreeSet<String> = elements.into_iter().map(|element| element.to_string()).collect();
    format!("{{ {} }}", elements.into_iter().collect::<Vec<_>>().join(", "))
}

/// The IPv6 address that a node makes of its MAC (EUI-64).
fn link_local(mac: &str) -> Option<Ipv6Addr> {
    let bytes: Vec<u8> =
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<_>>()?;
    let [a, b, c, d, e, f] = <[u8; 6]>::try_from(bytes).ok()?;
    let octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    Some(Ipv6Addr::from(octets))
}
