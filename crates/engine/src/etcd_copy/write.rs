//! Sealing a copy while it comes.

use std::io::Write;

use zeroize::Zeroizing;

use super::{Contents, CopyFacts, CopyFile, DatabaseDigest, Manifest};
use crate::{
    effects::{EffectError, EffectErrorKind, Entropy, EtcdCopy, EtcdCopyParts, EtcdCopyWriter},
    hex,
    vault::{Sealing, Vault},
};

/// A copy that is written. Nothing that is not sealed leaves this process.
pub struct CopyWriter {
    facts: CopyFacts,
    data_key: Zeroizing<[u8; 32]>,
    database: Sealing<Box<dyn EtcdCopyWriter>>,
    digest: DatabaseDigest,
}

impl CopyWriter {
    /// Begins one, with a data key of its own.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(
        facts: CopyFacts,
        to: Box<dyn EtcdCopyWriter>,
        entropy: &dyn Entropy,
    ) -> Result<Self, EffectError> {
        let mut data_key = Zeroizing::new([0u8; 32]);
        entropy.fill(data_key.as_mut());
        let database = Sealing::new(to, &data_key, facts.place("database"), entropy)
            .map_err(|error| unwritten(&error))?;
        Ok(CopyWriter { facts, data_key, database, digest: DatabaseDigest::default() })
    }

    /// Compares the snapshot with the digest at its end, seals the objects, and keeps all of it.
    ///
    /// # Errors
    /// `Corrupt` if the snapshot is not whole; the place keeps nothing.
    pub async fn finish(
        self,
        objects: Vec<serde_json::Value>,
        vault: &Vault,
        entropy: &dyn Entropy,
    ) -> Result<EtcdCopy, EffectError> {
        let CopyWriter { facts, data_key, database, digest } = self;
        let Some((database_bytes, database_sha256)) = digest.whole() else {
            let message = "the copy of etcd is not whole: its digest does not fit";
            return Err(EffectError::new(EffectErrorKind::Corrupt, message));
        };
        let (to, database) = database.finish().map_err(|error| unwritten(&error))?;
        let contents = Contents {
            copy: facts.clone(),
            vault: vault.state(),
            ashlar_version: env!("CARGO_PKG_VERSION").to_owned(),
            database_bytes,
            database_sha256: hex::encode(&database_sha256),
            objects,
        };
        let refused = |error: serde_json::Error| {
            EffectError::new(
                EffectErrorKind::Refused,
                format!("the copy of etcd cannot be described: {error}"),
            )
        };
        let text = serde_json::to_vec_pretty(&contents).map_err(refused)?;
        let mut sealing = Sealing::new(Vec::new(), &data_key, facts.place("contents"), entropy)
            .map_err(|error| unwritten(&error))?;
        sealing.write_all(&text).map_err(|error| unwritten(&error))?;
        let (sealed_contents, about_contents) = sealing.finish().map_err(|error| unwritten(&error))?;
        let sealed_data_key = vault
            .seal_note(&facts.place("data-key"), data_key.as_ref(), entropy)
            .ok_or_else(|| EffectError::new(EffectErrorKind::Refused, "the copy's key cannot be sealed"))?;
        let manifest = Manifest {
            format: Manifest::FORMAT,
            copy: facts,
            vault: vault.state(),
            sealed_data_key,
            database: CopyFile::from(database),
            contents: CopyFile::from(about_contents),
        };
        let manifest = serde_json::to_string_pretty(&manifest).map_err(refused)? + "\n";
        let parts = EtcdCopyParts { database, database_bytes, contents: sealed_contents, manifest };
        to.finish(parts).await
    }
}

impl Write for CopyWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = self.database.write(bytes)?;
        self.digest.update(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.database.flush()
    }
}

fn unwritten(error: &std::io::Error) -> EffectError {
    EffectError::new(EffectErrorKind::Exhausted, format!("the copy of etcd cannot be written: {error}"))
}
