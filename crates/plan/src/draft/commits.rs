//! Writes of a plan, grouped into commits that the store takes as a whole.

use std::collections::BTreeMap;

use ashlar_api::{FINALIZER, Kind, Network, Object, ObjectRef};

use super::Overlay;
use crate::{Decision, Guard};

/// The most operations in one commit: etcd's default limit is 128.
pub const MAX_COMMIT_WRITES: usize = 100;

/// Writes that make sense only together, such as a machine with its volumes and the ledgers that it claims from.
#[derive(Default)]
pub(crate) struct Unit {
    writes: BTreeMap<ObjectRef, Decision>,
    claims: Vec<NetworkClaim>,
}

/// An address that was taken: it counts in the ledgers of all networks of its broadcast domain, and its own network
/// records the host. Kept as what changes, since a network's record names all its hosts: a copy for each machine would
/// make big plans quadratic.
pub(crate) struct NetworkClaim {
    pub(crate) network: String,
    /// Of the network that the machine is attached to.
    pub(crate) host: Option<String>,
}

impl NetworkClaim {
    pub(crate) fn apply(&self, network: &mut Network) {
        if Guard::Ledger.stands() {
            network.record.ledger_sequence += 1;
        }
        if let Some(host) = &self.host {
            network.record.hosts.insert(host.clone());
            if !network.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
                network.metadata.finalizers.push(FINALIZER.to_owned());
            }
        }
    }
}

impl Unit {
    pub(crate) fn create(&mut self, object: impl Into<Object>) {
        let object = object.into();
        self.writes.insert(object.object_ref(), Decision::Create(object));
    }

    /// An object that was read, or one that an earlier unit of this plan creates.
    pub(crate) fn update(&mut self, object: impl Into<Object>) {
        let object = object.into();
        self.writes.insert(object.object_ref(), Decision::Update(object));
    }

    /// The claim has been applied to the draft already.
    pub(crate) fn claim(&mut self, claim: NetworkClaim) {
        self.claims.push(claim);
    }

    pub(crate) fn remove(&mut self, object: ObjectRef, resource_version: &str) {
        let resource_version = resource_version.to_owned();
        self.writes.insert(object.clone(), Decision::Remove { object, resource_version });
    }

    /// No write, but the object must not have changed. A write of the same object says that already.
    pub(crate) fn check(&mut self, object: ObjectRef, resource_version: &str) {
        let resource_version = resource_version.to_owned();
        self.writes.entry(object.clone()).or_insert(Decision::Check { object, resource_version });
    }
}

/// All commits of a plan.
#[derive(Default)]
pub(crate) struct Commits {
    done: Vec<Vec<Decision>>,
    open: BTreeMap<ObjectRef, Decision>,
}

impl Commits {
    /// `networks` are those of the draft, with the unit's claims.
    pub(crate) fn push(&mut self, unit: Unit, networks: &Overlay<'_, String, Network>) {
        let object_of = |claim: &NetworkClaim| ObjectRef::new(Kind::Network, "", &claim.network);
        let claimed = unit.claims.iter().map(object_of).filter(|object| !unit.writes.contains_key(object));
        let new = unit.writes.keys().cloned().chain(claimed).filter(|object| !self.open.contains_key(object));
        if self.open.len() + new.count() > MAX_COMMIT_WRITES {
            self.close();
        }
        for claim in &unit.claims {
            match self.open.get_mut(&object_of(claim)) {
                Some(
                    Decision::Create(Object::Network(network)) | Decision::Update(Object::Network(network)),
                ) => {
                    claim.apply(network);
                }
                _ => {
                    let Some(network) = networks.get(&claim.network) else { continue };
                    self.open.insert(object_of(claim), Decision::Update(network.clone().into()));
                }
            }
        }
        for (object, decision) in unit.writes {
            let merged = match (self.open.remove(&object), decision) {
                // Still new to the store, with the later content.
                (Some(Decision::Create(_)), Decision::Update(later)) => Decision::Create(later),
                // The write has the same precondition.
                (Some(write), Decision::Check { .. }) => write,
                (_, decision) => decision,
            };
            self.open.insert(object, merged);
        }
    }

    /// Ends the commit at hand: what comes next has nothing to do with it.
    pub(crate) fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open).into_values().collect());
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Vec<Decision>> {
        self.close();
        self.done
    }
}
