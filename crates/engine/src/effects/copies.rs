//! Where copies of the clusters' etcd are kept.

use ashlar_api::{Cluster, NamespacedName};
use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::EffectError;
use crate::vault::Sealed;

/// Whose copies: a cluster of an installation, and none that had its name before or has it elsewhere. A place may be shared by
/// many of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyOwner {
    /// The installation.
    pub installation: Uuid,
    /// The cluster's name.
    pub cluster: NamespacedName,
    /// The cluster's identity.
    pub uid: Uuid,
    /// Since when there is the cluster.
    pub since: Option<Timestamp>,
}

impl CopyOwner {
    /// Of a cluster, which has its identity once it was stored.
    pub fn of(installation: Uuid, cluster: &Cluster) -> Option<Self> {
        let uid = cluster.metadata.uid?;
        Some(CopyOwner {
            installation,
            cluster: cluster.key(),
            uid,
            since: cluster.metadata.creation_timestamp,
        })
    }
}

/// A copy that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdCopy {
    /// When it was taken, to the second.
    pub taken_at: Timestamp,
    /// Bytes of the database.
    pub size_bytes: u64,
    /// It lies where those of all installations lay once.
    pub is_former: bool,
}

/// A place for copies of the clusters' etcd: a directory, a bucket. What lies there is sealed; the place knows no key.
#[async_trait]
pub trait EtcdCopies: Send + Sync {
    /// Whole copies of a cluster, the oldest first.
    async fn list(&self, owner: &CopyOwner) -> Result<Vec<EtcdCopy>, EffectError>;
    /// Whole copies where those of all installations lay once, which say of themselves that they are this cluster's.
    async fn former(&self, owner: &CopyOwner) -> Result<Vec<EtcdCopy>, EffectError>;
    /// Begins one. What an earlier one left that was not finished goes.
    async fn begin(
        &self,
        owner: &CopyOwner,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError>;
    /// Deletes one that was listed.
    async fn remove(&self, owner: &CopyOwner, copy: &EtcdCopy) -> Result<(), EffectError>;
}

/// A copy that is written: gone unless it is finished. What is written to it is the sealed database.
#[async_trait]
pub trait EtcdCopyWriter: std::io::Write + Send {
    /// Compares what lies there with the digest of what was written, puts beside it what belongs to it, and keeps all of it;
    /// then looks whether all of it is there. `Corrupt` if it is not the same.
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
