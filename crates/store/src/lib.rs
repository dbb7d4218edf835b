//! Versioned objects for Ashlar: get, list, put-if-version, watch.
//!
//! The store knows nothing of the kinds it holds: an object is a JSON value under a [`Key`]. What it promises
//! is the same for every implementation, and is held by one conformance suite (`tests/store/conformance.rs`):
//!
//! - **One history.** Every [`Transaction`] that changes something gets the next [`Revision`] of the whole
//!   store. All its writes share that revision and become visible together, or not at all.
//! - **Compare and set.** Each write carries a [`Precondition`] on its key; all preconditions of a transaction
//!   are judged against the state before it. One that fails is [`StoreError::Conflict`], and nothing is written.
//! - **Consistent reads.** A [`Listing`] is one snapshot; its revision is where a watch goes on.
//! - **Watches miss nothing.** A [`Watch`] yields every change after a revision, once and in order, or says
//!   [`StoreError::Compacted`]: then list again.
//! - **Durability** (SQLite, etcd). When `commit` returns, the change survives a power cut.
//!
//! Implementations: [`MemoryStore`] (tests, simulation; needs no async runtime and is deterministic), [`SqliteStore`]
//! (the default: one file, any number of readers in other processes), and with the feature `etcd` `EtcdStore` (members
//! that agree, for several daemons). None of them needs a particular async runtime. [`EngineLock`] keeps two engines from
//! working on one state directory; among processes that share a store an [`Election`] says who works.

mod election;
mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod key;
mod lock;
mod memory;
mod model;
mod moving;
mod raw;
mod sqlite;
mod store;
mod watch;

pub use election::{Candidate, Election, Leader, Role, Tenure, Term};
pub use error::{Cause, StoreError};
#[cfg(feature = "etcd")]
pub use etcd::{
    EtcdElection, EtcdOptions, EtcdStore, EtcdTerm, Letter, Posted, RecordState, Recorded, StoreRecord,
};
pub use key::Key;
pub use lock::{EngineLock, LockError};
pub use memory::MemoryStore;
pub use model::{Listing, Precondition, Revision, Stored, Transaction, Write};
pub use moving::{Digest, copy_into};
pub use raw::{RawChange, RawChanges, RawListing, RawStored, RawValue};
pub use sqlite::{Restored, Row, SqliteOptions, SqliteStore};
pub use store::Store;
pub use watch::{Batch, Change, ChangeSource, Watch};

/// The most operations that one [`Transaction`] may hold. etcd's default limit is 128; the rest is room for
/// what an etcd implementation adds by itself.
pub const MAX_OPERATIONS: usize = 100;

/// How many revisions of change history are kept for watches when nobody calls [`Store::compact`].
///
/// A reader that falls further behind than this is told [`StoreError::Compacted`] and lists again.
pub const DEFAULT_RETAINED_REVISIONS: u64 = 10_000;
