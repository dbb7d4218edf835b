//! What counts as a machine that is not well, how long that is looked at, and how many are replaced for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// When machines that are not well are replaced. Each patience counts from when the ailment was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthPolicy {
    /// Whether machines that are not well are replaced; otherwise their conditions only say so.
    #[serde(default = "yes")]
    pub remediate: bool,
    /// How long a node may be not Ready while its VM runs, in seconds.
    #[serde(default = "node_not_ready_s")]
    pub node_not_ready_s: u32,
    /// How long a node that joined may be missing in the API while its VM runs, in seconds.
    #[serde(default = "ten_minutes_s")]
    pub node_missing_s: u32,
    /// How long a kubelet may not renew its lease while its node still counts as Ready, in seconds: from a minute after it
    /// last did.
    #[serde(default = "node_not_ready_s")]
    pub kubelet_silent_s: u32,
    /// How long a VM that was off may run again without its node being Ready, in seconds. The first boot of a machine has
    /// `nodeStartupTimeoutS`.
    #[serde(default = "ten_minutes_s")]
    pub guest_not_up_s: u32,
    /// How long a disk may be gone from its host, in seconds: somebody may bring it back.
    #[serde(default = "ten_minutes_s")]
    pub disk_lost_s: u32,
    /// How long the etcd of a control plane may be not healthy while its node is Ready, in seconds.
    #[serde(default = "ten_minutes_s")]
    pub etcd_not_healthy_s: u32,
    /// How long a static pod of a control plane (API server, controller manager, scheduler, etcd) may be missing or not
    /// Ready while its node is, in seconds.
    #[serde(default = "ten_minutes_s")]
    pub static_pod_not_ready_s: u32,
    /// How long a worker whose first boot failed is kept for whoever looks, in seconds; each one that takes its place and
    /// fails as well, twice as long as the one before. Where no worker of the cluster has joined yet, it stays.
    #[serde(default = "ten_minutes_s")]
    pub first_boot_failed_s: u32,
    /// Of a worker group at most so many percent are being replaced at a time (rounded down, but at least one).
    #[serde(default = "max_percent")]
    pub max_percent: u32,
    /// Machines of a group, or control planes, that are replaced in one incident; then a person is asked.
    #[serde(default = "max_replaced")]
    pub max_replaced: u32,
    /// Seconds from one replacement to the next of the same incident; doubled after each.
    #[serde(default = "backoff_s")]
    pub backoff_s: u32,
    /// An incident is over when nobody fell ill for so many seconds after its last replacement.
    #[serde(default = "incident_s")]
    pub incident_s: u32,
}

fn yes() -> bool {
    true
}
fn node_not_ready_s() -> u32 {
    300
}
fn ten_minutes_s() -> u32 {
    600
}
fn max_percent() -> u32 {
    40
}
fn max_replaced() -> u32 {
    3
}
fn backoff_s() -> u32 {
    300
}
fn incident_s() -> u32 {
    3600
}

impl Default for HealthPolicy {
    fn default() -> Self {
        HealthPolicy {
            remediate: yes(),
            node_not_ready_s: node_not_ready_s(),
            node_missing_s: ten_minutes_s(),
            kubelet_silent_s: node_not_ready_s(),
            guest_not_up_s: ten_minutes_s(),
            disk_lost_s: ten_minutes_s(),
            etcd_not_healthy_s: ten_minutes_s(),
            static_pod_not_ready_s: ten_minutes_s(),
            first_boot_failed_s: ten_minutes_s(),
            max_percent: max_percent(),
            max_replaced: max_replaced(),
            backoff_s: backoff_s(),
            incident_s: incident_s(),
        }
    }
}

impl HealthPolicy {
    /// Whether it is what nobody has to write.
    pub fn is_default(&self) -> bool {
        *self == HealthPolicy::default()
    }

    /// How long an ailment is looked at before the machine is replaced for it.
    pub fn patience_s(&self, kind: AilmentKind) -> u32 {
        match kind {
            AilmentKind::NodeNotReady => self.node_not_ready_s,
            AilmentKind::NodeMissing => self.node_missing_s,
            AilmentKind::KubeletSilent => self.kubelet_silent_s,
            AilmentKind::GuestNotUp => self.guest_not_up_s,
            AilmentKind::DiskLost => self.disk_lost_s,
            AilmentKind::EtcdNotHealthy => self.etcd_not_healthy_s,
            AilmentKind::StaticPodNotReady => self.static_pod_not_ready_s,
            AilmentKind::FirstBootFailed => self.first_boot_failed_s,
            // Who says that a host is off has been patient.
            AilmentKind::HostOff => 0,
        }
    }
}

/// What ails a machine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum AilmentKind {
    /// Its VM runs, and the API says that its node is not Ready.
    NodeNotReady,
    /// Its VM runs, and the API, which shows others, has no node of it any more.
    NodeMissing,
    /// Its VM runs, its kubelet renews its lease no more while others renew theirs, and its node's Ready condition does not
    /// say so.
    KubeletSilent,
    /// Its VM was off, runs again, and its node has not been Ready since.
    GuestNotUp,
    /// A disk that it used is gone from its host.
    DiskLost,
    /// Its node is Ready, and its member of etcd is not healthy.
    EtcdNotHealthy,
    /// Its node is Ready, and a static pod of its control plane is missing or not Ready.
    StaticPodNotReady,
    /// Its first boot failed.
    FirstBootFailed,
    /// Its host is proved off (`ashlar host fence`).
    HostOff,
}

/// What a machine was seen to suffer from. It is forgotten when the machine was seen well; a missing answer forgets
/// nothing, and proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ailment {
    /// What it is.
    pub kind: AilmentKind,
    /// When it was seen first.
    #[schemars(with = "crate::schema::TimeText")]
    pub since: Timestamp,
    /// When it was last counted as seen.
    #[schemars(with = "crate::schema::TimeText")]
    pub seen_at: Timestamp,
    /// How often it was seen again, each time a quarter of the patience after the last: time in which nobody
    /// looked or answered, or by which a clock jumped, counts for nothing.
    #[serde(default)]
    pub sightings: u32,
    /// How often it was off again after some of that was counted (`GuestNotUp`). The first time all of it is counted anew,
    /// and each further time a quarter less: a guest that goes off again and again is one that does not come up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Ailment {
    /// Sightings after which the patience is over.
    pub const PATIENCE_SIGHTINGS: u32 = 4;

    /// Whether the patience is over.
    pub fn is_due(&self) -> bool {
        self.sightings >= Self::PATIENCE_SIGHTINGS
    }
}

/// Why Ashlar itself replaces a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Remediation {
    /// What it suffered from.
    pub kind: AilmentKind,
    /// What was seen, for people.
    pub message: String,
}

/// Machines that were replaced because they were not well, in the present or last incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Incident {
    /// How many.
    pub replaced: u32,
    /// When the last one was.
    #[schemars(with = "crate::schema::TimeText")]
    pub last_at: Timestamp,
}
