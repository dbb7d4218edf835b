//! What a run is to bring about.

use std::time::Duration;

use ashlar_api::{Cni, Kind, Machine, NamespacedName, ObjectRef};
use ashlar_plan::{ClusterSeen, HostSeen, Plan, Snapshot};
use serde::{Deserialize, Serialize};

use crate::{EngineError, belongs::Belongings, stuck::without_failed};

/// When a run is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// Nothing is left to do in the scope.
    Settled,
    /// The cluster has all its machines, their nodes are Ready, and no seed or token is left.
    ClusterReady(NamespacedName),
    /// Nothing of the cluster is left, in the world or in the store.
    ClusterGone(NamespacedName),
    /// The cluster's machines are off.
    ClusterStopped(NamespacedName),
    /// The cluster's machines run and their nodes are Ready.
    ClusterStarted(NamespacedName),
    /// The objects are no longer in the store.
    ObjectsGone(Vec<ObjectRef>),
    /// No machine is on the host, or on its way to it.
    HostEmptied(String),
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Passes: observe, plan, act.
    pub passes: u32,
    /// Actions that ended well.
    pub actions: u32,
    /// Commits of decisions.
    pub commits: u32,
    /// How long it took.
    pub elapsed: Duration,
    /// The last snapshot.
    pub snapshot: Snapshot,
}

impl RunSummary {
    /// Whether the run changed nothing at all.
    pub fn is_unchanged(&self) -> bool {
        self.actions == 0 && self.commits == 0
    }
}

impl Goal {
    /// The cluster that it is about.
    pub(crate) fn cluster(&self) -> Option<&NamespacedName> {
        match self {
            Goal::ClusterReady(cluster)
            | Goal::ClusterGone(cluster)
            | Goal::ClusterStopped(cluster)
            | Goal::ClusterStarted(cluster) => Some(cluster),
            Goal::Settled | Goal::ObjectsGone(_) | Goal::HostEmptied(_) => None,
        }
    }
}

/// What a pass means for the goal.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is met.
    Met,
    /// Not yet; what is lacking, where no step of the plan says it.
    Open(Option<String>),
    /// It cannot be met.
    Failed(EngineError),
}

impl Goal {
    /// Judges a pass that had no decisions left. `is_idle` says that no step is under way.
    pub(crate) fn judge(
        &self,
        snapshot: &Snapshot,
        plan: &Plan,
        belongings: &Belongings<'_>,
        is_idle: bool,
    ) -> Verdict {
        let steps_left = belongings.steps(plan).next().is_some() || !is_idle;
        let met = match self {
            Goal::Settled => !steps_left,
            Goal::ClusterReady(cluster) | Goal::ClusterStarted(cluster) => {
                let Some(object) = snapshot.clusters.get(cluster) else { return no_such(cluster) };
                if object.metadata.is_deleting() {
                    return Verdict::Failed(EngineError::Refused(format!(
                        "cluster {cluster} is being deleted"
                    )));
                }
                if !steps_left && !object.record.stopped {
                    match lack(snapshot, cluster) {
                        None => true,
                        lack => return Verdict::Open(lack),
                    }
                } else {
                    false
                }
            }
            Goal::ClusterStopped(cluster) => {
                let Some(object) = snapshot.clusters.get(cluster) else { return no_such(cluster) };
                object.record.stopped && is_off(snapshot, cluster)
            }
            Goal::ClusterGone(cluster) => {
                !snapshot.clusters.contains_key(cluster)
                    && machines_of(snapshot, cluster).next().is_none()
                    && !steps_left
            }
            Goal::ObjectsGone(objects) => !objects.iter().any(|object| exists(snapshot, object)),
            Goal::HostEmptied(host) => {
                !snapshot.machines.values().any(|machine| machine.hosts().any(|one| one == host))
            }
        };
        if met {
            return Verdict::Met;
        }
        match self {
            Goal::Settled | Goal::ClusterReady(_) | Goal::ClusterStarted(_) => {
                without_failed(belongings, plan).map_or(Verdict::Open(None), Verdict::Failed)
            }
            Goal::ClusterStopped(_) | Goal::ClusterGone(_) | Goal::ObjectsGone(_) | Goal::HostEmptied(_) => {
                Verdict::Open(None)
            }
        }
    }
}

fn no_such(cluster: &NamespacedName) -> Verdict {
    let object = ObjectRef::new(Kind::Cluster, &cluster.namespace, &cluster.name);
    Verdict::Failed(EngineError::NoSuchObject(object))
}

fn machines_of<'a>(snapshot: &'a Snapshot, cluster: &'a NamespacedName) -> impl Iterator<Item = &'a Machine> {
    snapshot.machines.values().filter(move |machine| {
        machine.spec.cluster == cluster.name && machine.metadata.namespace == cluster.namespace
    })
}

/// What the cluster lacks to be up: all of its nodes Ready, and its system pods. Without a CNI of ours, nodes only have
/// to be there.
fn lack(snapshot: &Snapshot, cluster: &NamespacedName) -> Option<String> {
    let Some(ClusterSeen::Seen(world)) = snapshot.observed.clusters.get(cluster) else {
        return Some(format!("the API of cluster {cluster} does not answer"));
    };
    let has_cni = snapshot.clusters.get(cluster).is_some_and(|cluster| cluster.spec.cni != Cni::None);
    // Those that go, and whose host is off, are lacked by nobody.
    let is_left_behind = |machine: &&Machine| {
        machine.metadata.is_deleting()
            && ashlar_plan::proof_of_host_off(snapshot, &machine.spec.host).is_some()
    };
    let mut machines = machines_of(snapshot, cluster).filter(|machine| !is_left_behind(machine)).peekable();
    if machines.peek().is_none() {
        return Some(format!("cluster {cluster} has no machines"));
    }
    let missing = machines.find(|machine| {
        let node = world.nodes.get(&machine.spec.node.name);
        let is_up = node.is_some_and(|node| {
            node.provider_id == machine.spec.node.provider_id && (node.ready || !has_cni)
        });
        machine.record.joined_at.is_none() || !is_up
    });
    if let Some(machine) = missing {
        return Some(format!("node {} is not Ready", machine.spec.node.name));
    }
    let (ready, all) = (world.system_pods_ready, world.system_pods);
    (has_cni && (all == 0 || ready < all)).then(|| format!("{ready} of {all} system pods are Ready"))
}

/// All domains of the cluster were seen, and none of them runs.
fn is_off(snapshot: &Snapshot, cluster: &NamespacedName) -> bool {
    machines_of(snapshot, cluster).all(|machine| match snapshot.observed.hosts.get(&machine.spec.host) {
        Some(HostSeen::Seen(world)) => {
            world.domains.get(&machine.spec.domain.uuid).is_none_or(|domain| !domain.state.is_active())
        }
        _ => false,
    })
}

fn exists(snapshot: &Snapshot, object: &ObjectRef) -> bool {
    let key = object.key();
    match object.kind {
        Kind::Host => snapshot.hosts.contains_key(&object.name),
        Kind::StoragePool => snapshot.pools.contains_key(&object.name),
        Kind::Network => snapshot.networks.contains_key(&object.name),
        Kind::Image => snapshot.images.contains_key(&object.name),
        Kind::MachineClass => snapshot.classes.contains_key(&object.name),
        Kind::Cluster => snapshot.clusters.contains_key(&key),
        Kind::WorkerGroup => snapshot.groups.contains_key(&key),
        Kind::Machine => snapshot.machines.contains_key(&key),
        Kind::Volume => snapshot.volumes.contains_key(&key),
        Kind::Secret => snapshot.secrets.contains_key(&key),
        Kind::Event => false,
    }
}
