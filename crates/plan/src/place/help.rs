//! What would help a machine that no host takes.

use std::collections::BTreeMap;

use ashlar_api::*;

use super::fleet::Fleet;
use super::packer::HostNumber;
use super::request::Request;
use super::room::{Room, signed};
use crate::report::Verdict;

/// One sentence: why nothing fits, and what would change it.
pub(crate) fn what_would_help(fleet: &Fleet, request: &Request<'_>, verdicts: &[Verdict]) -> String {
    let class = request.class;
    let size = size_of(class);
    if verdicts.is_empty() {
        return format!("there is no host: enrol one that has {size} free (`ashlar host add`)");
    }
    // Of the store itself, and so of every host: no further host would help.
    let refused = || verdicts.iter().filter_map(|verdict| verdict.refused.as_ref());
    if let Some(doubt) = refused().find(|refusal| refusal.rule == "StoreInDoubt") {
        return doubt.message.clone();
    }
    let mut by_rule: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for verdict in verdicts {
        if let Some(refusal) = &verdict.refused {
            by_rule.entry(&refusal.rule).or_default().push(&verdict.host);
        }
    }
    let refusals: Vec<String> =
        by_rule.iter().map(|(rule, hosts)| format!("{rule}: {}", shortened(hosts))).collect();
    let hosts = |rule: &str| by_rule.get(rule).map(Vec::as_slice).unwrap_or_default();
    let mut help = Vec::new();
    if let Some(host) = hosts("Cordoned").first() {
        help.push(format!("uncordon {host}"));
    }
    let memory = |room: &Room| signed(class.spec.memory.0) - room.memory_mib.max(0);
    help.extend(shortage(fleet, hosts("Memory"), memory, |short| {
        format!("{} of memory more", Mebibytes(u64::try_from(short).unwrap_or_default()))
    }));
    let vcpus = |room: &Room| i64::from(class.spec.vcpus) - room.vcpus.max(0).min(room.threads);
    help.extend(shortage(fleet, hosts("Cpu"), vcpus, |short| format!("{short} vCPUs more")));
    if let Some(host) = hosts("DedicatedCpus").first() {
        help.push(format!("more CPUs set apart (`dedicatedCpus`) on a NUMA node of {host}"));
    }
    if let (Some(host), Some(size)) = (hosts("Hugepages").first(), class.spec.hugepages) {
        help.push(format!(
            "more huge pages of {size} on a NUMA node of {host} (then `ashlar host add {host}` again)"
        ));
    }
    if let Some(host) = hosts("Numa").first() {
        help.push(format!("memory on a NUMA node of {host}"));
        help.push(format!("more `numaNodes` in class {}", class.metadata.name));
    }
    if let Some(host) = hosts("Unreachable").first() {
        help.push(format!("{host} answering again"));
    }
    if let Some(host) = hosts("Network").first() {
        help.push(format!("network {} on {host}", request.network.metadata.name));
    }
    if !hosts("Architecture").is_empty() {
        help.push(format!(
            "an image of Kubernetes {} for the others",
            request.cluster.spec.kubernetes_version
        ));
    }
    if let Some(host) = hosts("Pool").first() {
        help.push(format!("storage pool {} on {host}", request.pool.metadata.name));
    }
    if !hosts("NPlusOne").is_empty() {
        help.push(
            "`admission: none` in the cluster (then its machines are lost with a host that dies)".to_owned(),
        );
    }
    let spread = ["ControlPlaneSpread", "RackSpread", "ZoneSpread"];
    if spread.iter().any(|rule| by_rule.contains_key(rule)) {
        help.push("`spread: preferred` in the cluster (not highly available then)".to_owned());
    }
    help.push(format!("one more host with {size} free"));
    format!("no host fits ({}); what would help: {}", refusals.join("; "), help.join(", or "))
}

fn size_of(class: &MachineClass) -> String {
    let spec = &class.spec;
    let own = if spec.cpu_policy == CpuPolicy::Dedicated { " of its own" } else { "" };
    let pages = spec.hugepages.map_or_else(String::new, |size| format!(" in huge pages of {size}"));
    format!("{} vCPUs{own}, {}{pages}", spec.vcpus, spec.memory)
}

/// What is lacking on those of the hosts that lack least, and where they are.
fn shortage(
    fleet: &Fleet,
    hosts: &[&str],
    lacks: impl Fn(&Room) -> i64,
    text: impl Fn(i64) -> String,
) -> Option<String> {
    let lacking: Vec<(i64, HostNumber, &str)> = hosts
        .iter()
        .filter_map(|name| {
            let number = fleet.number(name)?;
            Some((lacks(fleet.packer.room(number)?), number, *name))
        })
        .collect();
    let least = lacking.iter().map(|(short, ..)| *short).min().filter(|short| *short > 0)?;
    let closest: Vec<(HostNumber, &str)> = lacking
        .into_iter()
        .filter(|(short, ..)| *short == least)
        .map(|(_, host, name)| (host, name))
        .collect();
    let rack_of = |host: HostNumber| fleet.racks[fleet.packer.place_of(host).0 as usize].1.as_str();
    let rack = rack_of(closest[0].0);
    let one_rack = !rack.is_empty() && closest.iter().all(|(host, _)| rack_of(*host) == rack);
    let place = match closest.as_slice() {
        [(_, name)] if one_rack => format!("{name} (rack {rack})"),
        [(_, name)] => (*name).to_owned(),
        _ if one_rack => format!("any host of rack {rack}"),
        several => {
            let names: Vec<&str> = several.iter().map(|(_, name)| *name).collect();
            format!("any of {}", shortened(&names))
        }
    };
    Some(format!("{} on {place}", text(least)))
}

fn shortened(hosts: &[&str]) -> String {
    match hosts {
        [a, b, c, _, rest @ ..] => format!("{a}, {b}, {c} and {} more", rest.len() + 1),
        few => few.join(", "),
    }
}
