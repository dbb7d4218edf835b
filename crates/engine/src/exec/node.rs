//! Nodes: their labels and taints, and their end.

use std::collections::BTreeMap;

use ashlar_api::{Machine, NamespacedName, Taint};
use ashlar_plan::ClusterSeen;
use serde_json::{Value, json};

use super::{Failure, Job, Outcome, fine_if_gone, token};
use crate::effects::NodePatch;

/// Sets the labels and taints that are ours to set, made from the Node as it is now: what others gave it stays.
pub(super) async fn configure(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let cluster = NamespacedName::new(&name.namespace, &machine.spec.cluster);
    let node = &machine.spec.node;
    let target = token::target(job, &cluster).await?;
    let what = format!("reading node {} of cluster {cluster}", node.name);
    let Some(now) = job.observe(&what, job.engine.world.kube.node(&target, &node.name)).await? else {
        return Err(Failure::NotNow(format!("node {} is gone from cluster {cluster}", node.name)));
    };
    let removed = machine.record.removed_labels.iter().filter(|key| !node.labels.contains_key(*key));
    let mut labels: BTreeMap<String, Option<String>> =
        removed.filter(|key| now.labels.contains_key(*key)).map(|key| (key.clone(), None)).collect();
    for (key, value) in node.labels.iter().filter(|(key, value)| now.labels.get(*key) != Some(value)) {
        labels.insert(key.clone(), Some(value.clone()));
    }
    let mut taints = now.taints.clone();
    taints.retain(|there| !machine.record.removed_taints.iter().any(|removed| is_taint(there, removed)));
    // One that evicts is set when it is declared, and not put back: see `ashlar_plan::Drift`.
    for wanted in node.taints.iter().filter(|wanted| machine.record.node_lags() || !wanted.evicts()) {
        if !taints
            .iter()
            .any(|there| is_taint(there, wanted) && there["value"].as_str().unwrap_or("") == wanted.value)
        {
            // The same key and effect with another value is replaced.
            taints.retain(|there| !is_taint(there, wanted));
            taints.push(json!({"key": wanted.key, "value": wanted.value, "effect": wanted.effect}));
        }
    }
    let patch = NodePatch {
        resource_version: now.resource_version,
        labels,
        taints: (taints != now.taints).then_some(taints),
    };
    if patch.labels.is_empty() && patch.taints.is_none() {
        return Ok(());
    }
    let what = format!("setting labels and taints of node {} of cluster {cluster}", node.name);
    job.call(&what, job.engine.world.kube.patch_node(&target, &node.name, &patch)).await
}

/// Kubernetes tells taints apart by key and effect.
fn is_taint(there: &Value, taint: &Taint) -> bool {
    there["key"] == taint.key.as_str() && there["effect"] == json!(taint.effect)
}

/// Keeps new pods away from the node of a machine that goes.
pub(super) async fn cordon(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let target = token::cluster_target(job, name).await?;
    let node = &machine.spec.node.name;
    let what = format!("cordoning node {node} of cluster {}", target.cluster);
    fine_if_gone(job.call(&what, job.engine.world.kube.cordon(&target, node)).await)
}

/// Asks one pod to go elsewhere.
pub(super) async fn evict(job: Job<'_>, machine: &NamespacedName, pod: &NamespacedName) -> Outcome {
    let target = token::cluster_target(job, machine).await?;
    let what = format!("evicting pod {pod} of cluster {} from {machine}", target.cluster);
    fine_if_gone(job.call(&what, job.engine.world.kube.evict(&target, pod)).await)
}

/// Says that a node is shut down for good: only of a machine whose host is proved off.
pub(super) async fn out_of_service(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let node = &machine.spec.node.name;
    if ashlar_plan::proof_of_host_off(job.snapshot, &machine.spec.host).is_none() {
        return Err(Failure::NotNow(format!("host {} is not proved off (any more)", machine.spec.host)));
    }
    if !is_there(job, machine)? {
        return Ok(());
    }
    let target = token::cluster_target(job, name).await?;
    let what = format!("reading node {node} of cluster {}", target.cluster);
    let Some(now) = job.observe(&what, job.engine.world.kube.node(&target, node)).await? else {
        return Ok(());
    };
    let taint = ashlar_plan::out_of_service();
    if now.taints.iter().any(|there| is_taint(there, &taint)) {
        return Ok(());
    }
    let mut taints = now.taints;
    taints.push(json!({"key": taint.key, "value": taint.value, "effect": taint.effect}));
    let patch =
        NodePatch { resource_version: now.resource_version, taints: Some(taints), ..NodePatch::default() };
    let what = format!("tainting node {node} of cluster {} out of service", target.cluster);
    fine_if_gone(job.call(&what, job.engine.world.kube.patch_node(&target, node, &patch)).await)
}

/// Deletes the Node of a machine that goes.
pub(super) async fn delete(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    if !is_there(job, machine)? {
        return Ok(());
    }
    let cluster = NamespacedName::new(&name.namespace, &machine.spec.cluster);
    let node = &machine.spec.node;
    let target = token::target(job, &cluster).await?;
    let what = format!("deleting node {} of cluster {cluster}", node.name);
    fine_if_gone(job.call(&what, job.engine.world.kube.delete_node(&target, &node.name)).await)
}

/// Whether the Node of a machine was seen in this pass. It names this machine as its provider: one of the same name with
/// another provider id is somebody else's.
fn is_there(job: Job<'_>, machine: &Machine) -> Result<bool, Failure> {
    let name = machine.key();
    let cluster = NamespacedName::new(&name.namespace, &machine.spec.cluster);
    let node = &machine.spec.node;
    let seen = match job.snapshot.observed.clusters.get(&cluster) {
        Some(ClusterSeen::Seen(world)) => world.nodes.get(&node.name),
        _ => return Err(Failure::NotNow(format!("the API of cluster {cluster} was not seen"))),
    };
    match seen {
        None => Ok(false),
        Some(seen) if seen.provider_id != node.provider_id => Err(Failure::Blocked {
            reason: "NotOurs",
            message: format!(
                "node {} of cluster {cluster} has provider id `{}`, and machine {name} has `{}`: it was left alone",
                node.name, seen.provider_id, node.provider_id
            ),
        }),
        Some(_) => Ok(true),
    }
}
