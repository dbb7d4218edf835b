//! Clusters.

use std::collections::BTreeSet;

use super::{Report, labels, syntax, worker_group};
use crate::names::{CONTROL_PLANE_GROUP, MAX_WORKER_GROUP_NAME, label_problem, quoted, worker_group};
use crate::own_network;
use crate::{Cluster, ClusterSpec, HealthPolicy, InlineWorkerGroup};

/// The kube-apiserver takes at most 20 bits of IPv4 service addresses.
const SERVICE_SHORTEST_PREFIX: u8 = 12;
/// kubeadm wants at least ten service addresses (the tenth is that of the DNS).
const SERVICE_LONGEST_PREFIX: u8 = 28;
/// Each node gets a /24 of pod addresses (kube-controller-manager's default), and kubeadm allows for 2^16 nodes.
pub(super) const POD_NODE_PREFIX: u8 = 24;
const POD_SHORTEST_PREFIX: u8 = 8;
/// Nodes that take longer have failed; nodes that may not even boot a kernel in the time always fail.
const STARTUP_TIMEOUT_S: std::ops::RangeInclusive<u32> = 60..=86_400;

pub(super) fn check(report: &mut Report<'_>, cluster: &Cluster) {
    let spec = &cluster.spec;
    report.check("spec.kubernetesVersion", syntax::version_problem(&spec.kubernetes_version));
    if spec.network.is_empty() {
        let name = own_network::name_for(&cluster.key());
        let message = format!(
            "is not given, and the cluster cannot have a network of its own: network {name} is somebody else's, or pods \
             and Services leave no addresses; name a network"
        );
        report.add("spec.network", message);
    }
    check_control_plane(report, spec);
    check_networks(report, spec);
    for (index, name) in spec.endpoint.extra_sans.iter().enumerate() {
        report.check(&format!("spec.endpoint.extraSans[{index}]"), syntax::san_problem(name));
    }
    if let Some(address) = spec.endpoint.address {
        for (name, cidr) in [("podCidr", spec.pod_cidr), ("serviceCidr", spec.service_cidr)] {
            if cidr.contains(&address) {
                let message =
                    format!("{address} lies in spec.{name} ({cidr}): nodes would look for it in there");
                report.add("spec.endpoint.address", message);
            }
        }
    }
    if let Some(problem) = crate::names::dns_name_problem(&spec.dns_domain) {
        report.add("spec.dnsDomain", format!("{} {problem}", quoted(&spec.dns_domain)));
    }
    for (index, key) in spec.ssh_authorized_keys.iter().enumerate() {
        report.check(&format!("spec.sshAuthorizedKeys[{index}]"), syntax::ssh_key_problem(key, true));
    }
    for (index, server) in spec.ntp_servers.iter().enumerate() {
        report.check(&format!("spec.ntpServers[{index}]"), syntax::host_name_problem(server));
    }
    if let Some(timeout_s) =
        spec.node_startup_timeout_s.filter(|timeout| !STARTUP_TIMEOUT_S.contains(timeout))
    {
        let (least, most) = (STARTUP_TIMEOUT_S.start(), STARTUP_TIMEOUT_S.end());
        report
            .add("spec.nodeStartupTimeoutS", format!("{timeout_s} is outside of {least} to {most} seconds"));
    }
    if let Some(release) = &spec.accept_removed_apis
        && (crate::upgrade::release_of(release).is_none() || release.starts_with('v'))
    {
        let message =
            format!("{} is not a Kubernetes release: write major and minor, as \"1.38\"", quoted(release));
        report.add("spec.acceptRemovedApis", message);
    }
    check_health(report, &spec.health);
    let mut seen = BTreeSet::new();
    for (index, group) in spec.workers.iter().enumerate() {
        check_inline_group(report, &format!("spec.workers[{index}]"), &cluster.metadata.name, group);
        if !seen.insert(&group.name) {
            let message = format!("there are two worker groups of the name {}", quoted(&group.name));
            report.add(format!("spec.workers[{index}].name"), message);
        }
    }
}

/// A node that only restarts its kubelet is not Ready for a minute: less patience than that replaces whoever sneezes.
const LEAST_PATIENCE_S: u32 = 60;

fn check_health(report: &mut Report<'_>, health: &HealthPolicy) {
    let patiences = [
        ("nodeNotReadyS", health.node_not_ready_s),
        ("nodeMissingS", health.node_missing_s),
        ("kubeletSilentS", health.kubelet_silent_s),
        ("guestNotUpS", health.guest_not_up_s),
        ("diskLostS", health.disk_lost_s),
        ("etcdNotHealthyS", health.etcd_not_healthy_s),
        ("staticPodNotReadyS", health.static_pod_not_ready_s),
        ("firstBootFailedS", health.first_boot_failed_s),
    ];
    for (name, patience_s) in patiences {
        if patience_s < LEAST_PATIENCE_S {
            let message = format!(
                "{patience_s} is less than {LEAST_PATIENCE_S} seconds: a node that only restarts would be replaced"
            );
            report.add(format!("spec.health.{name}"), message);
        }
    }
    if !(1..=100).contains(&health.max_percent) {
        let message = format!("{} is no share of a group: write 1 to 100", health.max_percent);
        report.add("spec.health.maxPercent", message);
    }
    if health.max_replaced == 0 {
        let message = "is 0: to have nothing replaced write `remediate: false`";
        report.add("spec.health.maxReplaced", message);
    }
}

fn check_control_plane(report: &mut Report<'_>, spec: &ClusterSpec) {
    report.check("spec.controlPlane.class", syntax::reference_problem(&spec.control_plane.class));
    let replicas = spec.control_plane.replicas;
    let message = match replicas {
        1 | 3 | 5 => return,
        0 => "is 0: a cluster has 1, 3 or 5 control planes".to_owned(),
        even if even % 2 == 0 => format!(
            "is {even}: etcd decides by majority, so that {even} members survive no more failures than {} would; use 1, 3 or 5",
            even - 1
        ),
        more => format!(
            "is {more}: every write waits for a majority of etcd members, so that more than 5 only slow it down; use 1, 3 or 5"
        ),
    };
    report.add("spec.controlPlane.replicas", message);
}

fn check_networks(report: &mut Report<'_>, spec: &ClusterSpec) {
    let bounds = [
        ("spec.podCidr", spec.pod_cidr, POD_SHORTEST_PREFIX, POD_NODE_PREFIX, "each node takes a /24 of it"),
        (
            "spec.serviceCidr",
            spec.service_cidr,
            SERVICE_SHORTEST_PREFIX,
            SERVICE_LONGEST_PREFIX,
            "the API server takes no more than 20 bits, and kubeadm wants at least ten addresses",
        ),
    ];
    for (path, cidr, shortest, longest, reason) in bounds {
        report.check(path, syntax::cidr_problem(cidr));
        report.check(path, syntax::special_network(cidr));
        if !(shortest..=longest).contains(&cidr.prefix_len()) {
            let message =
                format!("/{} is outside of /{shortest} to /{longest} ({reason})", cidr.prefix_len());
            report.add(path, message);
        }
    }
    if syntax::overlap(spec.pod_cidr, spec.service_cidr) {
        let message = format!("{} overlaps with spec.podCidr ({})", spec.service_cidr, spec.pod_cidr);
        report.add("spec.serviceCidr", message);
    }
}

fn check_inline_group(report: &mut Report<'_>, path: &str, cluster: &str, group: &InlineWorkerGroup) {
    let longest = MAX_WORKER_GROUP_NAME.saturating_sub(cluster.len() + 1).max(1);
    if let Some(problem) = label_problem(&group.name, longest) {
        report.add(format!("{path}.name"), format!("{} {problem}", quoted(&group.name)));
    }
    if is_reserved(&worker_group(cluster, &group.name)) {
        let message = format!(
            "{} is reserved: machines of it would be named as control planes are (`{cluster}-{CONTROL_PLANE_GROUP}-1`)",
            quoted(&group.name)
        );
        report.add(format!("{path}.name"), message);
    }
    report.check(&format!("{path}.class"), syntax::reference_problem(&group.class));
    worker_group::check_replicas(report, &format!("{path}.replicas"), group.replicas);
    worker_group::check_rollout(report, &format!("{path}.rollout"), group.rollout);
    labels::check_node_labels(report, &format!("{path}.labels"), &group.labels);
    labels::check_taints(report, &format!("{path}.taints"), &group.taints);
}

/// Whether machines of a WorkerGroup object of this name would be named as some cluster's control planes are.
pub(super) fn is_reserved(worker_group: &str) -> bool {
    worker_group.strip_suffix(CONTROL_PLANE_GROUP).is_some_and(|rest| rest.ends_with('-'))
}
