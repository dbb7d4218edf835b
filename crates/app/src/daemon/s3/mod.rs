//! Copies of the clusters' etcd in a bucket: `PREFIX/NAMESPACE/CLUSTER/TIME.db`, and then `TIME.json`, with which it counts.
//!
//! An object is there whole or not at all, so that nothing unfinished is ever seen. What is uploaded is compared with its
//! digest, by the service where it can, else by reading it back. A database holds the cluster's Secrets as they are: the
//! bucket has to be as well kept as the hosts.

mod client;
mod credentials;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{EffectError, EffectErrorKind, EtcdCopies, EtcdCopy, EtcdCopyWriter};
use async_trait::async_trait;
use jiff::Timestamp;

use self::client::{Client, Content};
use super::config::S3Bucket;
use super::copies::{DIGEST, not_whole, stamp, taken_at, whole};
use crate::failure::Result;

/// The bucket.
pub(super) struct CopiesBucket {
    client: Arc<Client>,
    prefix: String,
    /// Where a copy is put together before it is uploaded.
    spool: PathBuf,
}

/// What there is of one copy.
#[derive(Default)]
struct Parts {
    database: Option<u64>,
    has_text: bool,
}

impl CopiesBucket {
    /// Nothing is asked yet.
    pub(super) fn new(bucket: &S3Bucket, spool: &Path) -> Result<Self> {
        let prefix = bucket.prefix.trim_matches('/').to_owned();
        Ok(CopiesBucket { client: Arc::new(Client::new(bucket)?), prefix, spool: spool.to_owned() })
    }

    fn directory(&self, cluster: &NamespacedName) -> String {
        let prefix = if self.prefix.is_empty() { String::new() } else { format!("{}/", self.prefix) };
        format!("{prefix}{}/{}/", cluster.namespace, cluster.name)
    }

    fn key(&self, cluster: &NamespacedName, taken_at: Timestamp, ending: &str) -> String {
        format!("{}{}.{ending}", self.directory(cluster), stamp(taken_at))
    }

    /// All that there is of a cluster's copies, by time.
    async fn parts(&self, cluster: &NamespacedName) -> Result<BTreeMap<Timestamp, Parts>, EffectError> {
        let (client, directory) = (Arc::clone(&self.client), self.directory(cluster));
        let objects = blocking(move || client.list(&directory)).await?;
        let mut parts: BTreeMap<Timestamp, Parts> = BTreeMap::new();
        for (key, size) in objects {
            let path = Path::new(&key);
            let ending = path.extension().and_then(|ending| ending.to_str());
            let Some(taken_at) = taken_at(&path.with_extension("db")) else { continue };
            match ending {
                Some("db") => parts.entry(taken_at).or_default().database = Some(size),
                Some("json") => parts.entry(taken_at).or_default().has_text = true,
                _ => {}
            }
        }
        Ok(parts)
    }
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
        let whole = |(taken_at, parts): (Timestamp, Parts)| {
            let size = parts.database.filter(|_| parts.has_text)?;
            Some(EtcdCopy { taken_at, size_bytes: size.saturating_sub(DIGEST) })
        };
        Ok(self.parts(cluster).await?.into_iter().filter_map(whole).collect())
    }

    async fn begin(
        &self,
        cluster: &NamespacedName,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError> {
        for (old, parts) in self.parts(cluster).await? {
            if parts.database.is_none() || !parts.has_text {
                self.remove(cluster, old).await?;
            }
        }
        // Without a name: it is gone with this process, however that ends.
        let file = tempfile::tempfile_in(&self.spool).map_err(|error| {
            let message = format!("cannot write to {}: {error}", self.spool.display());
            EffectError::new(EffectErrorKind::Exhausted, message)
        })?;
        let keys = ["db", "json"].map(|ending| self.key(cluster, taken_at, ending));
        Ok(Box::new(Unfinished { file, client: Arc::clone(&self.client), keys, taken_at }))
    }

    async fn remove(&self, cluster: &NamespacedName, taken_at: Timestamp) -> Result<(), EffectError> {
        let client = Arc::clone(&self.client);
        // In this order: without its text a database counts for nothing.
        let keys = ["json", "db"].map(|ending| self.key(cluster, taken_at, ending));
        blocking(move || keys.iter().try_for_each(|key| client.delete(key))).await
    }
}

struct Unfinished {
    file: File,
    client: Arc<Client>,
    /// Of the database and of the text.
    keys: [String; 2],
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
    async fn finish(self: Box<Self>, beside: &str) -> Result<EtcdCopy, EffectError> {
        let beside = beside.to_owned();
        blocking(move || self.upload(&beside)).await
    }
}

impl Unfinished {
    fn upload(mut self, beside: &str) -> Result<EtcdCopy, EffectError> {
        let read = |error: std::io::Error| {
            EffectError::new(EffectErrorKind::Exhausted, format!("cannot read the copy of etcd: {error}"))
        };
        let size_bytes = whole(&mut self.file).map_err(read)?.ok_or_else(not_whole)?;
        let [database, text] = &self.keys;
        let content = Content::of_file(self.file.try_clone().map_err(read)?).map_err(read)?;
        let uploaded = self
            .client
            .put(database, &content)
            .and_then(|()| self.client.put(text, &Content::of_text(beside)));
        if let Err(error) = uploaded {
            // What cannot be deleted now goes before the next copy.
            for key in [text, database] {
                if let Err(error) = self.client.delete(key) {
                    tracing::debug!(error = error.message, "what is left of a copy was not deleted");
                }
            }
            return Err(error);
        }
        Ok(EtcdCopy { taken_at: self.taken_at, size_bytes })
    }
}
