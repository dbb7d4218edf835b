//! What `kubeadm upgrade apply` would do in a cluster, where nodes are replaced and nobody runs it.
//!
//! Node images hold the images of one version and nothing is pulled, so that old and new nodes need different ones at
//! the same time: DaemonSets change where a new pod is made and nowhere else (`OnDelete`), and CoreDNS goes to nodes of
//! the new version. kubelet-config and CoreDNS' Corefile stay as they are.

use ashlar_api::MachineSpec;
use serde_json::{Value, json};

use super::Addon;
use crate::bootstrap::{IMAGE_REPOSITORY, cluster_configuration};
use crate::names::VERSION_LABEL;

const SYSTEM: &str = "kube-system";
const BOOTSTRAPPERS: &str = "system:bootstrappers:kubeadm:default-node-token";
const NODES: &str = "system:nodes";

/// Before the first node of a new version comes: its kubeadm reads the cluster's configuration, and wants to be allowed to.
pub(super) fn before_nodes(cluster: &str, control_plane: &MachineSpec) -> Addon {
    let configuration = cluster_configuration(cluster, control_plane);
    // JSON values always have a form in YAML.
    let text = serde_saphyr::to_string(&configuration).unwrap_or_else(|_| configuration.to_string());
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kubeadm-config", "namespace": SYSTEM},
        "data": {"ClusterConfiguration": text},
    })];
    objects.extend(access());
    let version = &control_plane.image.kubernetes_version;
    objects.push(mark("before-nodes", version));
    let patches = vec![json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "kube-proxy", "namespace": SYSTEM},
        "spec": {
            "updateStrategy": {"type": "OnDelete"},
            "template": {"spec": {"containers": [
                {"name": "kube-proxy", "image": format!("{IMAGE_REPOSITORY}/kube-proxy:{version}")},
            ]}},
        },
    })];
    Addon { name: "kubeadm-before-nodes", patches, objects }
}

/// Once a node of the new version is there.
pub(super) fn beside_nodes(control_plane: &MachineSpec) -> Addon {
    let image = &control_plane.image;
    let mut patches = Vec::new();
    // Without a tag it is kubeadm's default, which only kubeadm knows.
    if !image.tags.coredns.is_empty() {
        patches.push(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "coredns", "namespace": SYSTEM},
            "spec": {"template": {"spec": {
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [
                        {"key": VERSION_LABEL, "operator": "In", "values": [image.kubernetes_version]},
                    ]},
                ]}}},
                "containers": [
                    {"name": "coredns", "image": format!("{IMAGE_REPOSITORY}/coredns/coredns:{}", image.tags.coredns)},
                ],
            }}},
        }));
    }
    Addon {
        name: "kubeadm-beside-nodes",
        patches,
        objects: vec![mark("beside-nodes", &image.kubernetes_version)],
    }
}

/// Says that all before it was applied.
fn mark(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": format!("ashlar-kubeadm-{name}"), "namespace": SYSTEM},
        "data": {"kubernetesVersion": version},
    })
}

/// kubeadm's own roles and bindings, as its phases `upload-config` and `bootstrap-token` make them.
fn access() -> Vec<Value> {
    let group = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name});
    let cluster_binding = |name: &str, role: &str, subject: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [group(subject)],
        })
    };
    let mut objects = vec![
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "kubeadm:get-nodes"},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
        }),
        cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", BOOTSTRAPPERS),
        cluster_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", BOOTSTRAPPERS),
        cluster_binding(
            "kubeadm:node-autoapprove-bootstrap",
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            BOOTSTRAPPERS,
        ),
        cluster_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            NODES,
        ),
        cluster_binding("kubeadm:cluster-admins", "cluster-admin", "kubeadm:cluster-admins"),
    ];
    for (name, config) in
        [("kubeadm:kubelet-config", "kubelet-config"), ("kubeadm:nodes-kubeadm-config", "kubeadm-config")]
    {
        let metadata = json!({"name": name, "namespace": SYSTEM});
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config], "verbs": ["get"]}],
        }));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [group(BOOTSTRAPPERS), group(NODES)],
        }));
    }
    objects
}
