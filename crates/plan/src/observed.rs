//! What was seen of the world in one pass. A missing answer is a variant of its own, never an empty list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_api::{Machine, NamespacedName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Definition;
use crate::network::HostNetwork;
use crate::node_seen::NodeSeen;

/// The observed world.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Hosts by name. A host that is not in here was not asked.
    pub hosts: BTreeMap<String, HostSeen>,
    /// Clusters. A cluster that is not in here was not asked.
    #[serde(with = "crate::pairs")]
    pub clusters: BTreeMap<NamespacedName, ClusterSeen>,
    /// etcd of clusters. A cluster that is not in here was not asked.
    #[serde(default, with = "crate::pairs")]
    pub etcd: BTreeMap<NamespacedName, EtcdSeen>,
    /// Deprecated APIs in use, of clusters whose upgrade is wished. A cluster that is not in here was not asked.
    #[serde(default, with = "crate::pairs")]
    pub api_use: BTreeMap<NamespacedName, crate::ApiUseSeen>,
    /// Consoles of machines that have not joined yet.
    #[serde(with = "crate::pairs")]
    pub consoles: BTreeMap<NamespacedName, ConsoleSeen>,
}

/// What a host answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HostSeen {
    /// No answer: nothing may be concluded about what runs there.
    Unreachable {
        /// Why, for people.
        reason: String,
    },
    /// It answered, but is not the host that was enrolled, or belongs to another installation.
    NotOurs {
        /// Why, for people.
        reason: String,
    },
    /// It is ours, and another process of this installation took it over: nothing may be done here any more.
    Fenced {
        /// Who did, when, for people.
        reason: String,
        /// It obeys a token that this store never gave out: the store is an old copy, or one of two.
        #[serde(default)]
        store_is_behind: bool,
    },
    /// It answered completely.
    Seen(HostWorld),
}

/// Everything on a host that matters to us.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostWorld {
    /// All domains, ours and others'.
    pub domains: BTreeMap<Uuid, DomainSeen>,
    /// Active pools by UUID. A pool that is missing here is not mounted or not active: a reason to wait.
    pub pools: BTreeMap<Uuid, PoolSeen>,
    /// Pools that answer and are not believed, with the reason, for people. They are not among `pools`.
    #[serde(default)]
    pub distrusted_pools: BTreeMap<Uuid, String>,
    /// Networks.
    #[serde(default)]
    pub networks: NetworksSeen,
}

/// What a host has of our networks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum NetworksSeen {
    /// Nothing of ours was recorded there, so that it was not asked.
    #[default]
    NotAsked,
    /// It could not tell.
    Unknown {
        /// Why, for people.
        reason: String,
    },
    /// It told.
    Seen {
        /// Networks with our mark, by the Network's uid.
        networks: BTreeMap<Uuid, NetworkSeen>,
        /// Interfaces, namespaces and tables whose names are like ours, and which do not carry our mark.
        foreign: BTreeSet<String>,
        /// What the host calls itself; empty if nobody knows.
        #[serde(default)]
        hostname: String,
    },
}

/// One network on a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkSeen {
    /// What was last applied to its end; none if it is half made.
    pub applied: Option<Box<HostNetwork>>,
    /// Whether everything is still as it was then.
    pub intact: bool,
    /// Whether the bridge that people made, and that its taps are ports of, is not there any more.
    #[serde(default)]
    pub bridge_gone: bool,
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainSeen {
    /// Its UUID.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: DomainState,
    /// Our mark in its metadata; none on what is not Ashlar's.
    pub mark: Option<DomainMark>,
    /// Paths of all files that its disks use, backing files and CD-ROM media not among them.
    pub disk_paths: BTreeSet<String>,
    /// Path of the medium in its CD-ROM drive.
    pub medium_path: Option<String>,
    /// Whether its definition is kept on this host. That of a domain which is arriving from another host is not yet: libvirt keeps
    /// it once all has arrived, and before the guest goes on.
    #[serde(default = "yes")]
    pub persistent: bool,
    /// It is paused because it is arriving from another host, or has left for one (libvirt's reason of the pause).
    #[serde(default)]
    pub paused_by_migration: bool,
    /// It is off because its guest went on at another host (libvirt's reason, which a restart of libvirtd forgets).
    #[serde(default)]
    pub migrated_away: bool,
    /// What is defined; none where it is not told: of what is not Ashlar's.
    #[serde(default)]
    pub definition: Option<Arc<Definition>>,
    /// What runs, where that is not what is defined.
    #[serde(default)]
    pub running: Option<Arc<Definition>>,
}

fn yes() -> bool {
    true
}

impl DomainSeen {
    /// Whether it is the one that a call may have left: its UUID, its name and its mark say so.
    pub fn is_left(&self, installation: Uuid, left: &ashlar_api::LeftDomain) -> bool {
        let mark = self.mark.as_ref();
        self.uuid == left.uuid
            && self.name == left.name
            && mark
                .is_some_and(|mark| mark.installation == installation && mark.machine_uid == left.machine_uid)
    }
}

/// libvirt's domain states, as far as they make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DomainState {
    /// Running (or blocked).
    Running,
    /// Paused.
    Paused,
    /// Being shut down.
    ShuttingDown,
    /// Off.
    ShutOff,
    /// Crashed.
    Crashed,
}

impl DomainState {
    /// Whether its guest may write to its disks now.
    pub fn is_running(self) -> bool {
        matches!(self, DomainState::Running | DomainState::ShuttingDown)
    }

    /// Whether a QEMU process holds the domain's disks.
    pub fn is_active(self) -> bool {
        !matches!(self, DomainState::ShutOff | DomainState::Crashed)
    }
}

/// Our mark in a domain's metadata: enough for `ashlar recover --from-hosts` to rebuild a lost store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainMark {
    /// The Ashlar installation that it belongs to.
    pub installation: Uuid,
    /// The machine's uid.
    pub machine_uid: Uuid,
    /// The machine's generation when it was defined.
    pub generation: u64,
    /// The whole machine (it holds no secret). Shared: it is big, and most passes only look at the ids.
    pub machine: Option<Arc<Machine>>,
}

/// A storage pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolSeen {
    /// libvirt's name.
    pub name: String,
    /// Directory.
    pub path: String,
    /// Capacity.
    pub capacity_mib: u64,
    /// Free.
    pub available_mib: u64,
    /// Volumes by file name.
    pub volumes: BTreeMap<String, VolumeSeen>,
}

impl PoolSeen {
    /// Whether it is over that directory: somebody may have defined it anew over another one.
    pub fn is_at(&self, path: &str) -> bool {
        self.path.trim_end_matches('/') == path.trim_end_matches('/')
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeSeen {
    /// Virtual size in bytes.
    pub capacity_bytes: u64,
    /// Bytes that it takes.
    pub allocation_bytes: u64,
}

/// A cluster, seen through its API.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum ClusterSeen {
    /// The API did not answer (yet).
    Unreachable {
        /// Why, for people.
        reason: String,
    },
    /// Something answers at its address and does not prove to be this cluster's API: nothing that it says is believed.
    NotOurs {
        /// Why, for people.
        reason: String,
    },
    /// It answered.
    Seen(ClusterWorld),
}

/// What the API server says.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct ClusterWorld {
    /// Nodes by name.
    pub nodes: BTreeMap<String, NodeSeen>,
    /// Bootstrap tokens that exist in kube-system: token id → expiry.
    pub bootstrap_tokens: BTreeMap<String, Timestamp>,
    /// Those of them that Ashlar published: token id → the machine, in the cluster's namespace, that was to join.
    #[serde(default)]
    pub token_machines: BTreeMap<String, String>,
    /// Add-ons of ours that are applied: add-on name → digest of the manifest (an annotation of ours).
    pub addons: BTreeMap<String, String>,
    /// Pods of the nodes whose machines go, or are about to, by node. A node that is not in here was not asked about.
    #[serde(default)]
    pub pods: BTreeMap<String, Vec<PodSeen>>,
    /// Volumes (PersistentVolumes, by VolumeAttachment) that are attached to those nodes, by node.
    #[serde(default)]
    pub attached: BTreeMap<String, Vec<String>>,
    /// Requests for serving certificates of kubelets that nobody has decided yet, by name.
    #[serde(default)]
    pub serving_requests: BTreeMap<String, crate::ServingRequest>,
    /// The certificate that the API server showed which answered.
    #[serde(default)]
    pub api_certificate: Option<ApiCertificate>,
    /// kube-system pods that are Ready, and all.
    pub system_pods_ready: u32,
    /// All kube-system pods.
    pub system_pods: u32,
}

/// An API server's certificate.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct ApiCertificate {
    /// DNS names in it; kubeadm puts the node's among them.
    pub dns_names: BTreeSet<String>,
    /// When it runs out.
    pub ends_at: Timestamp,
}

/// A pod that would have to leave its node: not one of a DaemonSet, of the node itself, or one that has ended.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct PodSeen {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// It was asked to end already.
    pub terminating: bool,
    /// The PodDisruptionBudgets that speak for it.
    pub budgets: Vec<BudgetSeen>,
}

/// A PodDisruptionBudget, as its status says.
#[derive(Clone, Debug, Default, PartialEq, Hash, Serialize, Deserialize)]
pub struct BudgetSeen {
    /// Its name.
    pub name: String,
    /// Pods that may go now.
    pub disruptions_allowed: u32,
    /// Pods that have to be healthy.
    pub desired_healthy: u32,
    /// Pods that there are to be.
    pub expected_pods: u32,
}

/// A cluster's etcd, its members asked one by one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EtcdSeen {
    /// No member could say who belongs to it: no majority lives, or none can be reached.
    Unreachable {
        /// Why, for people.
        reason: String,
    },
    /// A majority agreed on its members.
    Seen(EtcdWorld),
}

/// What etcd says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EtcdWorld {
    /// Members by id.
    pub members: BTreeMap<u64, EtcdMember>,
    /// What each node on which a control plane runs said of itself, or why it said nothing. By node name.
    pub nodes: BTreeMap<String, Result<EtcdStatus, String>>,
}

/// A member of etcd, as the others know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdMember {
    /// Its id.
    pub id: u64,
    /// Its name, which is its node's; empty until it has started for the first time.
    pub name: String,
    /// Its peer URLs (`https://10.0.0.11:2380`): known from before it starts.
    pub peer_urls: Vec<String>,
    /// Whether it has no vote (yet).
    pub is_learner: bool,
}

impl EtcdMember {
    /// Whether it is the machine's: by its name, or before it has one by the address of its peers.
    pub fn is_of(&self, machine: &Machine) -> bool {
        if !self.name.is_empty() {
            return self.name == machine.spec.node.name;
        }
        machine.spec.node_address().is_some_and(|address| {
            let url = format!("https://{address}:");
            self.peer_urls.iter().any(|peer| peer.starts_with(&url))
        })
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdStatus {
    /// Its id.
    pub member_id: u64,
    /// Whom it follows; none if it knows no leader.
    pub leader: Option<u64>,
    /// Whether it has no vote (yet).
    pub is_learner: bool,
    /// Alarms and errors (no space, corrupt).
    pub errors: Vec<String>,
    /// etcd's version.
    pub version: String,
    /// Bytes of its database's file.
    pub db_size_bytes: u64,
    /// Bytes of it that hold something: the rest comes back by defragmentation.
    #[serde(default)]
    pub db_used_bytes: u64,
}

impl EtcdStatus {
    /// Why it does not count as healthy, if it does not, for the member that the others know.
    pub fn ailment_as(&self, member: &EtcdMember) -> Option<String> {
        if self.member_id != member.id {
            return Some("another member of an earlier life answers in its place".to_owned());
        }
        if !self.errors.is_empty() {
            return Some(self.errors.join(", "));
        }
        self.leader.is_none().then(|| "it knows no leader".to_owned())
    }
}

/// What the serial console of a machine said so far, already understood.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct ConsoleSeen {
    /// Phase for people: `firmware`, `kernel`, `cloud-init`, `kubeadm init: certs`, …
    pub phase: String,
    /// First boot ended well.
    pub finished: bool,
    /// First boot failed.
    pub failure: Option<ConsoleFailure>,
}

/// Why first boot failed, from the console.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct ConsoleFailure {
    /// Phase.
    pub phase: String,
    /// Likely cause and what to do.
    pub message: String,
    /// Last lines, scrubbed of secrets.
    pub log_lines: Vec<String>,
}
