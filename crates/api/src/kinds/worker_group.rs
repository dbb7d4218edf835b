//! WorkerGroup: workers of one class in one cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Condition, Incident, Kind, Resource, Spec};

/// Workers of one class in one cluster.
pub type WorkerGroup = Resource<WorkerGroupSpec>;

/// What a group should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerGroupSpec {
    /// The cluster, in the same namespace.
    pub cluster: String,
    /// MachineClass.
    pub class: String,
    /// Number of machines; absent means 1 at first, then whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Node labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Node taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// How machines are replaced by others of another version or class.
    #[serde(default, skip_serializing_if = "Rollout::is_default")]
    pub rollout: Rollout,
}

/// How fast the machines of a group are replaced by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// Machines more than replicas meanwhile.
    #[serde(default = "one")]
    pub max_surge: u32,
    /// Machines less than replicas meanwhile.
    #[serde(default)]
    pub max_unavailable: u32,
}

fn one() -> u32 {
    1
}

impl Default for Rollout {
    fn default() -> Self {
        Rollout { max_surge: 1, max_unavailable: 0 }
    }
}

impl Rollout {
    /// Whether it is what nobody has to write.
    pub fn is_default(&self) -> bool {
        *self == Rollout::default()
    }
}

/// A node taint.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// Key.
    pub key: String,
    /// Value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// NoSchedule, PreferNoSchedule or NoExecute.
    pub effect: TaintEffect,
}

impl Taint {
    /// Whether pods that are there already have to go.
    pub fn evicts(&self) -> bool {
        self.effect == TaintEffect::NoExecute
    }
}

/// What a taint does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

/// What the planner recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerGroupRecord {
    /// Last number used in a machine's name: names are never used twice.
    #[serde(default)]
    pub last_number: u32,
    /// Machines that were replaced because they were not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
}

/// What was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkerGroupStatus {
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Machines that are Ready.
    #[serde(default)]
    pub ready_replicas: u32,
}

impl Spec for WorkerGroupSpec {
    const KIND: Kind = Kind::WorkerGroup;
    type Record = WorkerGroupRecord;
    type Status = WorkerGroupStatus;
}
