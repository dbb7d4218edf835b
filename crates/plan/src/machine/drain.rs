//! Before a machine goes, its node gives up its pods: cordoned, then each pod evicted as PodDisruptionBudgets allow.

use std::collections::BTreeMap;

use ashlar_api::*;
use jiff::{SignedDuration, Timestamp};

use super::chain::{Chain, block, wait};
use super::context::ClusterContext;
use crate::{Action, BudgetSeen, ClusterWorld, PodSeen, Snapshot, StepState, health, migration};

/// How long a node may be not Ready, or its kubelet silent, before its machine goes without asking its pods: a kubelet that
/// does not run cannot end any, and one that only starts anew is back by then.
const UNREADY_PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// Pods that are named where more are waited for.
const NAMED_PODS: usize = 5;

/// Nodes whose pods matter, by cluster: their machines go, or are replaced by the next steps.
pub fn drained_nodes(snapshot: &Snapshot) -> BTreeMap<NamespacedName, Vec<String>> {
    let mut nodes: BTreeMap<NamespacedName, Vec<String>> = BTreeMap::new();
    for machine in snapshot.machines.values().filter(|machine| machine.record.joined_at.is_some()) {
        let key = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
        let Some(cluster) = snapshot.clusters.get(&key) else { continue };
        let goes = machine.metadata.is_deleting()
            || machine.spec.image.kubernetes_version != cluster.spec.kubernetes_version
            || migration::is_replaced(snapshot, machine);
        if goes && !cluster.metadata.is_deleting() && !cluster.record.stopped {
            nodes.entry(key).or_default().push(machine.spec.node.name.clone());
        }
    }
    nodes
}

/// When a machine goes with the pods that are left on it.
pub(crate) fn deadline(cluster: &Cluster, machine: &Machine) -> Option<Timestamp> {
    let seconds = i64::from(cluster.spec.drain_timeout_s?);
    machine.metadata.deletion_timestamp?.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether a node that is not Ready has been given its time.
fn is_given_up(machine: &Machine, now: Timestamp) -> bool {
    machine.metadata.deletion_timestamp.is_some_and(|since| now.duration_since(since) >= UNREADY_PATIENCE)
}

/// Steps by which the machine's node is emptied; holds what comes after until it is.
pub(super) fn steps(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    let cluster = context.cluster;
    let is_node = machine.record.joined_at.is_some() && cluster.record.initialized && !context.is_stopped();
    // Where nothing runs there is nobody to be asked.
    if !is_node || context.is_seen_off(machine) {
        return;
    }
    let now = context.draft.snapshot.now;
    let deadline = deadline(cluster, machine);
    if deadline.is_some_and(|deadline| now >= deadline) {
        return;
    }
    let is_control_plane = machine.spec.role == MachineRole::ControlPlane;
    let key = machine.key();
    let name = &machine.spec.node.name;
    let world = match context.api() {
        Ok(world) => world,
        // A control plane that nobody can talk to has to make room for one that works.
        Err(_) if is_control_plane => return,
        Err(hold) => {
            chain.hold(hold);
            chain.push_elsewhere(
                Action::CordonNode { machine: key },
                format!("cordon node {name}, if it is there"),
            );
            chain.push_wait("its pods are evicted", wait("EarlierStep", ""));
            return;
        }
    };
    let Some(node) = world.nodes.get(name).filter(|node| node.provider_id == machine.spec.node.provider_id)
    else {
        return;
    };
    let silence = health::silence(context.draft.snapshot, world, node);
    let why = match silence {
        _ if !node.ready && machine.spec.node.cni != Cni::None => {
            Some(("NodeNotReady", format!("node {name} is not Ready ({})", node.message)))
        }
        Some(since) => {
            let message = format!("the kubelet of node {name} has not renewed its lease since {since}");
            Some(("KubeletSilent", message))
        }
        None => None,
    };
    if let Some((reason, why)) = why {
        if is_control_plane || is_given_up(machine, now) {
            return;
        }
        chain.push_wait(
            "its pods are evicted",
            wait(
                reason,
                format!(
                    "{why}, so that none of its pods can end; in {} minutes the machine goes without that",
                    UNREADY_PATIENCE.as_mins()
                ),
            ),
        );
        return;
    }
    if !node.unschedulable {
        let action = Action::CordonNode { machine: key.clone() };
        chain.push_elsewhere(action, format!("cordon node {name}: no new pods"));
    }
    let Some(pods) = world.pods.get(name) else {
        chain.push_wait(
            "its pods are evicted",
            wait("PodsNotSeen", "its pods are looked at once its deletion is recorded"),
        );
        return;
    };
    evict(&key, pods, deadline, chain);
    if !node.unschedulable {
        chain.push_wait(
            "no pod came while it was being cordoned",
            wait("Draining", "its pods are looked at once more"),
        );
    }
}

fn evict(machine: &NamespacedName, pods: &[PodSeen], deadline: Option<Timestamp>, chain: &mut Chain) {
    let mut left: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut blocked = Vec::new();
    let mut ending = Vec::new();
    for pod in pods {
        let name = NamespacedName::new(&pod.namespace, &pod.name);
        if pod.terminating {
            ending.push(name);
            continue;
        }
        let budget = match pod.budgets.as_slice() {
            [] => None,
            [budget] => Some(budget),
            many => {
                blocked.push((name, several(many), true));
                continue;
            }
        };
        if let Some(budget) = budget {
            let left = left.entry((&pod.namespace, &budget.name)).or_insert(budget.disruptions_allowed);
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => {
                    // One whose budget lets another pod go in this pass follows in the next.
                    if budget.disruptions_allowed == 0 {
                        let (message, for_good) = refusal(&pod.namespace, budget);
                        blocked.push((name, message, for_good));
                    } else {
                        ending.push(name);
                    }
                    continue;
                }
            }
        }
        chain.push_elsewhere(
            Action::EvictPod { machine: machine.clone(), pod: name.clone() },
            format!("evict pod {name}"),
        );
        ending.push(name);
    }
    if !blocked.is_empty() {
        chain.push_wait(format!("{} can go", pod_count(blocked.len())), blocked_state(&blocked, deadline));
    }
    if !ending.is_empty() {
        let message =
            format!("{} end: {}", pod_count(ending.len()), some_of(ending.iter().map(ToString::to_string)));
        chain.push_wait("its pods have ended", wait("Draining", message));
    }
}

fn several(budgets: &[BudgetSeen]) -> String {
    let names: Vec<&str> = budgets.iter().map(|budget| budget.name.as_str()).collect();
    format!("{} speak for it, and Kubernetes evicts no pod of several", names.join(", "))
}

/// What would keep the machine's pods where they are for good, as far as it was seen. Where its drain has a deadline, nothing does.
pub(crate) fn never_ends(cluster: &Cluster, world: &ClusterWorld, machine: &Machine) -> Option<String> {
    if cluster.spec.drain_timeout_s.is_some() {
        return None;
    }
    let pods = world.pods.get(&machine.spec.node.name)?;
    let kept = pods.iter().filter(|pod| !pod.terminating).filter_map(|pod| {
        let why = match pod.budgets.as_slice() {
            [] => None,
            [budget] if budget.disruptions_allowed > 0 => None,
            [budget] => {
                Some(refusal(&pod.namespace, budget)).filter(|(_, for_good)| *for_good).map(|(why, _)| why)
            }
            many => Some(several(many)),
        };
        Some(format!("pod {}/{}: {}", pod.namespace, pod.name, why?))
    });
    let kept = some_of(kept);
    (!kept.is_empty()).then_some(kept)
}

/// What a budget says, and whether waiting alone cannot change it.
fn refusal(namespace: &str, budget: &BudgetSeen) -> (String, bool) {
    let name = format!("PodDisruptionBudget {namespace}/{}", budget.name);
    let (wanted, all) = (budget.desired_healthy, budget.expected_pods);
    if wanted >= all {
        (
            format!(
                "{name} never lets one go: it wants {wanted} healthy of {all}; run more pods, or change it"
            ),
            true,
        )
    } else {
        (format!("{name} lets none go now: {wanted} of {all} have to be healthy"), false)
    }
}

/// A person is asked only if waiting is of no use.
fn blocked_state(blocked: &[(NamespacedName, String, bool)], deadline: Option<Timestamp>) -> StepState {
    let lines = some_of(blocked.iter().map(|(pod, why, _)| format!("pod {pod}: {why}")));
    match deadline {
        Some(deadline) => {
            let message =
                format!("{lines}. At {deadline} it goes with the pods that are left (spec.drainTimeoutS)");
            wait("DrainBlocked", message)
        }
        None if blocked.iter().all(|(.., for_good)| *for_good) => block("DrainBlocked", lines),
        None => wait("DrainBlocked", lines),
    }
}

fn pod_count(count: usize) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}

fn some_of(lines: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = lines.collect();
    let mut text = all.iter().take(NAMED_PODS).cloned().collect::<Vec<_>>().join("; ");
    if all.len() > NAMED_PODS {
        text.push_str(&format!("; and {} more", all.len() - NAMED_PODS));
    }
    text
}
