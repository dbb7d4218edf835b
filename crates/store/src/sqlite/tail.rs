//! Watching a SQLite store, whoever writes to it.
//!
//! This process's own commits wake the watches at once. Other processes' commits show in `PRAGMA data_version`,
//! which a thread looks at as long as somebody has ever watched; SQLite has no way to be told.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::Notify;

use super::{fault, file, read, threads::Readers};
use crate::{Batch, Change, ChangeSource, Revision, StoreError};

/// How long another process's commit may go unnoticed.
const POLL: Duration = Duration::from_millis(100);

/// Notices other processes' commits. The thread runs from the first watch until this is dropped.
#[derive(Default)]
pub(super) struct Poller {
    thread: Mutex<Option<(mpsc::Sender<()>, JoinHandle<()>)>>,
}

impl Poller {
    /// Starts the thread if it does not run yet.
    pub(super) fn ensure_running(
        &self,
        path: &Path,
        busy_timeout: Duration,
        changed: &Arc<Notify>,
    ) -> Result<(), StoreError> {
        let mut running = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_some() {
            return Ok(());
        }
        let connection = file::open_reader(path, busy_timeout)?;
        let (stop, stopped) = mpsc::channel();
        let changed = Arc::clone(changed);
        let builder = thread::Builder::new().name("store-poll".to_owned());
        let thread = builder.spawn(move || poll(&connection, &stopped, &changed)).map_err(|error| {
            StoreError::Unavailable {
                reason: "no thread could be started".to_owned(),
                source: Some(Arc::new(error)),
            }
        })?;
        *running = Some((stop, thread));
        Ok(())
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        let running = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn poll(connection: &Connection, stopped: &mpsc::Receiver<()>, changed: &Notify) {
    let mut last = None;
    while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
        let version = connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).ok();
        // On an error the watches are woken too: they meet the same error, and can tell their callers.
        if version.is_none() || version != last {
            changed.notify_waiters();
        }
        last = version;
    }
}

/// Where a watch of a SQLite store gets its changes.
pub(super) struct SqliteSource {
    pub(super) readers: Arc<Readers>,
    /// Kept so that the thread lives as long as somebody watches, even after the store is dropped.
    pub(super) _poller: Arc<Poller>,
    pub(super) changed: Arc<Notify>,
    pub(super) kind: Option<String>,
}

/// Refuses to watch from where changes are missing.
pub(super) fn check_watchable(state: read::State, from: Revision) -> Result<(), StoreError> {
    if from < state.compacted {
        return Err(StoreError::Compacted { oldest: state.compacted });
    }
    if from > state.head {
        return Err(StoreError::FutureRevision { requested: from, newest: state.head });
    }
    Ok(())
}

#[async_trait]
impl ChangeSource for SqliteSource {
    async fn next_batch(&mut self, after: Revision) -> Result<Batch, StoreError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Begin to wait before looking, so that a commit between looking and waiting is not missed.
            changed.as_mut().enable();
            let kind = self.kind.clone();
            let raw =
                self.readers.run(move |connection| read::batch(connection, kind.as_deref(), after)).await?;
            check_watchable(raw.state, after)?;
            if raw.complete_to > after {
                let changes = raw.changes.into_iter().map(|change| self.parse(change));
                let changes = changes.collect::<Result<_, _>>()?;
                return Ok(Batch { changes, complete_to: raw.complete_to });
            }
            changed.await;
        }
    }
}

impl SqliteSource {
    fn parse(&self, change: read::Logged) -> Result<Change, StoreError> {
        let value = change.value.map(|text| serde_json::from_str(&text)).transpose();
        let value = value.map_err(|error| fault::corrupt_value(self.readers.path(), &change.key, error))?;
        Ok(Change { revision: change.revision, key: change.key, value })
    }
}
