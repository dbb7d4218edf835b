//! Another key for the secrets.
//!
//! First every data key is sealed with the new key *too*, so that each secret opens by either; then the new key becomes the
//! installation's ([`Prepared::install`], one rename, or one write of a store that others share); then the old seals go.
//! Whatever that is cut off by, all secrets open with the key that is the installation's at that moment, and the same
//! again finishes it.

use ashlar_api::{Kind, Object, Secret};
use ashlar_store::Store;
use jiff::Timestamp;

use super::{Vault, VaultError};
use crate::{EngineError, effects::Entropy, objects};

/// When a secret was last sealed with another key: an annotation, for people.
const RESEALED_AT: &str = "ashlar.dev/resealed-at";

/// How the secrets of a store stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// All of them.
    pub secrets: usize,
    /// Those that carry the seal of another key beside the vault's, or carry only that.
    pub unfinished: usize,
    /// Those that the vault can not open by its key.
    pub foreign: usize,
    /// When one was last sealed with another key.
    pub rotated_at: Option<Timestamp>,
}

/// Looks at all secrets, and opens none.
///
/// # Errors
/// The store cannot be read.
pub async fn standing(store: &dyn Store, vault: &Vault) -> Result<Standing, EngineError> {
    let mut found = Standing::default();
    for secret in secrets(store).await? {
        found.secrets += 1;
        let is_whole = secret.spec.key_id == vault.key_id() && secret.spec.next_seal.is_none();
        found.unfinished += usize::from(!is_whole);
        found.foreign += usize::from(!vault.has_seal(&secret));
        let at = secret.metadata.annotations.get(RESEALED_AT).and_then(|at| at.parse().ok());
        found.rotated_at = found.rotated_at.max(at);
    }
    Ok(found)
}

/// Seals every data key with the new key too, and proves that each secret opens by it. Says how many there are. Nobody else may
/// make secrets meanwhile.
///
/// # Errors
/// A secret cannot be opened; the store cannot be read or written.
pub async fn seal_too(
    store: &dyn Store,
    old: &Vault,
    new: &Vault,
    entropy: &dyn Entropy,
) -> Result<usize, EngineError> {
    let all = secrets(store).await?;
    for secret in all.iter().filter(|secret| !new.has_seal(secret)) {
        let seal = old.seal_again(secret, new, entropy)?;
        change(store, secret, |secret| {
            secret.spec.next_seal = Some(seal.clone());
            Ok(true)
        })
        .await?;
    }
    let all = secrets(store).await?;
    for secret in &all {
        new.open_secret(secret)?;
    }
    Ok(all.len())
}

/// Takes the seals of other keys away; with `data_keys` every secret that had one gets a data key of its own anew. Says how
/// many were changed.
///
/// # Errors
/// A secret cannot be opened; the store cannot be read or written.
pub async fn seal_only(
    store: &dyn Store,
    vault: &Vault,
    data_keys: bool,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<usize, EngineError> {
    let mut changed = 0;
    for secret in secrets(store).await? {
        if secret.spec.key_id == vault.key_id() && secret.spec.next_seal.is_none() {
            continue;
        }
        // Not before it is known that it opens.
        vault.open_secret(&secret)?;
        change(store, &secret, |secret| {
            if data_keys {
                renew(vault, secret, entropy)?;
            } else {
                vault.keep_own_seal(secret)?;
            }
            secret.metadata.annotations.insert(RESEALED_AT.to_owned(), now.to_string());
            Ok(true)
        })
        .await?;
        changed += 1;
    }
    Ok(changed)
}

/// Gives every secret a data key of its own anew, sealed with the same key. Says how many there are.
///
/// # Errors
/// A secret cannot be opened; the store cannot be read or written.
pub async fn renew_data_keys(
    store: &dyn Store,
    vault: &Vault,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<usize, EngineError> {
    let all = secrets(store).await?;
    for secret in &all {
        change(store, secret, |secret| {
            renew(vault, secret, entropy)?;
            secret.metadata.annotations.insert(RESEALED_AT.to_owned(), now.to_string());
            Ok(true)
        })
        .await?;
    }
    Ok(all.len())
}

fn renew(vault: &Vault, secret: &mut Secret, entropy: &dyn Entropy) -> Result<(), VaultError> {
    let values = vault.open_secret(secret)?;
    secret.spec = vault.seal(&secret.key(), secret.spec.purpose.clone(), &values, entropy)?;
    Ok(())
}

async fn secrets(store: &dyn Store) -> Result<Vec<Secret>, EngineError> {
    let listing = store.list_raw(Some(Kind::Secret.name()), None).await?;
    let objects = listing.items.into_iter().map(|raw| objects::from_raw(Kind::Secret, raw));
    objects
        .filter_map(|object| match object {
            Ok(Object::Secret(secret)) => Some(Ok(*secret)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// Changes a secret by compare-and-set.
async fn change(
    store: &dyn Store,
    secret: &Secret,
    mut work: impl FnMut(&mut Secret) -> Result<bool, VaultError>,
) -> Result<(), EngineError> {
    let mut failed = None;
    objects::update(store, secret, |secret| match work(secret) {
        Ok(changed) => changed,
        Err(error) => {
            failed = Some(error);
            false
        }
    })
    .await?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
#[path = "rotate_tests.rs"]
mod tests;
