//! Builders of hosts, classes and clusters.

use std::net::Ipv4Addr;

use ashlar_api::*;
use ashlar_plan::{HostSeen, HostWorld, Ids, PoolSeen, Snapshot};
use serde_json::json;
use uuid::Uuid;

use super::SeededIds;

pub const VERSION: &str = "v1.37.2";
pub const DIGEST: &str = "sha256:4f1c7a3e9b2d0011223344556677889900aabbccddeeff00112233445566778899";

pub fn installation() -> Uuid {
    Uuid::from_u128(0xa5a5)
}

/// A store with the network `lan`, the pool `default` and one image; without hosts.
pub fn empty_pool() -> Snapshot {
    let mut snapshot = Snapshot::empty(installation(), "2026-11-23T12:00:00Z".parse().unwrap());
    add_network(&mut snapshot, "lan", "br0", "10.0.0.0/24", ("10.0.0.10", "10.0.0.250"));
    let pool: StoragePoolSpec =
        serde_json::from_value(json!({"type": "dir", "libvirtName": "ashlar"})).unwrap();
    insert(&mut snapshot, StoragePool::new("default", pool));
    let file = |name: &str, size: u64| json!({"file": name, "sha256": "ab".repeat(32), "sizeBytes": size});
    let image: ImageSpec = serde_json::from_value(json!({
        "digest": DIGEST, "architecture": "amd64", "os": "Debian 13", "kubernetesVersion": VERSION,
        "tags": {"flannel": "v0.28.10"}, "directory": "/images/one",
        "disk": file("disk.qcow2", 1_900_000_000), "kernel": file("vmlinuz", 11_000_000), "initrd": file("initrd", 9_000_000),
        "commandLine": "root=LABEL=root ro console=ttyS0 net.ifnames=0", "virtualSize": "6Gi",
    }))
    .unwrap();
    insert(&mut snapshot, Image::new("debian-13-v1.37.2", image));
    snapshot
}

pub fn add_network(snapshot: &mut Snapshot, name: &str, bridge: &str, cidr: &str, range: (&str, &str)) {
    let cidr: ipnet::Ipv4Net = cidr.parse().unwrap();
    let gateway = Ipv4Addr::from(u32::from(cidr.network()) + 1);
    let network: NetworkSpec = serde_json::from_value(json!({
        "attachment": {"bridge": bridge}, "cidrs": [cidr], "gateway": gateway, "dns": [gateway],
        "ranges": [{"first": range.0, "last": range.1}],
    }))
    .unwrap();
    insert(snapshot, Network::new(name, network));
}

/// A host as enrolment leaves it, seen with an empty pool.
pub fn add_host(
    snapshot: &mut Snapshot,
    name: &str,
    threads: u32,
    memory_gib: u64,
    accelerator: Accelerator,
) {
    let spec: HostSpec = serde_json::from_value(
        json!({"uri": format!("qemu+ssh://root@{name}/system"), "sshHostKey": "ssh-ed25519 AAAA"}),
    )
    .unwrap();
    let mut host = Host::new(name, spec);
    host.record.capacity = Some(HostCapacity {
        threads,
        cores: threads,
        sockets: 1,
        memory: Mebibytes::from_gib(memory_gib),
        ..HostCapacity::default()
    });
    host.record.accelerator = Some(accelerator);
    host.record.architecture = "amd64".to_owned();
    host.record.machine_type = "pc-q35-7.2".to_owned();
    insert(snapshot, host);
    let uuid = SeededIds(7).uuid(&format!("pool/{name}"));
    let path = "/var/lib/libvirt/images".to_owned();
    let capacity_mib = 2 * 1024 * 1024;
    let pool = snapshot.pools.get_mut("default").unwrap();
    pool.record.hosts.insert(name.to_owned(), PoolOnHost { uuid, path: path.clone(), capacity_mib });
    let seen = PoolSeen {
        name: "ashlar".to_owned(),
        path,
        capacity_mib,
        available_mib: capacity_mib,
        volumes: Default::default(),
    };
    let networks = ashlar_plan::NetworksSeen::Seen {
        networks: Default::default(),
        foreign: Default::default(),
        hostname: String::new(),
    };
    let world = HostWorld { pools: [(uuid, seen)].into(), networks, ..HostWorld::default() };
    snapshot.observed.hosts.insert(name.to_owned(), HostSeen::Seen(world));
}

pub fn add_class(snapshot: &mut Snapshot, name: &str, vcpus: u32, memory: &str, root: &str) {
    let class: MachineClassSpec =
        serde_json::from_value(json!({"vcpus": vcpus, "memory": memory, "rootDisk": root})).unwrap();
    insert(snapshot, MachineClass::new(name, class));
}

/// A cluster of classes `ctrl` and `wkr` with one worker group `wkr`.
pub fn add_cluster(snapshot: &mut Snapshot, name: &str, control_planes: u32, workers: u32) {
    let cluster: ClusterSpec = serde_json::from_value(json!({
        "kubernetesVersion": VERSION, "network": "lan",
        "controlPlane": {"replicas": control_planes, "class": "ctrl"},
        "workers": [{"name": "wkr", "class": "wkr", "replicas": workers}],
    }))
    .unwrap();
    insert(snapshot, Cluster::new(name, cluster));
}

/// One emulated host and a cluster of one control plane and one worker.
pub fn one_plus_one() -> Snapshot {
    let mut snapshot = empty_pool();
    add_host(&mut snapshot, "lab-1", 2, 24, Accelerator::Emulated);
    add_class(&mut snapshot, "ctrl", 2, "3Gi", "10Gi");
    add_class(&mut snapshot, "wkr", 2, "2Gi", "10Gi");
    add_cluster(&mut snapshot, "demo", 1, 1);
    snapshot
}

/// The design's first figure: three hosts of 64 cores and 512 GB, control planes 8 vCPU/16 GB, workers 16 vCPU/64 GB.
pub fn six_machines() -> Snapshot {
    let mut snapshot = empty_pool();
    for host in ["host-a", "host-b", "host-c"] {
        add_host(&mut snapshot, host, 64, 512, Accelerator::Kvm);
    }
    add_class(&mut snapshot, "ctrl", 8, "16Gi", "40Gi");
    add_class(&mut snapshot, "wkr", 16, "64Gi", "100Gi");
    add_cluster(&mut snapshot, "prod", 3, 3);
    snapshot
}

/// Puts an object into the snapshot as if a user had applied it.
pub fn insert(snapshot: &mut Snapshot, object: impl Into<Object>) {
    let mut object = object.into();
    let meta = object.metadata_mut();
    let purpose = format!("{}/{}", meta.namespace, meta.name);
    meta.uid.get_or_insert(Uuid::from_u128(SeededIds(99).bits(&purpose)));
    if meta.generation == 0 {
        meta.generation = 1;
    }
    if meta.resource_version.is_empty() {
        meta.resource_version = "1".to_owned();
    }
    meta.creation_timestamp.get_or_insert(snapshot.now);
    put(snapshot, object);
}

/// Puts an object in its map.
pub fn put(snapshot: &mut Snapshot, object: Object) {
    let (name, key) = (object.metadata().name.clone(), object.metadata().key());
    match object {
        Object::Host(object) => _ = snapshot.hosts.insert(name, *object),
        Object::StoragePool(object) => _ = snapshot.pools.insert(name, *object),
        Object::Network(object) => _ = snapshot.networks.insert(name, *object),
        Object::Image(object) => _ = snapshot.images.insert(name, *object),
        Object::MachineClass(object) => _ = snapshot.classes.insert(name, *object),
        Object::Cluster(object) => _ = snapshot.clusters.insert(key, *object),
        Object::WorkerGroup(object) => _ = snapshot.groups.insert(key, *object),
        Object::Machine(object) => _ = snapshot.machines.insert(key, *object),
        Object::Volume(object) => _ = snapshot.volumes.insert(key, *object),
        Object::Secret(_) | Object::Event(_) => panic!("not part of a snapshot"),
    }
}

/// Records the wish to delete a cluster.
pub fn delete_cluster(snapshot: &mut Snapshot, name: &str) {
    let now = snapshot.now;
    let cluster = snapshot.clusters.get_mut(&NamespacedName::new("default", name)).unwrap();
    cluster.metadata.deletion_timestamp = Some(now);
}
