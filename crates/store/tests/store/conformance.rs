//! One suite for every store: what `Store` promises is written here once, and each implementation runs it all.
//!
//! A new implementation (etcd) adds a [`Fixture`] and one line at the end of this file.

use crate::suite::{self, Fixture};
use ashlar_store::{MemoryStore, SqliteStore};

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

struct Sqlite(tempfile::TempDir);

impl Fixture for Sqlite {
    type Store = SqliteStore;

    fn create() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.0.path().join("store.db")).expect("a new store")
    }
}

suite::conformance!(memory, Memory);
suite::conformance!(sqlite, Sqlite);
