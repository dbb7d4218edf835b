//! The suite that every store passes, each test with an etcd of its own.

use ashlar_store::EtcdStore;

use crate::members::{Cluster, Fsync};
use crate::suite::{self, Fixture};

struct Etcd(Cluster);

impl Fixture for Etcd {
    type Store = EtcdStore;

    fn create() -> Self {
        Self(Cluster::start(1, Fsync::Off))
    }

    fn open(&self) -> EtcdStore {
        self.0.store()
    }
}

suite::conformance!(etcd, Etcd, #[ignore = "run inside a namespace by etcd_keeps_its_promises"]);
