//! The store in etcd (3.4 and later): for several daemons, on members that agree.
//!
//! Objects lie under a prefix, ordered as keys are; etcd's own revision is the store's. A transaction is one of etcd's:
//! preconditions compare `mod_revision`, and where one fails the same round trip says how all of them stand. Every
//! request runs on a thread of the store's own, so that callers need no async runtime.
//!
//! Beside the objects lie: `store`, what the store says of itself ([`record`]); `leader` and `daemons/`, who works on it
//! ([`election`], by leases that [`session`] keeps); `requests/` and `answers/`, what others ask of the leader ([`mailbox`]).
//! The first two are what commits may depend on besides their own preconditions ([`guard`]).

mod connection;
mod election;
mod guard;
mod keys;
mod mailbox;
mod messages;
mod record;
mod session;
mod watch;

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::{
    DEFAULT_RETAINED_REVISIONS, Key, Listing, Precondition, RawListing, RawStored, RawValue, Revision, Store,
    StoreError, Stored, Transaction, Watch, Write,
};
use connection::{Connection, Own, Refusal};
use guard::Guard;
use keys::{Counting, Keys};
use messages::{
    CompactionRequest, Compare, DeleteRangeRequest, Header, KeyValue, MOD, Nothing, PutRequest, RangeRequest,
    RangeResponse, Request, RequestOp, Response, Target, TxnRequest, TxnResponse, VERSION,
};
use watch::EtcdSource;

pub use election::{EtcdElection, EtcdTerm};
pub use mailbox::{Letter, Posted};
pub use record::{RecordState, Recorded, StoreRecord};

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Objects that one answer holds: with objects of some kilobytes a few megabytes.
const PAGE: i64 = 1000;
/// After so many revisions old history is given up, by whoever commits then.
const COMPACT_EVERY: u64 = 1000;

/// How to reach etcd. Both sides show certificates.
#[derive(Clone)]
pub struct EtcdOptions {
    /// `https://HOST:PORT` of each member.
    pub endpoints: Vec<String>,
    /// Under which all keys lie, for example `/ashlar`.
    pub prefix: String,
    /// Who signed the members' certificates.
    pub ca_pem: String,
    /// The client's certificate, with its chain.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A store in etcd. Clones are handles of the same connections.
#[derive(Clone)]
pub struct EtcdStore {
    inner: Arc<Inner>,
    /// What every commit through this handle depends on, besides its own preconditions.
    guards: Arc<Vec<Guard>>,
}

struct Inner {
    connection: Connection,
    prefix: String,
    keys: Keys,
    /// Learned from the store's record at the first request.
    counting: Mutex<Option<Counting>>,
    own: Own,
}

impl EtcdStore {
    /// Opens it; nothing is connected before the first request.
    ///
    /// # Errors
    /// An address or certificate that cannot be used.
    pub fn open(options: &EtcdOptions) -> Result<Self, StoreError> {
        let own = Own::start()?;
        let connection = {
            let _inside = own.runtime()?.enter();
            Connection::open(options)?
        };
        let (prefix, keys) = (options.prefix.clone(), Keys::new(&options.prefix));
        let counting = Mutex::default();
        let inner = Arc::new(Inner { connection, prefix, keys, counting, own });
        Ok(EtcdStore { inner, guards: Arc::default() })
    }

    /// One object with its value unparsed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn get_raw(&self, key: &Key) -> Result<Option<RawStored>, StoreError> {
        let key = key.clone();
        self.run(|inner| async move {
            let counting = inner.counting().await?;
            let question = RangeRequest { key: inner.keys.of(&key), ..RangeRequest::default() };
            let answer: RangeResponse = inner.connection.ask(RANGE, question).await?;
            answer.kvs.into_iter().next().map(|found| raw(counting, key, found)).transpose()
        })
        .await
    }

    /// A handle whose commits depend on something more.
    fn with_guard(&self, guard: Guard) -> Self {
        let mut guards = self.guards.as_ref().clone();
        guards.push(guard);
        EtcdStore { inner: Arc::clone(&self.inner), guards: Arc::new(guards) }
    }

    async fn run<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.inner.own.run(work(Arc::clone(&self.inner))).await
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let found = self.get_raw(key).await?;
        found.map(|raw| raw.parse().map_err(|error| corrupt(key, error))).transpose()
    }

    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError> {
        let (kind, namespace) = (kind.map(str::to_owned), namespace.map(str::to_owned));
        self.run(|inner| async move {
            loop {
                match inner.list(kind.as_deref(), namespace.as_deref()).await? {
                    Some(listing) => return Ok(listing),
                    // Compacted between two pages: from the start.
                    None => continue,
                }
            }
        })
        .await
    }

    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError> {
        self.list_raw(kind, namespace).await?.parse(|key, error| corrupt(&key, error))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        transaction.validate()?;
        let guards = Arc::clone(&self.guards);
        self.run(|inner| async move {
            let revision = inner.commit(&transaction, &guards).await?;
            if revision.0 % COMPACT_EVERY == 0 && revision.0 > DEFAULT_RETAINED_REVISIONS {
                let before = Revision(revision.0 - DEFAULT_RETAINED_REVISIONS);
                // Somebody else may have done it; and it is done again a thousand revisions later.
                let _ = inner.compact(before).await;
            }
            Ok(revision)
        })
        .await
    }

    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        self.run(|inner| async move {
            let counting = inner.counting().await?;
            match inner.probe(counting, from).await {
                Ok(_) => Ok(()),
                Err(refusal) if refusal.is_compacted() => Err(inner.compacted().await),
                Err(refusal) if refusal.is_future() => {
                    Err(StoreError::FutureRevision { requested: from, newest: inner.head().await? })
                }
                Err(refusal) => Err(refusal.into()),
            }
        })
        .await?;
        let source = EtcdSource::new(Arc::clone(&self.inner), kind.map(str::to_owned));
        Ok(Watch::new(Box::new(source), from))
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.run(|inner| async move { inner.compact(before).await }).await
    }
}

impl Inner {
    /// One consistent snapshot, page by page; `None` if its revision was compacted meanwhile.
    async fn list(
        &self,
        kind: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<Option<RawListing>, StoreError> {
        let counting = self.counting().await?;
        let (mut first, range_end) = self.keys.range(kind, kind.and(namespace));
        let (mut revision, mut items) = (0, Vec::new());
        loop {
            let question = RangeRequest {
                key: first.clone(),
                range_end: range_end.clone(),
                limit: PAGE,
                revision,
                ..RangeRequest::default()
            };
            let answer: RangeResponse = match self.connection.ask(RANGE, question).await {
                Err(refusal) if revision != 0 && refusal.is_compacted() => return Ok(None),
                answer => answer?,
            };
            if revision == 0 {
                revision = revision_of(answer.header.as_ref())?;
            }
            let last = answer.kvs.last().map(|found| found.key.clone());
            for found in answer.kvs {
                let key = self.keys.parse(&found.key)?;
                if key.matches(kind, namespace) {
                    items.push(raw(counting, key, found)?);
                }
            }
            match last {
                Some(mut last) if answer.more => {
                    last.push(0);
                    first = last;
                }
                _ => return Ok(Some(RawListing { revision: counting.of(revision), items })),
            }
        }
    }

    async fn commit(&self, transaction: &Transaction, guards: &[Guard]) -> Result<Revision, StoreError> {
        let counting = self.counting().await?;
        let question = self.transaction(counting, transaction, guards)?;
        let answer: TxnResponse = self.connection.order(TXN, question).await?;
        if answer.succeeded {
            return Ok(counting.of(revision_of(answer.header.as_ref())?));
        }
        // Of each key, how it stood then.
        let mut found = answer.responses.into_iter().map(|response| match response.response {
            Some(Response::Range(found)) => found.kvs.into_iter().next(),
            _ => None,
        });
        for guard in guards {
            guard.judge(found.next().flatten().as_ref())?;
        }
        for (write, found) in transaction.writes.iter().zip(found) {
            write.expect().judge(write.key(), found.map(|found| counting.of(found.mod_revision)))?;
        }
        Err(StoreError::unavailable("etcd refused a transaction all of whose preconditions hold"))
    }

    fn transaction(
        &self,
        counting: Counting,
        transaction: &Transaction,
        guards: &[Guard],
    ) -> Result<TxnRequest, StoreError> {
        let mut question = TxnRequest::default();
        for guard in guards {
            question.compare.push(guard.compare());
            question.failure.push(look_at(guard.key()));
        }
        for write in &transaction.writes {
            let key = self.keys.of(write.key());
            let compare = match write.expect() {
                Precondition::Any => None,
                Precondition::Absent => Some((VERSION, Target::Version(0))),
                Precondition::Revision(revision) => {
                    Some((MOD, Target::ModRevision(counting.in_etcd(revision))))
                }
            };
            if let Some((target, expected)) = compare {
                let key = key.clone();
                question.compare.push(Compare { result: 0, target, key, target_union: Some(expected) });
            }
            question.failure.push(look_at(&key));
            let request = match write {
                Write::Put { value, .. } => {
                    let value = serde_json::to_vec(value).map_err(|error| corrupt(write.key(), error))?;
                    Request::Put(PutRequest { key, value, lease: 0 })
                }
                Write::Delete { .. } => Request::Delete(DeleteRangeRequest { key }),
                Write::Check { .. } => continue,
            };
            question.success.push(RequestOp { request: Some(request) });
        }
        Ok(question)
    }

    /// Whether changes after a revision are still kept, and it is not ahead of the store.
    async fn probe(&self, counting: Counting, from: Revision) -> Result<RangeResponse, Refusal> {
        let (key, range_end) = self.keys.range(None, None);
        let question = RangeRequest {
            key,
            range_end,
            revision: counting.in_etcd(from),
            count_only: true,
            limit: 1,
            ..RangeRequest::default()
        };
        self.connection.ask(RANGE, question).await
    }

    async fn head(&self) -> Result<Revision, StoreError> {
        let counting = self.counting().await?;
        let question = RangeRequest { key: vec![0], count_only: true, ..RangeRequest::default() };
        let answer: RangeResponse = self.connection.ask(RANGE, question).await?;
        Ok(counting.of(revision_of(answer.header.as_ref())?))
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        let (counting, head) = (self.counting().await?, self.head().await?);
        // What etcd is compacted to, it still answers for.
        let revision = counting.in_etcd(before).saturating_sub(1).min(counting.in_etcd(head));
        if revision < 1 {
            return Ok(());
        }
        let done: Result<Nothing, Refusal> =
            self.connection.order(COMPACT, CompactionRequest { revision }).await;
        match done {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_compacted() => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

fn revision_of(header: Option<&Header>) -> Result<i64, StoreError> {
    header
        .map(|header| header.revision)
        .ok_or_else(|| StoreError::unavailable("etcd gave an answer without header"))
}

/// How a key stands, without its value.
fn look_at(key: &[u8]) -> RequestOp {
    let look = RangeRequest { key: key.to_vec(), keys_only: true, ..RangeRequest::default() };
    RequestOp { request: Some(Request::Range(look)) }
}

fn raw(counting: Counting, key: Key, found: KeyValue) -> Result<RawStored, StoreError> {
    let text = String::from_utf8(found.value).map_err(|error| corrupt(&key, error))?;
    let revision = counting.of(found.mod_revision);
    Ok(RawStored { key, revision, value: RawValue::Text(text.into_boxed_str()) })
}

fn corrupt(key: &Key, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable {
        reason: format!("{key} in etcd is not what an Ashlar writes"),
        source: Some(Arc::new(error)),
    }
}
