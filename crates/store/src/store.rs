//! The contract of every store.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Key, Listing, RawChanges, RawListing, Revision, StoreError, Stored, Transaction, Watch};

/// A store of versioned objects. See the crate's documentation for what it promises.
///
/// Every future may be dropped at any time. A `commit` that was dropped may still have happened, exactly as
/// with a crash: read before repeating it.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads one object, or `None` if there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError>;

    /// Lists objects with values unparsed. `None` means any kind, any namespace; `Some("")` as namespace means
    /// the objects of the whole pool only.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError>;

    /// Lists objects: one consistent snapshot, ordered by key.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError>;

    /// What changed after a revision (exclusive): of each object the last change. `None` if that is not known (any more):
    /// list anew then. For who reads all of it again and again.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn changes(&self, after: Revision) -> Result<Option<RawChanges>, StoreError> {
        let _ = after;
        Ok(None)
    }

    /// Applies a transaction. Returns its revision, or the store's present revision if nothing changed (only
    /// checks, or deletions of what was not there).
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a precondition fails; the errors of [`Transaction::validate`]; the store
    /// cannot be written.
    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError>;

    /// Watches the changes after `from` (exclusive), of one kind or of all.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if some of these changes are no longer kept; [`StoreError::FutureRevision`];
    /// the store cannot be read.
    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError>;

    /// Forgets the changes before `before` (exclusive). Objects are untouched; only watches that need these
    /// changes are. Compacting again to an earlier point does nothing.
    ///
    /// # Errors
    /// The store cannot be written.
    async fn compact(&self, before: Revision) -> Result<(), StoreError>;
}

#[async_trait]
impl<S: Store + ?Sized> Store for Arc<S> {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        (**self).get(key).await
    }

    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError> {
        (**self).list_raw(kind, namespace).await
    }

    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError> {
        (**self).list(kind, namespace).await
    }

    async fn changes(&self, after: Revision) -> Result<Option<RawChanges>, StoreError> {
        (**self).changes(after).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        (**self).commit(transaction).await
    }

    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        (**self).watch(kind, from).await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        (**self).compact(before).await
    }
}
