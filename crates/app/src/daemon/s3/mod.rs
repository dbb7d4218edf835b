//! Copies of the clusters' etcd in a bucket: each file an object, `PREFIX/NAMESPACE/CLUSTER/TIME.…`, the manifest last.
//!
//! An object is there whole or not at all, so that nothing unfinished is ever seen. What is uploaded is compared with its
//! digest, by the service where it can, else by reading it back.

mod client;
mod credentials;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{
    EffectError, EffectErrorKind, EtcdCopies, EtcdCopy, EtcdCopyParts, EtcdCopyWriter,
};
use async_trait::async_trait;
use jiff::Timestamp;

use self::client::{Client, Content};
use super::config::S3Bucket;
use super::copies::{Part, Parts, digest, not_written, stamp};
use crate::failure::Result;

/// The bucket.
pub(crate) struct CopiesBucket {
    client: Arc<Client>,
    prefix: String,
    /// Where a copy is put together before it is uploaded.
    spool: PathBuf,
}

impl CopiesBucket {
    /// Nothing is asked yet.
    pub(super) fn new(bucket: &S3Bucket, spool: &Path) -> Result<Self> {
        let prefix = match bucket.prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(CopiesBucket { client: Arc::new(Client::new(bucket)?), prefix, spool: spool.to_owned() })
    }

    fn directory(&self, cluster: &NamespacedName) -> String {
        format!("{}{}/{}/", self.prefix, cluster.namespace, cluster.name)
    }

    fn key(&self, cluster: &NamespacedName, taken_at: Timestamp, part: Part) -> String {
        format!("{}{}.{}", self.directory(cluster), stamp(taken_at), part.ending())
    }

    /// All that there is of a cluster's copies, by time.
    async fn parts(&self, cluster: &NamespacedName) -> Result<BTreeMap<Timestamp, Parts>, EffectError> {
        let (client, directory) = (Arc::clone(&self.client), self.directory(cluster));
        let objects = blocking({
            let directory = directory.clone();
            move || client.list(&directory)
        })
        .await?;
        let names = objects.iter().filter_map(|(key, size)| Some((key.strip_prefix(&directory)?, *size)));
        Ok(Parts::by_time(names))
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        self.client.name().to_owned()
    }

    /// All that lies there: names below the prefix, and lengths.
    pub(super) fn files(&self) -> Result<Vec<(String, u64)>, EffectError> {
        let all = self.client.list(&self.prefix)?;
        let below = |(key, size): (String, u64)| Some((key.strip_prefix(&self.prefix)?.to_owned(), size));
        Ok(all.into_iter().filter_map(below).collect())
    }

    /// Reads one of them.
    pub(super) fn read(&self, name: &str, length: u64) -> Result<Box<dyn Read>, EffectError> {
        self.client.get(&format!("{}{name}", self.prefix), length)
    }
}

/// Bytes of the database, if all of the copy is there. One in the clear counts with its objects only.
fn whole(parts: &Parts) -> Option<u64> {
    parts.database_bytes().filter(|_| parts.has(Part::Manifest))
}

/// Waits for the network on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EffectError> + Send + 'static,
) -> Result<T, EffectError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| EffectError::new(EffectErrorKind::Refused, error.to_string()))?
}

#[async_trait]
impl EtcdCopies for CopiesBucket {
    async fn list(&self, cluster: &NamespacedName) -> Result<Vec<EtcdCopy>, EffectError> {
        let copy =
            |(taken_at, parts): (Timestamp, Parts)| Some(EtcdCopy { taken_at, size_bytes: whole(&parts)? });
        Ok(self.parts(cluster).await?.into_iter().filter_map(copy).collect())
    }

    async fn begin(
        &self,
        cluster: &NamespacedName,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError> {
        for (old, parts) in self.parts(cluster).await? {
            if whole(&parts).is_none() {
                self.remove(cluster, old).await?;
            }
        }
        // Without a name: it is gone with this process, however that ends.
        let file = tempfile::tempfile_in(&self.spool).map_err(|error| {
            let message = format!("cannot write to {}: {error}", self.spool.display());
            EffectError::new(EffectErrorKind::Exhausted, message)
        })?;
        let keys = Part::SEALED.map(|part| self.key(cluster, taken_at, part));
        Ok(Box::new(Unfinished { file, client: Arc::clone(&self.client), keys, taken_at }))
    }

    async fn remove(&self, cluster: &NamespacedName, taken_at: Timestamp) -> Result<(), EffectError> {
        let client = Arc::clone(&self.client);
        let keys = Part::ALL.map(|part| self.key(cluster, taken_at, part));
        blocking(move || keys.iter().try_for_each(|key| client.delete(key))).await
    }
}

struct Unfinished {
    file: File,
    client: Arc<Client>,
    /// Of [`Part::SEALED`].
    keys: [String; 3],
    taken_at: Timestamp,
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[async_trait]
impl EtcdCopyWriter for Unfinished {
    async fn finish(self: Box<Self>, parts: EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        blocking(move || self.upload(&parts)).await
    }
}

impl Unfinished {
    fn upload(mut self, parts: &EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        let read = |error: std::io::Error| {
            EffectError::new(EffectErrorKind::Exhausted, format!("cannot read the copy of etcd: {error}"))
        };
        if digest(&mut self.file).map_err(read)? != parts.database.sha256 {
            return Err(not_written());
        }
        let database = Content::of_file(self.file, parts.database).map_err(read)?;
        let contents = Content::of_bytes(&parts.contents);
        let manifest = Content::of_bytes(parts.manifest.as_bytes());
        let mut uploads = self.keys.iter().zip([&database, &contents, &manifest]);
        let uploaded = uploads.try_for_each(|(key, content)| self.client.put(key, content));
        if let Err(error) = uploaded {
            // What cannot be deleted now goes before the next copy.
            for key in self.keys.iter().rev() {
                if let Err(error) = self.client.delete(key) {
                    tracing::debug!(error = error.message, "what is left of a copy was not deleted");
                }
            }
            return Err(error);
        }
        Ok(EtcdCopy { taken_at: self.taken_at, size_bytes: parts.database_bytes })
    }
}
