//! How often the world was changed, for those who must know that it was not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts of libvirt calls by kind. Calls that change something have a name of their own (`define_domain`); all others
/// are one `read`.
#[derive(Debug, Default)]
pub struct Counters {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

/// The one kind that changes nothing.
pub const READ: &str = "read";

impl Counters {
    pub(crate) fn count(&self, kind: &'static str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// All counts so far.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls so far that changed something.
    pub fn mutating(&self) -> u64 {
        self.all().iter().filter(|(kind, _)| **kind != READ).map(|(_, count)| count).sum()
    }
}
