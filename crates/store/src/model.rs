//! Revisions, objects, and the transactions that change them.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Key, MAX_OPERATIONS, StoreError};

/// A point in the history of the whole store. It only grows; 0 is the empty store.
///
/// Opaque outside the store: compare for equality, hand it back, order it; never compute with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An object as the store holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its name.
    pub key: Key,
    /// The revision of its last change: what a [`Precondition::Revision`] compares.
    pub revision: Revision,
    /// Its value.
    pub value: Value,
}

/// One consistent snapshot, ordered by key.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The store's revision at the moment of the snapshot: watch from here to miss nothing.
    pub revision: Revision,
    /// The objects, ordered by key.
    pub items: Vec<Stored>,
}

/// What must hold for a key before a transaction, else the whole transaction is a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// There is no such object.
    Absent,
    /// The object's last change was at exactly this revision.
    Revision(Revision),
    /// Nothing.
    Any,
}

impl Precondition {
    /// Judges the precondition against the revision found (`None`: no such object).
    pub(crate) fn judge(self, key: &Key, found: Option<Revision>) -> Result<(), StoreError> {
        let holds = match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Revision(expected) => found == Some(expected),
        };
        if holds { Ok(()) } else { Err(StoreError::Conflict { key: key.clone(), found }) }
    }
}

/// One operation of a [`Transaction`].
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Creates or replaces an object. Replacing by an equal value is a change like any other.
    Put {
        /// The object.
        key: Key,
        /// Its new value.
        value: Value,
        /// What must hold before.
        expect: Precondition,
    },
    /// Removes an object. Removing what is not there is no change, and no error unless `expect` says so.
    Delete {
        /// The object.
        key: Key,
        /// What must hold before.
        expect: Precondition,
    },
    /// Changes nothing; only the precondition counts.
    Check {
        /// The object.
        key: Key,
        /// What must hold before.
        expect: Precondition,
    },
}

impl Write {
    /// The object that the operation is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Check { key, .. } => key,
        }
    }

    /// What must hold before.
    pub fn expect(&self) -> Precondition {
        match self {
            Self::Put { expect, .. } | Self::Delete { expect, .. } | Self::Check { expect, .. } => *expect,
        }
    }
}

/// Operations that take effect together or not at all; at most [`MAX_OPERATIONS`].
///
/// A key may be put or deleted only once in a transaction; it may be checked besides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// The operations. Watches report the changes in this order.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// A transaction without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a [`Write::Put`].
    #[must_use]
    pub fn put(mut self, key: Key, value: Value, expect: Precondition) -> Self {
        self.writes.push(Write::Put { key, value, expect });
        self
    }

    /// Adds a [`Write::Delete`].
    #[must_use]
    pub fn delete(mut self, key: Key, expect: Precondition) -> Self {
        self.writes.push(Write::Delete { key, expect });
        self
    }

    /// Adds a [`Write::Check`].
    #[must_use]
    pub fn check(mut self, key: Key, expect: Precondition) -> Self {
        self.writes.push(Write::Check { key, expect });
        self
    }

    /// Checks what does not depend on the store's state. Every implementation calls this first.
    ///
    /// # Errors
    /// [`StoreError::TooManyWrites`], [`StoreError::InvalidKey`], [`StoreError::DuplicateKey`].
    pub fn validate(&self) -> Result<(), StoreError> {
        if self.writes.len() > MAX_OPERATIONS {
            return Err(StoreError::TooManyWrites { count: self.writes.len(), limit: MAX_OPERATIONS });
        }
        let mut written = BTreeSet::new();
        for write in &self.writes {
            write.key().validate()?;
            if !matches!(write, Write::Check { .. }) && !written.insert(write.key()) {
                return Err(StoreError::DuplicateKey { key: write.key().clone() });
            }
        }
        Ok(())
    }
}
