//! Checksums as publishers write them.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256, Sha512};

use crate::digest;
use crate::error::{Error, Result};

/// What a checksum was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// `sha256:` or `sha512:` and lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksum {
    pub(crate) algorithm: Algorithm,
    pub(crate) hex: String,
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl Checksum {
    fn new(algorithm: Algorithm, hex: &str) -> Option<Self> {
        let is_right = hex.len() == algorithm.digits() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_right.then(|| Self { algorithm, hex: hex.to_ascii_lowercase() })
    }

    /// The first word of a checksum file: some hold the digest alone, some `digest  name` like `sha256sum`.
    pub(crate) fn from_file_text(algorithm: Algorithm, text: &str) -> Option<Self> {
        Self::new(algorithm, text.split_whitespace().next()?)
    }

    /// A digest as OCI writes it.
    pub(crate) fn from_oci(text: &str) -> Option<Self> {
        let (name, hex) = text.split_once(':')?;
        let algorithm = [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|a| a.name() == name)?;
        Self::new(algorithm, hex)
    }

    /// SHA-256 of bytes in memory.
    pub(crate) fn of_bytes(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let hex = match algorithm {
            Algorithm::Sha256 => digest::of_bytes(bytes),
            Algorithm::Sha512 => digest::hex(&Sha512::digest(bytes)),
        };
        Self { algorithm, hex }
    }

    /// Checksum and length in bytes of a file.
    pub(crate) fn of_file(stage: &str, algorithm: Algorithm, path: &Path) -> Result<(Self, u64)> {
        let (hex, size_bytes) = match algorithm {
            Algorithm::Sha256 => hash::<Sha256>(stage, path)?,
            Algorithm::Sha512 => hash::<Sha512>(stage, path)?,
        };
        Ok((Self { algorithm, hex }, size_bytes))
    }
}

fn hash<D: Digest>(stage: &str, path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).map_err(Error::io(stage, "open", path))?;
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size_bytes = 0_u64;
    loop {
        let n = file.read(&mut buffer).map_err(Error::io(stage, "read", path))?;
        if n == 0 {
            return Ok((digest::hex(&hasher.finalize()), size_bytes));
        }
        hasher.update(&buffer[..n]);
        size_bytes += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_file_holds_a_digest_alone_or_with_a_name() {
        let hex = digest::of_bytes(b"x");
        let wanted = Checksum { algorithm: Algorithm::Sha256, hex: hex.clone() };
        for text in [hex.clone(), format!("{hex}\n"), format!("{}  a.tgz\n", hex.to_uppercase())] {
            assert_eq!(Checksum::from_file_text(Algorithm::Sha256, &text), Some(wanted.clone()));
        }
        for text in ["", "<html>", &hex[1..], &format!("{}g", &hex[1..])] {
            assert_eq!(Checksum::from_file_text(Algorithm::Sha256, text), None, "{text}");
        }
        assert_eq!(Checksum::from_oci(&format!("sha256:{hex}")), Some(wanted));
        assert_eq!(Checksum::from_oci(&format!("sha512:{hex}")), None);
    }
}
