//! A guest that moves between two hosts, with its disks, and what is seen of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ashlar_api::VolumeFormat;
use ashlar_engine::contract::Place;
use ashlar_engine::effects::{
    EffectError, HostNetworks, HostTarget, Hypervisor, MigrationRoute, VolumeCreate,
};
use ashlar_libvirt::Hosts;
use ashlar_plan::domain::DomainDisk;
use ashlar_plan::{DomainSeen, DomainSpec, DomainState};
use serde_json::json;

use crate::common::{TestLab, wait_for};
use crate::guests::Scene;

pub(crate) const WAIT: Duration = Duration::from_secs(60);
pub(crate) const MOVER: &str = "mover";
/// It stays, on the third host, and asks the mover whether it is there.
pub(crate) const WATCH: &str = "watch";
pub(crate) const ROOT_BYTES: u64 = 64 << 20;
pub(crate) const ETCD_BYTES: u64 = 16 << 20;

/// What is at both hosts at one moment.
pub(crate) type Combination = (String, String);

pub(crate) fn short(seen: Option<&DomainSeen>) -> String {
    let Some(seen) = seen else { return "absent".to_owned() };
    let kept = if seen.persistent { "persistent" } else { "transient" };
    let by = if seen.paused_by_migration { ", by migration" } else { "" };
    format!("{:?}{by}, {kept}", seen.state)
}

/// Files of the mover on a host. Their names differ from host to host, as ours do.
pub(crate) async fn make_disks(
    hosts: &Hosts,
    place: &Place<'_>,
    host: usize,
    backing: &str,
) -> Vec<DomainDisk> {
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

pub(crate) fn disks(place: &Place<'_>, host: usize, backing: &str) -> Vec<DomainDisk> {
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

pub(crate) async fn remove_disks(hosts: &Hosts, place: &Place<'_>, host: usize) {
    for file in [format!("mover-root-{host}.qcow2"), format!("mover-etcd-{host}.raw")] {
        hosts.delete_volume(&place.host, place.pool, &file).await.unwrap();
    }
}

/// Three hosts, of which two are the mover's.
pub(crate) struct Move<'l, 'h> {
    pub(crate) scene: Scene<'l>,
    pub(crate) hosts: &'h Hosts,
    pub(crate) places: Vec<Place<'h>>,
    pub(crate) specs: Vec<DomainSpec>,
}

impl<'l, 'h> Move<'l, 'h> {
    pub(crate) async fn new(lab: &'l TestLab, hosts: &'h Hosts) -> Self {
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
    pub(crate) async fn files(&self, host: usize) {
        let backing = self.specs[host].disks[0].backing_path.clone().unwrap();
        make_disks(self.hosts, &self.places[host], host, &backing).await;
    }

    pub(crate) fn target(&self, host: usize) -> HostTarget {
        self.places[host].host.clone()
    }

    pub(crate) fn route(&self, to: usize, timeout: Duration) -> MigrationRoute {
        MigrationRoute { address: self.scene.lab.description.hosts[to].node_address, timeout }
    }

    pub(crate) async fn order(&self, script: &str) -> String {
        self.scene.order(self.hosts, MOVER, script).await
    }

    pub(crate) async fn migrate(&self, from: usize, to: usize, timeout: Duration) -> Result<(), EffectError> {
        let (here, there) = (self.target(from), self.target(to));
        self.hosts.migrate_domain(&here, &there, &self.specs[to], &self.route(to, timeout)).await
    }

    /// As the engine does it: once the source is seen without it, it goes on at the target.
    pub(crate) async fn move_on(&self, from: usize, to: usize, timeout: Duration) -> Result<(), EffectError> {
        self.migrate(from, to, timeout).await?;
        assert_eq!(self.seen(from).await, None);
        let there = self.seen(to).await.unwrap();
        assert_eq!(short(Some(&there)), "Paused, persistent");
        self.hosts.resume_domain(&self.target(to), self.specs[0].uuid).await
    }

    pub(crate) async fn seen(&self, host: usize) -> Option<DomainSeen> {
        self.hosts.domain(&self.target(host), self.specs[0].uuid).await.unwrap()
    }

    /// Looks at both hosts until told to stop, the way passes do and one by one.
    pub(crate) async fn watch(
        &self,
        from: usize,
        to: usize,
        done: &AtomicBool,
    ) -> BTreeMap<Combination, u32> {
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
    pub(crate) async fn watched(
        &self,
        from: usize,
        to: usize,
        timeout: Duration,
    ) -> (Result<(), EffectError>, BTreeMap<Combination, u32>) {
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
    pub(crate) fn throttle(&self, host: usize, rate: Option<&str>) {
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
    pub(crate) async fn under_way(&self, to: usize) {
        wait_for("the domain begins to arrive", WAIT, async || {
            self.seen(to).await.is_some_and(|seen| seen.paused_by_migration)
        })
        .await;
    }

    /// Waits until something of it was sent.
    pub(crate) async fn on_its_way(&self, from: usize, to: usize) {
        self.under_way(to).await;
        let script = format!("virsh domjobinfo {} 2>/dev/null; true", self.specs[0].name);
        wait_for("something is sent", WAIT, async || {
            let said = self.scene.lab.on_host(from, &["sh", "-c", &script]);
            said.lines().any(|line| line.starts_with("Data processed:") && !line.contains(" 0.000 B"))
        })
        .await;
    }

    /// It goes on at the source, with all that it had, and nothing is left at the target.
    pub(crate) async fn assert_stayed(&self, from: usize, to: usize) -> (Duration, Duration) {
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
    pub(crate) fn qemu_log(&self, host: usize) -> String {
        let script = format!("tail -n 12 /var/log/libvirt/qemu/{}.log | cut -c1-600", self.specs[0].name);
        self.scene
            .lab
            .on_host(host, &["sh", "-c", &format!("{script}; tail -n 12 /var/log/libvirt/libvirtd.log")])
    }

    /// It is at the one host as it should be, and nothing of it at the other.
    pub(crate) async fn assert_at(&self, host: usize, other: usize) {
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

    pub(crate) async fn end(mut self, host: usize) {
        self.scene.guests.get_mut(MOVER).unwrap().host = host;
        self.scene.end(self.hosts).await;
    }
}

/// Times at which the mover answered, a second apart at least where it did not.
pub(crate) struct Gaps {
    pub(crate) longest: Duration,
    pub(crate) sent: u64,
    pub(crate) lost: u64,
}

/// Ten pings a second from the watch, numbered, until told to stop; what was lost, and the longest time without an answer.
pub(crate) async fn ping(scene: &Scene<'_>, hosts: &Hosts, stop: &AtomicBool) -> Gaps {
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
