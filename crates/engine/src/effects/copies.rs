//! Where copies of the clusters' etcd are kept.

use ashlar_api::NamespacedName;
use async_trait::async_trait;
use jiff::Timestamp;

use super::EffectError;

/// A copy that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdCopy {
    /// When it was taken, to the second.
    pub taken_at: Timestamp,
    /// Bytes of the database.
    pub size_bytes: u64,
}

/// A place for copies of the clusters' etcd: a directory.
#[async_trait]
pub trait EtcdCopies: Send + Sync {
    /// Whole copies of a cluster, the oldest first.
    async fn list(&self, cluster: &NamespacedName) -> Result<Vec<EtcdCopy>, EffectError>;
    /// Begins one. What an earlier one left that was not finished goes.
    async fn begin(
        &self,
        cluster: &NamespacedName,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError>;
    /// Deletes one.
    async fn remove(&self, cluster: &NamespacedName, taken_at: Timestamp) -> Result<(), EffectError>;
}

/// A copy that is written: gone unless it is finished.
#[async_trait]
pub trait EtcdCopyWriter: std::io::Write + Send {
    /// Compares the database with the digest at its end, writes beside it what belongs to it, and keeps both.
    /// `Corrupt` if it is not whole.
    async fn finish(self: Box<Self>, beside: &str) -> Result<EtcdCopy, EffectError>;
}
