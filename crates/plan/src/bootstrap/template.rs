//! Files with holes where secrets go.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A seed before its secrets are filled in; fit for plans, logs and goldens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedTemplate {
    /// Files, in one directory.
    pub files: Vec<SeedFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedFile {
    /// Name: lower-case letters, digits, `.`, `-` and `_`.
    pub name: String,
    /// Content, in order.
    pub pieces: Vec<Piece>,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Piece {
    /// As it is.
    Text(String),
    /// One value of a Secret, put in right before the upload.
    Secret(SecretRef),
}

/// Where a secret value is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Secret object, in the machine's namespace.
    pub object: String,
    /// Key in it.
    pub key: String,
    /// How it is written.
    pub encoding: Encoding,
}

/// How a secret value is written into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Encoding {
    /// As it is.
    Raw,
    /// Standard base64 in one line.
    Base64,
}

/// A file of a seed, with its secrets; wiped from memory on drop.
pub struct SeedContent {
    /// Name.
    pub name: String,
    /// Bytes.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for SeedContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SeedContent({}, {} bytes)", self.name, self.bytes.len())
    }
}

impl SeedFile {
    pub(super) fn text(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), pieces: vec![Piece::Text(text.into())] }
    }

    pub(super) fn secret(name: &str, object: &str, key: &str) -> Self {
        Self { name: name.to_owned(), pieces: vec![Piece::secret(object, key, Encoding::Raw)] }
    }
}

impl Piece {
    pub(super) fn secret(object: &str, key: &str, encoding: Encoding) -> Self {
        Self::Secret(SecretRef { object: object.to_owned(), key: key.to_owned(), encoding })
    }
}

impl SeedTemplate {
    /// The secrets it needs, in order of use.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.files.iter().flat_map(|file| &file.pieces).filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Secret(secret) => Some(secret),
        })
    }

    /// Fills in the secrets.
    ///
    /// # Errors
    /// The first error of `lookup`.
    pub fn render<E>(
        &self,
        mut lookup: impl FnMut(&SecretRef) -> Result<Zeroizing<Vec<u8>>, E>,
    ) -> Result<Vec<SeedContent>, E> {
        let mut out = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let mut parts = Vec::with_capacity(file.pieces.len());
            for piece in &file.pieces {
                parts.push(match piece {
                    Piece::Text(text) => Zeroizing::new(text.as_bytes().to_vec()),
                    Piece::Secret(secret) => {
                        let value = lookup(secret)?;
                        match secret.encoding {
                            Encoding::Raw => value,
                            Encoding::Base64 => Zeroizing::new(STANDARD.encode(&*value).into_bytes()),
                        }
                    }
                });
            }
            // One allocation of the right size: growing would leave copies of secrets behind.
            let mut bytes = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
            for part in &parts {
                bytes.extend_from_slice(part);
            }
            out.push(SeedContent { name: file.name.clone(), bytes });
        }
        Ok(out)
    }
}
