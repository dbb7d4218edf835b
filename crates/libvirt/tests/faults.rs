//! Hosts that break: cut links, killed and hung daemons. Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use ashlar_engine::effects::{EffectError, EffectErrorKind, Hypervisor};
use ashlar_lab::{Daemon, Link};
use ashlar_libvirt::{Hosts, Settings};
use common::TestLab;

/// Deadlines of a test: long enough for a busy machine.
fn settings(lab: &TestLab) -> Settings {
    Settings {
        connect_timeout: Duration::from_secs(8),
        call_timeout: Duration::from_secs(5),
        max_backoff: Duration::from_secs(2),
        ..lab.settings()
    }
}

/// Asks until there is an answer.
async fn until_it_answers(hosts: &Hosts, lab: &TestLab, index: usize) {
    let begin = Instant::now();
    loop {
        match hosts.observe(&lab.target(index, 1)).await {
            Ok(_) => break,
            Err(error) => {
                assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
                assert!(begin.elapsed() < Duration::from_secs(60), "{error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    println!("answers again after {:?}", begin.elapsed());
}

async fn unreachable(hosts: &Hosts, lab: &TestLab) -> EffectError {
    let error = hosts.observe(&lab.target(0, 1)).await.unwrap_err();
    assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
    assert!(error.message.contains("h1"), "{error}");
    error
}

#[test]
fn a_host_whose_cable_is_cut_is_unreachable_and_comes_back() {
    let lab = TestLab::up(2);
    lab.inside_with(settings(&lab), async |hosts| {
        hosts.observe(&lab.target(0, 1)).await.unwrap();
        hosts.observe(&lab.target(1, 1)).await.unwrap();
        lab.lab.cut_link("h1", Link::Management).unwrap();
        let begin = Instant::now();
        let error = unreachable(&hosts, &lab).await;
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}: {error}", begin.elapsed());
        // While it is left alone the answer is there at once, and the other host is not held up.
        let begin = Instant::now();
        unreachable(&hosts, &lab).await;
        hosts.observe(&lab.target(1, 1)).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        lab.lab.heal_link("h1", Link::Management).unwrap();
        until_it_answers(&hosts, &lab, 0).await;
    });
}

#[test]
fn a_host_that_was_never_there_is_unreachable_within_the_deadline() {
    let lab = TestLab::up(1);
    lab.lab.cut_link("h1", Link::Management).unwrap();
    lab.inside_with(settings(&lab), async |hosts| {
        let begin = Instant::now();
        let error = unreachable(&hosts, &lab).await;
        assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
        assert!(error.message.contains("10.77.0.11"), "{error}");
    });
}

#[test]
fn a_killed_libvirt_is_named_and_its_successor_is_found() {
    let lab = TestLab::up(1);
    lab.inside_with(settings(&lab), async |hosts| {
        hosts.observe(&lab.target(0, 1)).await.unwrap();
        let daemon = lab.lab.hypervisor_daemon();
        lab.lab.kill_daemon("h1", daemon).unwrap();
        let mut error = unreachable(&hosts, &lab).await;
        let begin = Instant::now();
        while !error.message.contains("libvirt does not run there") {
            assert!(begin.elapsed() < Duration::from_secs(20), "{error}");
            tokio::time::sleep(Duration::from_millis(300)).await;
            error = unreachable(&hosts, &lab).await;
        }
        lab.lab.start_daemon("h1", daemon).unwrap();
        until_it_answers(&hosts, &lab, 0).await;
    });
}

#[test]
fn a_hung_libvirt_costs_a_deadline_and_holds_nobody_else_up() {
    let lab = TestLab::up(2);
    lab.inside_with(settings(&lab), async |hosts| {
        hosts.observe(&lab.target(0, 1)).await.unwrap();
        hosts.observe(&lab.target(1, 1)).await.unwrap();
        let daemon: Daemon = lab.lab.hypervisor_daemon();
        lab.lab.pause_daemon("h1", daemon).unwrap();
        let begin = Instant::now();
        let (first, target) = (lab.target(0, 1), lab.target(1, 1));
        let (hung, slowest) = tokio::join!(hosts.observe(&first), async {
            let mut slowest = Duration::ZERO;
            for _ in 0..10 {
                let begin = Instant::now();
                hosts.observe(&target).await.unwrap();
                slowest = slowest.max(begin.elapsed());
            }
            slowest
        });
        let hung = hung.unwrap_err();
        assert_eq!(hung.kind, EffectErrorKind::Unreachable, "{hung}");
        assert!(hung.message.contains("no answer from host h1 within 5 s"), "{hung}");
        let waited = begin.elapsed();
        assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(9), "{waited:?}");
        assert!(slowest < Duration::from_secs(3), "the other host took {slowest:?}");
        // A new connection to a daemon that hangs is given up in the same way.
        tokio::time::sleep(Duration::from_secs(1)).await;
        unreachable(&hosts, &lab).await;
        lab.lab.resume_daemon("h1", daemon).unwrap();
        until_it_answers(&hosts, &lab, 0).await;
    });
}

#[test]
fn a_host_that_lost_its_power_comes_back() {
    let lab = TestLab::up(1);
    lab.inside_with(settings(&lab), async |hosts| {
        hosts.observe(&lab.target(0, 1)).await.unwrap();
        lab.lab.power_off("h1").unwrap();
        unreachable(&hosts, &lab).await;
        lab.lab.power_on("h1").unwrap();
        until_it_answers(&hosts, &lab, 0).await;
    });
}
