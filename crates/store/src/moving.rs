//! Copying all of a store into an empty one, and proof that it arrived.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::{MAX_OPERATIONS, Precondition, RawListing, RawStored, Store, StoreError, Transaction};

/// What a store holds: how many objects, and a digest of their names and values. Revisions are no part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Objects.
    pub count: usize,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} objects, sha256 {}", self.count, self.sha256)
    }
}

impl Digest {
    /// Of a listing of all objects.
    ///
    /// # Errors
    /// A value is not JSON.
    pub fn of(listing: &RawListing) -> Result<Self, StoreError> {
        let mut hasher = Sha256::new();
        for item in &listing.items {
            let value = value_of(item)?.to_string();
            for part in [&item.key.kind, &item.key.namespace, &item.key.name, &value] {
                hasher.update((part.len() as u64).to_be_bytes());
                hasher.update(part.as_bytes());
            }
        }
        let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Digest { count: listing.items.len(), sha256 })
    }
}

/// Puts all objects of a listing into a store that has none of them.
///
/// # Errors
/// [`StoreError::Conflict`] if it has one of them; the store cannot be written.
pub async fn copy_into(store: &dyn Store, listing: &RawListing) -> Result<(), StoreError> {
    for chunk in listing.items.chunks(MAX_OPERATIONS) {
        let mut transaction = Transaction::new();
        for item in chunk {
            transaction = transaction.put(item.key.clone(), value_of(item)?, Precondition::Absent);
        }
        store.commit(transaction).await?;
    }
    Ok(())
}

fn value_of(item: &RawStored) -> Result<serde_json::Value, StoreError> {
    item.value.clone().into_value().map_err(|error| StoreError::Unavailable {
        reason: format!("the value of {} is not JSON", item.key),
        source: Some(std::sync::Arc::new(error)),
    })
}
