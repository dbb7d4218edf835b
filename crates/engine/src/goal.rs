//! What a run is to bring about.

use std::time::Duration;

use ashlar_api::{NamespacedName, ObjectRef};
use ashlar_plan::Snapshot;

/// When a run is done.
#[derive(Clone, Debug, PartialEq, Eq)]
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
