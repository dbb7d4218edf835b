//! A store whose commits are crash points, too.

use std::sync::Arc;

use ashlar_store::{
    Key, Listing, Precondition, RawChanges, RawListing, Revision, Store, StoreError, Stored, Transaction,
    Watch, Write,
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

    async fn changes(&self, after: Revision) -> Result<Option<RawChanges>, StoreError> {
        self.inner.changes(after).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        let called_off = self.world.state().newly_called_off(&transaction);
        let crash = self.world.before_commit(&kind_of(&transaction)).await;
        let puts = transaction.writes.iter().filter(|write| matches!(write, Write::Put { .. }));
        let keys: Vec<Key> = puts.map(|write| write.key().clone()).collect();
        let given_up = self.world.state().newly_given_up(&transaction);
        let forgotten = self.world.state().wrongly_forgotten(&transaction);
        let result = self.inner.commit(transaction).await;
        if result.is_ok() {
            let mut state = self.world.state();
            state.oracle.hear_stored(&keys);
            called_off.iter().for_each(|(host, runs)| state.judge_called_off(host, *runs));
            given_up.iter().for_each(|machine| state.judge_given_up(machine));
            forgotten.into_iter().for_each(|what| state.blame_fencing(what));
        }
        self.world.after_commit(crash).await;
        result
    }

    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        self.inner.watch(kind, from).await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.inner.compact(before).await
    }
}

/// What a commit is about, for the report of what was tried: the first thing that it writes.
fn kind_of(transaction: &Transaction) -> String {
    let first = transaction.writes.iter().find_map(|write| match write {
        Write::Put { key, expect: Precondition::Absent, .. } => Some(("create", key)),
        Write::Put { key, .. } => Some(("update", key)),
        Write::Delete { key, .. } => Some(("remove", key)),
        Write::Check { .. } => None,
    });
    first.map_or_else(|| "commit".to_owned(), |(verb, key)| format!("commit: {verb} {}", key.kind))
}
