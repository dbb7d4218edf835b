//! Live migration between lab hosts, with a guest whose disks are its host's own: that it arrives, what is seen of it on the
//! way, and what is left when the way is cut. Needs root, the busybox test image and a C compiler.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "networks/guests.rs"]
#[allow(dead_code, reason = "shared with the tests of networks")]
mod guests;
#[path = "migration/moves.rs"]
mod moves;
mod specs;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ashlar_engine::effects::{EffectErrorKind, HostTarget, Hypervisor, MigrationRoute};
use ashlar_lab::Link;
use ashlar_libvirt::Hosts;
use ashlar_plan::{DomainSpec, DomainState};
use common::{TestLab, wait_for};
use moves::{MOVER, Move, WAIT, ping, remove_disks, short};
use serde_json::json;

const WRITE: &str = "dd if=/www/big of=/dev/sda bs=1024 seek=2048 2>/dev/null; \
                     dd if=/www/big of=/dev/sdb bs=1024 seek=512 2>/dev/null; sync; md5sum </www/big";
const READ: &str = "echo 3 >/proc/sys/vm/drop_caches; \
                    dd if=/dev/sda bs=1024 skip=2048 count=1024 2>/dev/null | md5sum; \
                    dd if=/dev/sdb bs=1024 skip=512 count=1024 2>/dev/null | md5sum";

#[test]
fn a_guest_moves_with_its_disks_and_back() {
    let lab = TestLab::up(3);
    lab.inside(async |hosts| {
        let mut it = Move::new(&lab, &hosts).await;
        let sum = it.order(WRITE).await;
        for (from, to) in [(0, 1), (1, 0)] {
            it.files(to).await;
            let announced = lab.capture(
                2,
                &ashlar_plan::network::names::overlay(
                    it.scene.snapshot.networks["red"].metadata.uid.unwrap(),
                ),
            );
            let stop = AtomicBool::new(false);
            let begin = Instant::now();
            let moved = async {
                // Some answers before and after.
                tokio::time::sleep(Duration::from_secs(2)).await;
                let begin = Instant::now();
                let (result, seen) = it.watched(from, to, Duration::from_secs(300)).await;
                let took = begin.elapsed();
                tokio::time::sleep(Duration::from_secs(3)).await;
                stop.store(true, Ordering::SeqCst);
                (result, seen, took)
            };
            let ((result, seen, took), gaps) = tokio::join!(moved, ping(&it.scene, &hosts, &stop));
            if let Err(error) = result {
                panic!("{error}\nsource: {}\ntarget: {}", it.qemu_log(from), it.qemu_log(to));
            }
            println!(
                "from {from} to {to}: {took:?}; {} of {} pings lost, longest gap {:?} ({:?} in all)",
                gaps.lost,
                gaps.sent,
                gaps.longest,
                begin.elapsed()
            );
            let frames = announced.stop();
            let rarp = frames.lines().filter(|line| line.contains("Reverse ARP")).count();
            println!("  {rarp} announcements");
            assert!(rarp > 0, "QEMU's announcement does not get through:\n{frames}");
            assert!(seen.len() > 1, "{seen:?}");
            assert!(gaps.longest < Duration::from_secs(10), "{:?}", gaps.longest);
            it.assert_at(to, from).await;
            it.scene.guests.get_mut(MOVER).unwrap().host = to;
            assert_eq!(it.order(READ).await, format!("{sum}\n{sum}"));
            // Once more is fine, and moves nothing.
            let before = hosts.counters().all().get("migrate_domain").copied();
            it.migrate(from, to, WAIT).await.unwrap();
            assert_eq!(hosts.counters().all().get("migrate_domain").copied(), before);
            remove_disks(&hosts, &it.places[from], from).await;
        }
        let missing = {
            let mut spec = it.specs[1].clone();
            spec.uuid = uuid::Uuid::new_v4();
            let route = it.route(1, WAIT);
            hosts.migrate_domain(&it.target(0), &it.target(1), &spec, &route).await.unwrap_err()
        };
        assert_eq!(missing.kind, EffectErrorKind::NotFound, "{missing}");
        it.end(0).await;
    });
}

/// A host's target, for another process.
fn told(host: &HostTarget) -> serde_json::Value {
    json!({
        "name": host.name, "uri": host.uri, "key": host.ssh_host_key, "path": host.ssh_key_path,
        "token": host.lease_token, "uuid": host.host_uuid,
    })
}

fn heard(host: &serde_json::Value) -> HostTarget {
    let text = |key: &str| host[key].as_str().unwrap().to_owned();
    HostTarget {
        name: text("name"),
        uri: text("uri"),
        ssh_host_key: text("key"),
        ssh_key_path: Some(text("path")),
        installation: common::INSTALLATION,
        lease_token: host["token"].as_u64(),
        host_uuid: Some(text("uuid").parse().unwrap()),
    }
}

const ORDER: &str = "ASHLAR_TEST_MIGRATION";

/// No test: what another process does, which a test kills.
#[test]
#[ignore = "run by another test"]
fn another_process_migrates() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: serde_json::Value = serde_json::from_str(&order).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = ashlar_libvirt::Settings::new(order["dir"].as_str().unwrap());
    let hosts = Hosts::new(settings).unwrap();
    let spec: DomainSpec = serde_json::from_value(order["spec"].clone()).unwrap();
    let route = MigrationRoute {
        address: order["address"].as_str().unwrap().parse().unwrap(),
        timeout: Duration::from_secs(300),
    };
    let (from, to) = (heard(&order["from"]), heard(&order["to"]));
    let _ = runtime.block_on(hosts.migrate_domain(&from, &to, &spec, &route));
}

/// The other process, killed with the value.
struct Other(std::process::Child);

impl Other {
    /// It is in the control namespace, as whoever starts it.
    fn migrate(it: &Move<'_, '_>, from: usize, to: usize) -> Self {
        let order = json!({
            "dir": it.scene.lab.dir.path().join("other"), "spec": it.specs[to],
            "address": it.route(to, WAIT).address, "from": told(&it.target(from)), "to": told(&it.target(to)),
        });
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "another_process_migrates", "--ignored", "--nocapture"])
            .env(ORDER, order.to_string())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Other(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_cut_in_the_middle_goes_on_at_the_source() {
    let lab = TestLab::up(3);
    lab.inside(async |hosts| {
        let mut it = Move::new(&lab, &hosts).await;
        it.order(WRITE).await;
        it.files(1).await;
        it.throttle(1, Some("8mbit"));

        let begin = Instant::now();
        let (result, _) = it.watched(0, 1, Duration::from_secs(4)).await;
        let error = result.unwrap_err();
        println!("out of time: {:?}: {error}", begin.elapsed());
        assert_eq!(error.kind, EffectErrorKind::Busy, "{error}");
        assert!(error.message.contains("goes on at host h1"), "{error}");
        println!("  source runs, target gone: {:?}", it.assert_stayed(0, 1).await);

        // Whoever asked loses interest.
        let begin = Instant::now();
        let asked = tokio::time::timeout(Duration::from_secs(4), it.migrate(0, 1, WAIT)).await;
        assert!(asked.is_err(), "{asked:?}");
        println!(
            "dropped: {:?}; source runs, target gone: {:?}",
            begin.elapsed(),
            it.assert_stayed(0, 1).await
        );

        // Between the hosts nothing gets through any more.
        let begin = Instant::now();
        let cut = async {
            it.on_its_way(0, 1).await;
            lab.lab.cut_link("h2", Link::Nodes).unwrap();
        };
        let (result, ()) = tokio::join!(it.migrate(0, 1, Duration::from_secs(15)), cut);
        let error = result.unwrap_err();
        println!("link cut: {:?}: {error}", begin.elapsed());
        assert!(error.kind.is_transient(), "{error}");
        println!("  source runs, target gone: {:?}", it.assert_stayed(0, 1).await);
        lab.lab.heal_link("h2", Link::Nodes).unwrap();

        // The process that asked dies.
        let other = Other::migrate(&it, 0, 1);
        it.on_its_way(0, 1).await;
        other.kill();
        println!("killed: source runs, target gone: {:?}", it.assert_stayed(0, 1).await);

        // What all of these have left in the files is written over.
        it.throttle(1, None);
        let sum = it
            .order(&format!("dd if=/dev/urandom of=/www/big bs=1024 count=1024 2>/dev/null; {WRITE}"))
            .await;
        it.move_on(0, 1, WAIT).await.unwrap();
        it.assert_at(1, 0).await;
        it.scene.guests.get_mut(MOVER).unwrap().host = 1;
        assert_eq!(it.order(READ).await, format!("{sum}\n{sum}"));

        // On the way back another Ashlar takes the target over.
        it.throttle(0, Some("8mbit"));
        let taken = async {
            it.on_its_way(1, 0).await;
            let newer = HostTarget { lease_token: Some(2), ..it.target(0) };
            let others = Hosts::new(ashlar_libvirt::Settings::new(lab.dir.path().join("newer"))).unwrap();
            others.observe(&newer).await.unwrap();
        };
        let (result, ()) = tokio::join!(it.migrate(1, 0, WAIT), taken);
        let error = result.unwrap_err();
        println!("taken over: {error}");
        assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
        let late = it.migrate(1, 0, WAIT).await.unwrap_err();
        assert_eq!(late.kind, EffectErrorKind::Fenced, "{late}");
        assert_eq!(it.seen(1).await.unwrap().state, DomainState::Running);
        assert_eq!(it.order(READ).await, format!("{sum}\n{sum}"));
        it.end(1).await;
    });
}

/// The target's libvirtd is deaf in the last moment: it starts what has arrived once nobody expects it any more. With
/// libvirt's own way of migrating the guest would then run at both hosts.
#[test]
fn an_answer_that_is_lost_lets_it_run_once() {
    let lab = TestLab::up(3);
    lab.inside(async |hosts| {
        let it = Move::new(&lab, &hosts).await;
        let uuid = it.specs[0].uuid;
        let daemon = lab.lab.hypervisor_daemon();
        for dies in [false, true] {
            it.files(1).await;
            it.throttle(1, Some("8mbit"));
            let deaf = async {
                it.on_its_way(0, 1).await;
                lab.lab.pause_daemon("h2", daemon).unwrap();
                it.throttle(1, None);
                let script = format!(
                    "virsh qemu-monitor-command {} '{{\"execute\":\"query-status\"}}' 2>/dev/null; true",
                    it.specs[0].name
                );
                wait_for("all has arrived", WAIT, async || {
                    lab.on_host(0, &["sh", "-c", &script]).contains("postmigrate")
                        && it.seen(0).await.is_some_and(|seen| seen.paused_by_migration)
                })
                .await;
            };
            let begin = Instant::now();
            if dies {
                let other = Other::migrate(&it, 0, 1);
                deaf.await;
                other.kill();
            } else {
                let (result, ()) = tokio::join!(it.migrate(0, 1, WAIT), deaf);
                let error = result.unwrap_err();
                println!("no answer: {:?}: {error}", begin.elapsed());
                assert_eq!(error.kind, EffectErrorKind::Unreachable, "{error}");
            }
            let here = it.seen(0).await.unwrap();
            lab.lab.resume_daemon("h2", daemon).unwrap();
            // What it was told before is done now.
            let mut there = None;
            let until = Instant::now() + WAIT;
            while Instant::now() < until {
                if let Ok(seen) = it.hosts.domain(&it.target(1), uuid).await {
                    there = seen;
                    if there.as_ref().is_none_or(|seen| seen.persistent && !seen.paused_by_migration) {
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            println!("dies: {dies}: source {} | target {}", short(Some(&here)), short(there.as_ref()));
            let there_runs = there.as_ref().is_some_and(|seen| seen.state == DomainState::Running);
            assert!(!there_runs, "{there:?}");
            if there.is_some() {
                hosts.destroy_domain(&it.target(1), uuid).await.unwrap();
                hosts.undefine_domain(&it.target(1), uuid).await.unwrap();
            }
            // The guest lost nothing; it may have to be woken.
            let before = it.seen(0).await.unwrap();
            println!("  the source then: {}", short(Some(&before)));
            hosts.resume_domain(&it.target(0), uuid).await.unwrap();
            hosts.resume_domain(&it.target(0), uuid).await.unwrap();
            it.assert_stayed(0, 1).await;
            remove_disks(&hosts, &it.places[1], 1).await;
        }
        it.end(0).await;
    });
}
