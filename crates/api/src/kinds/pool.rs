//! StoragePool: where volumes lie on hosts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Kind, Nothing, Resource, Spec};

/// A libvirt storage pool, of the same name on each of its hosts.
pub type StoragePool = Resource<StoragePoolSpec>;

/// A storage pool that exists on hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoragePoolSpec {
    /// Kind of pool.
    #[serde(rename = "type")]
    pub pool_type: PoolType,
    /// Libvirt's name of the pool.
    pub libvirt_name: String,
    /// Hosts that have it; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Per cent of the pool's capacity that claims may fill.
    #[serde(default = "default_fill")]
    pub max_fill_percent: u8,
}

fn default_fill() -> u8 {
    90
}

/// The kinds of pool that work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolType {
    /// A directory, local to each host.
    Dir,
}

/// What enrolment recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoragePoolRecord {
    /// Host → the pool there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, PoolOnHost>,
}

/// A pool on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolOnHost {
    /// Libvirt's UUID of the pool: another pool of the same name is not ours.
    #[schemars(with = "crate::schema::UuidText")]
    pub uuid: Uuid,
    /// Its directory.
    pub path: String,
    /// Capacity in MiB when it was enrolled.
    pub capacity_mib: u64,
}

impl Spec for StoragePoolSpec {
    const KIND: Kind = Kind::StoragePool;
    type Record = StoragePoolRecord;
    type Status = Nothing;
}
