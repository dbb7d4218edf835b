//! Worker groups.

use super::{Report, cluster::is_reserved, labels, syntax};
use crate::names::quoted;
use crate::{Rollout, WorkerGroup};

/// Kubernetes' own limit of nodes in a cluster.
const MOST_REPLICAS: u32 = 5000;

pub(super) fn check(report: &mut Report<'_>, group: &WorkerGroup) {
    let spec = &group.spec;
    let name = &group.metadata.name;
    report.check("spec.cluster", syntax::reference_problem(&spec.cluster));
    if !spec.cluster.is_empty() {
        // With the cluster's name in front, machine names of different clusters never meet.
        let has_prefix = name
            .strip_prefix(&spec.cluster)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|rest| !rest.is_empty());
        if !has_prefix {
            let message = format!(
                "{} does not begin with its cluster's name: call it {}",
                quoted(name),
                quoted(&format!("{}-{name}", spec.cluster))
            );
            report.add("metadata.name", message);
        } else if is_reserved(name) {
            let message =
                format!("{} is reserved: its machines would be named as control planes are", quoted(name));
            report.add("metadata.name", message);
        }
    }
    report.check("spec.class", syntax::reference_problem(&spec.class));
    check_replicas(report, "spec.replicas", spec.replicas);
    check_rollout(report, "spec.rollout", spec.rollout);
    labels::check_node_labels(report, "spec.labels", &spec.labels);
    labels::check_taints(report, "spec.taints", &spec.taints);
}

pub(super) fn check_replicas(report: &mut Report<'_>, path: &str, replicas: Option<u32>) {
    if let Some(replicas) = replicas.filter(|replicas| *replicas > MOST_REPLICAS) {
        let message =
            format!("{replicas} is more than the {MOST_REPLICAS} nodes that Kubernetes is made for");
        report.add(path, message);
    }
}

pub(super) fn check_rollout(report: &mut Report<'_>, path: &str, rollout: Rollout) {
    if rollout.max_surge == 0 && rollout.max_unavailable == 0 {
        let message = "allows neither one machine more nor one less, so that none could ever be replaced: set one of maxSurge and \
                       maxUnavailable";
        report.add(path, message);
    }
}
