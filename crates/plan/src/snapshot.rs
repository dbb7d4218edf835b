//! Everything a plan is a function of.

use std::collections::BTreeSet;

use ashlar_api::*;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Objects, Observed};

/// One consistent reading of the store, beside what was observed. Plain data: it can be saved with a bug report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each map holds the objects of that kind, by name")]
pub struct Snapshot {
    /// This installation's identity, the owner in every mark.
    pub installation: Uuid,
    /// The one `now` of the pass.
    pub now: Timestamp,
    pub hosts: Objects<String, Host>,
    pub pools: Objects<String, StoragePool>,
    pub networks: Objects<String, Network>,
    pub images: Objects<String, Image>,
    pub classes: Objects<String, MachineClass>,
    #[serde(with = "crate::pairs::objects")]
    pub clusters: Objects<NamespacedName, Cluster>,
    #[serde(with = "crate::pairs::objects")]
    pub groups: Objects<NamespacedName, WorkerGroup>,
    #[serde(with = "crate::pairs::objects")]
    pub machines: Objects<NamespacedName, Machine>,
    #[serde(with = "crate::pairs::objects")]
    pub volumes: Objects<NamespacedName, Volume>,
    /// Secrets that exist: names and purposes, never values.
    #[serde(with = "crate::pairs::objects")]
    pub secrets: Objects<NamespacedName, SecretFacts>,
    /// Addresses on a network's segment that answered a probe although nobody here holds them.
    pub foreign_addresses: BTreeSet<(String, std::net::Ipv4Addr)>,
    /// Machines for which a call of the process that plans is under way, or was while it looked.
    #[serde(default)]
    pub under_way: BTreeSet<NamespacedName>,
    /// While more hosts than so many percent, and more than one, give no answer, none of them is turned off for that.
    #[serde(default = "fence_max_percent")]
    pub fence_max_percent: u32,
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

fn fence_max_percent() -> u32 {
    Snapshot::FENCE_MAX_PERCENT
}

impl Snapshot {
    /// [`fence_max_percent`](Self::fence_max_percent) unless people say otherwise.
    pub const FENCE_MAX_PERCENT: u32 = 20;

    /// An empty snapshot.
    pub fn empty(installation: Uuid, now: Timestamp) -> Self {
        Snapshot {
            installation,
            now,
            hosts: Objects::new(),
            pools: Objects::new(),
            networks: Objects::new(),
            images: Objects::new(),
            classes: Objects::new(),
            clusters: Objects::new(),
            groups: Objects::new(),
            machines: Objects::new(),
            volumes: Objects::new(),
            secrets: Objects::new(),
            foreign_addresses: BTreeSet::new(),
            under_way: BTreeSet::new(),
            fence_max_percent: fence_max_percent(),
            observed: Observed::default(),
        }
    }

    /// Whether an object is a machine whose deletion is recorded, or its cluster's.
    pub fn machine_goes(&self, object: &ObjectRef) -> bool {
        let machine = (object.kind == Kind::Machine).then(|| self.machines.get(&object.key())).flatten();
        machine.is_some_and(|machine| {
            let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
            machine.metadata.is_deleting()
                || self.clusters.get(&cluster).is_some_and(|cluster| cluster.metadata.is_deleting())
        })
    }

    /// A cluster's control planes, without a look at the machines of others: their names begin with the cluster's.
    pub fn control_planes<'s>(&'s self, cluster: &'s NamespacedName) -> impl Iterator<Item = &'s Machine> {
        let prefix = format!("{}-{}-", cluster.name, ashlar_api::names::CONTROL_PLANE_GROUP);
        let first = NamespacedName::new(&cluster.namespace, &prefix);
        self.machines
            .from(&first)
            .take_while(move |(key, _)| key.namespace == cluster.namespace && key.name.starts_with(&prefix))
            .map(|(_, machine)| machine)
            .filter(|machine| {
                machine.spec.role == MachineRole::ControlPlane && machine.spec.cluster == cluster.name
            })
    }
}
