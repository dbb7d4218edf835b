//! What is left to do for networks on hosts.

use std::collections::BTreeSet;

use ashlar_api::*;

use super::host_network::HostNetwork;
use super::names;
use crate::draft::Draft;
use crate::machine::{Chain, block, wait};
use crate::{Action, HostSeen, NetworksSeen, Snapshot, StepState, fence};

/// Libvirt gives taps on a Linux bridge their VLAN from this version on.
const VLAN_LIBVIRT: (u32, u32) = (11, 0);

/// Steps of all hosts, network by network. They are steps of the hosts, since one host must not hold up another.
///
/// What is on a host already follows the machines that are in the store: those that this plan decides on may be
/// somebody else's to commit (a run for one cluster commits nothing of another), and are followed once they are there.
pub(crate) fn steps(draft: &Draft<'_>) -> Vec<crate::Step> {
    let committed = super::committed(draft.snapshot);
    let is_as_read = draft.networks.is_as_read()
        && draft.machines.is_as_read()
        && draft.clusters.is_as_read()
        && draft.hosts.is_as_read();
    let decided = (!is_as_read).then(|| super::population(draft));
    let population = decided.as_ref().unwrap_or(&committed);
    let mut steps = Vec::new();
    for network in draft.networks.values() {
        let name = network.metadata.name.as_str();
        let mut hosts: BTreeSet<&str> = population.hosts_of(name).collect();
        hosts.extend(network.record.hosts.iter().map(String::as_str));
        for host in hosts {
            // Nothing is needed on one that is off, and nothing can be done there.
            if !network.metadata.is_deleting() && fence::proof(draft.snapshot, host).is_some() {
                continue;
            }
            let mut chain = Chain::new(ObjectRef::new(Kind::Host, "", host), host);
            match (committed.is_used(name, host), population.is_used(name, host)) {
                (true, true) => ensure(draft, network, host, committed.desired(name, host), &mut chain),
                (false, true) => match look(draft.snapshot, network, host) {
                    Ok(Found::Something { .. }) => {}
                    _ => ensure(draft, network, host, population.desired(name, host), &mut chain),
                },
                // The machines go with this plan's decisions.
                (true, false) => {}
                (false, false) => remove(draft, network, host, &mut chain),
            }
            steps.extend(chain.finish());
        }
    }
    steps
}

/// What was seen of one network on one host.
enum Found<'s> {
    Nothing,
    Something { applied: Option<&'s HostNetwork>, intact: bool, bridge_gone: bool },
}

fn look<'s>(snapshot: &'s Snapshot, network: &Network, host: &str) -> Result<Found<'s>, StepState> {
    let uid = network.metadata.uid.unwrap_or_default();
    let name = &network.metadata.name;
    match snapshot.observed.hosts.get(host) {
        Some(HostSeen::Seen(world)) => match &world.networks {
            // Nothing of ours was recorded there when it was asked.
            NetworksSeen::NotAsked => Ok(Found::Nothing),
            NetworksSeen::Unknown { reason } => Err(wait(
                "NetworksUnknown",
                format!("host {host} does not say which networks are there: {reason}"),
            )),
            NetworksSeen::Seen { networks, foreign, .. } => {
                let parts = [
                    names::bridge,
                    names::overlay,
                    names::gateway_port,
                    names::uplink,
                    names::namespace,
                    names::table,
                ];
                // Most hosts have nothing there that is foreign, and then nothing is called by its name.
                let parts = if foreign.is_empty() { &parts[..0] } else { &parts[..] };
                let mut ours = parts.iter().map(|part| part(uid));
                if let Some(taken) = ours.find(|part| foreign.contains(part)) {
                    return Err(block(
                        "NameTaken",
                        format!(
                            "{taken} on host {host} has the name of a part of network {name}, but not Ashlar's mark: \
                             it is left alone; find out who made it, and remove it"
                        ),
                    ));
                }
                Ok(match networks.get(&uid) {
                    None => Found::Nothing,
                    Some(seen) => Found::Something {
                        applied: seen.applied.as_deref(),
                        intact: seen.intact,
                        bridge_gone: seen.bridge_gone,
                    },
                })
            }
        },
        Some(HostSeen::Unreachable { reason }) => Err(wait(
            "HostUnreachable",
            format!("host {host} does not answer: {reason}; nothing is assumed about its networks"),
        )),
        Some(HostSeen::NotOurs { reason }) => Err(block(
            "HostNotOurs",
            format!("host {host} is not the one that was enrolled: {reason}; see `ashlar host check {host}`"),
        )),
        Some(HostSeen::Fenced { reason, .. }) => {
            Err(block("HostFenced", format!("host {host} obeys a newer Ashlar process: {reason}")))
        }
        None => Err(wait("HostNotObserved", format!("host {host} was not asked in this pass"))),
    }
}

fn ensure(
    draft: &Draft<'_>,
    network: &Network,
    host: &str,
    desired: Result<HostNetwork, String>,
    chain: &mut Chain,
) {
    let name = &network.metadata.name;
    let desired = match desired {
        Ok(desired) => desired,
        Err(message) => {
            chain.push_wait(format!("network {name} is on {host}"), block("NetworkIncomplete", message));
            return;
        }
    };
    let why = match look(draft.snapshot, network, host) {
        // Its taps may be filtered well, and carry nothing.
        Ok(Found::Something { bridge_gone: true, .. }) => {
            let lost = crate::lost::bridge(network, host, &desired);
            chain.push_wait(
                format!("bridge {} is on {host}", desired.bridge),
                block(lost.reason, lost.message),
            );
            return;
        }
        Ok(Found::Something { applied: Some(applied), intact: true, .. }) if *applied == desired => return,
        Ok(Found::Nothing) => first_time(&desired),
        Ok(Found::Something { applied: None, .. }) => format!("finish network {name}: it is half made"),
        Ok(Found::Something { intact: false, .. }) => {
            format!("restore network {name}: something of it was changed or removed by hand")
        }
        Ok(Found::Something { applied: Some(applied), .. }) => {
            format!("bring network {name} up to date: {}", desired.differences(applied).join("; "))
        }
        // A host that was not asked is none of this pass's business, unless something starts there.
        Err(_) if !draft.snapshot.observed.hosts.contains_key(host) => return,
        Err(hold) => {
            chain.hold(hold);
            format!("see whether network {name} is as it should be")
        }
    };
    if let Some(message) = unsupported(draft, network, host) {
        chain.hold(block("NetworkUnsupported", message));
    }
    chain.push(Action::EnsureNetwork { network: name.clone(), host: host.to_owned() }, why);
}

fn first_time(desired: &HostNetwork) -> String {
    let filters = match desired.taps.len() {
        1 => "the filter of 1 machine".to_owned(),
        count => format!("the filters of {count} machines"),
    };
    let (name, bridge) = (&desired.name, &desired.bridge);
    match &desired.made {
        None => format!("set up network {name} on bridge {bridge}: {filters}"),
        Some(made) => {
            let overlay = match &made.overlay {
                None => String::new(),
                Some(overlay) => format!(
                    ", VXLAN {} to {} (not encrypted)",
                    overlay.vni,
                    match overlay.peers.len() {
                        0 => "no other host yet".to_owned(),
                        1 => "1 other host".to_owned(),
                        count => format!("{count} other hosts"),
                    }
                ),
            };
            let egress = if made.egress { "with" } else { "without" };
            format!(
                "make network {name}: bridge {bridge}, gateway {} {egress} a way out{overlay}, {filters}",
                made.gateway.addr()
            )
        }
    }
}

/// What the host lacks, as far as enrolment told.
fn unsupported(draft: &Draft<'_>, network: &Network, host: &str) -> Option<String> {
    let vlan = network.spec.attachment.vlan.as_ref().filter(|vlan| !vlan.open_vswitch)?;
    let version = &draft.hosts.get(&host.to_owned())?.record.libvirt_version;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let has = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (has < VLAN_LIBVIRT).then(|| {
        format!(
            "network {} is VLAN {} of the Linux bridge {}, for which libvirt 11.0 is needed; host {host} has {version}: \
             make a bridge for the VLAN alone and name it in attachment.bridge, or use Open vSwitch",
            network.metadata.name, vlan.tag, vlan.bridge
        )
    })
}

fn remove(draft: &Draft<'_>, network: &Network, host: &str, chain: &mut Chain) {
    let name = &network.metadata.name;
    match look(draft.snapshot, network, host) {
        Ok(Found::Nothing) => return,
        Ok(Found::Something { .. }) => {}
        Err(_) if !draft.snapshot.observed.hosts.contains_key(host) => return,
        Err(hold) => chain.hold(hold),
    }
    let recorded = crate::lost::recorded_domains(draft.snapshot);
    if let Some(lost) = crate::lost::of_host(draft.snapshot, &recorded, host) {
        let message = format!("{}. Network {name} stays on {host} as long as it may need it", lost.message);
        chain.hold(block(lost.reason, message));
    }
    if let Some(domain) = crate::lost::left_on(draft.snapshot, host).find(|left| left.state.is_active()) {
        chain.hold(wait("DomainFirst", format!("what is left of {} on {host} goes first", domain.name)));
    }
    chain.push(
        Action::RemoveNetwork { network: name.clone(), host: host.to_owned() },
        format!("remove network {name}: no machine there needs it any more"),
    );
}

/// Whether a machine may be started: its networks are on its host, with its own filter.
pub(crate) fn ready(draft: &Draft<'_>, machine: &Machine) -> Result<(), StepState> {
    let host = &machine.spec.host;
    for nic in &machine.spec.nics {
        let network = draft.networks.get(&nic.network).ok_or_else(|| {
            block(
                "NoSuchNetwork",
                format!("network {} is not in the store: bring it back with `ashlar apply`", nic.network),
            )
        })?;
        let tap = names::tap(&nic.mac);
        match look(draft.snapshot, network, host)? {
            Found::Something { applied: Some(applied), intact: true, bridge_gone: false }
                if applied.taps.get(&tap).is_some_and(|filter| filter.mac == nic.mac) => {}
            _ => {
                let message = format!("network {} is not on {host} as it should be yet", nic.network);
                return Err(wait("Network", message));
            }
        }
    }
    Ok(())
}
