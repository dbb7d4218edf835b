//! Who works on a store that several processes share: one leads, the others stand by.
//!
//! Who leads is a fact of the store itself, with a term that ends when its holder no longer says that it lives. A term
//! comes with a handle of the store through which everything that is committed depends on the term: a leader that was
//! paused, and wakes up after another one was elected, commits nothing.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError};

/// What a process is that stands for the leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It leads for as long as it lives, and takes requests.
    Daemon,
    /// It leads until its own work is done.
    Command,
}

/// A process that stands for the leadership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its name; no two daemons of one store have the same.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// What it does, and where: for people.
    pub doing: String,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// Who.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// Since when, by its own clock.
    pub since: Timestamp,
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Candidate { name, role, doing } = &self.candidate;
        match role {
            Role::Daemon => write!(f, "daemon {name} ({doing})"),
            Role::Command => write!(f, "`{doing}` ({name})"),
        }
    }
}

/// An election that a process takes part in.
#[async_trait]
pub trait Election: Send + Sync {
    /// Who leads now, if anybody does.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn leader(&self) -> Result<Option<Leader>, StoreError>;

    /// Becomes the leader if there is none. Asked again after some tenths of a second, whoever stands by leads soon after
    /// the leader has died.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]; the store cannot be written.
    async fn stand(&self) -> Result<Option<Term>, StoreError>;
}

/// The time in which a process leads.
#[derive(Clone)]
pub struct Term {
    /// Larger than that of every earlier term of this store.
    pub number: u64,
    /// The store; whatever is committed through this handle depends on the term.
    pub store: Arc<dyn Store>,
    tenure: Arc<dyn Tenure>,
}

impl Term {
    /// A term of a store's own making.
    pub fn new(number: u64, store: Arc<dyn Store>, tenure: Arc<dyn Tenure>) -> Self {
        Term { number, store, tenure }
    }

    /// Comes back when the term is over, or may be: whoever leads ends its work then.
    pub async fn ended(&self) {
        self.tenure.ended().await;
    }

    /// Gives the leadership up, so that the next need not wait.
    ///
    /// # Errors
    /// The store does not answer; then the term ends by itself.
    pub async fn resign(&self) -> Result<(), StoreError> {
        self.tenure.resign().await
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term").field("number", &self.number).finish_non_exhaustive()
    }
}

/// What keeps a term: how a store implements it.
#[async_trait]
pub trait Tenure: Send + Sync {
    /// Comes back when the term is over, or may be.
    async fn ended(&self);
    /// Ends it.
    async fn resign(&self) -> Result<(), StoreError>;
}
