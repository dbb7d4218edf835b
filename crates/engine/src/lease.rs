//! The host lease: the fencing token that this engine shows to a host.
//!
//! A token is taken before the first change of a host in a run, so that a run that changes nothing writes nothing.
//! From then on the host refuses whoever shows a lower one. What was seen of the host before may be out of date: until
//! then another Ashlar may have worked on it. So the host is looked at once more, and only then changed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ashlar_api::{Host, Kind, Object};
use ashlar_plan::Guard;
use ashlar_store::{MAX_OPERATIONS, Transaction};

use crate::{Engine, EngineError, Settings, effects::HostTarget, objects};

/// Tokens taken by this engine, by host.
#[derive(Default)]
pub(crate) struct Leases {
    taken: Mutex<BTreeMap<String, u64>>,
    /// Held while a token is taken: two lanes that took one each would fence each other off.
    taking: tokio::sync::Mutex<()>,
}

impl Leases {
    /// How to reach a host: with the token that we took, else with the last one given out, which a host accepts for
    /// looking as long as nobody took a newer one.
    pub(crate) fn target(&self, host: &Host, settings: &Settings) -> HostTarget {
        HostTarget {
            name: host.metadata.name.clone(),
            uri: host.spec.uri.clone(),
            ssh_host_key: host.spec.ssh_host_key.clone(),
            ssh_key_path: host.spec.ssh_key_path.clone(),
            installation: settings.installation,
            lease_token: Some(self.get(&host.metadata.name).unwrap_or(host.record.lease_token)),
            host_uuid: host.record.host_uuid,
        }
    }

    fn get(&self, host: &str) -> Option<u64> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied()
    }

    /// Remembers a token that was stored with the host itself, at its enrolment.
    pub(crate) fn hold(&self, host: &str, token: u64) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), token);
    }

    /// Forgets one that a host refused: the next change of the host takes a new one.
    pub(crate) fn forget(&self, host: &str) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }

    /// Forgets all: a new run takes new ones.
    pub(crate) fn clear(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Engine {
    /// Takes the leases that are missing; says whether there were any. A host that is gone meanwhile, or that others take
    /// at the same time, is left to a later pass.
    pub(crate) async fn take_leases(&self, hosts: &[&Host]) -> Result<bool, EngineError> {
        let mut is_new = false;
        for host in hosts {
            if self.leases.get(&host.metadata.name).is_none() && Guard::HostLease.stands() {
                match self.leased(host).await {
                    Ok(_) => is_new = true,
                    Err(EngineError::NoSuchObject(_) | EngineError::Contended) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(is_new)
    }

    /// Takes the leases of all hosts, many in one commit. Whoever looks at a host after that ends what others do there.
    pub(crate) async fn take_all_leases(&self) -> Result<(), EngineError> {
        let _taking = self.leases.taking.lock().await;
        let listing = self.store.list_raw(Some(Kind::Host.name()), None).await?;
        let mut hosts = Vec::new();
        for raw in listing.items {
            if let Object::Host(host) = objects::from_raw(Kind::Host, raw)? {
                hosts.push(*host);
            }
        }
        for chunk in hosts.chunks_mut(MAX_OPERATIONS) {
            let mut transaction = Transaction::new();
            // Who is refused shows the last one again: a higher one would take the host from who has the newer store.
            let is_taken = |host: &&mut Host| Guard::HostLease.stands() && !host.record.is_lease_refused();
            for host in chunk.iter_mut().filter(is_taken) {
                host.record.lease_token += 1;
                let key = objects::key_of(&host.object_ref());
                let expect = objects::unchanged_since(&host.metadata.resource_version)?;
                let value = objects::to_stored(Object::from(host.clone()))?;
                transaction = transaction.put(key, value, expect);
            }
            if !transaction.writes.is_empty() {
                self.store.commit(transaction).await?;
            }
            for host in chunk {
                self.leases.hold(&host.metadata.name, host.record.lease_token);
            }
        }
        Ok(())
    }

    /// How to reach a host whose lease was taken; none if it was not, or is lost.
    pub(crate) fn held(&self, host: &Host) -> Option<HostTarget> {
        let is_held = self.leases.get(&host.metadata.name).is_some() || !Guard::HostLease.stands();
        is_held.then(|| self.leases.target(host, &self.settings))
    }

    /// Makes sure that we hold the host's lease, and says how to reach it with that.
    pub(crate) async fn leased(&self, host: &Host) -> Result<HostTarget, EngineError> {
        let name = &host.metadata.name;
        let _taking = self.leases.taking.lock().await;
        if self.leases.get(name).is_none() && Guard::HostLease.stands() {
            let mut token = 0;
            let updated = objects::update(self.store.as_ref(), host, |host| {
                let is_taken = !host.record.is_lease_refused();
                host.record.lease_token += u64::from(is_taken);
                token = host.record.lease_token;
                is_taken
            })
            .await?;
            if updated.is_none() {
                return Err(EngineError::NoSuchObject(host.object_ref()));
            }
            self.leases.hold(name, token);
        }
        Ok(self.leases.target(host, &self.settings))
    }
}
