//! What a command is about: which part of the world is looked at and worked on.

use ashlar_api::NamespacedName;
use serde::{Deserialize, Serialize};

/// Which part of the world is looked at and worked on. The store is always read whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// All hosts and all clusters.
    All,
    /// All hosts (a new machine may go to any), and of the clusters only this one.
    Cluster(NamespacedName),
    /// All hosts, and no cluster.
    Hosts,
    /// Nothing outside the store: no host and no cluster is asked.
    StoreOnly,
}

impl Scope {
    /// Whether hosts are asked.
    pub fn asks_hosts(&self) -> bool {
        !matches!(self, Scope::StoreOnly)
    }

    /// Whether the cluster's consoles and API are asked, and its steps taken.
    pub fn has_cluster(&self, cluster: &NamespacedName) -> bool {
        match self {
            Scope::All => true,
            Scope::Cluster(name) => name == cluster,
            Scope::Hosts | Scope::StoreOnly => false,
        }
    }
}
