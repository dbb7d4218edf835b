//! Machine: one virtual machine, decided to the last detail. Written by the pool tier only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Accelerator, Ailment, AllocatedEndpoint, Cni, Condition, CpuPolicy, CpuSet, HugepageSize, ImageTags,
    Kind, Mebibytes, Migration, NotMigrated, Remediation, Resource, Spec, Taint,
};

/// One virtual machine.
pub type Machine = Resource<MachineSpec>;

/// Everything about a machine; no choice is left open, and no secret is inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineSpec {
    /// Its cluster, in the same namespace.
    pub cluster: String,
    /// Control plane or worker.
    pub role: MachineRole,
    /// Its WorkerGroup; empty for control planes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its MachineClass when it was placed, for people.
    pub class: String,
    /// Whether kubeadm starts a new cluster here or joins one.
    pub bootstrap: Bootstrap,
    /// Host.
    pub host: String,
    /// Libvirt domain.
    pub domain: DomainIdentity,
    /// vCPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mebibytes,
    /// CPU policy.
    pub cpu_policy: CpuPolicy,
    /// Host threads that vCPUs without threads of their own, and QEMU itself, may run on; empty means all.
    #[serde(default, skip_serializing_if = "CpuSet::is_empty")]
    pub shared_cpus: CpuSet,
    /// Huge pages that the memory is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<HugepageSize>,
    /// NUMA nodes of the host that the machine is bound to, each with its part; empty for one that floats.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub numa: Vec<NumaCell>,
    /// How the guest runs: what the host's probe VM proved.
    pub accelerator: Accelerator,
    /// Machine type (`pc-q35-7.2`).
    pub machine_type: String,
    /// Guests' clocks count instructions (tests under emulation only).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_time: bool,
    /// Image.
    pub image: MachineImage,
    /// Network interfaces; the first carries the node address.
    pub nics: Vec<Nic>,
    /// Disks and the seed, by Volume name.
    pub volumes: Vec<MachineVolume>,
    /// What the node is told about its cluster.
    pub node: NodeConfig,
}

/// The part of a machine that lies on one NUMA node of its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NumaCell {
    /// The host's NUMA node.
    pub host_node: u32,
    /// vCPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mebibytes,
    /// Threads of the host that are this machine's alone, one for each vCPU; empty if it shares threads.
    #[serde(default, skip_serializing_if = "CpuSet::is_empty")]
    pub cpus: CpuSet,
}

/// A machine's role.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum MachineRole {
    /// Runs the API server, etcd, scheduler and controller manager.
    ControlPlane,
    /// Runs workloads.
    Worker,
}

/// How a node gets into its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bootstrap {
    /// `kubeadm init`.
    Init,
    /// `kubeadm join`.
    Join,
}

/// How the domain is called in libvirt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DomainIdentity {
    /// UUID, decided before the domain exists: with it a domain is told from a foreign one of the same name.
    #[schemars(with = "crate::schema::UuidText")]
    pub uuid: Uuid,
    /// Name.
    pub name: String,
}

/// The image that a machine boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineImage {
    /// Image object.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// Kubernetes inside.
    pub kubernetes_version: String,
    /// Tags of the OCI images inside.
    pub tags: ImageTags,
    /// Kernel command line.
    pub command_line: String,
    /// Volume with the read-only root disk on this host.
    pub disk_volume: String,
    /// Volume with the kernel.
    pub kernel_volume: String,
    /// Volume with the initrd.
    pub initrd_volume: String,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nic {
    /// Network object.
    pub network: String,
    /// Bridge on the host.
    pub bridge: String,
    /// MAC address, lower case with colons.
    pub mac: String,
    /// Address with prefix length.
    #[schemars(with = "crate::schema::CidrText")]
    pub address: Ipv4Net,
    /// Default gateway.
    #[schemars(with = "crate::schema::Ipv4Text")]
    pub gateway: Ipv4Addr,
    /// DNS servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<crate::schema::Ipv4Text>")]
    pub dns: Vec<Ipv4Addr>,
    /// MTU.
    pub mtu: u16,
    /// VLAN of the bridge, where the network is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<NicVlan>,
}

/// The VLAN of a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NicVlan {
    /// VLAN id.
    pub tag: u16,
    /// Whether the bridge is one of Open vSwitch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open_vswitch: bool,
}

/// A volume of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineVolume {
    /// Volume object.
    pub name: String,
    /// What it is to the machine.
    pub role: MachineVolumeRole,
}

/// What a volume is to its machine; also the disk's serial in the guest.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MachineVolumeRole {
    /// Root disk: an overlay over the image.
    Root,
    /// etcd's own disk.
    Etcd,
    /// First-boot seed: ejected and wiped once the node has joined.
    Seed,
}

impl MachineVolumeRole {
    /// Serial of the disk in the guest.
    pub fn serial(self) -> &'static str {
        match self {
            MachineVolumeRole::Root => "root",
            MachineVolumeRole::Etcd => "etcd",
            MachineVolumeRole::Seed => "seed",
        }
    }
}

/// What first boot tells the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// Node name = machine name = etcd member name.
    pub name: String,
    /// `ashlar://INSTALLATION/MACHINE-UID`.
    pub provider_id: String,
    /// The API's virtual address.
    pub endpoint: AllocatedEndpoint,
    /// Further names in the API server's certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_sans: Vec<String>,
    /// Pod CIDR.
    #[schemars(with = "crate::schema::CidrText")]
    pub pod_cidr: Ipv4Net,
    /// Service CIDR.
    #[schemars(with = "crate::schema::CidrText")]
    pub service_cidr: Ipv4Net,
    /// DNS domain.
    pub dns_domain: String,
    /// Pod network.
    pub cni: Cni,
    /// Labels, zone and instance type among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// SSH keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
    /// NTP servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp_servers: Vec<String>,
    /// From power-on to Ready.
    pub startup_timeout_s: u32,
}

/// Facts recorded about a machine's life, by compare-and-set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineRecord {
    /// When its domain was first started: the start-up deadline counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::TimeText>")]
    pub first_started_at: Option<Timestamp>,
    /// When the node was first seen Ready: its seed and token are of no use any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::TimeText>")]
    pub joined_at: Option<Timestamp>,
    /// When the certificate of its API server was seen to run out: what kubeadm signed beside it runs out with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::TimeText>")]
    pub certificates_end_at: Option<Timestamp>,
    /// Labels that its node was once given and should not have any more; forgotten once the node was seen without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_labels: Vec<String>,
    /// The same of taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_taints: Vec<Taint>,
    /// Labels or taints of its node were declared anew, and the node was not seen with them yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub node_outdated: bool,
    /// First boot failed; the machine is kept as it is for whoever looks, and goes with its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<MachineFailure>,
    /// What it was last seen to suffer from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ailment: Option<Ailment>,
    /// Why Ashlar itself replaces it; absent where a person wants it gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<Remediation>,
    /// When a person asked for another machine in its place, which joins first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::TimeText>")]
    pub replacement_asked_at: Option<Timestamp>,
    /// A call that defines its domain got no answer: it may take effect when nobody waits for it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub define_unanswered: bool,
    /// It is being deleted, and was seen gone but for disks that are overwritten first, which may take long: it takes no CPUs, memory
    /// or place among others any more, and nobody waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disks_only: bool,
    /// A control plane that had joined, is being deleted, and was seen to be no member of its cluster's etcd any more: it never is one
    /// again, whatever is heard of etcd later on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left_etcd: bool,
    /// It is on its way to another host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Box<Migration>>,
    /// That was tried, and failed; forgotten when its host is not being emptied any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_migrated: Option<Box<NotMigrated>>,
    /// Other hosts on which its domain was seen: somebody moved it there by hand. One is forgotten when it answers without the
    /// domain, or is proved off; silence changes nothing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub seen_elsewhere: BTreeSet<String>,
}

impl MachineRecord {
    /// Whether labels or taints that were declared, or taken away, are still on their way to its node.
    pub fn node_lags(&self) -> bool {
        self.node_outdated || !self.removed_labels.is_empty() || !self.removed_taints.is_empty()
    }
}

/// Why first boot failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineFailure {
    /// Phase, as the console named it.
    pub phase: String,
    /// What happened, with the likely cause and what to do.
    pub message: String,
    /// Last console lines, scrubbed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_lines: Vec<String>,
    /// It only took too long: if its node becomes Ready after all, the machine has joined.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// When it was noticed.
    #[schemars(with = "crate::schema::TimeText")]
    pub at: Timestamp,
}

/// What was last seen of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineStatus {
    /// Phase for people: Pending, Creating, Booting, Kubeadm…, Ready, Failed, Deleting.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Conditions: Ready, DomainRunning, NodeReady, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Spec for MachineSpec {
    const KIND: Kind = Kind::Machine;
    type Record = MachineRecord;
    type Status = MachineStatus;
}

impl MachineSpec {
    /// The Volume of the given role, if the machine has one.
    pub fn volume(&self, role: MachineVolumeRole) -> Option<&str> {
        self.volumes.iter().find(|volume| volume.role == role).map(|volume| volume.name.as_str())
    }

    /// The node address.
    pub fn node_address(&self) -> Option<Ipv4Addr> {
        self.nics.first().map(|nic| nic.address.addr())
    }
}
