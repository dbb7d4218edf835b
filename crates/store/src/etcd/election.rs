//! One leads, by a key that hangs on a lease of its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Mutex;

use super::guard::{Guard, LEADER};
use super::keys::beside;
use super::messages::{
    Compare, KeyValue, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, Response, Target,
    TxnRequest, TxnResponse, VERSION,
};
use super::session::{QUICK, Session};
use super::{EtcdStore, Inner, RANGE, TXN, revision_of};
use crate::{Candidate, Election, Leader, Role, StoreError, Tenure, Term};

/// Where daemons say their names.
const DAEMONS: &str = "daemons/";

/// The election of a store in etcd, as one of its candidates sees it.
pub struct EtcdElection {
    store: EtcdStore,
    candidate: Candidate,
    ttl: Duration,
    session: Mutex<Option<Arc<Session>>>,
}

/// A term, with the store as what it is.
pub struct EtcdTerm {
    /// Larger than that of every earlier term.
    pub number: u64,
    /// Its commits, and changes of its record, depend on the term.
    pub store: EtcdStore,
    session: Arc<Session>,
}

impl std::fmt::Debug for EtcdTerm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdTerm").field("number", &self.number).finish_non_exhaustive()
    }
}

impl EtcdElection {
    /// How long after its last sign of life a leader leads. etcd takes none shorter than 1.5 of its elections, which is
    /// 1.5 s unless it is told otherwise.
    pub const TTL: Duration = Duration::from_secs(3);
    /// How often whoever stands by asks.
    pub const INTERVAL: Duration = Duration::from_millis(400);

    /// Stands for nothing yet.
    pub fn new(store: &EtcdStore, candidate: Candidate) -> Self {
        EtcdElection { store: store.clone(), candidate, ttl: Self::TTL, session: Mutex::default() }
    }

    /// Becomes the leader if there is none.
    ///
    /// # Errors
    /// As [`Election::stand`].
    pub async fn lead(&self) -> Result<Option<EtcdTerm>, StoreError> {
        let mut kept = self.session.lock().await;
        let known = kept.as_ref().filter(|session| session.is_alive()).cloned();
        let (candidate, ttl) = (self.candidate.clone(), self.ttl);
        let (session, number) = self
            .store
            .run(|inner| async move {
                let session = match known {
                    Some(session) => session,
                    None => Arc::new(Session::begin(Arc::clone(&inner), ttl).await?),
                };
                if candidate.role == Role::Daemon {
                    inner.register(&candidate, session.lease).await?;
                }
                let number = inner.stand(candidate, session.lease).await?;
                Ok((session, number))
            })
            .await?;
        *kept = Some(Arc::clone(&session));
        let Some(create_revision) = number else { return Ok(None) };
        let store = self.store.with_guard(Guard::leader(&self.store.inner.prefix, create_revision));
        Ok(Some(EtcdTerm { number: create_revision.unsigned_abs(), store, session }))
    }
}

#[async_trait]
impl Election for EtcdElection {
    async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        self.store.leader().await
    }

    async fn stand(&self) -> Result<Option<Term>, StoreError> {
        let term = self.lead().await?;
        Ok(term.map(|term| {
            let (number, store) = (term.number, Arc::new(term.store.clone()));
            Term::new(number, store, Arc::new(term))
        }))
    }
}

impl EtcdStore {
    /// Who leads now, if anybody does.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        self.run(|inner| async move {
            let key = beside(&inner.prefix, LEADER);
            let question = RangeRequest { key, ..RangeRequest::default() };
            let answer: RangeResponse = inner.connection.ask_within(QUICK, RANGE, question).await?;
            answer.kvs.first().map(|found| read(&found.value)).transpose()
        })
        .await
    }

    /// The names of the daemons that lead or stand by.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn daemons(&self) -> Result<Vec<Candidate>, StoreError> {
        self.run(|inner| async move {
            let key = beside(&inner.prefix, DAEMONS);
            let range_end = super::keys::behind(&key);
            let question = RangeRequest { key, range_end, ..RangeRequest::default() };
            let answer: RangeResponse = inner.connection.ask_within(QUICK, RANGE, question).await?;
            answer.kvs.iter().map(|found| read(&found.value)).collect()
        })
        .await
    }
}

#[async_trait]
impl Tenure for EtcdTerm {
    async fn ended(&self) {
        self.session.lost().await;
    }

    async fn resign(&self) -> Result<(), StoreError> {
        let session = Arc::clone(&self.session);
        self.store.run(|_| async move { session.end().await }).await
    }
}

impl Inner {
    /// Says this daemon's name, which no other may have.
    async fn register(&self, candidate: &Candidate, lease: i64) -> Result<(), StoreError> {
        let key = beside(&self.prefix, &format!("{DAEMONS}{}", candidate.name));
        let (_, found) = self.put_if_absent(key, write(candidate)?, lease).await?;
        match found {
            Some(found) if found.lease != lease => {
                let by = read::<Candidate>(&found.value)?.doing;
                Err(StoreError::NameTaken { name: candidate.name.clone(), by })
            }
            _ => Ok(()),
        }
    }

    /// The revision at which this process was elected; none if another leads.
    async fn stand(&self, candidate: Candidate, lease: i64) -> Result<Option<i64>, StoreError> {
        let leader = Leader { candidate, since: Timestamp::now() };
        let key = beside(&self.prefix, LEADER);
        let (revision, found) = self.put_if_absent(key, write(&leader)?, lease).await?;
        Ok(match found {
            None => Some(revision),
            // Elected before, by a request whose answer was lost.
            Some(found) => (found.lease == lease).then_some(found.create_revision),
        })
    }

    /// Puts a key that hangs on a lease; says what is there if something is. Done twice it is done once.
    async fn put_if_absent(
        &self,
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    ) -> Result<(i64, Option<KeyValue>), StoreError> {
        let look = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let absent =
            Compare { result: 0, target: VERSION, key: key.clone(), target_union: Some(Target::Version(0)) };
        let question = TxnRequest {
            compare: vec![absent],
            success: vec![RequestOp { request: Some(Request::Put(PutRequest { key, value, lease })) }],
            failure: vec![RequestOp { request: Some(Request::Range(look)) }],
        };
        let answer: TxnResponse = self.connection.ask_within(QUICK, TXN, question).await?;
        let revision = revision_of(answer.header.as_ref())?;
        let found = answer.responses.into_iter().find_map(|response| match response.response {
            Some(Response::Range(found)) => found.kvs.into_iter().next(),
            _ => None,
        });
        Ok((revision, found.filter(|_| !answer.succeeded)))
    }
}

fn write(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::unavailable(error.to_string()))
}

fn read<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Unavailable {
        reason: "who leads in etcd was not written by this version of Ashlar".to_owned(),
        source: Some(Arc::new(error)),
    })
}
