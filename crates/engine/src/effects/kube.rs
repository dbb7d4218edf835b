//! The clusters' API servers.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::NamespacedName;
use ashlar_plan::{ClusterWorld, DeprecatedApi, ServingRequest};
use async_trait::async_trait;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{DialTarget, EffectError};

/// How to reach one cluster's API server, and as whom.
#[derive(Clone)]
pub struct KubeTarget {
    /// The cluster.
    pub cluster: NamespacedName,
    /// Where to dial.
    pub dial: DialTarget,
    /// Name in the server's certificate.
    pub server_name: String,
    /// PEM of the cluster's CA.
    pub ca_pem: String,
    /// PEM of our client certificate.
    pub client_certificate_pem: String,
    /// PEM of its key.
    pub client_key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for KubeTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeTarget")
            .field("cluster", &self.cluster)
            .field("dial", &self.dial)
            .finish_non_exhaustive()
    }
}

/// One object to apply, with the digest that is written into its annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Add-on that it belongs to.
    pub addon: String,
    /// Digest of the whole add-on, `ashlar.dev/addon-digest`.
    pub digest: String,
    /// The objects, in order.
    pub objects: Vec<serde_json::Value>,
}

/// A Node as it was read for a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeNow {
    /// Its version: what is written back must be made from this one.
    pub resource_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints as they stand there, with fields that only Kubernetes knows (`timeAdded`).
    pub taints: Vec<serde_json::Value>,
}

/// A change of a Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodePatch {
    /// The version that it was made from.
    pub resource_version: String,
    /// Labels to set; those without a value are taken away.
    pub labels: BTreeMap<String, Option<String>>,
    /// All taints, if they change.
    pub taints: Option<Vec<serde_json::Value>>,
}

/// A request for a serving certificate as it was read for a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct ServingRequestNow {
    /// Its version: the decision is about this one.
    pub resource_version: String,
    /// What it asks for.
    pub request: ServingRequest,
    /// Somebody has approved or denied it.
    pub is_decided: bool,
}

/// The decision about a request.
#[derive(Clone, Debug, PartialEq)]
pub struct ServingDecision {
    /// Approved, or denied.
    pub approve: bool,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// What an API server said.
#[derive(Clone, Debug, Default)]
pub struct KubeSeen {
    /// All but what is judged by whether it changes.
    pub world: ClusterWorld,
    /// When each node's kubelet last renewed its lease, by that node's clock.
    pub leases: BTreeMap<String, Timestamp>,
}

/// The clusters' API servers. Every method is one request (or one bounded burst of reads) with a deadline.
#[async_trait]
pub trait KubeApi: Send + Sync {
    /// Nodes and their leases, bootstrap tokens, add-ons of ours, and kube-system pods. `addons` names the digest-carrying object of
    /// each add-on: (add-on, apiVersion, kind, namespace, name). `drained` names the nodes whose pods are asked for, with
    /// the PodDisruptionBudgets that speak for them, and whose attached volumes. `NotOurs` if something answers that does not
    /// prove to be the cluster's API.
    async fn observe(
        &self,
        target: &KubeTarget,
        addons: &[(String, String, String, String, String)],
        drained: &[String],
    ) -> Result<KubeSeen, EffectError>;
    /// Deprecated APIs that the API server was asked for since it started. Each answers for itself: the target names one.
    async fn deprecated_apis(&self, target: &KubeTarget) -> Result<BTreeSet<DeprecatedApi>, EffectError>;
    /// Creates or renews a bootstrap token Secret in kube-system.
    async fn put_bootstrap_token(
        &self,
        target: &KubeTarget,
        token_id: &str,
        token_secret: &Zeroizing<String>,
        expires: Timestamp,
        description: &str,
    ) -> Result<(), EffectError>;
    /// Deletes a bootstrap token; fine if it is gone.
    async fn delete_bootstrap_token(&self, target: &KubeTarget, token_id: &str) -> Result<(), EffectError>;
    /// Whether the object (by its kind, namespace and name) is there.
    async fn exists(&self, target: &KubeTarget, object: &serde_json::Value) -> Result<bool, EffectError>;
    /// Server-side apply of one object, field manager `ashlar`.
    async fn apply(&self, target: &KubeTarget, object: &serde_json::Value) -> Result<(), EffectError>;
    /// A Node's labels and taints as they are now; none if it is gone.
    async fn node(&self, target: &KubeTarget, node: &str) -> Result<Option<NodeNow>, EffectError>;
    /// Changes a Node's labels and taints, unless somebody changed it since it was read: then `Busy`.
    async fn patch_node(&self, target: &KubeTarget, node: &str, patch: &NodePatch)
    -> Result<(), EffectError>;
    /// Cordons a Node: no new pods come to it.
    async fn cordon(&self, target: &KubeTarget, node: &str) -> Result<(), EffectError>;
    /// Asks for a pod's eviction; fine if it is gone. `Busy`, with its name, while a PodDisruptionBudget refuses.
    async fn evict(&self, target: &KubeTarget, pod: &NamespacedName) -> Result<(), EffectError>;
    /// A request for a kubelet's serving certificate as it is now; none if it is gone, or is to another signer.
    async fn serving_request(
        &self,
        target: &KubeTarget,
        csr: &str,
    ) -> Result<Option<ServingRequestNow>, EffectError>;
    /// Approves or denies a request, unless it changed since it was read: then `Busy`.
    async fn decide_serving_request(
        &self,
        target: &KubeTarget,
        csr: &str,
        resource_version: &str,
        decision: &ServingDecision,
    ) -> Result<(), EffectError>;
    /// Deletes a Node; fine if it is gone.
    async fn delete_node(&self, target: &KubeTarget, node: &str) -> Result<(), EffectError>;
}
