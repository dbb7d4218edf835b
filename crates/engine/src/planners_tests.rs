//! Several planners on one store: they conflict, crash, and never give the same room twice.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_api::*;
use ashlar_plan::{Decision, Snapshot};
use ashlar_store::{SqliteStore, Store};
use futures::executor::block_on;
use serde_json::json;

use super::Committed;
use crate::{Engine, Scope, testing::*};

const PLANNERS: u64 = 8;
const HOSTS: u64 = 4;
const HOST_MEMORY_GIB: u64 = 24;

fn object(kind: Kind, namespace: &str, name: &str, spec: serde_json::Value) -> Object {
    let uid = uuid::Uuid::from_u128(name.bytes().fold(7, |sum, byte| sum * 257 + u128::from(byte)));
    let value = json!({"apiVersion": API_VERSION, "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "generation": 1}, "spec": spec});
    Object::from_value(kind, value).unwrap()
}

/// Hosts with room for some of the machines only, and clusters that ask for more.
fn pool(engine: &Engine, clusters: u64) {
    let mut objects = Vec::new();
    let mut pool = StoragePool::new(
        "images",
        serde_json::from_value(json!({"type": "dir", "libvirtName": "images"})).unwrap(),
    );
    for number in 0..HOSTS {
        let name = format!("h{number}");
        let Object::Host(mut host) = host(&name) else { panic!("a host") };
        host.metadata.uid = Some(uuid::Uuid::from_u128(0x100 + u128::from(number)));
        host.record.capacity = Some(HostCapacity {
            threads: 16,
            memory: Mebibytes::from_gib(HOST_MEMORY_GIB + 2),
            ..HostCapacity::default()
        });
        host.record.accelerator = Some(Accelerator::Kvm);
        let there = PoolOnHost {
            uuid: uuid::Uuid::from_u128(u128::from(number)),
            path: "/images".to_owned(),
            capacity_mib: 1 << 20,
        };
        pool.record.hosts.insert(name, there);
        objects.push(Object::Host(host));
    }
    pool.metadata.uid = Some(uuid::Uuid::from_u128(0x200));
    objects.push(Object::from(pool));
    let file = json!({"file": "f", "sha256": "ab".repeat(32), "sizeBytes": 1000});
    objects.push(object(
        Kind::Image,
        "",
        "node",
        json!({"digest": "sha256:0123456789abcdef", "architecture": "amd64", "os": "Debian",
            "kubernetesVersion": "v1.37.2", "directory": "/d", "disk": file, "kernel": file, "initrd": file,
            "commandLine": ""}),
    ));
    objects.push(object(
        Kind::Network,
        "",
        "lab",
        json!({"attachment": {"bridge": "br0"}, "cidrs": ["10.88.0.0/16"], "gateway": "10.88.0.1",
            "ranges": [{"first": "10.88.1.1", "last": "10.88.1.250"}]}),
    ));
    objects.push(object(
        Kind::MachineClass,
        "",
        "small",
        json!({"vcpus": 2, "memory": "4Gi", "rootDisk": "10Gi"}),
    ));
    for number in 0..clusters {
        objects.push(object(
            Kind::Cluster,
            "default",
            &format!("c{number}"),
            json!({"kubernetesVersion": "v1.37.2", "network": "lab", "admission": "none",
                "controlPlane": {"replicas": 3, "class": "small"},
                "workers": [{"name": "wkr", "class": "small", "replicas": 3}]}),
        ));
    }
    put(engine, objects);
}

/// Claims by sums, and what must be one machine's alone.
fn judge(snapshot: &Snapshot) {
    let mut memory: BTreeMap<&str, u64> = BTreeMap::new();
    let mut once = BTreeSet::new();
    for (name, machine) in &snapshot.machines {
        let spec = &machine.spec;
        *memory.entry(&spec.host).or_default() += spec.memory.0;
        for nic in &spec.nics {
            assert!(once.insert(nic.address.to_string()), "{name}: {} was given twice", nic.address);
            assert!(once.insert(nic.mac.clone()), "{name}: {} was given twice", nic.mac);
        }
        for volume in &spec.volumes {
            let key = NamespacedName::new(&name.namespace, &volume.name);
            assert!(
                snapshot.volumes.contains_key(&key),
                "{name} is there without its volume {}",
                volume.name
            );
        }
        if spec.role == MachineRole::ControlPlane {
            assert!(once.insert(format!("{}/{}", spec.cluster, spec.host)), "two control planes on one host");
        }
    }
    for (host, claimed) in memory {
        assert!(claimed <= HOST_MEMORY_GIB * 1024, "{claimed} MiB are claimed on {host}");
        let ledger = snapshot.hosts[host].record.ledger_sequence;
        let machines = snapshot.machines.values().filter(|machine| machine.spec.host == host).count();
        assert_eq!(
            ledger, machines as u64,
            "each claim bumps the ledger of its host once, in the same commit"
        );
    }
    for volume in snapshot.volumes.values() {
        if let VolumeContent::MachineDisk { machine, .. } = &volume.spec.content {
            let key = NamespacedName::new(&volume.metadata.namespace, machine);
            assert!(snapshot.machines.contains_key(&key), "a volume without its machine");
        }
    }
}

fn random(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn cases() -> u64 {
    std::env::var("ASHLAR_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn eight_planners_in_any_order_with_crashes_claim_nothing_twice() {
    let mut conflicts = 0;
    for seed in 0..cases() {
        let mut state = seed;
        let fake = Fake::default();
        fake.state().many_ids = seed + 1;
        let (_store, engine) = fake.engine();
        pool(&engine, 2 + seed % 3);
        let mut plans: Vec<Option<(Snapshot, Vec<Vec<Decision>>)>> = (0..PLANNERS).map(|_| None).collect();
        let mut quiet = 0;
        block_on(async {
            while quiet < PLANNERS * 2 {
                let planner = &mut plans[random(&mut state, PLANNERS) as usize];
                match planner.take() {
                    // Reads and plans, and has its plan while others commit theirs.
                    None => {
                        let (snapshot, plan) = engine.plan(&Scope::StoreOnly).await.unwrap();
                        quiet = if plan.decisions.is_empty() { quiet + 1 } else { 0 };
                        *planner = Some((snapshot, plan.decisions));
                    }
                    Some((snapshot, mut decisions)) => {
                        // It dies after so many commits.
                        if random(&mut state, 3) == 0 {
                            decisions.truncate(random(&mut state, 3) as usize);
                        }
                        if let Committed::Conflict(_) = engine.commit(&snapshot, decisions).await.unwrap() {
                            conflicts += 1;
                        }
                        judge(&engine.snapshot(&Scope::StoreOnly).await.unwrap());
                    }
                }
            }
            let end = engine.snapshot(&Scope::StoreOnly).await.unwrap();
            assert!(end.machines.len() >= 12, "seed {seed}: {} machines", end.machines.len());
        });
    }
    assert!(conflicts > 0, "planners that never meet prove nothing");
}

/// One planner's life: it reads, plans, commits what it planned unless it dies in between, and is started anew.
fn work_and_die(fake: &Fake, store: &std::sync::Arc<dyn Store>, mut state: u64, deaths: &AtomicU64) {
    let mut engine = fake.engine_on(store.clone());
    let mut lives = 0;
    loop {
        let (snapshot, plan) = block_on(engine.plan(&Scope::StoreOnly)).unwrap();
        let mut decisions = plan.decisions;
        if decisions.is_empty() {
            return;
        }
        // The first life ends early, whatever chance says.
        let dies = lives == 0 || random(&mut state, 3) == 0;
        if dies {
            let commits = random(&mut state, decisions.len() as u64) as usize;
            decisions.truncate(commits);
        }
        block_on(engine.commit(&snapshot, decisions)).unwrap();
        if dies {
            deaths.fetch_add(1, Ordering::Relaxed);
            lives += 1;
            engine = fake.engine_on(store.clone());
        }
    }
}

fn eight_threads(fake: &Fake, shared: &std::sync::Arc<dyn Store>, seed: u64) {
    let engine = fake.engine_on(shared.clone());
    pool(&engine, 6);
    let deaths = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for planner in 0..PLANNERS {
            let (fake, deaths) = (&fake, &deaths);
            scope.spawn(move || work_and_die(fake, shared, seed * PLANNERS + planner, deaths));
        }
    });
    let end = block_on(engine.snapshot(&Scope::StoreOnly)).unwrap();
    judge(&end);
    assert!(end.machines.len() >= 18, "{} machines", end.machines.len());
    assert!(deaths.load(Ordering::Relaxed) > 0, "nobody died");
}

#[test]
fn eight_threads_with_crashes_claim_nothing_twice() {
    for seed in 0..cases().div_ceil(4) {
        let fake = Fake::default();
        fake.state().many_ids = seed + 1;
        let (store, _engine) = fake.engine();
        let shared: std::sync::Arc<dyn Store> = store;
        eight_threads(&fake, &shared, seed);
    }
}

#[test]
fn eight_threads_with_crashes_claim_nothing_twice_in_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let fake = Fake::default();
    fake.state().many_ids = 1;
    let path = directory.path().join("store.db");
    let shared: std::sync::Arc<dyn Store> = std::sync::Arc::new(SqliteStore::open(&path).unwrap());
    eight_threads(&fake, &shared, 1);
    drop(shared);
    // What the next process reads.
    let again: std::sync::Arc<dyn Store> = std::sync::Arc::new(SqliteStore::open(&path).unwrap());
    judge(&block_on(fake.engine_on(again).snapshot(&Scope::StoreOnly)).unwrap());
}
