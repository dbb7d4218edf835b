//! The clusters' etcd members, each asked by itself.

use ashlar_api::NamespacedName;
use ashlar_plan::{EtcdMember, EtcdStatus};
use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{DialTarget, EffectError};

/// How to reach one etcd member, and as whom.
#[derive(Clone)]
pub struct EtcdTarget {
    /// The cluster.
    pub cluster: NamespacedName,
    /// Its node, which is its name in etcd.
    pub node: String,
    /// Where to dial: port 2379 of the node.
    pub dial: DialTarget,
    /// Name in the member's certificate: kubeadm writes the node's address into it.
    pub server_name: String,
    /// PEM of the cluster's etcd CA.
    pub ca_pem: String,
    /// PEM of our client certificate.
    pub client_certificate_pem: String,
    /// PEM of its key.
    pub client_key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for EtcdTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdTarget")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .field("dial", &self.dial)
            .finish_non_exhaustive()
    }
}

/// The clusters' etcd, spoken to directly and not through API servers, which need it to live. Every method is one
/// request to one member, with a deadline. `Busy` is what may be refused now and not later: a learner that is behind,
/// members that have not started.
#[async_trait]
pub trait EtcdApi: Send + Sync {
    /// The members that the cluster agrees on just now: the answer is a linearizable one, so that a majority lives.
    async fn members(&self, target: &EtcdTarget) -> Result<Vec<EtcdMember>, EffectError>;
    /// What the member says of itself.
    async fn status(&self, target: &EtcdTarget) -> Result<EtcdStatus, EffectError>;
    /// Makes a voter of a learner. `Busy` while it is behind.
    async fn promote_member(&self, target: &EtcdTarget, member: u64) -> Result<(), EffectError>;
    /// Takes a member out; `NotFound` if it is gone.
    async fn remove_member(&self, target: &EtcdTarget, member: u64) -> Result<(), EffectError>;
    /// Gives leadership to another voter. The target is the leader; one that is not says `Busy`.
    async fn move_leader(&self, target: &EtcdTarget, to: u64) -> Result<(), EffectError>;
    /// Writes the member's database, and after it the 32 bytes of its SHA-256, as `etcdctl snapshot save` does.
    async fn snapshot(
        &self,
        target: &EtcdTarget,
        into: &mut (dyn std::io::Write + Send),
    ) -> Result<(), EffectError>;
    /// Gives the room of what was deleted back to the member's disk. It answers nobody meanwhile.
    async fn defragment(&self, target: &EtcdTarget) -> Result<(), EffectError>;
}
