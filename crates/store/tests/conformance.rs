//! One suite for every store: what `Store` promises is written here once, and each implementation runs it all.
//!
//! A new implementation (etcd) adds a [`Fixture`] and one line at the end of this file.

mod suite;

use ashlar_store::MemoryStore;
use suite::Fixture;

struct Memory;

impl Fixture for Memory {
    type Store = MemoryStore;

    fn create() -> Self {
        Self
    }

    fn open(&self) -> MemoryStore {
        MemoryStore::new()
    }
}

suite::conformance!(memory, Memory);
