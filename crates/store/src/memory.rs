//! The store in memory: for tests and for the simulated world.
//!
//! It needs no async runtime, no thread, no clock. All its futures except a watch's `next` are ready at once,
//! and waiting watches are woken in the order in which they began to wait, so a deterministic executor stays
//! deterministic. Values are shared, never serialised.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Notify;

use crate::{
    Batch, Change, ChangeSource, DEFAULT_RETAINED_REVISIONS, Key, Listing, RawChange, RawChanges, RawListing,
    RawStored, RawValue, Revision, Store, StoreError, Stored, Transaction, Watch, Write,
    watch::BATCH_CHANGES,
};

/// A store in memory. Clones are handles of the same store.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    retained_revisions: u64,
}

#[derive(Default)]
struct State {
    head: Revision,
    objects: BTreeMap<Key, Object>,
    log: VecDeque<LogEntry>,
    /// Changes up to here are forgotten.
    compacted: Revision,
}

struct Object {
    revision: Revision,
    value: Arc<Value>,
}

struct LogEntry {
    revision: Revision,
    key: Key,
    value: Option<Arc<Value>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::with_retained_revisions(DEFAULT_RETAINED_REVISIONS)
    }

    /// An empty store that keeps the changes of the last `revisions` revisions for watches.
    pub fn with_retained_revisions(revisions: u64) -> Self {
        let shared =
            Shared { state: Mutex::default(), changed: Notify::new(), retained_revisions: revisions };
        Self { shared: Arc::new(shared) }
    }

    /// Its newest revision.
    pub fn revision(&self) -> Revision {
        self.shared.lock().head
    }

    /// One object's value, shared and not copied.
    pub fn peek(&self, key: &Key) -> Option<Arc<Value>> {
        self.shared.lock().objects.get(key).map(|object| Arc::clone(&object.value))
    }

    /// The first value of a kind that fits, shared and not copied.
    pub fn find(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Option<Arc<Value>> {
        let state = self.shared.lock();
        let found = state.scan(Some(kind), None).find(|(_, object)| fits(&object.value));
        found.map(|(_, object)| Arc::clone(&object.value))
    }

    /// All values, shared and not copied.
    pub fn peek_all(&self) -> impl Iterator<Item = Arc<Value>> {
        let objects = &self.shared.lock().objects;
        objects.values().map(|object| Arc::clone(&object.value)).collect::<Vec<_>>().into_iter()
    }

    /// All values of a kind, shared and not copied.
    pub fn peek_kind(&self, kind: &str) -> Vec<(Key, Arc<Value>)> {
        let state = self.shared.lock();
        let objects = state.scan(Some(kind), None);
        objects.map(|(key, object)| (key.clone(), Arc::clone(&object.value))).collect()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("MemoryStore")
            .field("head", &state.head)
            .field("objects", &state.objects.len())
            .finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that runs under this lock can leave the state half changed, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, transaction: Transaction) -> Result<Revision, StoreError> {
        for write in &transaction.writes {
            let found = self.objects.get(write.key()).map(|object| object.revision);
            write.expect().judge(write.key(), found)?;
        }
        let revision = Revision(self.head.0 + 1);
        let mut changed = false;
        for write in transaction.writes {
            let (key, value) = match write {
                Write::Check { .. } => continue,
                Write::Put { key, value, .. } => {
                    let value = Arc::new(value);
                    self.objects.insert(key.clone(), Object { revision, value: Arc::clone(&value) });
                    (key, Some(value))
                }
                Write::Delete { key, .. } => match self.objects.remove(&key) {
                    Some(_) => (key, None),
                    None => continue,
                },
            };
            self.log.push_back(LogEntry { revision, key, value });
            changed = true;
        }
        if changed {
            self.head = revision;
        }
        Ok(self.head)
    }

    /// Forgets changes up to `up_to`, inclusive.
    fn forget(&mut self, up_to: Revision) {
        self.compacted = self.compacted.max(up_to.min(self.head));
        while self.log.front().is_some_and(|entry| entry.revision <= self.compacted) {
            self.log.pop_front();
        }
    }

    fn scan(&self, kind: Option<&str>, namespace: Option<&str>) -> impl Iterator<Item = (&Key, &Object)> {
        // Objects are ordered by kind, then namespace: start at the first that can match, stop after the last.
        let start = match kind {
            Some(kind) => Bound::Included(Key::new(kind, namespace.unwrap_or_default(), "")),
            None => Bound::Unbounded,
        };
        self.objects
            .range((start, Bound::Unbounded))
            .take_while(move |(key, _)| kind.is_none() || key.matches(kind, None))
            .take_while(move |(key, _)| kind.is_none() || key.matches(None, namespace))
            .filter(move |(key, _)| key.matches(kind, namespace))
    }

    fn check_watchable(&self, from: Revision) -> Result<(), StoreError> {
        if from < self.compacted {
            return Err(StoreError::Compacted { oldest: self.compacted });
        }
        if from > self.head {
            return Err(StoreError::FutureRevision { requested: from, newest: self.head });
        }
        Ok(())
    }

    fn changes(&self, after: Revision) -> RawChanges {
        let start = self.log.partition_point(|entry| entry.revision <= after);
        let mut last: BTreeMap<&Key, &LogEntry> = BTreeMap::new();
        last.extend(self.log.range(start..).map(|entry| (&entry.key, entry)));
        let change = |entry: &LogEntry| RawChange {
            key: entry.key.clone(),
            revision: entry.revision,
            value: entry.value.as_ref().map(|value| RawValue::Shared(Arc::clone(value))),
        };
        RawChanges { revision: self.head, items: last.into_values().map(change).collect() }
    }

    fn batch(&self, kind: Option<&str>, after: Revision) -> Batch {
        let start = self.log.partition_point(|entry| entry.revision <= after);
        let mut changes: Vec<Change> = Vec::new();
        for entry in self.log.range(start..) {
            if changes.len() >= BATCH_CHANGES
                && changes.last().is_some_and(|last| last.revision != entry.revision)
            {
                let complete_to = Revision(entry.revision.0 - 1);
                return Batch { changes, complete_to };
            }
            if entry.key.matches(kind, None) {
                changes.push(Change {
                    revision: entry.revision,
                    key: entry.key.clone(),
                    value: entry.value.as_deref().cloned(),
                });
            }
        }
        Batch { changes, complete_to: self.head }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let state = self.shared.lock();
        Ok(state.objects.get(key).map(|object| Stored {
            key: key.clone(),
            revision: object.revision,
            value: Value::clone(&object.value),
        }))
    }

    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError> {
        let state = self.shared.lock();
        let raw = |(key, object): (&Key, &Object)| RawStored {
            key: key.clone(),
            revision: object.revision,
            value: RawValue::Shared(Arc::clone(&object.value)),
        };
        Ok(RawListing { revision: state.head, items: state.scan(kind, namespace).map(raw).collect() })
    }

    async fn changes(&self, after: Revision) -> Result<Option<RawChanges>, StoreError> {
        let state = self.shared.lock();
        Ok(state.check_watchable(after).is_ok().then(|| state.changes(after)))
    }

    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError> {
        let state = self.shared.lock();
        let stored = |(key, object): (&Key, &Object)| Stored {
            key: key.clone(),
            revision: object.revision,
            value: Value::clone(&object.value),
        };
        Ok(Listing { revision: state.head, items: state.scan(kind, namespace).map(stored).collect() })
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        transaction.validate()?;
        let revision = {
            let mut state = self.shared.lock();
            let revision = state.apply(transaction)?;
            state.forget(Revision(revision.0.saturating_sub(self.shared.retained_revisions)));
            revision
        };
        self.shared.changed.notify_waiters();
        Ok(revision)
    }

    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        self.shared.lock().check_watchable(from)?;
        let source = MemorySource { shared: Arc::clone(&self.shared), kind: kind.map(str::to_owned) };
        Ok(Watch::new(Box::new(source), from))
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.shared.lock().forget(Revision(before.0.saturating_sub(1)));
        Ok(())
    }
}

struct MemorySource {
    shared: Arc<Shared>,
    kind: Option<String>,
}

#[async_trait]
impl ChangeSource for MemorySource {
    async fn next_batch(&mut self, after: Revision) -> Result<Batch, StoreError> {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            // Begin to wait before looking, so that a commit between looking and waiting is not missed.
            changed.as_mut().enable();
            {
                let state = self.shared.lock();
                state.check_watchable(after)?;
                if state.head > after {
                    return Ok(state.batch(self.kind.as_deref(), after));
                }
            }
            changed.await;
        }
    }
}
