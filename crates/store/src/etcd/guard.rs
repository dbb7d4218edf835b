//! What commits depend on besides their own preconditions: who leads, and whether the store is still in use.

use super::keys::beside;
use super::messages::{CREATE, Compare, KeyValue, MOD, Target};
use crate::StoreError;

/// The key of the store's record.
pub(super) const RECORD: &str = "store";
/// The key of who leads.
pub(super) const LEADER: &str = "leader";

/// Something that must not have changed.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    key: Vec<u8>,
    expected: Expected,
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    /// The record as it was written then.
    Record(i64),
    /// The leader who was elected then.
    Leader(i64),
}

impl Guard {
    pub(super) fn record(prefix: &str, mod_revision: i64) -> Self {
        Guard { key: beside(prefix, RECORD), expected: Expected::Record(mod_revision) }
    }

    pub(super) fn leader(prefix: &str, create_revision: i64) -> Self {
        Guard { key: beside(prefix, LEADER), expected: Expected::Leader(create_revision) }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    pub(super) fn compare(&self) -> Compare {
        let (target, expected) = match self.expected {
            Expected::Record(revision) => (MOD, Target::ModRevision(revision)),
            Expected::Leader(revision) => (CREATE, Target::CreateRevision(revision)),
        };
        Compare { result: 0, target, key: self.key.clone(), target_union: Some(expected) }
    }

    /// Says which of them failed a transaction.
    pub(super) fn judge(&self, found: Option<&KeyValue>) -> Result<(), StoreError> {
        match self.expected {
            Expected::Record(revision) if found.map(|found| found.mod_revision) != Some(revision) => {
                Err(StoreError::Moved {
                    place: "in etcd".to_owned(),
                    detail: "it is being moved, or was moved, since this command began; run it again"
                        .to_owned(),
                })
            }
            Expected::Leader(revision) if found.map(|found| found.create_revision) != Some(revision) => {
                Err(StoreError::Deposed)
            }
            Expected::Record(_) | Expected::Leader(_) => Ok(()),
        }
    }
}
