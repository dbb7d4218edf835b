//! kubeadm's configuration, `v1beta4`.

use ashlar_api::{Bootstrap, MachineRole, MachineSpec, Taint};
use serde_json::{Value, json};

use super::profile::Profile;
use super::seed::NodeBootstrap;

/// Where etcd keeps its data: a directory of its disk, because `lost+found` in it would fail kubeadm's preflight.
pub(super) const ETCD_DATA_DIR: &str = "/var/lib/etcd/data";
/// Where the script puts the discovery file on the node.
const DISCOVERY_FILE: &str = "/run/ashlar/discovery.conf";
pub(super) const IMAGE_REPOSITORY: &str = "registry.k8s.io";

/// The documents of `kubeadm.yaml`.
pub(super) fn documents(node: &NodeBootstrap<'_>, profile: Profile, address: &str) -> Vec<Value> {
    match node.machine.bootstrap {
        Bootstrap::Init => vec![
            init(node, profile, address),
            cluster(node.cluster, node.machine, profile),
            json!({
                "apiVersion": "kubelet.config.k8s.io/v1beta1",
                "kind": "KubeletConfiguration",
                "cgroupDriver": "systemd",
                // Of the cluster's CA, with the node's own name and address: Ashlar approves it (`plan::serving`).
                "serverTLSBootstrap": true,
            }),
            json!({
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "mode": "nftables",
            }),
        ],
        Bootstrap::Join => vec![join(node, profile, address)],
    }
}

fn init(node: &NodeBootstrap<'_>, profile: Profile, address: &str) -> Value {
    let mut document = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443},
        "nodeRegistration": registration(node, profile, address),
        // kubeadm makes a token of its own when none is given. This one is refused a second later; the tokens
        // that machines join with are made through the API, one for each.
        "bootstrapTokens": [{"ttl": "1s", "description": "unused"}],
        "patches": {"directory": "/etc/kubernetes/patches"},
    });
    set_timeouts(&mut document, profile);
    document
}

fn join(node: &NodeBootstrap<'_>, profile: Profile, address: &str) -> Value {
    let mut document = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        // The file holds the CA itself, so nobody else's cluster can be joined, and the token.
        "discovery": {"file": {"kubeConfigPath": DISCOVERY_FILE}},
        "nodeRegistration": registration(node, profile, address),
        "patches": {"directory": "/etc/kubernetes/patches"},
    });
    if node.machine.role == MachineRole::ControlPlane {
        document["controlPlane"] =
            json!({"localAPIEndpoint": {"advertiseAddress": address, "bindPort": 6443}});
    }
    set_timeouts(&mut document, profile);
    document
}

fn set_timeouts(document: &mut Value, profile: Profile) {
    if let Some(timeouts) = profile.kubeadm_timeouts() {
        document["timeouts"] = timeouts;
    }
}

fn registration(node: &NodeBootstrap<'_>, profile: Profile, address: &str) -> Value {
    let config = &node.machine.node;
    let mut kubelet_args = vec![
        ("node-ip".to_owned(), address.to_owned()),
        ("provider-id".to_owned(), config.provider_id.clone()),
    ];
    if !config.labels.is_empty() {
        let labels: Vec<String> = config.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        kubelet_args.push(("node-labels".to_owned(), labels.join(",")));
    }
    kubelet_args.extend(profile.kubelet_args().into_iter().map(owned));
    let mut taints: Vec<Value> = config.taints.iter().map(taint).collect();
    if node.machine.role == MachineRole::ControlPlane {
        let ours = json!({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"});
        if !taints.contains(&ours) {
            taints.insert(0, ours);
        }
    }
    let mut registration = json!({
        "name": config.name,
        "criSocket": "unix:///run/containerd/containerd.sock",
        // Everything needed is in the node image; what is missing there must fail, not be pulled.
        "imagePullPolicy": "Never",
        "taints": taints,
        "kubeletExtraArgs": named(kubelet_args),
    });
    if node.machine.virtual_time && node.machine.vcpus < 2 {
        registration["ignorePreflightErrors"] = json!(["NumCPU"]);
    }
    registration
}

fn taint(taint: &Taint) -> Value {
    let mut value = json!({"key": taint.key});
    if !taint.value.is_empty() {
        value["value"] = json!(taint.value);
    }
    value["effect"] = json!(taint.effect);
    value
}

/// What kubeadm keeps in the cluster about the cluster.
pub(super) fn cluster(name: &str, machine: &MachineSpec, profile: Profile) -> Value {
    let config = &machine.node;
    let endpoint = &config.endpoint;
    let mut sans = vec![endpoint.address.to_string()];
    sans.extend(config.extra_sans.iter().cloned());
    let mut etcd =
        json!({"dataDir": ETCD_DATA_DIR, "extraArgs": named(profile.etcd_args().into_iter().map(owned))});
    set_tag(&mut etcd, &machine.image.tags.etcd);
    let mut dns = json!({});
    set_tag(&mut dns, &machine.image.tags.coredns);
    json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": name,
        "kubernetesVersion": machine.image.kubernetes_version,
        "controlPlaneEndpoint": format!("{}:{}", endpoint.address, endpoint.port),
        "imageRepository": IMAGE_REPOSITORY,
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {
            "serviceSubnet": config.service_cidr.to_string(),
            "podSubnet": config.pod_cidr.to_string(),
            "dnsDomain": config.dns_domain,
        },
        "etcd": {"local": etcd},
        "dns": dns,
        "apiServer": {"certSANs": sans, "extraArgs": named(profile.api_server_args().into_iter().map(owned))},
        "controllerManager": {"extraArgs": named(profile.controller_manager_args().into_iter().map(owned))},
        "scheduler": {"extraArgs": named(profile.scheduler_args().into_iter().map(owned))},
    })
}

fn set_tag(component: &mut Value, tag: &str) {
    if !tag.is_empty() {
        component["imageTag"] = json!(tag);
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn named(args: impl IntoIterator<Item = (String, String)>) -> Value {
    args.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

/// References of the images that must be in the node's containerd before anything is started.
pub(super) fn required_images(node: &NodeBootstrap<'_>) -> Vec<String> {
    let image = &node.machine.image;
    let mut components =
        vec![("kube-proxy", image.kubernetes_version.as_str()), ("pause", image.tags.pause.as_str())];
    if node.machine.role == MachineRole::ControlPlane {
        components.extend([
            ("kube-apiserver", image.kubernetes_version.as_str()),
            ("kube-controller-manager", image.kubernetes_version.as_str()),
            ("kube-scheduler", image.kubernetes_version.as_str()),
            ("etcd", image.tags.etcd.as_str()),
        ]);
    }
    components.push(("coredns/coredns", image.tags.coredns.as_str()));
    // An image whose manifest says no tag has kubeadm's default, which only kubeadm knows.
    components
        .into_iter()
        .filter(|(_, tag)| !tag.is_empty())
        .map(|(name, tag)| format!("{IMAGE_REPOSITORY}/{name}:{tag}"))
        .collect()
}
