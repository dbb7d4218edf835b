//! The record of who changed what, and why: append-only, one line a deed, chained by digests.
//!
//! A deed that cannot be recorded is not done. What is about to be done is recorded before it is done, and its outcome
//! after: a crash in between leaves a beginning without an end, never an end without a beginning.
//!
//! A record that ends before where it ended, as a sealed note or the memory of a process has it, or of which nobody can say how
//! long it was, is not gone on with ([`Doubt`]) until a person has looked ([`accept`]).

mod accept;
mod doubt;
mod end;
mod file;
mod line;
mod verify;

pub use accept::{accept, doubt};
pub use doubt::Doubt;
pub use file::{AuditFile, Author};
pub use line::{Deed, Line};
pub use verify::{Broken, Verified, lines, verify};

use jiff::Timestamp;

/// Whoever keeps the record.
pub trait AuditLog: Send + Sync {
    /// Appends one line. It is in the hands of the operating system when this returns; before a commit and at the
    /// end of a run it is on the disk.
    ///
    /// # Errors
    /// It could not be written.
    fn record(&self, time: Timestamp, deed: &Deed) -> Result<(), AuditError>;
}

/// Nobody keeps one: tests, and commands that change nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAudit;

impl AuditLog for NoAudit {
    fn record(&self, _: Timestamp, _: &Deed) -> Result<(), AuditError> {
        Ok(())
    }
}

/// The record could not be kept. Display says which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {doing} the audit log {path}; nothing is done that cannot be recorded: make room there, or repair it"
)]
pub struct AuditError {
    /// Which word: read, write, lock.
    pub doing: &'static str,
    /// The file.
    pub path: String,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

#[cfg(test)]
mod tests;
