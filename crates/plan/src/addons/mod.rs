//! What a new cluster is given beside what kubeadm installs, as objects for server-side apply.

mod flannel;
mod kubeadm;

use ashlar_api::{Cni, MachineSpec, NodeConfig};
use serde_json::{Value, json};

pub use flannel::{FLANNEL_IMAGE, Flannel, flannel};

/// A named set of objects, applied in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Addon {
    /// Its name, fit for a label.
    pub name: &'static str,
    /// Fields of objects that others made, set first; an object that is not there is left so.
    pub patches: Vec<Value>,
    /// Kubernetes objects.
    pub objects: Vec<Value>,
}

/// The add-ons of a cluster whose nodes are told `node`, from an image with that flannel.
pub fn addons(node: &NodeConfig, mtu: u16, flannel_tag: &str) -> Vec<Addon> {
    let mut addons =
        vec![Addon { name: "kubelet-api-access", patches: Vec::new(), objects: vec![kubelet_api_access()] }];
    match node.cni {
        Cni::Flannel => addons.push(Addon {
            name: "flannel",
            patches: Vec::new(),
            objects: flannel(&Flannel { pod_cidr: node.pod_cidr, mtu, tag: flannel_tag }),
        }),
        Cni::None => {}
    }
    addons
}

/// Add-ons of a cluster that is, or once was, upgraded: what `kubeadm upgrade` would have done, and flannel in the version
/// of each node's image.
pub fn upgraded(cluster: &str, control_plane: &MachineSpec, has_node: bool) -> Vec<Addon> {
    let mut addons = vec![kubeadm::before_nodes(cluster, control_plane)];
    if has_node {
        addons.push(kubeadm::beside_nodes(control_plane));
    }
    addons
}

/// Lets the API server reach kubelets. Newer kubeadm gives its client certificate no group that could, and counts
/// on this binding, which only the same kubeadm's `init` makes: without it, logs and exec on nodes of a cluster
/// that was begun by an older patch are forbidden.
fn kubelet_api_access() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "kubeadm:apiserver-kubelet-client"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kubelet-api-admin"},
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "kube-apiserver-kubelet-client"},
        ],
    })
}
