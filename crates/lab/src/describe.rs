//! `lab.json`: what a lab is, for whoever wants to use it (the `ashlar` command, tests, people).

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::LabError;

/// The whole lab. Kept in `lab.json` in its state directory, replaced atomically.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabDescription {
    /// Name of the lab.
    pub name: String,
    /// Its state directory on the machine.
    pub state_dir: PathBuf,
    /// Name of the network namespace that commands against the lab run in.
    pub control_namespace: String,
    /// Name of the network namespace that joins the hosts.
    pub switch_namespace: String,
    /// Private key that opens every host (OpenSSH format, mode 0600).
    pub client_key: PathBuf,
    /// Its public half, `ssh-ed25519 AAAA… comment`.
    pub client_public_key: String,
    /// known_hosts file with the key of every host.
    pub known_hosts: PathBuf,
    /// For people, in the control namespace: `ssh -F FILE h1`.
    pub ssh_config: PathBuf,
    /// `ASHLAR_STATE_DIR` of an `ashlar` that runs against the lab.
    pub ashlar_state_dir: PathBuf,
    /// The network of the hosts' sshd and of the control namespace.
    pub management: ManagementNetwork,
    /// The network of the nodes. The control namespace has no route to it.
    pub nodes: NodeNetwork,
    /// The hosts, by number.
    pub hosts: Vec<HostDescription>,
}

/// The network between the control namespace and the hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagementNetwork {
    /// For example `10.77.0.0/24`.
    pub cidr: String,
    /// Address of the control namespace.
    pub control_address: Ipv4Addr,
    /// MTU in bytes.
    pub mtu: u32,
}

/// The network that virtual machines are attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeNetwork {
    /// For example `10.88.0.0/16`.
    pub cidr: String,
    /// Default gateway of the nodes; it answers pings and forwards nothing.
    pub gateway: Ipv4Addr,
    /// Addresses that nodes and VIPs may have.
    pub ranges: Vec<AddressRange>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Bridge on every host.
    pub bridge: String,
}

/// Both ends belong to the range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRange {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address.
    pub last: Ipv4Addr,
}

/// One host, reached as a real one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostDescription {
    /// `h1`, `h2`, …: also its host name.
    pub name: String,
    /// Address of its sshd.
    pub ssh_address: Ipv4Addr,
    /// Port of its sshd.
    pub ssh_port: u16,
    /// User to log in as.
    pub ssh_user: String,
    /// Its SSH host key as a known_hosts line: `10.77.0.11 ssh-ed25519 AAAA…`.
    pub known_hosts_line: String,
    /// UUID that its libvirt reports in the capabilities.
    pub host_uuid: Uuid,
    /// Storage pool that it comes with.
    pub pool_name: String,
    /// Path of that pool as the host sees it.
    pub pool_path: PathBuf,
    /// The same directory as the machine sees it.
    pub pool_dir: PathBuf,
    /// Bridge that nodes are attached to.
    pub bridge: String,
    /// The host's own address on that bridge, from which it can reach nodes.
    pub node_address: Ipv4Addr,
    /// Name of its network namespace.
    pub namespace: String,
    /// Everything of the host, as the machine sees it.
    pub state_dir: PathBuf,
    /// Its `/var/log` as the machine sees it (serial consoles: `libvirt/qemu/`).
    pub log_dir: PathBuf,
}

impl LabDescription {
    /// Reads `lab.json`; `None` if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a lab description.
    pub fn read(path: &Path) -> Result<Option<Self>, LabError> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LabError::io("read", path)(error)),
        };
        let parsed = serde_json::from_slice(&text)
            .map_err(|source| LabError::Description { path: path.to_owned(), source })?;
        Ok(Some(parsed))
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<&HostDescription> {
        self.hosts.iter().find(|host| host.name == name)
    }
}
