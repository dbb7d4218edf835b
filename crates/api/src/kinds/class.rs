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
