//! Sealing and opening.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use ashlar_api::{NamespacedName, Seal, Secret, SecretPurpose, SecretSpec};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::lasting::{Before, HandedOn};
use super::{KeyProvider, VaultError};
use crate::effects::Entropy;

pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const SALT_BYTES: usize = 16;
/// argon2id: 64 MiB, 3 passes, 1 lane: about a quarter of a second, above OWASP's floor (19 MiB, 2 passes).
const ARGON2_MEMORY_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 3;
const ARGON2_LANES: u32 = 1;
/// Which key the store's secrets are sealed with, and the passphrase's salt. Nothing in it is secret.
pub const STATE_FILE: &str = "vault.json";

/// Plain values of a secret, by name; wiped when dropped, never printed.
pub type SecretValues = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// Holds the key-encryption key; seals and opens secrets.
pub struct Vault {
    key: Zeroizing<[u8; KEY_BYTES]>,
    key_id: String,
    /// Of the installation, in base64; only a passphrase's key comes of it.
    salt: String,
    /// Keys that were the installation's before, as far as notes of theirs are concerned.
    pub(super) before: Vec<Before>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// What [`STATE_FILE`] says: what the vault needs besides its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VaultState {
    /// Id of the key.
    pub key_id: String,
    /// A passphrase's salt, in base64.
    pub salt: String,
    /// What the keys before have handed on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<HandedOn>,
}

impl Vault {
    /// Gets the key from its provider and compares it with the one that the state directory's secrets are sealed
    /// with; the first time, remembers it as that. Blocks while the provider works: call it before anything else runs.
    ///
    /// # Errors
    /// The provider gives no key, or another one; the key lies in the state directory.
    pub fn open(provider: &KeyProvider, state_dir: &Path, entropy: &dyn Entropy) -> Result<Self, VaultError> {
        let path = state_dir.join(STATE_FILE);
        let known = read_state(&path)?;
        let salt = match &known {
            Some(state) => salt_of(state, &path)?,
            None => {
                let mut salt = vec![0; SALT_BYTES];
                entropy.fill(&mut salt);
                salt
            }
        };
        let material = provider.material(state_dir)?;
        let mut vault = of_material(provider, &material, &salt)?;
        match known {
            Some(state) if state.key_id != vault.key_id => Err(VaultError::WrongKey {
                expected: state.key_id,
                given: vault.key_id,
                origin: provider.origin(),
            }),
            Some(state) => {
                vault.take_over(&state.before);
                Ok(vault)
            }
            None => {
                write_state(&path, &vault.state())?;
                // Another process may have been first: what is on disk counts.
                match read_state(&path)? {
                    Some(state) if state == vault.state() => Ok(vault),
                    _ => Vault::open(provider, state_dir, entropy),
                }
            }
        }
    }

    /// Gets the key from its provider, for what was sealed by a vault that said this of itself: no state directory has to be
    /// there, and nothing is written. The key may not lie in `beside`.
    ///
    /// # Errors
    /// The provider gives no key, or another one.
    pub fn open_as(provider: &KeyProvider, state: &VaultState, beside: &Path) -> Result<Self, VaultError> {
        let vault = of_material(provider, &provider.material(beside)?, &salt_of(state, beside)?)?;
        if vault.key_id != state.key_id {
            return Err(VaultError::WrongKey {
                expected: state.key_id.clone(),
                given: vault.key_id,
                origin: provider.origin(),
            });
        }
        Ok(vault)
    }

    /// A vault with the given key, for tests and the simulation.
    pub fn from_key(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let digest = Sha256::new().chain_update(b"ashlar key id v1\0").chain_update(key.as_ref()).finalize();
        let key_id = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Vault { key, key_id, salt: String::new(), before: Vec::new() }
    }

    /// What it needs besides its key.
    pub fn state(&self) -> VaultState {
        VaultState { key_id: self.key_id.clone(), salt: self.salt.clone(), before: Vec::new() }
    }

    pub(super) fn key(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }

    /// Id of the key: a digest of it, which tells nothing about it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Seals values into a secret's spec.
    pub fn seal(
        &self,
        name: &NamespacedName,
        purpose: SecretPurpose,
        values: &SecretValues,
        entropy: &dyn Entropy,
    ) -> Result<SecretSpec, VaultError> {
        let mut data_key = Zeroizing::new([0u8; KEY_BYTES]);
        entropy.fill(data_key.as_mut());
        let seal = |key: &[u8; KEY_BYTES], plain: &[u8], place: &str| {
            seal_one(key, plain, place, entropy)
                .ok_or_else(|| VaultError::Tampered { secret: name.to_string() })
        };
        let sealed_data_key = seal(&self.key, data_key.as_ref(), &data_key_place(name))?;
        let sealed = values
            .iter()
            .map(|(value_name, value)| {
                Ok((value_name.clone(), seal(&data_key, value, &value_place(name, value_name))?))
            })
            .collect::<Result<_, VaultError>>()?;
        Ok(SecretSpec { purpose, key_id: self.key_id.clone(), sealed_data_key, next_seal: None, sealed })
    }

    /// Seals a note that is no secret of the store's, bound to its place. None if it cannot be.
    pub(crate) fn seal_note(&self, place: &str, plain: &[u8], entropy: &dyn Entropy) -> Option<String> {
        seal_one(&self.key, plain, place, entropy)
    }

    /// Opens such a note; none if it was changed, or sealed with another key or for another place.
    pub(crate) fn open_note(&self, place: &str, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        open_one(&self.key, sealed, place)
    }

    /// The seal of this vault's key that a secret carries.
    fn own_seal<'s>(&self, secret: &'s Secret) -> Option<&'s str> {
        let spec = &secret.spec;
        if spec.key_id == self.key_id {
            return Some(&spec.sealed_data_key);
        }
        spec.next_seal
            .as_ref()
            .filter(|seal| seal.key_id == self.key_id)
            .map(|seal| seal.sealed_data_key.as_str())
    }

    /// Whether a secret carries a seal of this vault's key. Whether that opens is another question.
    pub(super) fn has_seal(&self, secret: &Secret) -> bool {
        self.own_seal(secret).is_some()
    }

    fn data_key(&self, secret: &Secret) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
        let name = secret.key();
        let sealed = self.own_seal(secret).ok_or_else(|| VaultError::WrongKey {
            expected: secret.spec.key_id.clone(),
            given: self.key_id.clone(),
            origin: format!("the vault (for secret {name})"),
        })?;
        let tampered = || VaultError::Tampered { secret: name.to_string() };
        let data_key = open_one(&self.key, sealed, &data_key_place(&name)).ok_or_else(tampered)?;
        Ok(Zeroizing::new(data_key.as_slice().try_into().map_err(|_| tampered())?))
    }

    /// A secret's data key, sealed with another vault's key.
    pub(super) fn seal_again(
        &self,
        secret: &Secret,
        next: &Vault,
        entropy: &dyn Entropy,
    ) -> Result<Seal, VaultError> {
        let data_key = self.data_key(secret)?;
        let sealed = seal_one(&next.key, data_key.as_ref(), &data_key_place(&secret.key()), entropy);
        let sealed = sealed.ok_or_else(|| VaultError::Tampered { secret: secret.key().to_string() })?;
        Ok(Seal { key_id: next.key_id.clone(), sealed_data_key: sealed })
    }

    /// Takes all seals but this vault's off a secret.
    pub(super) fn keep_own_seal(&self, secret: &mut Secret) -> Result<(), VaultError> {
        self.data_key(secret)?;
        if let Some(own) = self.own_seal(secret).map(str::to_owned) {
            secret.spec.sealed_data_key = own;
            secret.spec.key_id.clone_from(&self.key_id);
            secret.spec.next_seal = None;
        }
        Ok(())
    }

    /// Opens all values of a secret.
    ///
    /// # Errors
    /// It was sealed with another key, changed, or moved from another object.
    pub fn open_secret(&self, secret: &Secret) -> Result<SecretValues, VaultError> {
        let name = secret.key();
        let tampered = || VaultError::Tampered { secret: name.to_string() };
        let data_key = self.data_key(secret)?;
        secret
            .spec
            .sealed
            .iter()
            .map(|(value_name, sealed)| {
                let plain =
                    open_one(&data_key, sealed, &value_place(&name, value_name)).ok_or_else(tampered)?;
                Ok((value_name.clone(), plain))
            })
            .collect()
    }
}

/// A key that is to become the installation's.
pub struct Prepared {
    /// The vault of it.
    pub vault: Arc<Vault>,
    state: VaultState,
}

impl Prepared {
    /// Gets the key from its provider; one that comes of a passphrase gets a salt of its own. Nothing is written.
    ///
    /// # Errors
    /// The provider gives no key, or one that lies in the state directory.
    pub fn new(provider: &KeyProvider, state_dir: &Path, entropy: &dyn Entropy) -> Result<Self, VaultError> {
        let mut salt = vec![0; SALT_BYTES];
        entropy.fill(&mut salt);
        let vault = Arc::new(of_material(provider, &provider.material(state_dir)?, &salt)?);
        Ok(Prepared { state: vault.state(), vault })
    }

    /// The same, to take the place of this one: notes of its time can still be told from forged ones. None if that cannot be
    /// sealed.
    #[must_use]
    pub fn after(self, old: &Vault, entropy: &dyn Entropy) -> Option<Self> {
        let before = old.hand_on(&self.vault, entropy)?;
        Some(Prepared { vault: self.vault, state: VaultState { before, ..self.state } })
    }

    /// What [`STATE_FILE`] says then. Nothing in it is secret.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn state_text(&self) -> Result<String, VaultError> {
        serde_json::to_string(&self.state).map_err(|error| VaultError::File {
            doing: "cannot write",
            path: STATE_FILE.into(),
            source: error.into(),
        })
    }

    /// Makes it the installation's key: a crash leaves the one before it, or it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn install(&self, state_dir: &Path) -> Result<(), VaultError> {
        follow_state(state_dir, &self.state_text()?).map(drop)
    }
}

/// Makes a state directory's file say the same as the text, which is the truth of a store that several machines share. Says
/// whether it did not.
///
/// # Errors
/// The text is no such file; it cannot be written.
pub fn follow_state(state_dir: &Path, text: &str) -> Result<bool, VaultError> {
    let path = state_dir.join(STATE_FILE);
    let failed = |doing| {
        let path = path.clone();
        move |source| VaultError::File { doing, path, source }
    };
    let state: VaultState = serde_json::from_str(text)
        .map_err(|error| failed("cannot understand what is to become")(error.into()))?;
    let there = read_state(&path)?;
    if there.is_some_and(|there| there.key_id == state.key_id && there.salt == state.salt) {
        return Ok(false);
    }
    let write = || -> std::io::Result<()> {
        let fresh = path.with_extension(format!("json.new-{}", std::process::id()));
        let mut file = std::fs::File::create(&fresh)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        std::fs::File::open(state_dir)?.sync_all()
    };
    write().map_err(failed("cannot write"))?;
    Ok(true)
}

/// Id of the key that a text says which is meant for [`STATE_FILE`].
pub fn key_id_of_state(text: &str) -> Option<String> {
    serde_json::from_str::<VaultState>(text).ok().map(|state| state.key_id)
}

fn of_material(provider: &KeyProvider, material: &[u8], salt: &[u8]) -> Result<Vault, VaultError> {
    let vault = match provider {
        KeyProvider::Passphrase(_) => Vault::from_key(stretch(material, salt)?),
        _ => Vault::from_key(condense(material)),
    };
    Ok(Vault { salt: BASE64.encode(salt), ..vault })
}

fn salt_of(state: &VaultState, path: &Path) -> Result<Vec<u8>, VaultError> {
    BASE64.decode(&state.salt).map_err(|error| VaultError::File {
        doing: "cannot understand the salt in",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    })
}

/// What a sealed data key is bound to. `/` cannot be part of a namespace or name.
fn data_key_place(name: &NamespacedName) -> String {
    format!("ashlar.dev/secret/data-key/{}/{}", name.namespace, name.name)
}

/// What a sealed value is bound to.
fn value_place(name: &NamespacedName, value: &str) -> String {
    format!("ashlar.dev/secret/value/{}/{}/{value}", name.namespace, name.name)
}

/// base64 of nonce and ciphertext. The nonce has 24 random bytes, so that one key may seal any number of values.
pub(super) fn seal_one(
    key: &[u8; KEY_BYTES],
    plain: &[u8],
    place: &str,
    entropy: &dyn Entropy,
) -> Option<String> {
    let mut sealed = vec![0u8; NONCE_BYTES];
    entropy.fill(&mut sealed);
    let payload = Payload { msg: plain, aad: place.as_bytes() };
    let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
    let ciphertext = cipher.encrypt(XNonce::from_slice(&sealed), payload).ok()?;
    sealed.extend_from_slice(&ciphertext);
    Some(BASE64.encode(sealed))
}

pub(super) fn open_one(key: &[u8; KEY_BYTES], sealed: &str, place: &str) -> Option<Zeroizing<Vec<u8>>> {
    let sealed = BASE64.decode(sealed).ok()?;
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES)?;
    let payload = Payload { msg: ciphertext, aad: place.as_bytes() };
    let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
    cipher.decrypt(XNonce::from_slice(nonce), payload).ok().map(Zeroizing::new)
}

/// Key material of full strength needs no stretching, only the right length.
fn condense(material: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let digest =
        Sha256::new().chain_update(b"ashlar key-encryption key v1\0").chain_update(material).finalize();
    Zeroizing::new(digest.into())
}

fn stretch(passphrase: &[u8], salt: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
    let derivation = |error: argon2::Error| VaultError::Derivation(error.to_string());
    let params = argon2::Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(KEY_BYTES))
        .map_err(derivation)?;
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = Zeroizing::new([0u8; KEY_BYTES]);
    argon2.hash_password_into(passphrase, salt, key.as_mut()).map_err(derivation)?;
    Ok(key)
}

fn read_state(path: &Path) -> Result<Option<VaultState>, VaultError> {
    let file_error = |source| VaultError::File { doing: "cannot read", path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| file_error(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(error)),
    }
}

/// Writes the file unless there is one: the first writer wins, and a crash leaves all of it or nothing.
fn write_state(path: &Path, state: &VaultState) -> Result<(), VaultError> {
    let write = || -> std::io::Result<()> {
        let fresh = path.with_extension(format!("json.new-{}", std::process::id()));
        let mut file = std::fs::File::create(&fresh)?;
        std::io::Write::write_all(&mut file, &serde_json::to_vec(state)?)?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&fresh, path);
        std::fs::remove_file(&fresh)?;
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    write().map_err(|source| VaultError::File { doing: "cannot write", path: path.to_owned(), source })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
