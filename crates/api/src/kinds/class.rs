//! MachineClass: the size of a machine.

use serde::{Deserialize, Serialize};

use crate::{Kind, Mebibytes, Nothing, Resource, Spec};

/// The size of a machine.
pub type MachineClass = Resource<MachineClassSpec>;

/// vCPUs, memory and disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineClassSpec {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: Mebibytes,
    /// Root disk (an overlay over the image).
    pub root_disk: Mebibytes,
    /// etcd's own raw disk; used by control planes only.
    #[serde(default = "default_etcd_disk")]
    pub etcd_disk: Mebibytes,
    /// Storage pool of the disks.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub storage_pool: String,
    /// Shared or dedicated CPUs.
    #[serde(default)]
    pub cpu_policy: CpuPolicy,
    /// Memory from the host's preallocated huge pages of this size; without, ordinary memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<HugepageSize>,
    /// NUMA nodes that a machine with dedicated CPUs or huge pages spans: it gets an equal part of each. Default: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_nodes: Option<u32>,
}

impl MachineClassSpec {
    /// NUMA nodes that a machine is bound to; none for one that floats over its whole host.
    pub fn bound_nodes(&self) -> u32 {
        if self.cpu_policy == CpuPolicy::Dedicated || self.hugepages.is_some() {
            self.numa_nodes.unwrap_or(1).max(1)
        } else {
            0
        }
    }
}

/// Sizes of huge pages.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum HugepageSize {
    /// 2 MiB.
    #[serde(rename = "2Mi")]
    Mib2,
    /// 1 GiB.
    #[serde(rename = "1Gi")]
    Gib1,
}

impl HugepageSize {
    /// Both.
    pub const ALL: [HugepageSize; 2] = [HugepageSize::Mib2, HugepageSize::Gib1];

    /// One page in MiB.
    pub fn mib(self) -> u64 {
        match self {
            HugepageSize::Mib2 => 2,
            HugepageSize::Gib1 => 1024,
        }
    }
}

impl std::fmt::Display for HugepageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", Mebibytes(self.mib()))
    }
}

fn default_etcd_disk() -> Mebibytes {
    Mebibytes::from_gib(4)
}

/// How a machine's vCPUs lie on the host's threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CpuPolicy {
    /// They share threads with other machines, up to the host's overcommit.
    #[default]
    Shared,
    /// One thread each, for this machine alone.
    Dedicated,
}

impl Spec for MachineClassSpec {
    const KIND: Kind = Kind::MachineClass;
    type Record = Nothing;
    type Status = Nothing;
}
