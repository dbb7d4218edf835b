//! The built binary, run as a person runs it: whole stdout, stderr and exit code, with times and ids filtered.
//!
//! `INSTA_UPDATE=always cargo test -p ashlar-app --test cli` rewrites the snapshots.

mod audit;
mod clusters;
mod drain;
mod errors;
mod etcd;
mod etcd_snapshots;
mod fence;
mod harness;
mod help;
mod hosts;
mod images;
mod interrupt;
#[path = "../../../store/tests/etcd/members.rs"]
#[allow(dead_code, reason = "the store's own tests use all of it")]
mod members;
mod objects;
mod rotate_kubeconfig;
mod sealed;
mod secrets;
mod seed;
mod serve;
mod stores;
mod support;

/// Set in the process that runs in a network namespace of its own.
const INSIDE: &str = "ASHLAR_TEST_INSIDE";

/// What the fixture of etcd's members needs.
mod suite {
    pub(crate) use futures::executor::block_on as run;
}
