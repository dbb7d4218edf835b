//! Watching changes.
//!
//! A store gives batches ([`ChangeSource`]); [`Watch`] hands them out one by one and knows where to resume.

use std::{collections::VecDeque, fmt};

use async_trait::async_trait;
use serde_json::Value;

use crate::{Key, Revision, StoreError};

/// One object changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The revision of the transaction. Several changes share it if the transaction had several writes.
    pub revision: Revision,
    /// The object.
    pub key: Key,
    /// Its new value, or `None` if it was deleted.
    pub value: Option<Value>,
}

/// Changes in order, holding every transaction up to `complete_to` whole.
#[derive(Debug)]
pub struct Batch {
    /// The changes that the watch asked for. May be empty when only other kinds changed.
    pub changes: Vec<Change>,
    /// Nothing up to and including this revision is missing.
    pub complete_to: Revision,
}

/// Where a [`Watch`] gets its changes: what a store implements.
#[async_trait]
pub trait ChangeSource: Send {
    /// Waits until the store has moved past `after`, then returns changes from there on. Must be safe to drop
    /// at any await: the next call starts from the `after` that it is given.
    ///
    /// # Errors
    /// [`StoreError::Compacted`]; the store cannot be read.
    async fn next_batch(&mut self, after: Revision) -> Result<Batch, StoreError>;
}

/// Yields every change after a revision, once and in order.
pub struct Watch {
    source: Box<dyn ChangeSource>,
    pending: VecDeque<Change>,
    /// Read from the source up to here.
    read_to: Revision,
    /// Handed out, whole transactions only, up to here.
    resume_from: Revision,
}

impl Watch {
    /// A watch of what `source` gives after `from`.
    pub fn new(source: Box<dyn ChangeSource>, from: Revision) -> Self {
        Self { source, pending: VecDeque::new(), read_to: from, resume_from: from }
    }

    /// Waits for the next change. The future may be dropped; no change is lost by that.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] if this watch fell so far behind that changes are lost; the store cannot be
    /// read. After an error the watch may be asked again; it goes on where it was.
    pub async fn next(&mut self) -> Result<Change, StoreError> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                self.resume_from = match self.pending.front() {
                    // The rest of this transaction is still to come: resuming must repeat all of it.
                    Some(next) if next.revision == change.revision => self.resume_from,
                    Some(_) => change.revision,
                    None => self.read_to,
                };
                return Ok(change);
            }
            let batch = self.source.next_batch(self.read_to).await?;
            self.read_to = batch.complete_to;
            if batch.changes.is_empty() {
                self.resume_from = batch.complete_to;
            }
            self.pending = batch.changes.into();
        }
    }

    /// Where a new watch must start in order to go on after this one. In the middle of a transaction this is
    /// before it, so that its changes are seen again rather than lost.
    pub fn resume_from(&self) -> Revision {
        self.resume_from
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("pending", &self.pending.len())
            .field("read_to", &self.read_to)
            .field("resume_from", &self.resume_from)
            .finish_non_exhaustive()
    }
}

/// How many changes a batch holds at most, apart from finishing its last transaction.
pub(crate) const BATCH_CHANGES: usize = 256;
