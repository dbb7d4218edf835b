//! The SQLite store of a measured fleet: it waits for the disk while virtual time stands still.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ashlar_store::{
    Key, Listing, MemoryStore, Precondition, RawChanges, RawListing, Revision, SqliteStore, Store,
    StoreError, Stored, Transaction, Watch,
};
use async_trait::async_trait;
use futures::executor::block_on;

use crate::{SimulationError, error_text};

/// A store on disk that tells how much it does.
pub(crate) struct DiskStore {
    inner: SqliteStore,
    under_way: AtomicUsize,
    commits: AtomicU64,
}

/// Something is under way as long as this lives.
struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl DiskStore {
    /// A new one with what another holds.
    pub(crate) fn create(path: &Path, with: &MemoryStore) -> Result<Self, SimulationError> {
        let failed = |error: StoreError| SimulationError(error_text(&error));
        let inner = SqliteStore::open(path).map_err(failed)?;
        let objects = block_on(with.list(None, None)).map_err(failed)?.items;
        for objects in objects.chunks(ashlar_store::MAX_OPERATIONS) {
            let mut transaction = Transaction::new();
            for stored in objects {
                transaction = transaction.put(stored.key.clone(), stored.value.clone(), Precondition::Absent);
            }
            block_on(inner.commit(transaction)).map_err(failed)?;
        }
        Ok(DiskStore { inner, under_way: AtomicUsize::new(0), commits: AtomicU64::new(0) })
    }

    /// Whether somebody waits for it.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }
}

#[async_trait]
impl Store for DiskStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let _busy = self.begin();
        self.inner.get(key).await
    }

    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError> {
        let _busy = self.begin();
        self.inner.list(kind, namespace).await
    }

    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError> {
        let _busy = self.begin();
        self.inner.list_raw(kind, namespace).await
    }

    async fn changes(&self, after: Revision) -> Result<Option<RawChanges>, StoreError> {
        let _busy = self.begin();
        self.inner.changes(after).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        let _busy = self.begin();
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.inner.commit(transaction).await
    }

    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        let _busy = self.begin();
        self.inner.watch(kind, from).await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        let _busy = self.begin();
        self.inner.compact(before).await
    }
}
