//! Commands on hosts, and the way to addresses behind them.

use std::{collections::BTreeSet, net::Ipv4Addr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use uuid::Uuid;

use super::EffectError;

/// How to reach one host. Cheap to clone; connections are kept by the implementation, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostTarget {
    /// Host object.
    pub name: String,
    /// Libvirt URI (`qemu+ssh://root@10.77.0.11/system`).
    pub uri: String,
    /// Pinned SSH host key (`ssh-ed25519 AAAA…`).
    pub ssh_host_key: String,
    /// Path of the SSH private key.
    pub ssh_key_path: Option<String>,
    /// This installation, for the host lease.
    pub installation: Uuid,
    /// Fencing token: the host refuses lower ones than it has seen, and ends what came with them. None is a visitor, who
    /// looks, or carries what a person says to a machine: it takes no lease, may change nothing, and is ended by nobody.
    pub lease_token: Option<u64>,
    /// The host that was enrolled; none while enrolling.
    pub host_uuid: Option<Uuid>,
}

/// What a file on a host holds, chunk by chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChunks {
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 (hex) of each chunk; the last one may be shorter.
    pub sha256: Vec<String>,
}

/// Addresses that a host is asked about at a time: as many processes it runs for that.
pub const MAX_ADDRESSES: usize = 64;

/// Commands on a host, each over the pinned SSH connection and under the host lease.
#[async_trait]
pub trait HostShell: Send + Sync {
    /// SHA-256 (hex) of a file in a storage pool, computed on the host once what was written there is on its disk.
    async fn file_sha256(&self, host: &HostTarget, path: &str) -> Result<String, EffectError>;
    /// SHA-256 of each chunk of a file in a storage pool, computed on the host: what an upload that was cut has left
    /// to do. The chunk's size is a multiple of 1 MiB.
    async fn file_chunks(
        &self,
        host: &HostTarget,
        path: &str,
        chunk_bytes: u64,
    ) -> Result<FileChunks, EffectError>;
    /// Overwrites with zeros what a file in a storage pool holds, where it lies on the medium; what it leaves empty stays so,
    /// and it is as long as before. All of it is on the medium at the end. Says why, if the file's file system cannot
    /// do that; then nothing was changed. `NotFound` if it is gone. Done again it is as good as done once.
    async fn zero_file(
        &self,
        host: &HostTarget,
        path: &str,
        timeout: std::time::Duration,
    ) -> Result<Option<String>, EffectError>;
    /// Facts for `host check`: each a name and a value; the judgement is made by the caller.
    async fn check_facts(
        &self,
        host: &HostTarget,
        pool_path: &str,
    ) -> Result<std::collections::BTreeMap<String, String>, EffectError>;
    /// Gives the host lease back, so that another installation can enrol the host; fine if it is not held. What runs
    /// on the host stays.
    async fn release_lease(&self, host: &HostTarget) -> Result<(), EffectError>;
    /// Which of some addresses, [`MAX_ADDRESSES`] at most, answer on the bridge's segment (ARP, else ping): asked before
    /// they are given out, all at the same time.
    async fn addresses_answer(
        &self,
        host: &HostTarget,
        bridge: &str,
        addresses: &[Ipv4Addr],
    ) -> Result<BTreeSet<Ipv4Addr>, EffectError>;
}

/// An address behind a host: in the segment of a network that the host carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialTarget {
    /// Hosts that carry the network, best first.
    pub via: Vec<HostTarget>,
    /// Network object, for people.
    pub network: String,
    /// The network's namespace on the hosts, where it has one: addresses of different networks may be the same.
    pub namespace: Option<String>,
    /// Address.
    pub address: Ipv4Addr,
    /// Addresses that serve the same, for when that one does not answer.
    pub others: Vec<Ipv4Addr>,
    /// TCP port.
    pub port: u16,
}

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens TCP connections to addresses behind hosts. All traffic to a node (API server, etcd, kubelet) goes here:
/// CIDRs of different clusters may overlap, and the machine that runs Ashlar has no route to them.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Opens one connection.
    async fn dial(&self, target: &DialTarget) -> Result<Box<dyn Stream>, EffectError>;
}
