//! SHA-256 of files, and of the inputs that name a stage or an image.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Digest and length in bytes of a file.
pub(crate) fn of_file(stage: &str, path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).map_err(Error::io(stage, "open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size_bytes = 0_u64;
    loop {
        let n = file.read(&mut buffer).map_err(Error::io(stage, "read", path))?;
        if n == 0 {
            return Ok((hex(&hasher.finalize()), size_bytes));
        }
        hasher.update(&buffer[..n]);
        size_bytes += n as u64;
    }
}

/// Digest of everything that decides a result. Field order is part of it, so inputs are structs, never hash maps.
pub(crate) fn of_inputs<T: Serialize>(inputs: &T) -> String {
    // Plain structs of strings and numbers always serialize; an empty document would only cost a rebuild.
    of_bytes(&serde_json::to_vec(inputs).unwrap_or_default())
}
