//! Three daemons (`ashlar serve`) on a store in three real members of etcd, and a real host: one writer at a time.
//!
//! Each daemon and each member has a network namespace of its own beside those of a lab. Daemons are killed, paused (with
//! calls to libvirt under way, too) and cut off, members are killed, paused and cut off; meanwhile there is something to do
//! on the host, namely files to delete. Judged is on the host itself: every connection to its libvirt, and what became
//! of files. Needs root, the programs of a lab, and etcd's binary from the image.
#![expect(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout, reason = "tests")]

#[path = "../cli/harness.rs"]
#[allow(dead_code, reason = "the tests of commands use all of it")]
mod harness;
mod hung;
#[path = "../../../store/tests/etcd/members.rs"]
#[allow(dead_code, reason = "the store's own tests use all of it")]
mod members;
mod network;
mod oracle;
#[path = "../cli/seed.rs"]
#[allow(dead_code, reason = "the tests of commands use all of it")]
mod seed;
mod trials;
mod world;

/// What the fixture of members that run on the loopback device asks for.
const INSIDE: &str = "ASHLAR_TEST_INSIDE";

/// What the fixture of etcd's members needs.
mod suite {
    pub(crate) use futures::executor::block_on as run;
}

/// One of each kind: part of `make test`.
#[test]
#[ignore = "needs a lab and etcd's binary: `cargo xtask ci daemons`"]
fn one_daemon_works_whatever_becomes_of_the_others() {
    trials::run(trials::ORDER.len());
}

/// Some twenty minutes: `cargo test -p ashlar-app --test daemons two_hundred -- --ignored --nocapture`.
#[test]
#[ignore = "takes some twenty minutes"]
fn two_hundred_takeovers() {
    let trials = std::env::var("ASHLAR_TEST_TRIALS").map_or(200, |text| text.parse().unwrap());
    trials::run(trials);
}
