//! The store in etcd: the conformance suite on real members, and what three of them survive.
//!
//! All of it runs in a network namespace of its own, which `etcd_keeps_its_promises` makes; the tests inside are marked
//! as ignored so that nothing else runs them. The binary is the one that `ashlar image build` left in its cache, or
//! `etcd` in the directory that `ASHLAR_ETCD_DIR` names. Without it the test says so and proves nothing.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod conformance;
mod election;
mod members;
mod moving;
#[path = "../store/suite/mod.rs"]
mod suite;
mod terms;
mod three;

use std::process::Command;

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "ASHLAR_TEST_INSIDE";

#[test]
fn etcd_keeps_its_promises() {
    inside(&["--test-threads", "4", "--skip", "election::", "--skip", "two_hundred"], &[]);
    // Alone: times are measured.
    inside(&["election::one_leads"], &[]);
}

/// Ten minutes and more: `cargo test --workspace --test etcd two_hundred -- --ignored --nocapture`.
#[test]
#[ignore = "takes some twenty minutes"]
fn two_hundred_elections() {
    inside(&["--nocapture", "election::one_leads"], &[("ASHLAR_TEST_TRIALS", "200")]);
}

/// Runs ignored tests in a network namespace of their own.
fn inside(args: &[&str], env: &[(&str, &str)]) {
    if members::binary().is_none() {
        eprintln!("SKIPPED: no etcd binary; `ashlar image build` makes one, or set ASHLAR_ETCD_DIR");
        return;
    }
    let status = Command::new("unshare")
        .args(["--net", "--map-root-user", "--", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .arg("--ignored")
        .args(args)
        .args(std::env::args().skip(1).filter(|word| word == "--nocapture"))
        .env(INSIDE, "1")
        .envs(env.iter().copied())
        .status()
        .expect("unshare runs");
    assert!(status.success(), "inside its namespace a test failed");
}
