//! What can go wrong with secrets.

use std::path::PathBuf;

/// What can go wrong with secrets. Never holds one.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A key file lies in the state directory, where whoever copies the store copies the key too.
    #[error("the key file {} lies in the state directory {}: put it elsewhere (a backup of the store must not hold its key)",
        path.display(), state_dir.display())]
    BesideStore {
        /// The file.
        path: PathBuf,
        /// The state directory.
        state_dir: PathBuf,
    },
    /// The key file can be read by others.
    #[error("the key file {} can be read by other users (mode {mode:o}): chmod 600 it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key has too few bytes.
    #[error("{origin} gave {length} bytes: a key has at least {minimum}")]
    TooShort {
        /// Where it came from.
        origin: String,
        /// What it has.
        length: usize,
        /// What it needs.
        minimum: usize,
    },
    /// The provider could not give a key.
    #[error("no key from {origin}: {reason}")]
    Provider {
        /// Where it should have come from.
        origin: String,
        /// Why not.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The key is not the one that the secrets were sealed with.
    #[error("wrong key: the secrets are sealed with key {expected}, and {origin} gave key {given}")]
    WrongKey {
        /// Id of the right key.
        expected: String,
        /// Id of the key given.
        given: String,
        /// Where it came from.
        origin: String,
    },
    /// A secret was changed, cut or moved from another object.
    #[error(
        "secret {secret} cannot be opened: it was changed or does not belong there; restore the store from a copy"
    )]
    Tampered {
        /// Which.
        secret: String,
    },
    /// A secret lacks a value.
    #[error("secret {secret} has no value {value}; restore the store from a copy")]
    Missing {
        /// Which.
        secret: String,
        /// The value's name.
        value: String,
    },
    /// The key could not be derived.
    #[error("the key could not be derived from the passphrase: {0}")]
    Derivation(String),
}
