//! What the demo declares: the lab's network, two small classes, and a cluster.

use ashlar_api::{Cluster, MachineClass, Network, Object, names::worker_group};
use ashlar_lab::LabDescription;
use serde_json::json;

use crate::failure::Result;

/// Control planes of the demo. 2 vCPUs are kubeadm's own floor; 3 GiB is what a control plane was measured to need
/// beside its page cache.
const CONTROL_PLANE_CLASS: &str = "control-plane";
/// Workers of the demo.
const WORKER_CLASS: &str = "worker";
const NETWORK: &str = "lab";
/// Name of the worker group: machines are NAME-wkr-1, ….
const GROUP: &str = "wkr";

/// Network and classes, through the reader of manifests, so that defaults are those of a file.
pub(super) fn pool(lab: &LabDescription) -> Result<Vec<Object>> {
    let nodes = &lab.nodes;
    let ranges: Vec<_> =
        nodes.ranges.iter().map(|range| json!({"first": range.first, "last": range.last})).collect();
    let network = json!({
        "attachment": {"bridge": nodes.bridge},
        "cidrs": [nodes.cidr],
        "gateway": nodes.gateway,
        "mtu": nodes.mtu,
        "ranges": ranges,
    });
    let control_plane = json!({"vcpus": 2, "memory": "3Gi", "rootDisk": "10Gi", "etcdDisk": "2Gi"});
    let worker = json!({"vcpus": 2, "memory": "2Gi", "rootDisk": "10Gi"});
    Ok(vec![
        Network::new(NETWORK, serde_json::from_value(network)?).into(),
        MachineClass::new(CONTROL_PLANE_CLASS, serde_json::from_value(control_plane)?).into(),
        MachineClass::new(WORKER_CLASS, serde_json::from_value(worker)?).into(),
    ])
}

/// The cluster.
pub(super) fn cluster(
    name: &str,
    version: &str,
    image: &str,
    workers: u32,
    ssh_key: &str,
) -> Result<Cluster> {
    let spec = json!({
        "kubernetesVersion": version,
        "image": image,
        "network": NETWORK,
        "controlPlane": {"replicas": 1, "class": CONTROL_PLANE_CLASS},
        "workers": [{"name": GROUP, "class": WORKER_CLASS, "replicas": workers}],
        "sshAuthorizedKeys": [ssh_key],
    });
    Ok(Cluster::new(name, serde_json::from_value(spec)?))
}

/// The WorkerGroup object of the demo.
pub(super) fn group(name: &str) -> String {
    worker_group(name, GROUP)
}
