//! A stored world: cluster `demo` with its machines on host-1, and a cluster `old` that is being deleted.

use ashlar_api::expand::{ObjectMap, expand, object_map};
use ashlar_api::{AllocatedEndpoint, Kind, Object, PoolOnHost, manifest};
use serde_json::json;

/// The objects of `data/world.yaml` as they would be stored, with what planner and engine add to them.
pub(crate) fn stored() -> ObjectMap {
    let mut objects = expand(manifest::read(include_str!("../data/world.yaml"), "world.yaml").unwrap());
    let mut old = None;
    for object in &mut objects {
        match object {
            Object::Cluster(cluster) => {
                let address = "192.168.100.10".parse().unwrap();
                cluster.record.endpoint = Some(AllocatedEndpoint { address, port: 6443, vrrp_id: 1 });
                cluster.record.image = "k8s-v1.37.2-0123456789ab".to_owned();
                cluster.record.initialized = true;
                let mut other = cluster.clone();
                other.metadata.name = "old".to_owned();
                other.metadata.deletion_timestamp = Some("2026-01-31T12:00:00Z".parse().unwrap());
                other.record = ashlar_api::ClusterRecord::default();
                old = Some(Object::Cluster(other));
            }
            Object::StoragePool(pool) => {
                let uuid = uuid::uuid!("6ad3c5a6-9df0-4d5a-8e4b-3f2f8f3c8a11");
                let here =
                    PoolOnHost { uuid, path: "/var/lib/libvirt/images".to_owned(), capacity_mib: 100_000 };
                pool.record.hosts.insert("host-1".to_owned(), here);
            }
            _ => {}
        }
    }
    objects.extend(old);
    objects.push(machine("demo-ctrl-1", "", "192.168.100.11"));
    objects.push(machine("demo-wkr-1", "demo-wkr", "192.168.100.12"));
    objects.push(volume(
        "demo-ctrl-1-root",
        &json!({"type": "machineDisk", "machine": "demo-ctrl-1", "role": "root"}),
    ));
    objects.push(volume(
        "image-disk-host-1",
        &json!({"type": "imageFile", "image": "k8s-v1.37.2-0123456789ab", "digest": "sha256:01", "part": "disk",
            "sha256": "01", "sizeBytes": 9}),
    ));
    objects.push(volume(
        "image-older-disk-host-1",
        &json!({"type": "imageFile", "image": "k8s-v1.36.3-ba9876543210", "digest": "sha256:02", "part": "disk",
            "sha256": "02", "sizeBytes": 9}),
    ));
    object_map(objects)
}

fn machine(name: &str, group: &str, address: &str) -> Object {
    let role = if group.is_empty() { "control-plane" } else { "worker" };
    let spec = json!({
        "cluster": "demo", "role": role, "group": group, "class": "small",
        "bootstrap": if group.is_empty() { "init" } else { "join" }, "host": "host-1",
        "domain": {"uuid": "6ad3c5a6-9df0-4d5a-8e4b-3f2f8f3c8a12", "name": name},
        "vcpus": 2, "memory": "2Gi", "cpuPolicy": "shared", "accelerator": "emulated", "machineType": "pc-q35-7.2",
        "image": {"name": "k8s-v1.37.2-0123456789ab", "digest": "sha256:01", "kubernetesVersion": "v1.37.2", "tags": {},
            "commandLine": "", "diskVolume": "d", "kernelVolume": "k", "initrdVolume": "i"},
        "nics": [{"network": "lab", "bridge": "br-lab", "mac": "52:54:00:00:00:01", "address": format!("{address}/24"),
            "gateway": "192.168.100.1", "mtu": 1500}],
        "volumes": [],
        "node": {"name": name, "providerId": "ashlar://x/y",
            "endpoint": {"address": "192.168.100.10", "port": 6443, "vrrpId": 1},
            "podCidr": "10.244.0.0/16", "serviceCidr": "10.96.0.0/16", "dnsDomain": "cluster.local", "cni": "flannel",
            "startupTimeoutS": 900},
    });
    of(Kind::Machine, name, &spec)
}

fn volume(name: &str, content: &serde_json::Value) -> Object {
    let spec = json!({
        "host": "host-1", "pool": "default", "poolUuid": "6ad3c5a6-9df0-4d5a-8e4b-3f2f8f3c8a11",
        "poolPath": "/var/lib/libvirt/images", "fileName": "x.qcow2", "format": "qcow2", "capacity": "20Gi",
        "content": content, "reclaim": "delete",
    });
    of(Kind::Volume, name, &spec)
}

fn of(kind: Kind, name: &str, spec: &serde_json::Value) -> Object {
    let value = json!({"apiVersion": ashlar_api::API_VERSION, "kind": kind,
        "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    Object::from_value(kind, value).unwrap()
}
