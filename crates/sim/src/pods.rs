//! What people run in the clusters: pods of replicated apps, PodDisruptionBudgets that really refuse, kubelets that really
//! end pods.

use std::collections::BTreeMap;

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{EffectError, EffectErrorKind};
use ashlar_plan::{BudgetSeen, PodSeen};
use jiff::{SignedDuration, Timestamp};

use crate::{SimCluster, State, guest};

/// Where they run.
const NAMESPACE: &str = "default";
/// Seconds from a pod's scheduling to Ready, and from its eviction to its end.
const START_S: i64 = 5;
const END_S: i64 = 3;

/// Pods of one kind, as a Deployment keeps them.
#[derive(Clone, Debug)]
pub struct SimApp {
    /// How many there are to be.
    pub replicas: u32,
    /// How many a PodDisruptionBudget wants healthy; none without one.
    pub min_available: Option<u32>,
    /// Whether each of its pods has a volume of its own, which one node at a time may have.
    pub volumes: bool,
    last_number: u32,
}

impl SimApp {
    /// A new one.
    pub fn new(replicas: u32, min_available: Option<u32>) -> Self {
        SimApp { replicas, min_available, volumes: false, last_number: 0 }
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub struct SimPod {
    /// Its app.
    pub app: String,
    /// Where it runs; none while no node takes it.
    pub node: Option<String>,
    scheduled_at: Timestamp,
    ends_at: Option<Timestamp>,
}

impl SimPod {
    fn is_ready(&self, now: Timestamp) -> bool {
        self.node.is_some()
            && self.ends_at.is_none()
            && now.duration_since(self.scheduled_at).as_secs() >= START_S
    }
}

impl SimCluster {
    fn healthy(&self, app: &str, now: Timestamp) -> u32 {
        let ready = self.pods.values().filter(|pod| pod.app == app && pod.is_ready(now)).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// Pods on a node, as an API server would tell.
    pub(crate) fn pods_on(&self, node: &str, now: Timestamp) -> Vec<PodSeen> {
        let there = self.pods.iter().filter(|(_, pod)| pod.node.as_deref() == Some(node));
        there
            .map(|(name, pod)| PodSeen {
                namespace: NAMESPACE.to_owned(),
                name: name.clone(),
                terminating: pod.ends_at.is_some(),
                budgets: self.budget(&pod.app, now).into_iter().collect(),
            })
            .collect()
    }

    /// Volumes that are attached to a node.
    pub(crate) fn attached_to(&self, node: &str) -> Vec<String> {
        self.attached.iter().filter(|(_, there)| *there == node).map(|(volume, _)| volume.clone()).collect()
    }

    fn budget(&self, app: &str, now: Timestamp) -> Option<BudgetSeen> {
        let found = self.apps.get(app)?;
        let wanted = found.min_available?;
        Some(BudgetSeen {
            name: app.to_owned(),
            disruptions_allowed: self.healthy(app, now).saturating_sub(wanted),
            desired_healthy: wanted,
            expected_pods: found.replicas,
        })
    }

    /// Evicts a pod, unless its budget refuses; one that is gone is gone.
    pub(crate) fn evict(&mut self, pod: &NamespacedName, now: Timestamp) -> Result<bool, EffectError> {
        let Some(found) = self.pods.get(&pod.name).filter(|_| pod.namespace == NAMESPACE) else {
            return Ok(false);
        };
        if found.ends_at.is_some() {
            return Ok(false);
        }
        if let Some(budget) = self.budget(&found.app, now).filter(|budget| budget.disruptions_allowed == 0) {
            let message = format!(
                "cannot evict pod {pod} as it would violate the disruption budget {}, which needs {} healthy pods",
                budget.name, budget.desired_healthy
            );
            return Err(EffectError::new(EffectErrorKind::Busy, message));
        }
        if let Some(found) = self.pods.get_mut(&pod.name) {
            found.ends_at = now.checked_add(SignedDuration::from_secs(END_S)).ok();
        }
        Ok(true)
    }
}

/// Lets controllers, the scheduler and kubelets do what they do in a second. Says whether they will do more by themselves.
pub(crate) fn run(state: &mut State) -> bool {
    let clusters: Vec<NamespacedName> = state
        .clusters
        .iter()
        .filter(|(_, world)| !world.apps.is_empty())
        .map(|(name, _)| name.clone())
        .collect();
    let mut busy = false;
    for cluster in clusters {
        if guest::api_answers(state, &cluster) {
            busy |= run_cluster(state, &cluster);
        }
    }
    busy
}

fn run_cluster(state: &mut State, cluster: &NamespacedName) -> bool {
    let now = state.now;
    let nodes: Vec<String> = state.clusters[cluster].nodes.keys().cloned().collect();
    let alive: Vec<String> =
        nodes.iter().filter(|node| guest::is_node(state, cluster, node)).cloned().collect();
    let Some(world) = state.clusters.get_mut(cluster) else { return false };
    let is_out = |node: &String| {
        world.nodes.get(node).is_some_and(|node| node.taints.contains(&ashlar_plan::out_of_service()))
    };
    let out: Vec<String> = nodes.iter().filter(|node| is_out(node)).cloned().collect();
    // A node that is gone, or out of service, takes its pods with it; a kubelet that runs ends those that were told to.
    world.pods.retain(|_, pod| match &pod.node {
        Some(node) if !nodes.contains(node) || out.contains(node) => false,
        Some(node) => !(pod.ends_at.is_some_and(|at| at <= now) && alive.contains(node)),
        None => true,
    });
    // Volumes follow their pods from where a kubelet lets go of them, or is said to be gone for good.
    let pods = &world.pods;
    world.attached.retain(|volume, node| {
        let is_used = pods.contains_key(volume.trim_start_matches("volume-of-"));
        is_used || !alive.contains(node) && !out.contains(node)
    });
    let open: Vec<String> = alive
        .iter()
        .filter(|node| {
            world.nodes.get(*node).is_some_and(|node| !node.unschedulable && node.taints.is_empty())
        })
        .cloned()
        .collect();
    for (name, app) in &mut world.apps {
        let there = world.pods.values().filter(|pod| pod.app == *name && pod.ends_at.is_none()).count();
        for _ in there..app.replicas as usize {
            app.last_number += 1;
            let pod = SimPod { app: name.clone(), node: None, scheduled_at: now, ends_at: None };
            world.pods.insert(format!("{name}-{}", app.last_number), pod);
        }
    }
    let mut load: BTreeMap<String, usize> = open.iter().map(|node| (node.clone(), 0)).collect();
    for node in world.pods.values().filter_map(|pod| pod.node.as_ref()) {
        if let Some(count) = load.get_mut(node) {
            *count += 1;
        }
    }
    for (name, pod) in world.pods.iter_mut().filter(|(_, pod)| pod.node.is_none()) {
        let Some((node, count)) = load.iter_mut().min_by_key(|(_, count)| **count) else { break };
        *count += 1;
        (pod.node, pod.scheduled_at) = (Some(node.clone()), now);
        if world.apps.get(&pod.app).is_some_and(|app| app.volumes) {
            world.attached.insert(format!("volume-of-{name}"), node.clone());
        }
    }
    // Those that end and those that start change by time alone; those without a node wait for one.
    world
        .pods
        .values()
        .any(|pod| pod.node.is_some() && !pod.is_ready(now) && pod.ends_at.is_none_or(|at| at > now))
}
