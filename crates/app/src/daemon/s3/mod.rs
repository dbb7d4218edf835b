//! Copies of the clusters' etcd in a bucket: each file an object, `PREFIX/INSTALLATION/NAMESPACE/CLUSTER/UID/TIME.…`, the
//! manifest last.
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

use ashlar_engine::effects::{
    CopyOwner, EffectError, EffectErrorKind, EtcdCopies, EtcdCopy, EtcdCopyParts, EtcdCopyWriter,
};
use async_trait::async_trait;
use jiff::Timestamp;

use self::client::{Client, Content};
use super::config::S3Bucket;
use super::copies::{
    MANIFEST_BYTES, Part, Parts, digest, former_directory, is_of, not_all_there, not_written, own_directory,
    stamp,
};
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

    fn own(&self, owner: &CopyOwner) -> String {
        format!("{}{}/", self.prefix, own_directory(owner))
    }

    fn former_of(&self, owner: &CopyOwner) -> String {
        format!("{}{}/", self.prefix, former_directory(&owner.cluster))
    }

    /// All that there is of copies in a directory, by time.
    async fn parts(&self, directory: &str) -> Result<BTreeMap<Timestamp, Parts>, EffectError> {
        let (client, directory) = (Arc::clone(&self.client), directory.to_owned());
        blocking(move || parts(&client, &directory)).await
    }

    /// Deletes a sealed copy, or what there is of one.
    async fn delete(&self, directory: &str, taken_at: Timestamp) -> Result<(), EffectError> {
        let client = Arc::clone(&self.client);
        let keys = Part::SEALED.map(|part| key(directory, taken_at, part));
        blocking(move || keys.iter().rev().try_for_each(|key| client.delete(key))).await
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

fn key(directory: &str, taken_at: Timestamp, part: Part) -> String {
    format!("{directory}{}.{}", stamp(taken_at), part.ending())
}

fn parts(client: &Client, directory: &str) -> Result<BTreeMap<Timestamp, Parts>, EffectError> {
    let objects = client.list(directory)?;
    let names = objects.iter().filter_map(|(key, size)| Some((key.strip_prefix(directory)?, *size)));
    Ok(Parts::by_time(names))
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
    async fn list(&self, owner: &CopyOwner) -> Result<Vec<EtcdCopy>, EffectError> {
        let copy = |(taken_at, parts): (Timestamp, Parts)| {
            Some(EtcdCopy { taken_at, size_bytes: parts.sealed_bytes()?, is_former: false })
        };
        Ok(self.parts(&self.own(owner)).await?.into_iter().filter_map(copy).collect())
    }

    async fn former(&self, owner: &CopyOwner) -> Result<Vec<EtcdCopy>, EffectError> {
        let (client, directory, owner) = (Arc::clone(&self.client), self.former_of(owner), owner.clone());
        let find = move || {
            let mut found = Vec::new();
            for (taken_at, parts) in parts(&client, &directory)? {
                let Some(size_bytes) = parts.sealed_bytes() else { continue };
                let key = key(&directory, taken_at, Part::Manifest);
                let mut text = Vec::new();
                let from = client.get(&key, parts.length(Part::Manifest).unwrap_or_default())?;
                from.take(MANIFEST_BYTES).read_to_end(&mut text).map_err(|error| {
                    let message = format!("cannot read {key} in {}: {error}", client.name());
                    EffectError::new(EffectErrorKind::Unreachable, message)
                })?;
                if is_of(&text, &owner, taken_at) {
                    found.push(EtcdCopy { taken_at, size_bytes, is_former: true });
                }
            }
            Ok(found)
        };
        blocking(find).await
    }

    async fn begin(
        &self,
        owner: &CopyOwner,
        taken_at: Timestamp,
    ) -> Result<Box<dyn EtcdCopyWriter>, EffectError> {
        let directory = self.own(owner);
        for (old, parts) in self.parts(&directory).await? {
            if parts.is_left_over() {
                self.delete(&directory, old).await?;
            }
        }
        // Without a name: it is gone with this process, however that ends.
        let file = tempfile::tempfile_in(&self.spool).map_err(|error| {
            let message = format!("cannot write to {}: {error}", self.spool.display());
            EffectError::new(EffectErrorKind::Exhausted, message)
        })?;
        Ok(Box::new(Unfinished { file, client: Arc::clone(&self.client), directory, taken_at }))
    }

    async fn remove(&self, owner: &CopyOwner, copy: &EtcdCopy) -> Result<(), EffectError> {
        let directory = if copy.is_former { self.former_of(owner) } else { self.own(owner) };
        self.delete(&directory, copy.taken_at).await
    }
}

struct Unfinished {
    file: File,
    client: Arc<Client>,
    directory: String,
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
    fn upload(mut self, about: &EtcdCopyParts) -> Result<EtcdCopy, EffectError> {
        let read = |error: std::io::Error| {
            EffectError::new(EffectErrorKind::Exhausted, format!("cannot read the copy of etcd: {error}"))
        };
        if digest(&mut self.file).map_err(read)? != about.database.sha256 {
            return Err(not_written());
        }
        let database = Content::of_file(self.file, about.database).map_err(read)?;
        let contents = Content::of_bytes(&about.contents);
        let manifest = Content::of_bytes(about.manifest.as_bytes());
        let keys = Part::SEALED.map(|part| key(&self.directory, self.taken_at, part));
        let mut uploads = keys.iter().zip([&database, &contents, &manifest]);
        let uploaded = uploads.try_for_each(|(key, content)| self.client.put(key, content));
        // Another daemon of the installation, which leads now, may have taken a part for a leftover.
        let all_there = || {
            let there = parts(&self.client, &self.directory)?;
            match there.get(&self.taken_at).and_then(Parts::sealed_bytes) {
                Some(bytes) if bytes == about.database_bytes => Ok(()),
                _ => Err(not_all_there()),
            }
        };
        if let Err(error) = uploaded.and_then(|()| all_there()) {
            // What cannot be deleted now goes before the next copy.
            for key in keys.iter().rev() {
                if let Err(error) = self.client.delete(key) {
                    tracing::debug!(error = error.message, "what is left of a copy was not deleted");
                }
            }
            return Err(error);
        }
        Ok(EtcdCopy { taken_at: self.taken_at, size_bytes: about.database_bytes, is_former: false })
    }
}
