//! Objects for unit tests: host `h1`, cluster `demo` with one machine, and its files.

use ashlar_api::*;
use ashlar_store::{Precondition, Store, Transaction};
use serde_json::json;
use uuid::Uuid;

use crate::{Engine, objects};

fn of(kind: Kind, namespace: &str, name: &str, spec: serde_json::Value) -> Object {
    let value = json!({"apiVersion": API_VERSION, "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": Uuid::from_u128(name.len() as u128), "generation": 1},
        "spec": spec});
    #[expect(clippy::expect_used, reason = "a constant of the test")]
    Object::from_value(kind, value).expect("a constant")
}

/// A host that was enrolled.
pub(crate) fn host(name: &str) -> Object {
    let mut object =
        of(Kind::Host, "", name, json!({"uri": "qemu+ssh://root@10.0.0.1/system", "sshHostKey": "k"}));
    if let Object::Host(host) = &mut object {
        host.record.host_uuid = Some(Uuid::from_u128(1));
        host.record.lease_token = 4;
    }
    object
}

pub(crate) fn cluster() -> Object {
    of(
        Kind::Cluster,
        "default",
        "demo",
        json!({"kubernetesVersion": "v1.37.2", "network": "lab", "controlPlane": {"replicas": 1, "class": "small"}}),
    )
}

pub(crate) fn machine() -> Object {
    let spec = json!({
        "cluster": "demo", "role": "control-plane", "class": "small", "bootstrap": "init", "host": "h1",
        "domain": {"uuid": Uuid::from_u128(0xd0), "name": "demo-ctrl-1"},
        "vcpus": 2, "memory": "2Gi", "cpuPolicy": "shared", "accelerator": "emulated", "machineType": "pc-q35-7.2",
        "image": {"name": "node", "digest": "sha256:01", "kubernetesVersion": "v1.37.2", "tags": {}, "commandLine": "",
            "diskVolume": "image-disk", "kernelVolume": "image-kernel", "initrdVolume": "image-kernel"},
        "nics": [{"network": "lab", "bridge": "br0", "mac": "52:54:00:00:00:01", "address": "10.0.0.11/24",
            "gateway": "10.0.0.1", "mtu": 1500}],
        "volumes": [{"name": "demo-ctrl-1-etcd", "role": "etcd"}, {"name": "demo-ctrl-1-seed", "role": "seed"}],
        "node": {"name": "demo-ctrl-1", "providerId": "ashlar://x/y",
            "endpoint": {"address": "10.0.0.10", "port": 6443, "vrrpId": 1},
            "podCidr": "10.244.0.0/16", "serviceCidr": "10.96.0.0/16", "dnsDomain": "cluster.local", "cni": "flannel",
            "startupTimeoutS": 900},
    });
    of(Kind::Machine, "default", "demo-ctrl-1", spec)
}

fn volume(namespace: &str, name: &str, format: &str, capacity: &str, content: serde_json::Value) -> Object {
    let file_name = format!("{name}.{}", if format == "iso" { "iso" } else { "raw" });
    let spec = json!({"host": "h1", "pool": "images", "poolUuid": Uuid::from_u128(2), "poolPath": "/images",
        "fileName": file_name, "format": format, "capacity": capacity, "content": content, "reclaim": "delete"});
    of(Kind::Volume, namespace, name, spec)
}

pub(crate) fn etcd_volume() -> Object {
    let content = json!({"type": "machineDisk", "machine": "demo-ctrl-1", "role": "etcd"});
    volume("default", "demo-ctrl-1-etcd", "raw", "4Mi", content)
}

pub(crate) fn seed_volume() -> Object {
    let content = json!({"type": "machineDisk", "machine": "demo-ctrl-1", "role": "seed"});
    volume("default", "demo-ctrl-1-seed", "iso", "1Mi", content)
}

/// An image file whose digest is that of `content`.
pub(crate) fn image_volume(content: &[u8]) -> Object {
    use sha2::Digest;
    let sha256 = crate::hex::encode(&sha2::Sha256::digest(content));
    let content = json!({"type": "imageFile", "image": "node", "digest": "sha256:01", "part": "kernel", "sha256": sha256,
        "sizeBytes": content.len()});
    volume(SYSTEM_NAMESPACE, "image-kernel", "raw", "1Mi", content)
}

pub(crate) fn image(directory: &str) -> Object {
    let file = json!({"file": "vmlinuz", "sha256": "", "sizeBytes": 1});
    let spec = json!({"digest": "sha256:01", "architecture": "amd64", "os": "Debian", "directory": directory,
        "kernel": file, "initrd": file, "commandLine": ""});
    of(Kind::Image, "", "node", spec)
}

/// Puts objects into the store as they are.
pub(crate) fn put(engine: &Engine, objects: Vec<Object>) {
    let transaction = objects.into_iter().fold(Transaction::new(), |transaction, object| {
        let key = objects::key_of(&object.object_ref());
        #[expect(clippy::expect_used, reason = "objects of the test")]
        let value = objects::to_stored(object).expect("objects of the test");
        transaction.put(key, value, Precondition::Any)
    });
    // In a thread of its own: who asks may be inside an executor already, and SQLite does not answer at once.
    #[expect(clippy::expect_used, reason = "a store of the test")]
    std::thread::scope(|scope| {
        let committed = scope.spawn(|| futures::executor::block_on(engine.store.commit(transaction)));
        committed.join().expect("a thread of the test").expect("a store of the test");
    });
}
