//! Commands on simulated hosts.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ashlar_engine::effects::{EffectError, EffectErrorKind, HostShell, HostTarget};
use async_trait::async_trait;

use crate::SimWorld;

#[async_trait]
impl HostShell for SimWorld {
    async fn file_sha256(&self, host: &HostTarget, path: &str) -> Result<String, EffectError> {
        self.look(host, |state| {
            let name = &host.name;
            state
                .host_by_ssh(host)?
                .volume_at(path)
                .and_then(|volume| volume.content_sha256.clone())
                .ok_or_else(|| {
                    EffectError::new(EffectErrorKind::NotFound, format!("host {name}: no file {path}"))
                })
        })
        .await
    }

    async fn check_facts(
        &self,
        host: &HostTarget,
        _pool_path: &str,
    ) -> Result<BTreeMap<String, String>, EffectError> {
        self.look(host, |state| state.host_by_ssh(host).map(|_| BTreeMap::new())).await
    }

    async fn release_lease(&self, host: &HostTarget) -> Result<(), EffectError> {
        let target = host.clone();
        self.effect("release_lease", &host.name, move |state| {
            let host = &target;
            // Asking for the host compares the lease: what is left to release is this caller's.
            state.host_by_ssh(host)?.lease = None;
            Ok(())
        })
        .await
    }

    async fn address_answers(
        &self,
        host: &HostTarget,
        bridge: &str,
        address: Ipv4Addr,
    ) -> Result<bool, EffectError> {
        self.look(host, |state| {
            state.host_by_ssh(host)?;
            let is_foreign = state.foreign_addresses.contains(&(bridge.to_owned(), address));
            Ok(is_foreign || crate::guest::answers_at(state, bridge, address))
        })
        .await
    }
}
