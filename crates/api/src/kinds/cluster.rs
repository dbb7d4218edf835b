//! Cluster: one Kubernetes cluster.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Condition, DriftRule, HealthPolicy, Incident, Kind, Resource, Spec, WorkerGroupSpec};

/// One Kubernetes cluster.
pub type Cluster = Resource<ClusterSpec>;

/// What a cluster should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    /// Kubernetes version (`v1.37.2`); an Image of that version must exist.
    pub kubernetes_version: String,
    /// Image by name; default: the newest Image of the version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Network that the nodes are attached to; default: an overlay (`vxlan`) of the cluster's own, made and deleted
    /// with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// Where the API is reached.
    #[serde(default)]
    pub endpoint: ClusterEndpoint,
    /// Pod CIDR.
    #[serde(default = "default_pod_cidr")]
    #[schemars(with = "crate::schema::CidrText")]
    pub pod_cidr: Ipv4Net,
    /// Service CIDR.
    #[serde(default = "default_service_cidr")]
    #[schemars(with = "crate::schema::CidrText")]
    pub service_cidr: Ipv4Net,
    /// DNS domain inside the cluster.
    #[serde(default = "default_dns_domain")]
    pub dns_domain: String,
    /// Pod network.
    #[serde(default)]
    pub cni: Cni,
    /// Control plane.
    pub control_plane: ControlPlaneSpec,
    /// Whether new machines leave room for those of any one host that may die. Default: `n+1` in a pool of three
    /// hosts or more, else `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// Worker groups written inline; each becomes a WorkerGroup object named `CLUSTER-NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<InlineWorkerGroup>,
    /// Public SSH keys that may log in to nodes as root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
    /// NTP servers of the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp_servers: Vec<String>,
    /// How long a node may take from power-on to Ready before it counts as failed; default by accelerator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_startup_timeout_s: Option<u32>,
    /// While true no machine is replaced by one of another version or class. What has begun is finished.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Kubernetes release (`1.38`) whose removed APIs nobody needs any more: an upgrade to it begins although clients were
    /// seen asking for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_removed_apis: Option<String>,
    /// How long a machine that goes may take to give up its pods, in seconds; after that it goes with those that are
    /// left. Absent: as long as PodDisruptionBudgets want; who blocks is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_s: Option<u32>,
    /// When machines that are not well are replaced by others.
    #[serde(default, skip_serializing_if = "HealthPolicy::is_default")]
    pub health: HealthPolicy,
    /// What is done where people changed something behind Ashlar's back.
    #[serde(default, skip_serializing_if = "DriftRule::is_default")]
    pub drift: DriftRule,
    /// What happens to its machines' disks before they are deleted. May be changed at any time; it holds for what is deleted
    /// from then on.
    #[serde(default, skip_serializing_if = "WipeDisks::is_none")]
    pub wipe_disks: WipeDisks,
    /// For tests under emulation: guests' clocks count instructions (needs one vCPU a machine).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub virtual_time: bool,
}

fn default_pod_cidr() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16)
}
fn default_service_cidr() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16)
}
fn default_dns_domain() -> String {
    "cluster.local".to_owned()
}

/// Where the API server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterEndpoint {
    /// Virtual address; default: one from the network's ranges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::Ipv4Text>")]
    pub address: Option<Ipv4Addr>,
    /// Further names and addresses in the API server's certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_sans: Vec<String>,
}

/// Pod networks that can be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// flannel (VXLAN); no NetworkPolicy.
    #[default]
    Flannel,
    /// None: nodes stay NotReady until the user installs one.
    None,
}

/// The control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlaneSpec {
    /// 1, 3 or 5.
    pub replicas: u32,
    /// MachineClass.
    pub class: String,
    /// Whether members must be on different hosts.
    #[serde(default)]
    pub spread: Spread,
}

/// What happens to disks before they are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WipeDisks {
    /// Nothing: the file is deleted. No machine is shown what it held, since new files read as zeros; who gets the medium itself
    /// may find it there.
    #[default]
    None,
    /// What the file holds is overwritten with zeros where it lies, once the machine is off; what it leaves empty stays so. Takes
    /// as long as the medium needs to write that. File systems that write elsewhere instead (btrfs, zfs) cannot do it, and
    /// flash may keep copies that nobody can address.
    Zero,
}

impl WipeDisks {
    fn is_none(&self) -> bool {
        *self == WipeDisks::None
    }
}

/// What room a cluster's new machines leave in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Admission {
    /// After any one host has died, there is still room for its machines on the others. Replacements of machines
    /// that were lost may use that room: it is what it is for.
    #[serde(rename = "n+1")]
    NPlusOne,
    /// Hosts may be filled.
    #[serde(rename = "none")]
    None,
}

/// How strictly control planes are spread over hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Spread {
    /// Different hosts, or the plan is refused.
    #[default]
    Required,
    /// Different hosts as far as they go; it is said when that is not highly available.
    Preferred,
}

/// A worker group inside a Cluster file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InlineWorkerGroup {
    /// Name of the group.
    pub name: String,
    /// MachineClass.
    pub class: String,
    /// Number of machines; absent leaves the present number alone, so that an autoscaler and `apply` do not fight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Node labels.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Node taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<crate::Taint>,
    /// How machines are replaced by others of another version or class.
    #[serde(default, skip_serializing_if = "crate::Rollout::is_default")]
    pub rollout: crate::Rollout,
}

impl InlineWorkerGroup {
    /// The WorkerGroup's spec for a cluster of the given name.
    pub fn to_spec(&self, cluster: &str) -> WorkerGroupSpec {
        WorkerGroupSpec {
            cluster: cluster.to_owned(),
            class: self.class.clone(),
            replicas: self.replicas,
            labels: self.labels.clone(),
            taints: self.taints.clone(),
            rollout: self.rollout,
        }
    }
}

/// What the planner recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRecord {
    /// The API's virtual address and VRRP id, once chosen; kept until the cluster is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<AllocatedEndpoint>,
    /// Image chosen for new machines, by name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Last number used in a control-plane machine's name: names are never used twice.
    #[serde(default)]
    pub last_control_plane_number: u32,
    /// True once a control plane was initialized: certificates are never made anew after that.
    #[serde(default)]
    pub initialized: bool,
    /// Joins of control planes that failed since one succeeded last, and were replaced.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_joins: u32,
    /// Control planes that were replaced because they were not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// An upgrade began: what kubeadm once made in the cluster is since then kept up to date by Ashlar.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upgraded: bool,
    /// `cluster stop` turned the machines off; `cluster start` turns them on again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// One member of its etcd is being defragmented: nothing else disturbs a control plane of the cluster meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defragmenting: Option<Defragmentation>,
}

/// A member of etcd writes its database anew, and answers nobody until that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defragmentation {
    /// The machine whose member it is.
    pub machine: String,
    /// When it was decided.
    #[schemars(with = "crate::schema::TimeText")]
    pub since: Timestamp,
    /// From then on it counts for nothing, whether anybody heard of its end or not.
    #[schemars(with = "crate::schema::TimeText")]
    pub until: Timestamp,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The endpoint that the planner chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllocatedEndpoint {
    /// Virtual address.
    #[schemars(with = "crate::schema::Ipv4Text")]
    pub address: Ipv4Addr,
    /// Port.
    pub port: u16,
    /// VRRP router id on the network's segment.
    pub vrrp_id: u8,
}

/// What was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterStatus {
    /// Conditions: Ready, ControlPlaneReady, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Machines that are Ready, of all.
    #[serde(default)]
    pub ready_machines: u32,
    /// Machines in all.
    #[serde(default)]
    pub machines: u32,
}

impl Spec for ClusterSpec {
    const KIND: Kind = Kind::Cluster;
    type Record = ClusterRecord;
    type Status = ClusterStatus;
}
