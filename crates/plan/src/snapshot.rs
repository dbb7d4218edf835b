//! Everything a plan is a function of.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Observed;

/// One consistent reading of the store, beside what was observed. Plain data: it can be saved with a bug report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each map holds the objects of that kind, by name")]
pub struct Snapshot {
    /// This installation's identity, the owner in every mark.
    pub installation: Uuid,
    /// The one `now` of the pass.
    pub now: Timestamp,
    pub hosts: BTreeMap<String, Host>,
    pub pools: BTreeMap<String, StoragePool>,
    pub networks: BTreeMap<String, Network>,
    pub images: BTreeMap<String, Image>,
    pub classes: BTreeMap<String, MachineClass>,
    #[serde(with = "crate::pairs")]
    pub clusters: BTreeMap<NamespacedName, Cluster>,
    #[serde(with = "crate::pairs")]
    pub groups: BTreeMap<NamespacedName, WorkerGroup>,
    #[serde(with = "crate::pairs")]
    pub machines: BTreeMap<NamespacedName, Machine>,
    #[serde(with = "crate::pairs")]
    pub volumes: BTreeMap<NamespacedName, Volume>,
    /// Secrets that exist: names and purposes, never values.
    #[serde(with = "crate::pairs")]
    pub secrets: BTreeMap<NamespacedName, SecretFacts>,
    /// Addresses on a network's segment that answered a probe although nobody here holds them.
    pub foreign_addresses: BTreeSet<(String, std::net::Ipv4Addr)>,
    /// What was seen.
    pub observed: Observed,
}

/// What a plan may know about a secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SecretFacts {
    /// What it is for.
    pub purpose: SecretPurpose,
    /// resourceVersion, for compare-and-set.
    pub resource_version: String,
    /// For join tokens: the token's id (its public half).
    pub token_id: Option<String>,
}

impl Snapshot {
    /// An empty snapshot.
    pub fn empty(installation: Uuid, now: Timestamp) -> Self {
        Snapshot {
            installation,
            now,
            hosts: BTreeMap::new(),
            pools: BTreeMap::new(),
            networks: BTreeMap::new(),
            images: BTreeMap::new(),
            classes: BTreeMap::new(),
            clusters: BTreeMap::new(),
            groups: BTreeMap::new(),
            machines: BTreeMap::new(),
            volumes: BTreeMap::new(),
            secrets: BTreeMap::new(),
            foreign_addresses: BTreeSet::new(),
            observed: Observed::default(),
        }
    }
}
