//! Placements a second that survive a power cut: chosen in memory, committed to the SQLite store, each with its host's
//! ledger by compare-and-set, many planners' commits in one wait for the disk.
//!
//! `cargo run --release -p ashlar-engine --example durable_placement [DIRECTORY]`; the directory should be on the disk
//! that is to be measured.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops at what is wrong, and prints its figures"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ashlar_plan::place::{Choice, Demand, HostNumber, NodeRoom, Packer, Peers, PoolRoom, Room, ShapeNumber};
use ashlar_store::{Key, Precondition, Revision, SqliteStore, Store, Transaction};
use futures::executor::block_on;
use serde_json::json;

const HOSTS: u32 = 1000;
const RACKS: u32 = 25;
/// Machines of a group, each on a host of its own, in one commit.
const GROUP: usize = 5;
const PLANNERS: usize = 32;
const MACHINES: usize = 120_000;
const ROUNDS: usize = 3;
const GIB: u64 = 1024;

fn host() -> Room {
    let node = |number| NodeRoom { number, dedicated: 8, memory_mib: 2048 * 1024, huge_mib: [0, 0] };
    Room {
        threads: 240,
        overcommit: 4,
        vcpus: 960,
        memory_mib: 4000 * 1024,
        nodes: vec![node(0), node(1)],
        pools: vec![Some(PoolRoom { capacity_mib: 64 << 20, at_once_mib: Some(64 << 20) })],
    }
}

fn shapes() -> [Demand; 3] {
    let machine =
        |vcpus, gib: u64| Demand { vcpus, memory_mib: gib * GIB, disk_mib: 50 * GIB, ..Demand::default() };
    [machine(2, 4), machine(4, 8), machine(8, 32)]
}

/// What all planners know: room, the ledgers' revisions, and who waits for the disk.
struct Pool {
    packer: Packer,
    shapes: Vec<ShapeNumber>,
    ledgers: Vec<(u64, Revision)>,
    /// Hosts whose ledger's next revision is not known yet.
    in_flight: BTreeSet<HostNumber>,
    placed: usize,
}

impl Pool {
    fn new(store: &SqliteStore) -> Self {
        let mut packer = Packer::default();
        let racks: Vec<u32> = (0..RACKS).map(|rack| packer.add_rack(rack % 5)).collect();
        let mut ledgers = Vec::new();
        for number in 0..HOSTS {
            packer.add_host(host(), racks[(number % RACKS) as usize], true);
            let ledger =
                Transaction::new().put(host_key(number), json!({"ledgerSequence": 0}), Precondition::Absent);
            ledgers.push((0, block_on(store.commit(ledger)).unwrap()));
        }
        let shapes = shapes().into_iter().map(|demand| packer.add_shape(demand, None, Vec::new())).collect();
        Pool { packer, shapes, ledgers, in_flight: BTreeSet::new(), placed: 0 }
    }

    /// A group's hosts, claimed in memory, with the commit that makes it so; none once enough were placed.
    fn place(&mut self) -> Option<(Vec<HostNumber>, Transaction)> {
        if self.placed >= MACHINES {
            return None;
        }
        let group = self.placed / GROUP;
        let index = group % self.shapes.len();
        let peers = Peers { host_limit: 1, ..Peers::default() };
        let mut choice = Choice { peers, excluded: self.in_flight.clone(), guarded: false };
        let (mut hosts, mut commit) = (Vec::new(), Transaction::new());
        for number in 0..GROUP {
            let host = self.packer.choose(self.shapes[index], &choice).expect("the pool has room for all");
            self.packer.claim(self.shapes[index], host);
            *choice.peers.hosts.entry(host).or_default() += 1;
            let ledger = &mut self.ledgers[host as usize];
            ledger.0 += 1;
            let name = format!("group-{group}-{number}");
            commit = commit
                .put(
                    Key::new("Machine", "default", &name),
                    machine(&name, host, &shapes()[index]),
                    Precondition::Absent,
                )
                .put(host_key(host), json!({"ledgerSequence": ledger.0}), Precondition::Revision(ledger.1));
            self.in_flight.insert(host);
            hosts.push(host);
        }
        self.placed += GROUP;
        Some((hosts, commit))
    }

    fn placed(&mut self, hosts: &[HostNumber], revision: Revision) {
        for host in hosts {
            self.ledgers[*host as usize].1 = revision;
            self.in_flight.remove(host);
        }
    }
}

fn host_key(host: HostNumber) -> Key {
    Key::cluster_scoped("Host", format!("host-{host:04}"))
}

/// About 512 bytes, as in the stores' own bench.
fn machine(name: &str, host: HostNumber, demand: &Demand) -> serde_json::Value {
    json!({
        "apiVersion": "ashlar.dev/v1alpha1", "kind": "Machine",
        "metadata": {"name": name, "namespace": "default", "generation": 1, "finalizers": ["ashlar.dev/machine"],
            "labels": {"ashlar.dev/cluster": "demo"}, "creationTimestamp": "2026-11-28T12:00:00Z"},
        "spec": {"cluster": "demo", "role": "worker", "group": "demo-wkr", "host": format!("host-{host:04}"),
            "vcpus": demand.vcpus, "memoryMib": demand.memory_mib, "diskMib": demand.disk_mib,
            "image": "sha256:4b0f8e6d0c3c8f3f0f7a3b0f8e6d0c3c8f3f0f7a3b0f8e6d0c3c8f3f0f7a3b0f",
            "nics": [{"network": "lab", "mac": "52:54:00:12:34:56", "address": "10.0.0.17/24"}]},
    })
}

/// Opens the file anew and compares what is in it with capacity and with the ledgers.
fn verify(path: &Path) {
    let store = SqliteStore::open_read_only(path).unwrap();
    let mut sums: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    let mut groups: BTreeSet<(String, String)> = BTreeSet::new();
    let machines = block_on(store.list(Some("Machine"), None)).unwrap().items;
    assert_eq!(machines.len(), MACHINES);
    for stored in machines {
        let spec = &stored.value["spec"];
        let host = spec["host"].as_str().unwrap().to_owned();
        let group = stored.key.name.rsplit_once('-').unwrap().0.to_owned();
        assert!(groups.insert((group, host.clone())), "two machines of a group are on {host}");
        let sum = sums.entry(host).or_default();
        sum.0 += 1;
        sum.1 += spec["vcpus"].as_u64().unwrap();
        sum.2 += spec["memoryMib"].as_u64().unwrap();
    }
    let offer = host();
    for stored in block_on(store.list(Some("Host"), None)).unwrap().items {
        let (machines, vcpus, memory_mib) = sums.get(&stored.key.name).copied().unwrap_or_default();
        assert_eq!(stored.value["ledgerSequence"], machines, "each claim bumps the ledger once");
        assert!(vcpus <= offer.vcpus.unsigned_abs() && memory_mib <= offer.memory_mib.unsigned_abs());
    }
}

fn main() {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, Into::into);
    println!(
        "durable   {HOSTS} hosts, groups of {GROUP} on different hosts, {PLANNERS} planners; SQLite, WAL, synchronous FULL"
    );
    for round in 1..=ROUNDS {
        let directory = tempfile::tempdir_in(&parent).unwrap();
        let path = directory.path().join("store.db");
        let store = Arc::new(SqliteStore::open(&path).unwrap());
        let pool = Mutex::new(Pool::new(&store));
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..PLANNERS {
                scope.spawn(|| {
                    loop {
                        let Some((hosts, commit)) = pool.lock().unwrap().place() else { return };
                        let revision = block_on(store.commit(commit)).unwrap();
                        pool.lock().unwrap().placed(&hosts, revision);
                    }
                });
            }
        });
        let elapsed = started.elapsed().as_secs_f64();
        drop(store);
        verify(&path);
        println!(
            "round {round}         {MACHINES} machines with their hosts' ledgers: {:>9.0} durable placements/s",
            f64::from(u32::try_from(MACHINES).unwrap()) / elapsed
        );
    }
}
