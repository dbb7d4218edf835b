//! What can go wrong in a store.

use std::{error::Error, path::PathBuf, sync::Arc};

use crate::{Key, Revision};

/// The underlying error. Shared, because one failed write to disk fails every commit that waited for it.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// What can go wrong in a store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A precondition did not hold; nothing was written. Read again and decide again.
    #[error("{key} {}", describe_conflict(*found))]
    Conflict {
        /// The first key whose precondition failed.
        key: Key,
        /// The revision of its last change, or `None` if there is no such object.
        found: Option<Revision>,
    },
    /// The transaction has more operations than every store can take.
    #[error("a transaction of {count} operations is more than the limit of {limit}")]
    TooManyWrites {
        /// Operations in the transaction.
        count: usize,
        /// The limit, [`crate::MAX_OPERATIONS`].
        limit: usize,
    },
    /// A transaction puts or deletes the same key twice.
    #[error("a transaction writes {key} twice")]
    DuplicateKey {
        /// The key.
        key: Key,
    },
    /// A key that no store can hold.
    #[error("{key} cannot name an object: {reason}")]
    InvalidKey {
        /// The key.
        key: Key,
        /// Why.
        reason: String,
    },
    /// The history that a watch asked for is gone (HTTP 410). List, then watch from the listing's revision.
    #[error(
        "the changes asked for are no longer kept (the oldest revision to watch from is {oldest}); list again"
    )]
    Compacted {
        /// The oldest revision that a watch can still start from.
        oldest: Revision,
    },
    /// A watch asked for a revision that this store has not reached: it is another store, or an older copy.
    #[error(
        "revision {requested} is ahead of this store, which is at {newest}; it may have been restored from an older copy; list again"
    )]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The store's newest revision.
        newest: Revision,
    },
    /// No space left; nothing was written, and what was written before is intact.
    #[error("no space left to write the store {}; free some space on its file system and repeat", path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: Cause,
    },
    /// The store was opened read-only, or its file system does not allow writing.
    #[error("the store {} cannot be written: it is read-only", path.display())]
    ReadOnly {
        /// The store's file.
        path: PathBuf,
        /// The underlying error, if the operating system refused.
        #[source]
        source: Option<Cause>,
    },
    /// The operating system denied access.
    #[error("no permission to use the store {}; run as the user that owns it", path.display())]
    Permission {
        /// The store's file.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: Cause,
    },
    /// There is no store yet.
    #[error("there is no store at {}", path.display())]
    Missing {
        /// Where one was expected.
        path: PathBuf,
    },
    /// The store's format is newer than this program.
    #[error(
        "the store {} was written by a newer Ashlar (format {found}; this one knows up to {supported}); use that version",
        path.display()
    )]
    NewerFormat {
        /// The store's file.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this program knows.
        supported: u32,
    },
    /// The store's format is older than this program and it was opened read-only, so it cannot be brought up.
    #[error(
        "the store {} has the older format {found}; run a command that changes something once, which brings it to format {supported}",
        path.display()
    )]
    OlderFormat {
        /// The store's file.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format that this program works with.
        supported: u32,
    },
    /// The store's content is damaged, or is not a store. It is never repaired or recreated by itself.
    #[error("the store {} is damaged: {detail}; it was left as it is: restore it from a copy", path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
        /// The underlying error, if there is one.
        #[source]
        source: Option<Cause>,
    },
    /// The store's objects went elsewhere; it was left as it was.
    #[error("the store {place} is no longer in use: {detail}")]
    Moved {
        /// Which.
        place: String,
        /// What became of it, and what to do.
        detail: String,
    },
    /// Another process leads by now. Nothing was written.
    #[error(
        "another process may work on the store by now: this one no longer leads, and nothing was written"
    )]
    Deposed,
    /// A daemon of this name is there already.
    #[error("a daemon called {name} is there already: {by}")]
    NameTaken {
        /// The name.
        name: String,
        /// What it says of itself.
        by: String,
    },
    /// The store cannot answer now (locked too long, input/output error, closed). The outcome of a commit that
    /// ends so is unknown: read before repeating it.
    #[error("the store cannot be used now: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
        /// The underlying error, if there is one.
        #[source]
        source: Option<Cause>,
    },
}

impl StoreError {
    /// An [`StoreError::Unavailable`] without an underlying error.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }

    /// Whether reading again and deciding again is the right answer.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

fn describe_conflict(found: Option<Revision>) -> String {
    match found {
        Some(revision) => format!("was changed by someone else (it is now at revision {revision})"),
        None => "does not exist any more".to_owned(),
    }
}
