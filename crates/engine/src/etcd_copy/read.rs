//! Opening a copy, and proving that it is good.

use std::io::{ErrorKind, Read, Write};

use ashlar_api::{Kind, Object, Secret};
use zeroize::Zeroizing;

use super::{Contents, CopyFile, DatabaseDigest, Manifest};
use crate::{
    hex,
    vault::{Opening, Sealed, Vault, VaultError},
};

/// Of the contents; those of a hundred machines have a megabyte.
const CONTENTS_BYTES: u64 = 1 << 30;
const BUFFER: usize = 256 * 1024;

/// Why a copy cannot be opened. Never holds what is in it.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The manifest is none.
    #[error("its manifest cannot be understood")]
    Manifest(#[source] serde_json::Error),
    /// It was written by a newer Ashlar.
    #[error("it has format {0}, which this Ashlar does not know: a newer one took it")]
    Format(u32),
    /// Something in it is not what it was.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The file.
        what: &'static str,
        /// How that shows.
        why: String,
    },
    /// A file could not be read, or what came of it not be written.
    #[error("cannot {doing} {what}")]
    Io {
        /// Read, or write.
        doing: &'static str,
        /// The file.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key does not open it.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

const DATABASE: &str = "the database";
const CONTENTS: &str = "what lies beside the database";

fn damaged(what: &'static str, why: impl Into<String>) -> CopyError {
    CopyError::Damaged { what, why: why.into() }
}

fn io(doing: &'static str, what: &'static str) -> impl Fn(std::io::Error) -> CopyError {
    move |source| match source.kind() {
        ErrorKind::InvalidData if doing == "read" => damaged(what, source.to_string()),
        _ => CopyError::Io { doing, what, source },
    }
}

impl Manifest {
    /// Reads one.
    ///
    /// # Errors
    /// It is none, or of a newer Ashlar.
    pub fn parse(text: &[u8]) -> Result<Manifest, CopyError> {
        let value: serde_json::Value = serde_json::from_slice(text).map_err(CopyError::Manifest)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format != u64::from(Manifest::FORMAT) => {
                return Err(CopyError::Format(u32::try_from(format).unwrap_or(u32::MAX)));
            }
            _ => {}
        }
        serde_json::from_value(value).map_err(CopyError::Manifest)
    }
}

/// A copy whose data key was opened.
pub struct OpenCopy<'a> {
    manifest: &'a Manifest,
    vault: &'a Vault,
    data_key: Zeroizing<[u8; 32]>,
}

impl<'a> OpenCopy<'a> {
    /// Opens the data key.
    ///
    /// # Errors
    /// The vault is another one; the manifest was changed.
    pub fn new(manifest: &'a Manifest, vault: &'a Vault) -> Result<Self, CopyError> {
        if manifest.vault.key_id != vault.key_id() {
            return Err(CopyError::Vault(VaultError::WrongKey {
                expected: manifest.vault.key_id.clone(),
                given: vault.key_id().to_owned(),
                origin: "the vault".to_owned(),
            }));
        }
        let changed = || damaged("its manifest", "the data key in it does not open: it was changed");
        let place = manifest.copy.place("data-key");
        let opened = vault.open_note(&place, &manifest.sealed_data_key).ok_or_else(changed)?;
        let data_key: [u8; 32] = opened.as_slice().try_into().map_err(|_| changed())?;
        Ok(OpenCopy { manifest, vault, data_key: Zeroizing::new(data_key) })
    }

    /// Opens the contents, and compares them with the manifest.
    ///
    /// # Errors
    /// They cannot be read, or are not what was sealed.
    pub fn contents(&self, sealed: impl Read) -> Result<Contents, CopyError> {
        let manifest = self.manifest;
        let opening = Opening::new(sealed, &self.data_key, manifest.copy.place("contents"));
        let mut opening = opening.map_err(io("read", CONTENTS))?;
        let mut text = Zeroizing::new(Vec::new());
        (&mut opening).take(CONTENTS_BYTES).read_to_end(&mut text).map_err(io("read", CONTENTS))?;
        is_as_recorded(opening.finish(), &manifest.contents, CONTENTS)?;
        let contents: Contents =
            serde_json::from_slice(&text).map_err(|error| damaged(CONTENTS, error.to_string()))?;
        if contents.copy != manifest.copy || contents.vault != manifest.vault {
            return Err(damaged("its manifest", "it does not say what it said when the copy was taken"));
        }
        Ok(contents)
    }

    /// The secrets in the contents.
    ///
    /// # Errors
    /// There is none, one cannot be understood, or does not open with the key of the copy.
    pub fn secrets(
        &self,
        contents: &Contents,
    ) -> Result<Vec<(Secret, crate::vault::SecretValues)>, CopyError> {
        let kind = |object: &&serde_json::Value| {
            object.get("kind").and_then(|kind| kind.as_str()) == Some(Kind::Secret.name())
        };
        let mut opened = Vec::new();
        for value in contents.objects.iter().filter(kind) {
            let secret = match Object::from_value(Kind::Secret, value.clone()) {
                Ok(Object::Secret(secret)) => *secret,
                Ok(_) => continue,
                Err(error) => return Err(damaged(CONTENTS, error.to_string())),
            };
            let values = self.vault.open_secret(&secret)?;
            opened.push((secret, values));
        }
        if opened.is_empty() {
            return Err(damaged(CONTENTS, "the cluster's secrets are not in it"));
        }
        Ok(opened)
    }

    /// Opens the database, writes the snapshot as etcd sent it, and compares it with the digest at its end. What was written
    /// counts for nothing unless this says so.
    ///
    /// # Errors
    /// It cannot be read or written, or is not what was sealed.
    pub fn database(
        &self,
        sealed: impl Read,
        contents: &Contents,
        to: &mut dyn Write,
    ) -> Result<u64, CopyError> {
        let manifest = self.manifest;
        let opening = Opening::new(sealed, &self.data_key, manifest.copy.place("database"));
        let mut opening = opening.map_err(io("read", DATABASE))?;
        let mut digest = DatabaseDigest::default();
        let mut buffer = Zeroizing::new(vec![0; BUFFER]);
        loop {
            let length = match opening.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(io("read", DATABASE)(error)),
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            digest.update(bytes);
            to.write_all(bytes).map_err(io("write", DATABASE))?;
        }
        is_as_recorded(opening.finish(), &manifest.database, DATABASE)?;
        match digest.whole() {
            Some((bytes, sha256))
                if bytes == contents.database_bytes && hex::encode(&sha256) == contents.database_sha256 =>
            {
                Ok(bytes)
            }
            _ => Err(damaged(DATABASE, "its digest does not fit")),
        }
    }
}

/// The digest of what was read is the manifest's. None: not all of it was read.
fn is_as_recorded(read: Option<Sealed>, recorded: &CopyFile, what: &'static str) -> Result<(), CopyError> {
    match read.map(CopyFile::from) {
        Some(read) if read == *recorded => Ok(()),
        Some(_) => Err(damaged(what, "the digest of its file is not the one in the manifest")),
        None => Err(damaged(what, "there is too much of it")),
    }
}
