//! Live migration between lab hosts, with a guest whose disks are its host's own: that it arrives, what is seen of it on the
//! way, and what is left when the way is cut. Needs root, the busybox test image and a C compiler.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "networks/guests.rs"]
#[allow(dead_code, reason = "shared with the tests of networks")]
mod guests;
mod specs;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ashlar_api::VolumeFormat;
use ashlar_engine::contract::Place;
use ashlar_engine::effects::{
    EffectErrorKind, HostNetworks, HostTarget, Hypervisor, MigrationRoute, VolumeCreate,
};
use ashlar_lab::Link;
use ashlar_libvirt::Hosts;
use ashlar_plan::domain::DomainDisk;
use ashlar_plan::{DomainSeen, DomainSpec, DomainState};
use common::{TestLab, wait_for};
use guests::Scene;
use serde_json::json;

const WAIT: Duration = Duration::from_secs(60);
const MOVER: &str = "mover";
/// It stays, on the third host, and asks the mover whether it is there.
const WATCH: &str = "watch";
const ROOT_BYTES: u64 = 64 << 20;
const ETCD_BYTES: u64 = 16 << 20;

/// What is at both hosts at one moment.
type Combination = (String, String);

fn short(seen: Option<&DomainSeen>) -> String {
    let Some(seen) = seen else { return "absent".to_owned() };
    let kept = if seen.persistent { "persistent" } else { "transient" };
    let by = if seen.paused_by_migration { ", by migration" } else { "" };
    format!("{:?}{by}, {kept}", seen.state)
}

/// Files of the mover on a host. Their names differ from host to host, as ours do.
async fn make_disks(hosts: &Hosts, place: &Place<'_>, host: usize, backing: &str) -> Vec<DomainDisk> {
    let (root, etcd) = (format!("mover-root-{host}.qcow2"), format!("mover-etcd-{host}.raw"));
    let overlay = VolumeCreate {
        format: VolumeFormat::Qcow2,
        capacity_bytes: ROOT_BYTES,
        backing_path: Some(backing.to_owned()),
        ..place.volume(&root)
    };
    hosts.create_volume(&place.host, &overlay).await.unwrap();
    let raw = VolumeCreate { capacity_bytes: ETCD_BYTES, ..place.volume(&etcd) };
    hosts.create_volume(&place.host, &raw).await.unwrap();
    disks(place, host, backing)
}

fn disks(place: &Place<'_>, host: usize, backing: &str) -> Vec<DomainDisk> {
    vec![
        DomainDisk {
            path: format!("{}/mover-root-{host}.qcow2", place.pool_path),
            format: VolumeFormat::Qcow2,
            serial: "root".to_owned(),
            backing_path: Some(backing.to_owned()),
        },
        DomainDisk {
            path: format!("{}/mover-etcd-{host}.raw", place.pool_path),
            format: VolumeFormat::Raw,
            serial: "etcd".to_owned(),
            backing_path: None,
        },
    ]
}

async fn remove_disks(hosts: &Hosts, place: &Place<'_>, host: usize) {
    for file in [format!("mover-root-{host}.qcow2"), format!("mover-etcd-{host}.raw")] {
        hosts.delete_volume(&place.host, place.pool, &file).await.unwrap();
    }
}

/// Three hosts, of which two are the mover's.
struct Move<'l, 'h> {
    scene: Scene<'l>,
    hosts: &'h Hosts,
    places: Vec<Place<'h>>,
    specs: Vec<DomainSpec>,
}

impl<'l, 'h> Move<'l, 'h> {
    async fn new(lab: &'l TestLab, hosts: &'h Hosts) -> Self {
        let network = json!({
            "attachment": {"vxlan": {"vni": 4711}}, "cidrs": ["10.30.0.0/24"], "gateway": "10.30.0.1",
            "ranges": [{"first": "10.30.0.10", "last": "10.30.0.99"}],
        });
        let mut scene = Scene::new(lab, &[("red", network)]);
        scene.add(MOVER, 0, "red", "red", "10.30.0.11");
        scene.add(WATCH, 2, "red", "red", "10.30.0.12");
        // The filter of the mover's tap is on both hosts: while it moves, the store names both.
        let mut there =
            scene.snapshot.machines.values().find(|it| it.metadata.name == MOVER).unwrap().clone();
        there.metadata.name = "mover-there".to_owned();
        there.spec.host = lab.description.hosts[1].name.clone();
        scene.snapshot.machines.insert(there.key(), there);
        for host in 0..3 {
            hosts.apply_network(&scene.target(host), &scene.desired("red", host)).await.unwrap();
        }
        let mut places = Vec::new();
        for host in 0..3 {
            places.push(scene.place(hosts, host).await);
        }
        // The same image, under another path on each.
        let mut specs = Vec::new();
        for (host, place) in places.iter().enumerate().take(2) {
            let image = format!("image-{host}.qcow2");
            let volume = VolumeCreate {
                format: VolumeFormat::Qcow2,
                capacity_bytes: ROOT_BYTES,
                ..place.volume(&image)
            };
            hosts.create_volume(&place.host, &volume).await.unwrap();
            let backing = format!("{}/{image}", place.pool_path);
            let mut spec = scene.spec(place, &scene.guests[MOVER]);
            spec.disks = disks(place, host, &backing);
            spec.mark.generation = host as u64 + 1;
            specs.push(spec);
        }
        let this = Move { scene, hosts, places, specs };
        this.files(0).await;
        hosts.define_domain(&this.places[0].host, &this.specs[0]).await.unwrap();
        hosts.start_domain(&this.places[0].host, this.specs[0].uuid).await.unwrap();
        let watch = this.scene.spec(&this.places[2], &this.scene.guests[WATCH]);
        hosts.define_domain(&this.places[2].host, &watch).await.unwrap();
        hosts.start_domain(&this.places[2].host, watch.uuid).await.unwrap();
        this.scene.ready(hosts).await;
        let modules = "for module in /modules/*.ko; do insmod $module 2>/dev/null; done; \
                       n=0; until [ -b /dev/sdb ] || [ $n -ge 100 ]; do n=$((n + 1)); usleep 100000; done; echo ok";
        assert_eq!(this.order(modules).await, "ok");
        this
    }

    /// Makes the files at a host.
    async fn files(&self, host: usize) {
        let backing = self.specs[host].disks[0].backing_path.clone().unwrap();
        make_disks(self.hosts, &self.places[host], host, &backing).await;
    }

    fn target(&self, host: usize) -> HostTarget {
        self.places[host].host.clone()
    }

    fn route(&self, to: usize, timeout: Duration) -> MigrationRoute {
        MigrationRoute { address: self.scene.lab.description.hosts[to].node_address, timeout }
    }

    async fn order(&self, script: &str) -> String {
        self.scene.order(self.hosts, MOVER, script).await
    }

    async fn migrate(
        &self,
        from: usize,
        to: usize,
        timeout: Duration,
    ) -> Result<(), ashlar_engine::effects::EffectError> {
        let (here, there) = (self.target(from), self.target(to));
        self.hosts.migrate_domain(&here, &there, &self.specs[to], &self.route(to, timeout)).await
    }

    /// As the engine does it: once the source is seen without it, it goes on at the target.
    async fn move_on(
        &self,
        from: usize,
        to: usize,
        timeout: Duration,
    ) -> Result<(), ashlar_engine::effects::EffectError> {
        self.migrate(from, to, timeout).await?;
        assert_eq!(self.seen(from).await, None);
        let there = self.seen(to).await.unwrap();
        assert_eq!(short(Some(&there)), "Paused, persistent");
        self.hosts.resume_domain(&self.target(to), self.specs[0].uuid).await
    }

    async fn seen(&self, host: usize) -> Option<DomainSeen> {
        self.hosts.domain(&self.target(host), self.specs[0].uuid).await.unwrap()
    }

    /// Looks at both hosts until told to stop, the way passes do and one by one.
    async fn watch(&self, from: usize, to: usize, done: &AtomicBool) -> BTreeMap<Combination, u32> {
        let mut combinations = BTreeMap::new();
        let uuid = self.specs[0].uuid;
        while !done.load(Ordering::SeqCst) {
            // The target first: what is seen to run there was not seen to run at the source after it.
            let there = self.hosts.observe(&self.target(to)).await.unwrap();
            let here = self.hosts.observe(&self.target(from)).await.unwrap();
            let (here, there) = (here.domains.get(&uuid), there.domains.get(&uuid));
            let runs = |seen: Option<&DomainSeen>| seen.is_some_and(|it| it.state == DomainState::Running);
            assert!(!(runs(here) && runs(there)), "it runs twice: {here:?}, {there:?}");
            for seen in [here, there].into_iter().flatten() {
                assert!(seen.mark.is_some(), "{seen:?}");
            }
            *combinations.entry((short(here), short(there))).or_insert(0) += 1;
        }
        combinations
    }

    /// Migrates, and tells what was seen in the meantime.
    async fn watched(
        &self,
        from: usize,
        to: usize,
        timeout: Duration,
    ) -> (Result<(), ashlar_engine::effects::EffectError>, BTreeMap<Combination, u32>) {
        let done = AtomicBool::new(false);
        let migrate = async {
            let result = self.move_on(from, to, timeout).await;
            done.store(true, Ordering::SeqCst);
            result
        };
        let (result, seen) = tokio::join!(migrate, self.watch(from, to, &done));
        for ((here, there), count) in &seen {
            println!("  source {here} | target {there}: {count} times");
        }
        (result, seen)
    }

    /// As slow as that to the host, or as fast as it can.
    fn throttle(&self, host: usize, rate: Option<&str>) {
        let port = format!("n-{}", self.scene.lab.description.hosts[host].name);
        let argv = match rate {
            Some(rate) => {
                format!("tc qdisc replace dev {port} root tbf rate {rate} burst 64kbit latency 400ms")
            }
            None => format!("tc qdisc del dev {port} root"),
        };
        let argv: Vec<&str> = argv.split(' ').collect();
        let output = self.scene.lab.lab.output(&ashlar_lab::Place::Switch, &argv, WAIT).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until it is under way.
    async fn under_way(&self, to: usize) {
        wait_for("the domain begins to arrive", WAIT, async || {
            self.seen(to).await.is_some_and(|seen| seen.paused_by_migration)
        })
        .await;
    }

    /// Waits until something of it was sent.
    async fn on_its_way(&self, from: usize, to: usize) {
        self.under_way(to).await;
        let script = format!("virsh domjobinfo {} 2>/dev/null; true", self.specs[0].name);
        wait_for("something is sent", WAIT, async || {
            let said = self.scene.lab.on_host(from, &["sh", "-c", &script]);
            said.lines().any(|line| line.starts_with("Data processed:") && !line.contains(" 0.000 B"))
        })
        .await;
    }

    /// It goes on at the source, with all that it had, and nothing is left at the target.
    async fn assert_stayed(&self, from: usize, to: usize) -> (Duration, Duration) {
        let begin = Instant::now();
        wait_for("it goes on at the source", WAIT, async || {
            self.seen(from).await.is_some_and(|seen| seen.state == DomainState::Running)
        })
        .await;
        let runs = begin.elapsed();
        wait_for("nothing is left at the target", WAIT, async || self.seen(to).await.is_none()).await;
        let gone = begin.elapsed();
        self.assert_at(from, to).await;
        assert_eq!(self.order("echo alive").await, "alive");
        (runs, gone)
    }

    /// What QEMU said on a host, for a failure.
    fn qemu_log(&self, host: usize) -> String {
        let script = format!("tail -n 12 /var/log/libvirt/qemu/{}.log | cut -c1-600", self.specs[0].name);
        self.scene
            .lab
            .on_host(host, &["sh", "-c", &format!("{script}; tail -n 12 /var/log/libvirt/libvirtd.log")])
    }

    /// It is at the one host as it should be, and nothing of it at the other.
    async fn assert_at(&self, host: usize, other: usize) {
        let seen = self.seen(host).await.unwrap();
        let spec = &self.specs[host];
        assert_eq!(seen.state, DomainState::Running, "{seen:?}");
        assert!(seen.persistent && !seen.paused_by_migration, "{seen:?}");
        assert_eq!(seen.mark.as_ref(), Some(&spec.mark));
        assert_eq!(seen.disk_paths, spec.disks.iter().map(|disk| disk.path.clone()).collect());
        assert_eq!(self.seen(other).await, None);
        let world = self.hosts.observe(&self.target(host)).await.unwrap();
        assert_eq!(world.domains.get(&spec.uuid), Some(&seen));
        // What runs and what is defined name the files and the kernel of this host only.
        let names = [format!("mover-root-{other}"), format!("mover-etcd-{other}"), format!("image-{other}")];
        for flag in ["--live", "--inactive"] {
            let flags = if flag == "--live" { vec![] } else { vec![flag] };
            let xml = self.scene.lab.on_host(host, &[&["virsh", "dumpxml", &spec.name][..], &flags].concat());
            assert!(!names.iter().any(|name| xml.contains(name)), "{flag}: {xml}");
            assert!(xml.contains(&format!("image-{host}.qcow2")), "{flag}: {xml}");
        }
    }

    async fn end(mut self, host: usize) {
        self.scene.guests.get_mut(MOVER).unwrap().host = host;
        self.scene.end(self.hosts).await;
    }
}

/// Times at which the mover answered, a second apart at least where it did not.
struct Gaps {
    longest: Duration,
    sent: u64,
    lost: u64,
}

/// Ten pings a second from the watch, numbered, until told to stop; what was lost, and the longest time without an answer.
async fn ping(scene: &Scene<'_>, hosts: &Hosts, stop: &AtomicBool) -> Gaps {
    let begin = "rm -f /ping; (ping -i 0.1 10.30.0.11 >/ping 2>&1 & echo $! >/ping.pid) ; echo begun";
    assert_eq!(scene.order(hosts, WATCH, begin).await, "begun");
    while !stop.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let said = scene.order(hosts, WATCH, "kill -INT $(cat /ping.pid); usleep 300000; cat /ping").await;
    let numbers: Vec<u64> = said
        .lines()
        .filter_map(|line| line.split("seq=").nth(1)?.split_whitespace().next()?.parse().ok())
        .collect();
    let last = *numbers.iter().max().unwrap();
    let mut got: Vec<u64> = numbers.clone();
    got.sort_unstable();
    got.dedup();
    let sent = last + 1;
    let gap = got.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(1);
    // One that came late was not lost: it says how long it took.
    let slowest = said
        .lines()
        .filter_map(|line| line.split("time=").nth(1)?.split_whitespace().next()?.parse::<f64>().ok())
        .fold(0.0, f64::max);
    let longest = Duration::from_millis(gap * 100).max(Duration::from_secs_f64(slowest / 1000.0));
    Gaps { longest, sent, lost: sent - got.len() as u64 }
}

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
