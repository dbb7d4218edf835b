//! flannel over VXLAN. The node image holds its daemon and the plain bridge plugin; a unit of the image writes the
//! bridge plugin's configuration from what the daemon found out (`/run/flannel/subnet.env`), in place of the CNI
//! plugin of flannel's name, so no init container copies programs onto nodes.

use ipnet::Ipv4Net;
use serde_json::{Value, json};

/// The daemon's image, without tag.
pub const FLANNEL_IMAGE: &str = "ghcr.io/flannel-io/flannel";
const NAMESPACE: &str = "kube-flannel";

/// What flannel's objects depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flannel<'a> {
    /// Cluster's pod CIDR.
    pub pod_cidr: Ipv4Net,
    /// MTU of the nodes' network.
    pub mtu: u16,
    /// Tag of the daemon's image, which the node image contains.
    pub tag: &'a str,
}

/// flannel's objects, in the order to apply them.
pub fn flannel(config: &Flannel<'_>) -> Vec<Value> {
    let labels = json!({"app.kubernetes.io/name": "flannel"});
    let metadata = |name: &str| json!({"name": name, "namespace": NAMESPACE, "labels": labels});
    // The MTU is that of the nodes' network; flannel takes VXLAN's 50 bytes off itself.
    let net_conf = json!({
        "Network": config.pod_cidr.to_string(),
        "EnableNFTables": true,
        "Backend": {"Type": "vxlan", "MTU": config.mtu},
    });
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {
                "app.kubernetes.io/name": "flannel",
                "pod-security.kubernetes.io/enforce": "privileged",
            }},
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "flannel", "labels": labels},
            "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
                {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "flannel", "labels": labels},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flannel"},
            "subjects": [{"kind": "ServiceAccount", "name": "flannel", "namespace": NAMESPACE}],
        }),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("flannel")}),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata("kube-flannel-cfg"),
            "data": {"net-conf.json": net_conf.to_string()},
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": metadata("kube-flannel-ds"),
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod(config)},
            },
        }),
    ]
}

fn pod(config: &Flannel<'_>) -> Value {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let probe = |path: &str, delay_s: u32, period_s: u32| {
        json!({
            "httpGet": {"path": path, "port": "healthz"},
            "initialDelaySeconds": delay_s,
            "periodSeconds": period_s,
            // The default of one second is too short for a busy node.
            "timeoutSeconds": 10,
        })
    };
    json!({
        "hostNetwork": true,
        "priorityClassName": "system-node-critical",
        "serviceAccountName": "flannel",
        // Nodes are not Ready before it runs.
        "tolerations": [{"operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "containers": [{
            "name": "kube-flannel",
            "image": format!("{FLANNEL_IMAGE}:{}", config.tag),
            "imagePullPolicy": "IfNotPresent",
            "command": ["/opt/bin/flanneld"],
            "args": ["--ip-masq", "--kube-subnet-mgr", "--healthz-port=8081"],
            "ports": [{"name": "healthz", "containerPort": 8081, "protocol": "TCP"}],
            "livenessProbe": probe("/healthz", 30, 60),
            "readinessProbe": probe("/readyz", 2, 10),
            "resources": {"requests": {"cpu": "100m", "memory": "50Mi"}},
            "securityContext": {"privileged": false, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
            "env": [
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                {"name": "EVENT_QUEUE_DEPTH", "value": "5000"},
            ],
            "volumeMounts": [
                {"name": "run", "mountPath": "/run/flannel"},
                {"name": "flannel-cfg", "mountPath": "/etc/kube-flannel"},
                {"name": "xtables-lock", "mountPath": "/run/xtables.lock"},
            ],
        }],
        "volumes": [
            {"name": "run", "hostPath": {"path": "/run/flannel", "type": "DirectoryOrCreate"}},
            {"name": "flannel-cfg", "configMap": {"name": "kube-flannel-cfg"}},
            {"name": "xtables-lock", "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"}},
        ],
    })
}
