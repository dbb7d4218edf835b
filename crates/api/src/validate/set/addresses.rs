//! Addresses: an address belongs to one only, and networks that meet do not overlap.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::World;
use crate::names::some_of;
use crate::validate::{
    Report,
    cluster::POD_NODE_PREFIX,
    network::{host_address_problem, show},
    syntax::overlap,
};
use crate::{Cluster, Network, ObjectRef, WorkerGroup};

/// Addresses in use on a network: those of machines, and of endpoints, each with its owner.
fn in_use<'a>(world: &'a World<'_>, network: &'a str) -> impl Iterator<Item = (Ipv4Addr, ObjectRef)> + 'a {
    let machines = world.machines().flat_map(move |machine| {
        let nics = machine.spec.nics.iter().filter(move |nic| nic.network == network);
        nics.map(move |nic| (nic.address.addr(), machine.object_ref()))
    });
    let endpoints = world
        .clusters()
        .filter(move |cluster| cluster.spec.network == network)
        .filter_map(|cluster| endpoint(cluster).map(|address| (address, cluster.object_ref())));
    machines.chain(endpoints)
}

/// The endpoint that a cluster has, or else wants.
fn endpoint(cluster: &Cluster) -> Option<Ipv4Addr> {
    cluster.record.endpoint.as_ref().map(|endpoint| endpoint.address).or(cluster.spec.endpoint.address)
}

pub(super) fn network(report: &mut Report<'_>, world: &World<'_>, network: &Network) {
    let spec = &network.spec;
    let [cidr] = spec.cidrs.as_slice() else { return };
    for (address, owner) in
        in_use(world, &network.metadata.name).filter(|(_, owner)| !world.applying.contains_key(owner))
    {
        if !cidr.contains(&address) {
            report.add("spec.cidrs[0]", format!("{address} of {owner} would be outside of {cidr}"));
        } else if !spec.ranges.iter().any(|range| range.contains(address)) {
            report.add("spec.ranges", format!("{address} of {owner} would be in none of them"));
        }
    }
    for cluster in world.other_clusters().filter(|cluster| cluster.spec.network == network.metadata.name) {
        for (name, own) in [("pod", cluster.spec.pod_cidr), ("service", cluster.spec.service_cidr)] {
            if overlap(own, *cidr) {
                let message =
                    format!("{cidr} overlaps with the {name} CIDR of cluster {} ({own})", cluster.key());
                report.add("spec.cidrs[0]", message);
            }
        }
    }
}

pub(super) fn cluster(report: &mut Report<'_>, world: &World<'_>, cluster: &Cluster) {
    check_capacity(report, world, cluster, "spec.podCidr");
    let spec = &cluster.spec;
    let Some(network) = world.network("", &spec.network) else { return };
    let name = &network.metadata.name;
    for (path, own) in [("spec.podCidr", spec.pod_cidr), ("spec.serviceCidr", spec.service_cidr)] {
        for cidr in network.spec.cidrs.iter().filter(|cidr| overlap(**cidr, own)) {
            report.add(
                path,
                format!("{own} overlaps with {cidr} of network {name}: nodes would not reach each other"),
            );
        }
        for server in network.spec.dns.iter().filter(|server| own.contains(*server)) {
            let message =
                format!("{own} holds the DNS server {server} of network {name}: nodes would not reach it");
            report.add(path, message);
        }
    }
    if let Some(address) = spec.endpoint.address {
        check_endpoint(report, world, cluster, network, address);
    }
}

fn check_endpoint(
    report: &mut Report<'_>,
    world: &World<'_>,
    cluster: &Cluster,
    network: &Network,
    address: Ipv4Addr,
) {
    const PATH: &str = "spec.endpoint.address";
    let name = &network.metadata.name;
    let [cidr] = network.spec.cidrs.as_slice() else { return };
    if let Some(problem) = host_address_problem(address, *cidr) {
        report.add(PATH, format!("{problem} (network {name})"));
    } else if address == network.spec.gateway {
        report.add(PATH, format!("{address} is the gateway of network {name}"));
    } else if !network.spec.ranges.iter().any(|range| range.contains(address)) {
        let ranges = some_of(network.spec.ranges.iter().map(show));
        let message = format!(
            "{address} is in none of the ranges of network {name} ({ranges}), and Ashlar uses no address outside: choose \
             one of them, or add a range"
        );
        report.add(PATH, message);
    }
    let own = cluster.object_ref();
    for (_, owner) in in_use(world, name).filter(|(other, _)| *other == address) {
        if !world.is_reported_at(&own, &owner) {
            continue;
        }
        report.add(PATH, format!("{address} is in use by {owner}"));
    }
}

pub(super) fn worker_group(report: &mut Report<'_>, world: &World<'_>, group: &WorkerGroup) {
    if let Some(cluster) = world.cluster(&group.metadata.namespace, &group.spec.cluster) {
        check_capacity(report, world, cluster, "spec.replicas");
    }
}

/// Each node gets a /24 of the pod CIDR: a node without one never becomes Ready.
fn check_capacity(report: &mut Report<'_>, world: &World<'_>, cluster: &Cluster, path: &str) {
    let pod_cidr: Ipv4Net = cluster.spec.pod_cidr;
    let Some(bits) = POD_NODE_PREFIX.checked_sub(pod_cidr.prefix_len()) else { return };
    let most = 1_u64 << bits;
    let groups = world.groups().filter(|group| {
        group.spec.cluster == cluster.metadata.name && group.metadata.namespace == cluster.metadata.namespace
    });
    let workers: u64 = groups.map(|group| u64::from(group.spec.replicas.unwrap_or(1))).sum();
    let nodes = workers + u64::from(cluster.spec.control_plane.replicas);
    if nodes > most {
        let message = format!(
            "the pod CIDR {pod_cidr} of cluster {} has a /{POD_NODE_PREFIX} for {most} nodes, and there would be {nodes}",
            cluster.key()
        );
        report.add(path, message);
    }
}
