//! Where copies of the clusters' etcd are kept.

use ashlar_api::NamespacedName;
use async_trait::async_trait;
use jiff::Timestamp;

use super::EffectError;
use crate::vault::Sealed;

/// A copy that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdCopy {
    /// When it was taken, to the second.
    pub taken_at: Timestamp,
    /// Bytes of the database.
    pub size_bytes: u64,
}

/// A place for copies of the clusters' etcd: a directory, a bucket. What lies there is sealed; the place knows no key.
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

/// A copy that is written: gone unless it is finished. What is written to it is the sealed database.
#[async_trait]
pub trait EtcdCopyWriter: std::io::Write + Send {
    /// Compares what lies there with the digest of what was written, puts beside it what belongs to it, and keeps all of it.
    /// `Corrupt` if it is not the same.
    async fn finish(self: Box<Self>, parts: EtcdCopyParts) -> Result<EtcdCopy, EffectError>;
}

/// What belongs to a database that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdCopyParts {
    /// All that was written: the sealed database.
    pub database: Sealed,
    /// Bytes of the database that was sealed.
    pub database_bytes: u64,
    /// The sealed contents.
    pub contents: Vec<u8>,
    /// The manifest. With it the copy counts.
    pub manifest: String,
}
