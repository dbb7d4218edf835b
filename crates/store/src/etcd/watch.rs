//! Watching: one stream from one member, and another one from another when it is lost, from where it was.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tonic::Status;

use super::connection::Refusal;
use super::keys::Counting;
use super::messages::{DELETE, Event, WatchCreateRequest, WatchRequest, WatchResponse};
use super::{Inner, WATCH};
use crate::{Batch, Change, ChangeSource, Revision, StoreError};

/// Batches that wait to be taken; then the stream is read no further.
const BATCHES: usize = 16;
/// Pause before another member is tried.
const PAUSE: Duration = Duration::from_millis(100);
/// Streams that end without an answer, in a row, before whoever watches is told. It goes on when it is asked again.
const LOSSES: u32 = 10;

/// The changes of a store.
pub(super) struct EtcdSource {
    pub(super) inner: Arc<Inner>,
    pub(super) kind: Option<String>,
    following: Option<Following>,
}

/// A task that reads the stream.
struct Following {
    batches: mpsc::Receiver<Result<Batch, StoreError>>,
    task: tokio::task::AbortHandle,
    /// What was handed out ends here.
    at: Revision,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl EtcdSource {
    pub(super) fn new(inner: Arc<Inner>, kind: Option<String>) -> Self {
        EtcdSource { inner, kind, following: None }
    }
}

#[async_trait]
impl ChangeSource for EtcdSource {
    async fn next_batch(&mut self, after: Revision) -> Result<Batch, StoreError> {
        if self.following.as_ref().is_none_or(|following| following.at != after) {
            let (sender, batches) = mpsc::channel(BATCHES);
            let work = follow(Arc::clone(&self.inner), self.kind.clone(), after, sender);
            let task = self.inner.own.runtime()?.spawn(work).abort_handle();
            self.following = Some(Following { batches, task, at: after });
        }
        let Some(following) = &mut self.following else {
            return Err(StoreError::unavailable("the watch is closed"));
        };
        match following.batches.recv().await {
            Some(Ok(batch)) => {
                following.at = batch.complete_to;
                Ok(batch)
            }
            ended => {
                self.following = None;
                Err(ended.and_then(Result::err).unwrap_or_else(|| StoreError::unavailable("the watch ended")))
            }
        }
    }
}

/// Why a stream ended.
enum End {
    /// Nobody wants more.
    Unwanted,
    /// What comes next is no longer kept.
    Compacted,
    /// The member went away.
    Lost(Refusal),
    /// What it said makes no sense.
    Broken(StoreError),
}

async fn follow(
    inner: Arc<Inner>,
    kind: Option<String>,
    after: Revision,
    sender: mpsc::Sender<Result<Batch, StoreError>>,
) {
    let mut done = after;
    let mut losses = 0;
    loop {
        let before = done;
        let error = match read(&inner, kind.as_deref(), &mut done, &sender).await {
            End::Unwanted => return,
            End::Compacted => match inner.oldest().await {
                Ok(oldest) => StoreError::Compacted { oldest },
                Err(error) => error,
            },
            End::Lost(refusal) => {
                losses = if done > before { 1 } else { losses + 1 };
                if losses < LOSSES {
                    tokio::time::sleep(PAUSE * losses).await;
                    continue;
                }
                refusal.into()
            }
            End::Broken(error) => error,
        };
        // Nobody may be left.
        let _ = sender.send(Err(error)).await;
        return;
    }
}

async fn read(
    inner: &Inner,
    kind: Option<&str>,
    done: &mut Revision,
    sender: &mpsc::Sender<Result<Batch, StoreError>>,
) -> End {
    // A watch that begins exactly where etcd was compacted is accepted although a deletion there may be gone.
    let counting = match inner.counting().await {
        Ok(counting) => counting,
        Err(error) => return End::Broken(error),
    };
    match inner.probe(counting, *done).await {
        Ok(_) => {}
        Err(refusal) if refusal.is_compacted() => return End::Compacted,
        Err(refusal) => return End::Lost(refusal),
    }
    let (key, range_end) = inner.keys.range(None, None);
    let create = WatchCreateRequest {
        key,
        range_end,
        start_revision: counting.in_etcd(*done).saturating_add(1),
        progress_notify: true,
    };
    let request = WatchRequest { create: Some(create) };
    let mut answers = match inner.connection.stream::<_, WatchResponse>(WATCH, request).await {
        Ok(answers) => answers,
        Err(refusal) => return End::Lost(refusal),
    };
    loop {
        let answer = tokio::select! {
            answer = answers.stream.message() => answer,
            () = sender.closed() => return End::Unwanted,
        };
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                return End::Lost(inner.connection.lost(&answers, Status::unavailable("the stream ended")));
            }
            Err(status) => return End::Lost(inner.connection.lost(&answers, status)),
        };
        if answer.compact_revision != 0 {
            return End::Compacted;
        }
        if answer.canceled {
            let status = Status::unavailable(answer.cancel_reason);
            return End::Lost(inner.connection.lost(&answers, status));
        }
        // When it is created, what happened meanwhile is still to come; later an empty answer says that nothing did.
        let Some(newest) = newest(&answer) else { continue };
        let complete_to = counting.of(newest);
        if complete_to <= *done {
            continue;
        }
        let changes = match inner.changes(counting, answer.events, kind) {
            Ok(changes) => changes,
            Err(error) => return End::Broken(error),
        };
        *done = complete_to;
        if sender.send(Ok(Batch { changes, complete_to })).await.is_err() {
            return End::Unwanted;
        }
    }
}

fn newest(answer: &WatchResponse) -> Option<i64> {
    match answer.events.last() {
        Some(event) => event.kv.as_ref().map(|kv| kv.mod_revision),
        None if answer.created => None,
        None => answer.header.as_ref().map(|header| header.revision),
    }
}

impl Inner {
    fn changes(
        &self,
        counting: Counting,
        events: Vec<Event>,
        kind: Option<&str>,
    ) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for Event { kind: event, kv } in events {
            let Some(kv) = kv else { continue };
            let key = self.keys.parse(&kv.key)?;
            if kind.is_some_and(|kind| kind != key.kind) {
                continue;
            }
            let value = match event {
                DELETE => None,
                _ => Some(serde_json::from_slice(&kv.value).map_err(|error| super::corrupt(&key, error))?),
            };
            changes.push(Change { revision: counting.of(kv.mod_revision), key, value });
        }
        Ok(changes)
    }

    /// Where a watch can still start.
    async fn oldest(&self) -> Result<Revision, StoreError> {
        let counting = self.counting().await?;
        let (key, range_end) = self.keys.range(None, None);
        // One that is refused says from where on it would not be.
        let create = WatchCreateRequest { key, range_end, start_revision: 1, progress_notify: false };
        let request = WatchRequest { create: Some(create) };
        let mut answers = self.connection.stream::<_, WatchResponse>(WATCH, request).await?;
        while let Ok(Some(answer)) = answers.stream.message().await {
            if answer.compact_revision != 0 {
                return Ok(counting.of(answer.compact_revision));
            }
            if answer.canceled || !answer.created {
                break;
            }
        }
        Err(self.connection.lost(&answers, Status::unavailable("it does not say what it compacted")).into())
    }

    /// The error of a watch from too far back.
    pub(super) async fn compacted(&self) -> StoreError {
        self.oldest().await.map_or_else(|error| error, |oldest| StoreError::Compacted { oldest })
    }
}
