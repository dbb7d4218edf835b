//! A store whose commits are crash points, too.

use std::sync::Arc;

use ashlar_store::{
    Key, Listing, RawListing, Revision, Store, StoreError, Stored, Transaction, Watch, Write,
};
use async_trait::async_trait;

use crate::SimWorld;

/// Counts each commit as an effect of the world, and crashes before or after it.
pub struct CrashingStore {
    world: SimWorld,
    inner: Arc<dyn Store>,
}

impl CrashingStore {
    /// Wraps a store, which outlives the crash.
    pub fn new(world: SimWorld, inner: Arc<dyn Store>) -> Self {
        CrashingStore { world, inner }
    }
}

#[async_trait]
impl Store for CrashingStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError> {
        self.inner.list(kind, namespace).await
    }

    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError> {
        self.inner.list_raw(kind, namespace).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        self.world.before_commit().await;
        for write in &transaction.writes {
            if let Write::Put { value, .. } = write {
                self.world.state().oracle.hear("the store", &value.to_string());
            }
        }
        let result = self.inner.commit(transaction).await;
        self.world.after_commit().await;
        result
    }

    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        self.inner.watch(kind, from).await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.inner.compact(before).await
    }
}
