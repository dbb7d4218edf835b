//! The two networks of a lab, and what is missing of them.
//!
//! ```text
//!  ctl: mgmt0 10.77.0.1 ──┐                                ┌── mgmt0 10.77.0.11  h1  br-nodes 10.88.0.11 ── up0 ──┐
//!                         ├── sw: br-mgmt (no address) ────┤                                                      │
//!                         │                                └── mgmt0 10.77.0.12  h2  br-nodes 10.88.0.12 ── up0 ──┤
//!                             sw: br-nodes 10.88.0.1, answers, forwards nothing ──────────────────────────────────┘
//! ```
//! The root namespace of the machine takes no part, so that nothing leaves it, and nothing comes in.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;

use crate::LabError;
use crate::command;
use crate::enter::Namespaces;
use crate::names::{self, NODE_BRIDGE, NetnsRole};
use crate::netns;

const IP_DEADLINE: Duration = Duration::from_secs(20);

/// A link as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LinkSpec {
    name: String,
    kind: LinkKind,
    /// The bridge that it is a port of.
    port_of: Option<&'static str>,
    /// Address with prefix length.
    address: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum LinkKind {
    Loopback,
    Bridge {
        mac: Option<String>,
    },
    /// One end of a pair; the other end is made along, in another namespace.
    Veth {
        peer: &'static str,
        peer_netns: String,
    },
    /// The other end.
    Peer,
}

/// A link as `ip -json addr show` tells.
#[derive(Debug, Clone, Deserialize)]
struct LinkState {
    ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    mtu: u32,
    master: Option<String>,
    #[serde(default)]
    addr_info: Vec<AddressState>,
}

#[derive(Debug, Clone, Deserialize)]
struct AddressState {
    local: Option<String>,
    prefixlen: u8,
}

/// Which of a host's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// To the management network: its sshd.
    Management,
    /// To the node network.
    Nodes,
}

impl Link {
    /// Name of the switch's port for it.
    pub(crate) fn switch_port(self, host: &str) -> String {
        match self {
            Self::Management => format!("m-{host}"),
            Self::Nodes => format!("n-{host}"),
        }
    }
}

/// Makes what is missing in the network of the whole lab. Says whether anything was.
pub(crate) fn ensure(lab: &str, hosts: &[u16]) -> Result<bool, LabError> {
    let mut changed = false;
    // The switch first: it makes both ends of every pair.
    let mut roles = vec![NetnsRole::Switch, NetnsRole::Control];
    roles.extend(hosts.iter().map(|index| NetnsRole::Host(*index)));
    for role in roles {
        changed |= ensure_links(&role.netns_name(lab), &links(lab, role, hosts), role)?;
    }
    Ok(changed)
}

/// Whether a host's link is up at the switch; `None` if there is none.
pub(crate) fn link_is_up(lab: &str, host: &str, link: Link) -> Result<Option<bool>, LabError> {
    let netns = NetnsRole::Switch.netns_name(lab);
    let port = link.switch_port(host);
    let state = read_links(&netns)?;
    Ok(state.get(&port).map(|link| link.flags.iter().any(|flag| flag == "UP")))
}

/// Cuts or heals a host's link.
pub(crate) fn set_link(lab: &str, host: &str, link: Link, up: bool) -> Result<(), LabError> {
    let state = if up { "up" } else { "down" };
    let netns = NetnsRole::Switch.netns_name(lab);
    ip_batch(&netns, &[format!("link set {} {state}", link.switch_port(host))])
}

fn links(lab: &str, role: NetnsRole, hosts: &[u16]) -> Vec<LinkSpec> {
    let link =
        |name: &str, kind, port_of, address| LinkSpec { name: name.to_owned(), kind, port_of, address };
    let mut links = vec![link("lo", LinkKind::Loopback, None, None)];
    match role {
        NetnsRole::Control => {
            let address = format!("{}/24", names::CONTROL_ADDRESS);
            links.push(link("mgmt0", LinkKind::Peer, None, Some(address)));
        }
        NetnsRole::Host(index) => {
            let management = format!("{}/24", names::management_address(index));
            let nodes = format!("{}/16", names::node_address(index));
            let bridge = LinkKind::Bridge { mac: Some(names::bridge_mac(index)) };
            links.push(link("mgmt0", LinkKind::Peer, None, Some(management)));
            links.push(link(NODE_BRIDGE, bridge, None, Some(nodes)));
            links.push(link("up0", LinkKind::Peer, Some(NODE_BRIDGE), None));
        }
        NetnsRole::Switch => {
            let gateway = format!("{}/16", names::NODE_GATEWAY);
            links.push(link("br-mgmt", LinkKind::Bridge { mac: None }, None, None));
            links.push(link(
                NODE_BRIDGE,
                LinkKind::Bridge { mac: Some(names::bridge_mac(0)) },
                None,
                Some(gateway),
            ));
            let veth = |peer, role: NetnsRole| LinkKind::Veth { peer, peer_netns: role.netns_name(lab) };
            links.push(link("m-ctl", veth("mgmt0", NetnsRole::Control), Some("br-mgmt"), None));
            for index in hosts {
                let host = names::host_name(*index);
                let role = NetnsRole::Host(*index);
                let port = Link::Management.switch_port(&host);
                links.push(link(&port, veth("mgmt0", role), Some("br-mgmt"), None));
                links.push(link(&Link::Nodes.switch_port(&host), veth("up0", role), Some(NODE_BRIDGE), None));
            }
        }
    }
    links
}

fn ensure_links(netns: &str, wanted: &[LinkSpec], role: NetnsRole) -> Result<bool, LabError> {
    let mut changed = netns_run(netns, || ensure_sysctls(role))?;
    let commands = missing(wanted, &read_links(netns)?);
    if !commands.is_empty() {
        ip_batch(netns, &commands)?;
        changed = true;
    }
    Ok(changed)
}

/// The commands that turn what is into what should be; none if it is so already. Links that nobody asked for (taps of
/// virtual machines) are left alone.
fn missing(wanted: &[LinkSpec], have: &BTreeMap<String, LinkState>) -> Vec<String> {
    let mut commands = Vec::new();
    for link in wanted {
        let name = &link.name;
        let state = have.get(name);
        if state.is_none() {
            match &link.kind {
                LinkKind::Loopback | LinkKind::Peer => {}
                LinkKind::Bridge { mac } => {
                    let mac = mac.as_ref().map(|mac| format!(" address {mac}")).unwrap_or_default();
                    commands.push(format!(
                        "link add {name}{mac} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
                    ));
                }
                LinkKind::Veth { peer, peer_netns } => {
                    commands.push(format!("link add {name} type veth peer name {peer} netns {peer_netns}"));
                }
            }
        }
        if link.kind != LinkKind::Loopback && state.is_none_or(|state| state.mtu != names::MTU) {
            commands.push(format!("link set {name} mtu {}", names::MTU));
        }
        if let Some(bridge) = link.port_of
            && state.and_then(|state| state.master.as_deref()) != Some(bridge)
        {
            commands.push(format!("link set {name} master {bridge}"));
        }
        if let Some(address) = &link.address
            && !state.is_some_and(|state| state.has_address(address))
        {
            commands.push(format!("addr add {address} dev {name}"));
        }
        if !state.is_some_and(|state| state.flags.iter().any(|flag| flag == "UP")) {
            commands.push(format!("link set {name} up"));
        }
    }
    commands
}

impl LinkState {
    fn has_address(&self, wanted: &str) -> bool {
        self.addr_info
            .iter()
            .any(|it| it.local.as_ref().is_some_and(|local| format!("{local}/{}", it.prefixlen) == wanted))
    }
}

/// A new namespace takes over `ip_forward` from the machine, where Docker or libvirt may have switched it on.
fn ensure_sysctls(role: NetnsRole) -> Result<bool, LabError> {
    let mut wanted = vec![("net/ipv4/ip_forward", "0"), ("net/ipv6/conf/all/forwarding", "0")];
    // Present where br_netfilter is loaded: frames between nodes are none of the hosts' firewall's business.
    wanted.push(("net/bridge/bridge-nf-call-iptables", "0"));
    wanted.push(("net/bridge/bridge-nf-call-ip6tables", "0"));
    if matches!(role, NetnsRole::Host(_)) {
        // Management addresses are not answered for on the node network, nor the other way round.
        wanted.push(("net/ipv4/conf/all/arp_ignore", "1"));
        wanted.push(("net/ipv4/conf/all/arp_announce", "2"));
    }
    let mut changed = false;
    for (key, value) in wanted {
        let path = format!("/proc/sys/{key}");
        let Ok(old) = fs::read_to_string(&path) else { continue };
        if old.trim() != value {
            fs::write(&path, value).map_err(LabError::io("write", path))?;
            changed = true;
        }
    }
    Ok(changed)
}

fn netns_run<T: Send>(netns: &str, work: impl FnOnce() -> Result<T, LabError> + Send) -> Result<T, LabError> {
    Namespaces::network(netns::open(netns)?).run(work)
}

fn read_links(netns: &str) -> Result<BTreeMap<String, LinkState>, LabError> {
    let text = netns_run(netns, || {
        command::checked(command::command("ip").args(["-json", "addr", "show"]), IP_DEADLINE)
    })?;
    let states: Vec<LinkState> = serde_json::from_str(&text)
        .map_err(|source| LabError::Description { path: netns::path(netns), source })?;
    Ok(states.into_iter().map(|state| (state.ifname.clone(), state)).collect())
}

/// One `ip` process for many changes.
fn ip_batch(netns: &str, commands: &[String]) -> Result<(), LabError> {
    let mut batch = tempfile::tempfile().map_err(LabError::io("create a file in", std::env::temp_dir()))?;
    let text = commands.join("\n") + "\n";
    batch.write_all(text.as_bytes()).map_err(LabError::io("write to", std::env::temp_dir()))?;
    std::io::Seek::rewind(&mut batch).map_err(LabError::io("write to", std::env::temp_dir()))?;
    netns_run(netns, || {
        let mut ip = command::command("ip");
        ip.args(["-batch", "-"]).stdin(Stdio::from(batch));
        let output = command::collect(&mut ip, IP_DEADLINE, command::spawn)?;
        command::succeeded(&ip, output).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(json: &str) -> BTreeMap<String, LinkState> {
        let links: Vec<LinkState> = serde_json::from_str(json).expect("valid");
        links.into_iter().map(|link| (link.ifname.clone(), link)).collect()
    }

    #[test]
    fn an_empty_namespace_gets_everything_in_an_order_that_works() {
        let lo = state(r#"[{"ifname":"lo","flags":["LOOPBACK"],"mtu":65536,"addr_info":[]}]"#);
        let commands = missing(&links("t", NetnsRole::Switch, &[1]), &lo);
        let expected = "\
link set lo up
link add br-mgmt type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link set br-mgmt mtu 1500
link set br-mgmt up
link add br-nodes address 02:a5:58:00:00:00 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link set br-nodes mtu 1500
addr add 10.88.0.1/16 dev br-nodes
link set br-nodes up
link add m-ctl type veth peer name mgmt0 netns ashlar-t-ctl
link set m-ctl mtu 1500
link set m-ctl master br-mgmt
link set m-ctl up
link add m-h1 type veth peer name mgmt0 netns ashlar-t-h1
link set m-h1 mtu 1500
link set m-h1 master br-mgmt
link set m-h1 up
link add n-h1 type veth peer name up0 netns ashlar-t-h1
link set n-h1 mtu 1500
link set n-h1 master br-nodes
link set n-h1 up";
        assert_eq!(commands.join("\n"), expected);
    }

    #[test]
    fn a_complete_namespace_gets_nothing_and_taps_are_left_alone() {
        let have = state(
            r#"[{"ifname":"lo","flags":["LOOPBACK","UP"],"mtu":65536},
                {"ifname":"mgmt0","flags":["UP"],"mtu":1500,"addr_info":[{"local":"10.77.0.11","prefixlen":24}]},
                {"ifname":"br-nodes","flags":["UP"],"mtu":1500,"addr_info":[{"local":"10.88.0.11","prefixlen":16}]},
                {"ifname":"up0","flags":["UP"],"mtu":1500,"master":"br-nodes"},
                {"ifname":"vnet0","flags":[],"mtu":1400,"master":"br-nodes"}]"#,
        );
        assert_eq!(missing(&links("t", NetnsRole::Host(1), &[1]), &have), Vec::<String>::new());
    }

    #[test]
    fn interface_names_fit_the_kernels_limit() {
        for link in links("t", NetnsRole::Switch, &[names::MAX_HOSTS]) {
            assert!(link.name.len() <= 15, "{}", link.name);
        }
    }
}
