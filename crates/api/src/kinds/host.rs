//! Host: a Linux/KVM server that runs libvirt.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Condition, CpuSet, HostFencing, HostSilence, HugepageSize, Kind, Mebibytes, PowerCut, Resource, Spec,
};

/// A Linux/KVM server that runs libvirt.
pub type Host = Resource<HostSpec>;

/// How a host is reached and what of it may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostSpec {
    /// Libvirt URI: `qemu+ssh://USER@ADDRESS[:PORT]/system`. Everything else about the host goes over the same SSH.
    pub uri: String,
    /// The pinned SSH host key, as in known_hosts without the host name: `ssh-ed25519 AAAA…`.
    pub ssh_host_key: String,
    /// Path of the SSH private key on the machine that runs Ashlar; the key itself is never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key_path: Option<String>,
    /// Address that overlay networks use between hosts; default: the address in the URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::Ipv4Text>")]
    pub underlay_address: Option<std::net::Ipv4Addr>,
    /// Rack, for spreading.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rack: String,
    /// Zone, for spreading; becomes the nodes' topology.kubernetes.io/zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Kept for the host itself.
    #[serde(default)]
    pub reserved: HostReserve,
    /// vCPUs promised per hardware thread.
    #[serde(default = "default_cpu_overcommit")]
    pub cpu_overcommit: u32,
    /// Threads for machines with `cpuPolicy: dedicated` (`8-15,24-31`): each belongs to one machine, and machines that
    /// share threads never run on them. Without any, the host takes no such machines.
    #[serde(default, skip_serializing_if = "CpuSet::is_empty")]
    pub dedicated_cpus: CpuSet,
    /// How it is turned off when it does not answer. Without it only a person can say that it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing: Option<HostFencing>,
    /// No new machine is placed here while set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// Its machines leave it while set, one after the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// How they leave it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drain_by: DrainBy,
}

/// How a host's machines leave it while it is being emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrainBy {
    /// Those that can be moved alive are, with their disks; others are replaced.
    #[default]
    Migration,
    /// All are replaced by new ones elsewhere, in turn as in a rollout.
    Replacement,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_cpu_overcommit() -> u32 {
    4
}

/// CPU and memory that machines never get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostReserve {
    /// Hardware threads.
    #[serde(default)]
    pub threads: u32,
    /// Memory.
    #[serde(default = "default_reserved_memory")]
    pub memory: Mebibytes,
}

fn default_reserved_memory() -> Mebibytes {
    Mebibytes::from_gib(2)
}

impl Default for HostReserve {
    fn default() -> Self {
        HostReserve { threads: 0, memory: default_reserved_memory() }
    }
}

/// What enrolment found out, on which placement builds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostRecord {
    /// Bumped by every claim on this host, so that two planners conflict instead of overfilling it.
    #[serde(default)]
    pub ledger_sequence: u64,
    /// Fencing token of the host lease: only the highest one given out is obeyed on the host.
    #[serde(default)]
    pub lease_token: u64,
    /// A token that this store gave out last and the host refused, as it obeys a higher one: the store is an old copy, or one of
    /// two. None is given out after it, so that restarts do not climb over who has the newer store; a restore raises the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_refused: Option<u64>,
    /// Hardware facts; absent until enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<HostCapacity>,
    /// The accelerator that a probe VM proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Libvirt's UUID of the host: a renamed or exchanged host is not the host that was enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::UuidText>")]
    pub host_uuid: Option<Uuid>,
    /// What the host called itself. Nothing goes by it but people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Architecture as Go names it (`amd64`); empty if it was not asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// Machine type as libvirt expands it (`pc-q35-7.2`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine_type: String,
    /// Libvirt version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub libvirt_version: String,
    /// QEMU version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub qemu_version: String,
    /// Proof that it is off. It ends with the host's first answer: whoever answers runs, and may run VMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<HostFence>,
    /// Since when it gives no answer, where it is fenced for that by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<HostSilence>,
    /// Its power was asked to be cut, which is not proved yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_cut: Option<PowerCut>,
    /// Domains that calls without an answer may still define although their machines are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_domains: Vec<LeftDomain>,
}

impl HostRecord {
    /// Whether the host obeys a higher token than this store ever gave out, as far as is known.
    #[must_use]
    pub fn is_lease_refused(&self) -> bool {
        self.lease_refused == Some(self.lease_token)
    }
}

/// A domain that may appear, or is left, where no machine of the store has it: after its machine is gone, or has moved on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeftDomain {
    /// Its name.
    pub name: String,
    /// Its UUID.
    #[schemars(with = "crate::schema::UuidText")]
    pub uuid: Uuid,
    /// The uid of the machine, which is in its mark.
    #[schemars(with = "crate::schema::UuidText")]
    pub machine_uid: Uuid,
    /// When the machine left the store, or this host.
    #[schemars(with = "crate::schema::TimeText")]
    pub since: Timestamp,
    /// Whether it is what a move left: it may stand still there, and goes once its machine is gone too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_move: bool,
}

/// Proof that a host is off, and with it every VM that was on it: more than that it does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostFence {
    /// Since when it is known.
    #[schemars(with = "crate::schema::TimeText")]
    pub at: Timestamp,
    /// Who says so: a person, as the machine that runs Ashlar knows them, or what `fencing` names (`BMC 10.0.0.21 (ipmi)`).
    pub confirmed_by: String,
}

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostCapacity {
    /// Hardware threads.
    pub threads: u32,
    /// Cores.
    pub cores: u32,
    /// Sockets.
    pub sockets: u32,
    /// Memory.
    pub memory: Mebibytes,
    /// NUMA nodes: node number → its threads and memory.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub numa: BTreeMap<u32, NumaNode>,
    /// CPU model that libvirt names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpu_model: String,
}

/// One NUMA node of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NumaNode {
    /// Hardware threads.
    pub threads: u32,
    /// Memory.
    pub memory: Mebibytes,
    /// Which threads.
    #[serde(default, skip_serializing_if = "CpuSet::is_empty")]
    pub cpus: CpuSet,
    /// Preallocated huge pages: size → number. Their memory is no one else's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hugepages: BTreeMap<HugepageSize, u64>,
}

/// How guests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Hardware virtualization.
    Kvm,
    /// QEMU's software emulation (TCG): the slow profile applies.
    Emulated,
}

/// What was last seen of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostStatus {
    /// Conditions: Ready, Reachable, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Spec for HostSpec {
    const KIND: Kind = Kind::Host;
    type Record = HostRecord;
    type Status = HostStatus;
}
