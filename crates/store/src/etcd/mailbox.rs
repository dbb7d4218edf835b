//! Requests to whoever leads, wherever it runs, and its answers. A request ends with whoever asks.

use std::sync::Arc;
use std::time::Duration;

use super::keys::{behind, beside};
use super::messages::{
    Compare, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, Target, TxnRequest, TxnResponse,
    VERSION,
};
use super::session::{QUICK, Session};
use super::{EtcdStore, RANGE, TXN};
use crate::StoreError;

const REQUESTS: &str = "requests/";
const ANSWERS: &str = "answers/";

/// How long a request is there after its process has died.
const TTL: Duration = Duration::from_secs(10);
/// How often an answer is looked for.
const INTERVAL: Duration = Duration::from_millis(300);

/// A request, as whoever leads finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Which.
    pub id: i64,
    /// What it says.
    pub text: String,
}

/// A request that was made.
pub struct Posted {
    store: EtcdStore,
    session: Arc<Session>,
}

impl std::fmt::Debug for Posted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Posted").field("id", &self.session.lease).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Asks whoever leads, now or later.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn post(&self, text: String) -> Result<Posted, StoreError> {
        let posted = self.run(|inner| async move {
            let session = Session::begin(Arc::clone(&inner), TTL).await?;
            let key = beside(&inner.prefix, &format!("{REQUESTS}{}", session.lease));
            let put = PutRequest { key, value: text.into_bytes(), lease: session.lease };
            let question = TxnRequest {
                success: vec![RequestOp { request: Some(Request::Put(put)) }],
                ..TxnRequest::default()
            };
            let _: TxnResponse = inner.connection.ask_within(QUICK, TXN, question).await?;
            Ok(Arc::new(session))
        });
        Ok(Posted { session: posted.await?, store: self.clone() })
    }

    /// All requests that somebody waits for.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn letters(&self) -> Result<Vec<Letter>, StoreError> {
        self.run(|inner| async move {
            let key = beside(&inner.prefix, REQUESTS);
            let range_end = behind(&key);
            let question = RangeRequest { key, range_end, ..RangeRequest::default() };
            let answer: RangeResponse = inner.connection.ask_within(QUICK, RANGE, question).await?;
            let letter = |found: super::KeyValue| {
                let text = String::from_utf8(found.value).ok()?;
                Some(Letter { id: found.lease, text })
            };
            Ok(answer.kvs.into_iter().filter_map(letter).collect())
        })
        .await
    }

    /// Answers a request, if this handle still may. One whose process has ended is left alone, and one that was answered.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn answer(&self, id: i64, text: String) -> Result<(), StoreError> {
        let guards = Arc::clone(&self.guards);
        self.run(|inner| async move {
            let request = beside(&inner.prefix, &format!("{REQUESTS}{id}"));
            let key = beside(&inner.prefix, &format!("{ANSWERS}{id}"));
            // Greater than 0: it is there.
            let is_there =
                Compare { result: 1, target: VERSION, key: request, target_union: Some(Target::Version(0)) };
            let unanswered = Compare {
                result: 0,
                target: VERSION,
                key: key.clone(),
                target_union: Some(Target::Version(0)),
            };
            let mut compare = vec![is_there, unanswered];
            compare.extend(guards.iter().map(super::Guard::compare));
            let put = PutRequest { key, value: text.into_bytes(), lease: id };
            let success = vec![RequestOp { request: Some(Request::Put(put)) }];
            let question = TxnRequest { compare, success, failure: Vec::new() };
            let _: TxnResponse = inner.connection.ask(TXN, question).await?;
            Ok(())
        })
        .await
    }
}

impl Posted {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The store did not answer for so long that the request ended.
    pub async fn answer(&self) -> Result<String, StoreError> {
        let session = Arc::clone(&self.session);
        self.store
            .run(|inner| async move {
                let key = beside(&inner.prefix, &format!("{ANSWERS}{}", session.lease));
                loop {
                    let question = RangeRequest { key: key.clone(), ..RangeRequest::default() };
                    let answer: Result<RangeResponse, _> =
                        inner.connection.ask_within(QUICK, RANGE, question).await;
                    match answer {
                        Ok(answer) => {
                            if let Some(found) = answer.kvs.into_iter().next() {
                                return String::from_utf8(found.value)
                                    .map_err(|_| StoreError::unavailable("an answer is no text"));
                            }
                        }
                        Err(refusal) if !session.is_alive() => return Err(refusal.into()),
                        Err(_) => {}
                    }
                    if !session.is_alive() {
                        return Err(StoreError::unavailable("the request ended before it was answered"));
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
            })
            .await
    }

    /// Takes the request back, and its answer.
    ///
    /// # Errors
    /// The store does not answer; then both end by themselves.
    pub async fn withdraw(&self) -> Result<(), StoreError> {
        let session = Arc::clone(&self.session);
        self.store.run(|_| async move { session.end().await }).await
    }
}
