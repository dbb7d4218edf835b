//! What a cluster's API says of a node, its kubelet and what that runs from files.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use ashlar_api::Taint;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct NodeSeen {
    /// Condition Ready.
    pub ready: bool,
    /// The condition's message, where not.
    pub message: String,
    /// `spec.providerID`: a node of the name with another one is not ours.
    pub provider_id: String,
    /// kubelet version.
    pub kubelet_version: String,
    /// Labels, Kubernetes' own among them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Taints, Kubernetes' own among them.
    #[serde(default)]
    pub taints: Vec<Taint>,
    /// Cordoned: no new pods come.
    #[serde(default)]
    pub unschedulable: bool,
    /// Other conditions that are not as they should be (DiskPressure, NetworkUnavailable, …), with their messages.
    #[serde(default)]
    pub troubles: BTreeMap<String, String>,
    /// What its kubelet's lease says.
    #[serde(default)]
    pub kubelet: KubeletSeen,
    /// Pods that its kubelet runs from files (API server, etcd, …), by their names without the node's, as their mirrors in
    /// the API say. One that runs and that the API does not mirror is not in here.
    #[serde(default)]
    pub static_pods: BTreeMap<String, StaticPodSeen>,
}

/// Whether a kubelet renews its lease, judged by whether that changes and by nobody's clock but our own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum KubeletSeen {
    /// Nobody can tell yet.
    #[default]
    Unknown,
    /// It renewed its lease lately.
    Heard,
    /// It did not for longer than kube-controller-manager waits before it says that the node is not Ready.
    Silent {
        /// When the lease was first seen as it still is.
        since: Timestamp,
    },
}

/// What a lease says moves nothing in the world, however often one looks: what comes of it is recorded.
impl Hash for KubeletSeen {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A static pod.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct StaticPodSeen {
    /// Condition Ready.
    pub ready: bool,
    /// Why it is not, as far as is known: `CrashLoopBackOff, exit code 1`.
    pub reason: String,
}
