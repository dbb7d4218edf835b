//! The host lease: the fencing token that this engine shows to a host.
//!
//! A token is taken right before the first change of a host in a run, so that a run that changes nothing writes
//! nothing. From then on the host refuses whoever shows a lower one.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ashlar_api::Host;
use ashlar_plan::Guard;

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

    /// Forgets all: a new run takes new ones.
    pub(crate) fn clear(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Engine {
    /// Makes sure that we hold the host's lease, and says how to reach it with that.
    pub(crate) async fn leased(&self, host: &Host) -> Result<HostTarget, EngineError> {
        let name = &host.metadata.name;
        let _taking = self.leases.taking.lock().await;
        if self.leases.get(name).is_none() && Guard::HostLease.stands() {
            let mut token = 0;
            let updated = objects::update(self.store.as_ref(), host, |host| {
                host.record.lease_token += 1;
                token = host.record.lease_token;
                true
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
