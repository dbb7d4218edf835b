//! What a store in etcd says of itself, in one key beside its objects: whose it is, and whether it is in use.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::guard::{Guard, RECORD};
use super::keys::{Counting, beside};
use super::messages::{
    Compare, MOD, PutRequest, RangeRequest, RangeResponse, Request, RequestOp, Response, Target, TxnRequest,
    TxnResponse, VERSION,
};
use super::{EtcdStore, Inner, RANGE, TXN, look_at, revision_of};
use crate::{Revision, StoreError};

/// What a store says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreRecord {
    /// The installation whose objects these are.
    pub installation: String,
    /// Whether it is in use.
    pub state: RecordState,
    /// The last migration into it or out of it.
    pub migration: String,
    /// By how much its revisions are larger than etcd's: so that they go on from where they were elsewhere.
    pub base: u64,
    /// Where from or where to, and when: for people.
    pub note: String,
    /// What another machine needs to work on it, by file name; nothing secret.
    pub files: BTreeMap<String, String>,
}

/// Whether a store is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordState {
    /// Objects are being copied into it. The store they come from is still the one.
    Filling,
    /// It is the one.
    Current,
    /// It is the one, and is being copied from: nobody writes, for as long as whoever copies leads.
    Leaving,
    /// Its objects went elsewhere, and it is left as it was.
    Left,
}

/// A record, and which writing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The record.
    pub record: StoreRecord,
    mod_revision: i64,
}

impl EtcdStore {
    /// Reads the record; a place that no Ashlar has used has none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn record(&self) -> Result<Option<Recorded>, StoreError> {
        self.run(|inner| async move { inner.record().await }).await
    }

    /// Writes the record, if it still is as it was read (none: if there is none yet), and all that this handle depends on
    /// still holds.
    ///
    /// # Errors
    /// [`StoreError::Moved`] if somebody else was first, [`StoreError::Deposed`]; the store cannot be written.
    pub async fn write_record(
        &self,
        record: &StoreRecord,
        before: Option<&Recorded>,
    ) -> Result<Recorded, StoreError> {
        let (record, before) = (record.clone(), before.map(|before| before.mod_revision));
        let guards = Arc::clone(&self.guards);
        self.run(|inner| async move { inner.write_record(record, before, &guards).await }).await
    }

    /// A handle that commits only as long as the record is this one.
    #[must_use]
    pub fn under(&self, recorded: &Recorded) -> EtcdStore {
        self.with_guard(Guard::record(&self.inner.prefix, recorded.mod_revision))
    }

    /// A handle that commits nothing: of a store that is being moved.
    #[must_use]
    pub fn to_look(&self) -> EtcdStore {
        // No key was ever written then.
        self.with_guard(Guard::record(&self.inner.prefix, -1))
    }

    /// The revision that an empty store in this place would be at, whatever its record says.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn own_revision(&self) -> Result<Revision, StoreError> {
        self.run(|inner| async move {
            let question = RangeRequest { key: vec![0], count_only: true, ..RangeRequest::default() };
            let answer: RangeResponse = inner.connection.ask(RANGE, question).await?;
            Ok(Counting::default().of(revision_of(answer.header.as_ref())?))
        })
        .await
    }
}

impl Inner {
    async fn record(&self) -> Result<Option<Recorded>, StoreError> {
        let question = RangeRequest { key: beside(&self.prefix, RECORD), ..RangeRequest::default() };
        let answer: RangeResponse = self.connection.ask(RANGE, question).await?;
        let Some(found) = answer.kvs.into_iter().next() else { return Ok(None) };
        let record = serde_json::from_slice(&found.value).map_err(|error| StoreError::Unavailable {
            reason: format!("{}/{RECORD} in etcd was not written by this version of Ashlar", self.prefix),
            source: Some(Arc::new(error)),
        })?;
        Ok(Some(Recorded { record, mod_revision: found.mod_revision }))
    }

    /// How revisions are counted; asked for once.
    pub(super) async fn counting(&self) -> Result<Counting, StoreError> {
        let known = *self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counting) = known {
            return Ok(counting);
        }
        let base = self.record().await?.map(|recorded| recorded.record.base);
        Ok(self.count_from(base.unwrap_or_default()))
    }

    fn count_from(&self, base: u64) -> Counting {
        *self.counting.lock().unwrap_or_else(PoisonError::into_inner).insert(Counting { base })
    }

    async fn write_record(
        &self,
        record: StoreRecord,
        before: Option<i64>,
        guards: &[Guard],
    ) -> Result<Recorded, StoreError> {
        let key = beside(&self.prefix, RECORD);
        let value = serde_json::to_vec(&record).map_err(|error| StoreError::Unavailable {
            reason: "the store's record cannot be written as JSON".to_owned(),
            source: Some(Arc::new(error)),
        })?;
        let mut question = TxnRequest::default();
        for guard in guards {
            question.compare.push(guard.compare());
            question.failure.push(look_at(guard.key()));
        }
        let (target, expected) = match before {
            Some(revision) => (MOD, Target::ModRevision(revision)),
            None => (VERSION, Target::Version(0)),
        };
        question.compare.push(Compare { result: 0, target, key: key.clone(), target_union: Some(expected) });
        let put = PutRequest { key, value, lease: 0 };
        question.success.push(RequestOp { request: Some(Request::Put(put)) });
        let answer: TxnResponse = self.connection.order(TXN, question).await?;
        if answer.succeeded {
            let mod_revision = revision_of(answer.header.as_ref())?;
            self.count_from(record.base);
            return Ok(Recorded { record, mod_revision });
        }
        for (guard, response) in guards.iter().zip(answer.responses) {
            let found = match response.response {
                Some(Response::Range(found)) => found.kvs.into_iter().next(),
                _ => None,
            };
            guard.judge(found.as_ref())?;
        }
        Err(StoreError::Moved {
            place: "in etcd".to_owned(),
            detail: "somebody else changed its record at the same time; run the command again".to_owned(),
        })
    }
}
