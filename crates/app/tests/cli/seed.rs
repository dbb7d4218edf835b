//! Objects as enrolment and the engine leave them in the store.

use serde_json::{Value, json};

const API: &str = "ashlar.dev/v1alpha1";
/// Long ago, so that ages are days.
const THEN: &str = "2024-01-01T00:00:00Z";

fn uid(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

fn object(kind: &str, namespace: &str, name: &str, number: u32, spec: Value) -> Value {
    let mut metadata = json!({"name": name, "uid": uid(number), "generation": 1, "creationTimestamp": THEN});
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec})
}

/// An enrolled host of 64 cores and 512 GiB.
pub(crate) fn host(name: &str, number: u32) -> Value {
    let mut host = object(
        "Host",
        "",
        name,
        number,
        json!({
            "uri": format!("qemu+ssh://root@10.0.0.{number}/system"),
            "sshHostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAMLtGz+RFDcRysO96Ul/gvkexRG6lG671M1O48MsEdD",
            "zone": "a",
        }),
    );
    host["record"] = json!({
        "leaseToken": 1,
        "capacity": {"threads": 128, "cores": 64, "sockets": 2, "memory": "512Gi"},
        "accelerator": "kvm",
        "hostUuid": uid(1000 + number),
        "machineType": "pc-q35-7.2",
        "libvirtVersion": "9.0.0",
        "qemuVersion": "7.2.22",
    });
    host["status"] = json!({"conditions": [
        {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": THEN}
    ]});
    host
}

/// The pool `images` on these hosts.
pub(crate) fn pool(hosts: &[&str]) -> Value {
    let mut pool = object("StoragePool", "", "images", 50, json!({"type": "dir", "libvirtName": "images"}));
    let on = |(index, name): (usize, &&str)| {
        let record = json!({"uuid": uid(2000 + u32::try_from(index).unwrap()), "path": "/var/lib/libvirt/images",
            "capacityMib": 4_000_000});
        ((*name).to_owned(), record)
    };
    pool["record"] = json!({"hosts": hosts.iter().enumerate().map(on).collect::<serde_json::Map<_, _>>()});
    pool
}

pub(crate) fn network() -> Value {
    object(
        "Network",
        "",
        "lan",
        51,
        json!({
            "attachment": {"bridge": "br0"},
            "cidrs": ["10.0.0.0/24"],
            "gateway": "10.0.0.254",
            "mtu": 1500,
            "vrrpIds": {"first": 1, "last": 255},
            "dns": ["10.0.0.253"],
            "ranges": [{"first": "10.0.0.100", "last": "10.0.0.150"}],
        }),
    )
}

pub(crate) fn image() -> Value {
    let file = |name: &str, size: u64| json!({"file": name, "sha256": "ab".repeat(32), "sizeBytes": size});
    object(
        "Image",
        "",
        "node-v1.37.2",
        52,
        json!({
            "digest": format!("sha256:{}", "cd".repeat(32)),
            "architecture": "amd64",
            "os": "Debian GNU/Linux 13 (trixie)",
            "kubernetesVersion": "v1.37.2",
            "tags": {"etcd": "3.7.0-0", "coredns": "v1.14.6", "pause": "3.10.2",
                     "flannel": "ghcr.io/flannel-io/flannel:v0.28.10"},
            "directory": "/var/cache/ashlar/images/node-v1.37.2",
            "disk": file("disk.qcow2", 1_900_000_000),
            "kernel": file("vmlinuz", 11_000_000),
            "initrd": file("initrd.img", 9_000_000),
            "commandLine": "root=LABEL=ashlar-root ro console=ttyS0 net.ifnames=0",
            "virtualSize": "8Gi",
        }),
    )
}

/// The image that a probe VM boots; its files lie in this directory.
pub(crate) fn test_image(directory: &std::path::Path) -> Value {
    let mut image = image();
    image["metadata"]["name"] = "test-busybox".into();
    image["metadata"]["uid"] = uid(55).into();
    image["spec"]["digest"] = format!("sha256:{}", "ef".repeat(32)).into();
    image["spec"]["directory"] = directory.display().to_string().into();
    image["spec"]["kubernetesVersion"] = "".into();
    image["spec"]["tags"] = json!({});
    image
}

pub(crate) fn class(name: &str, number: u32, vcpus: u32, memory: &str) -> Value {
    object("MachineClass", "", name, number, json!({"vcpus": vcpus, "memory": memory, "rootDisk": "40Gi"}))
}

/// Three hosts with all that a cluster needs.
pub(crate) fn stock() -> Vec<Value> {
    vec![
        host("h1", 1),
        host("h2", 2),
        host("h3", 3),
        pool(&["h1", "h2", "h3"]),
        network(),
        image(),
        class("ctrl", 53, 8, "16Gi"),
        class("wkr", 54, 16, "64Gi"),
    ]
}

/// A machine that runs, or failed.
pub(crate) fn machine(name: &str, number: u32, role: &str, failure: Option<Value>) -> Value {
    let endpoint = json!({"address": "10.0.0.100", "port": 6443, "vrrpId": 1});
    let mut machine = object(
        "Machine",
        "default",
        name,
        number,
        json!({
            "cluster": "demo",
            "role": role,
            "group": if role == "worker" { "demo-wkr" } else { "" },
            "class": "ctrl",
            "bootstrap": if role == "worker" { "join" } else { "init" },
            "host": "h1",
            "domain": {"uuid": uid(3000 + number), "name": name},
            "vcpus": 8,
            "memory": "16Gi",
            "cpuPolicy": "shared",
            "accelerator": "kvm",
            "machineType": "pc-q35-7.2",
            "image": {
                "name": "node-v1.37.2", "digest": format!("sha256:{}", "cd".repeat(32)),
                "kubernetesVersion": "v1.37.2", "tags": {}, "commandLine": "ro",
                "diskVolume": "d", "kernelVolume": "k", "initrdVolume": "i",
            },
            "nics": [{"network": "lan", "bridge": "br0", "mac": format!("52:54:00:00:00:{number:02x}"),
                      "address": format!("10.0.0.{number}/24"), "gateway": "10.0.0.254", "mtu": 1500}],
            "volumes": [{"name": format!("{name}-root"), "role": "root"}],
            "node": {
                "name": name, "providerId": format!("ashlar://{}/{}", uid(1), uid(number)), "endpoint": endpoint,
                "podCidr": "10.244.0.0/16", "serviceCidr": "10.96.0.0/16", "dnsDomain": "cluster.local",
                "cni": "flannel", "startupTimeoutS": 600,
            },
        }),
    );
    machine["metadata"]["labels"] = json!({"ashlar.dev/cluster": "demo", "role": role});
    match failure {
        Some(failure) => machine["record"] = json!({"firstStartedAt": THEN, "failure": failure}),
        None => {
            machine["record"] = json!({"firstStartedAt": THEN, "joinedAt": THEN});
            machine["status"] = json!({"phase": "Ready", "conditions": [
                {"type": "Ready", "status": "True", "reason": "Ready", "lastTransitionTime": THEN}
            ]});
        }
    }
    machine
}

/// A cluster of one control plane that is ready and one worker that failed, with an event and a secret.
pub(crate) fn demo() -> Vec<Value> {
    let mut cluster = object(
        "Cluster",
        "default",
        "demo",
        60,
        json!({
            "kubernetesVersion": "v1.37.2", "network": "lan", "podCidr": "10.244.0.0/16",
            "serviceCidr": "10.96.0.0/16", "dnsDomain": "cluster.local", "cni": "flannel",
            "controlPlane": {"replicas": 1, "class": "ctrl"},
            "workers": [{"name": "wkr", "class": "ctrl", "replicas": 1}],
        }),
    );
    cluster["record"] = json!({
        "endpoint": {"address": "10.0.0.100", "port": 6443, "vrrpId": 1}, "image": "node-v1.37.2",
        "lastControlPlaneNumber": 1, "initialized": true,
    });
    cluster["status"] = json!({"readyMachines": 1, "machines": 2, "conditions": [
        {"type": "Ready", "status": "False", "reason": "MachinesNotReady",
         "message": "1 of 2 machines are ready", "lastTransitionTime": THEN}
    ]});
    let group = object(
        "WorkerGroup",
        "default",
        "demo-wkr",
        61,
        json!({"cluster": "demo", "class": "ctrl", "replicas": 1}),
    );
    let failure = json!({
        "phase": "kubeadm join: preflight",
        "message": "kubeadm could not reach 10.0.0.100:6443: is the network's bridge the same on both hosts?",
        "logLines": ["[preflight] Running pre-flight checks", "error: couldn't validate the identity of the API Server"],
        "at": THEN,
    });
    let event = object(
        "Event",
        "default",
        "demo-wkr-1.0123456789abcdef",
        62,
        json!({
            "about": {"kind": "Machine", "namespace": "default", "name": "demo-wkr-1"}, "type": "Warning",
            "reason": "FirstBootFailed", "message": "first boot failed in phase kubeadm join: preflight", "count": 2,
            "firstTime": THEN, "lastTime": THEN,
        }),
    );
    let secret = object(
        "Secret",
        "default",
        "demo-pki",
        63,
        json!({
            "purpose": {"type": "clusterPki", "cluster": "demo"}, "keyId": "0011223344556677",
            "sealedDataKey": "c2VhbGVkLWRhdGEta2V5", "sealed": {"ca.crt": "c2VhbGVk", "ca.key": "c2VhbGVk"},
        }),
    );
    vec![
        cluster,
        group,
        machine("demo-ctrl-1", 101, "control-plane", None),
        machine("demo-wkr-1", 102, "worker", Some(failure)),
        event,
        secret,
    ]
}
