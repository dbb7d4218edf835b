//! The files of a node's seed.

use ashlar_api::{Bootstrap, MachineRole, MachineSpec, Nic};
use uuid::Uuid;

use super::kubeadm;
use super::profile::Profile;
use super::template::{Encoding, Piece, SeedFile, SeedTemplate};

const SCRIPT: &str = include_str!("assets/bootstrap.sh");
/// What a joining node waits for its cluster's API at most, beside the time its own boot takes, in seconds.
const ENDPOINT_SHARE_S: u32 = 60;

/// Everything a node's first boot depends on; no secret among it.
#[derive(Clone, Copy, Debug)]
pub struct NodeBootstrap<'a> {
    /// Cluster's name.
    pub cluster: &'a str,
    /// The machine.
    pub machine: &'a MachineSpec,
    /// Its uid: cloud-init's instance id.
    pub machine_uid: Uuid,
    /// Names of the Secret objects that its files take values from.
    pub secrets: SecretNames<'a>,
}

/// Names of Secret objects.
#[derive(Clone, Copy, Debug)]
pub struct SecretNames<'a> {
    /// With `ca.crt ca.key front-proxy-ca.crt front-proxy-ca.key etcd-ca.crt etcd-ca.key sa.pub sa.key`.
    pub pki: &'a str,
    /// With `token`, for machines that join.
    pub join_token: &'a str,
    /// With `ssh_host_ed25519_key` (OpenSSH format); without it the node makes its own and says its public half
    /// on the console.
    pub ssh_host_key: Option<&'a str>,
}

/// A machine that no seed can be rendered for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The machine was decided without a network interface.
    #[error("machine {machine} has no network interface; a node needs one with a static address")]
    NoNic {
        /// Machine.
        machine: String,
    },
    /// Workers join.
    #[error("machine {machine} is a worker and cannot initialize a cluster")]
    WorkerInit {
        /// Machine.
        machine: String,
    },
    /// The configuration could not be written as YAML.
    #[error("kubeadm's configuration for machine {machine}: {cause}")]
    Yaml {
        /// Machine.
        machine: String,
        /// Cause.
        cause: String,
    },
}

/// Renders a machine's seed.
///
/// # Errors
/// See [`BootstrapError`]: the machine object is incomplete.
pub fn seed_template(node: &NodeBootstrap<'_>) -> Result<SeedTemplate, BootstrapError> {
    let machine = node.machine;
    let name = &machine.node.name;
    let nic = machine.nics.first().ok_or_else(|| BootstrapError::NoNic { machine: name.clone() })?;
    if machine.role == MachineRole::Worker && machine.bootstrap == Bootstrap::Init {
        return Err(BootstrapError::WorkerInit { machine: name.clone() });
    }
    let profile = Profile::of(machine.accelerator);
    let address = nic.address.addr().to_string();
    let config = serde_saphyr::to_string_multiple(&kubeadm::documents(node, profile, &address))
        .map_err(|error| BootstrapError::Yaml { machine: name.clone(), cause: error.to_string() })?;
    let mut files = vec![
        SeedFile::text("meta-data", format!("instance-id: {}\nlocal-hostname: {name}\n", node.machine_uid)),
        SeedFile::text("user-data", "#cloud-config\n{}\n"),
        SeedFile::text("network-config", network_config(nic)),
        SeedFile::text("bootstrap.sh", SCRIPT),
        SeedFile::text("node.env", node_env(node, profile, &address)),
        SeedFile::text("kubeadm.yaml", config),
    ];
    for (target, patch) in profile.patches(machine.role == MachineRole::ControlPlane) {
        files.push(SeedFile::text(&format!("patch-{target}.yaml"), patch));
    }
    if !machine.node.ssh_authorized_keys.is_empty() {
        files.push(SeedFile::text("authorized_keys", machine.node.ssh_authorized_keys.join("\n") + "\n"));
    }
    if let Some(object) = node.secrets.ssh_host_key {
        files.push(SeedFile::secret("ssh_host_ed25519_key", object, "ssh_host_ed25519_key"));
    }
    if machine.bootstrap == Bootstrap::Join {
        files.push(discovery(node));
    }
    if machine.role == MachineRole::ControlPlane {
        files.push(SeedFile::text("keepalived.conf", keepalived(node, profile)));
        files.push(SeedFile::text("check-apiserver", profile.api_server_check()));
        for key in [
            "ca.crt",
            "ca.key",
            "front-proxy-ca.crt",
            "front-proxy-ca.key",
            "etcd-ca.crt",
            "etcd-ca.key",
            "sa.pub",
            "sa.key",
        ] {
            files.push(SeedFile::secret(&format!("pki-{key}"), node.secrets.pki, key));
        }
    }
    Ok(SeedTemplate { files })
}

/// The route is written `0.0.0.0/0`, because cloud-init without netplan refuses `default`.
fn network_config(nic: &Nic) -> String {
    // A resolver without a server makes CoreDNS forward to itself and crash; the gateway is there in any case.
    let dns: Vec<String> = if nic.dns.is_empty() {
        vec![nic.gateway.to_string()]
    } else {
        nic.dns.iter().map(ToString::to_string).collect()
    };
    format!(
        "version: 2\n\
         ethernets:\n\
         \x20 eth0:\n\
         \x20   match: {{macaddress: \"{mac}\"}}\n\
         \x20   set-name: eth0\n\
         \x20   dhcp4: false\n\
         \x20   mtu: {mtu}\n\
         \x20   addresses: [{address}]\n\
         \x20   routes: [{{to: 0.0.0.0/0, via: {gateway}}}]\n\
         \x20   nameservers: {{addresses: [{dns}]}}\n",
        mac = nic.mac,
        mtu = nic.mtu,
        address = nic.address,
        gateway = nic.gateway,
        dns = dns.join(", "),
    )
}

fn node_env(node: &NodeBootstrap<'_>, profile: Profile, address: &str) -> String {
    let machine = node.machine;
    let config = &machine.node;
    let role = match (machine.role, machine.bootstrap) {
        (MachineRole::Worker, _) => "worker",
        (MachineRole::ControlPlane, Bootstrap::Init) => "init",
        (MachineRole::ControlPlane, Bootstrap::Join) => "control-plane",
    };
    let mut values = vec![
        ("ROLE", role.to_owned()),
        ("NODE_NAME", config.name.clone()),
        ("ADDRESS", address.to_owned()),
        ("ENDPOINT_ADDRESS", config.endpoint.address.to_string()),
        ("ENDPOINT_PORT", config.endpoint.port.to_string()),
        (
            "ENDPOINT_DEADLINE_S",
            config.startup_timeout_s.saturating_sub(ENDPOINT_SHARE_S).max(ENDPOINT_SHARE_S).to_string(),
        ),
        ("PATIENCE", profile.patience().to_string()),
        ("NTP_SERVERS", config.ntp_servers.join(" ")),
        ("IMAGES", kubeadm::required_images(node).join(" ")),
    ];
    if machine.virtual_time {
        values.push(("VIRTUAL_TIME", "1".to_owned()));
    }
    values.iter().map(|(key, value)| format!("{key}={}\n", quoted(value))).collect()
}

/// A word for a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// A kubeconfig with the cluster's CA and this machine's token: the CA is pinned by being given.
fn discovery(node: &NodeBootstrap<'_>) -> SeedFile {
    let endpoint = &node.machine.node.endpoint;
    SeedFile {
        name: "discovery.conf".to_owned(),
        pieces: vec![
            Piece::Text(format!(
                "apiVersion: v1\nkind: Config\nclusters:\n- name: cluster\n  cluster:\n    server: https://{}:{}\n    \
                 certificate-authority-data: ",
                endpoint.address, endpoint.port
            )),
            Piece::secret(node.secrets.pki, "ca.crt", Encoding::Base64),
            Piece::Text("\nusers:\n- name: bootstrap\n  user:\n    token: ".to_owned()),
            Piece::secret(node.secrets.join_token, "token", Encoding::Raw),
            Piece::Text(
                "\ncontexts:\n- name: bootstrap\n  context: {cluster: cluster, user: bootstrap}\n\
                 current-context: bootstrap\n"
                    .to_owned(),
            ),
        ],
    }
}

/// The check has a weight: checks that are slow everywhere must not take the address away from everyone.
fn keepalived(node: &NodeBootstrap<'_>, profile: Profile) -> String {
    let endpoint = &node.machine.node.endpoint;
    format!(
        "global_defs {{\n    router_id {name}\n    vrrp_version 3\n    script_user root\n    enable_script_security\n}}\n\
         vrrp_script apiserver {{\n    script \"/etc/keepalived/check-apiserver\"\n    interval 5\n    timeout 6\n    \
         fall 3\n    rise 1\n    weight 40\n    init_fail\n}}\n\
         vrrp_instance api {{\n    state BACKUP\n    interface eth0\n    virtual_router_id {vrrp_id}\n    priority 100\n    \
         advert_int {advert}\n    garp_master_delay 1\n    virtual_ipaddress {{\n        {vip}/32 dev eth0\n    }}\n    \
         track_script {{\n        apiserver\n    }}\n}}\n",
        name = node.machine.node.name,
        vrrp_id = endpoint.vrrp_id,
        advert = profile.advert_interval_s(),
        vip = endpoint.address,
    )
}
