//! Commands on simulated hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use ashlar_engine::effects::{EffectError, EffectErrorKind, FileChunks, HostShell, HostTarget};
use ashlar_plan::overwriting::AT_ONCE;
use async_trait::async_trait;

use crate::{SimWorld, State};

fn volume_at<'s>(
    state: &'s mut State,
    host: &HostTarget,
    path: &str,
) -> Result<&'s crate::SimVolume, EffectError> {
    let name = &host.name;
    let missing = || EffectError::new(EffectErrorKind::NotFound, format!("host {name}: no file {path}"));
    // A shell's command: nobody asks libvirt.
    state.host_by_ssh(host)?.volume_at(path).ok_or_else(missing)
}

/// A call that overwrites a disk; it ends with the value.
struct Overwriting {
    world: SimWorld,
    place: (String, usize),
}

impl Overwriting {
    fn begin(world: &SimWorld, host: &str) -> Self {
        let place = (host.to_owned(), world.process);
        let mut state = world.state();
        let now = state.overwriting.entry(place.clone()).or_default();
        *now += 1;
        if *now > AT_ONCE {
            let what = format!("{now} disks are overwritten at once on {host}");
            state.oracle_violated("bounds", what);
        }
        drop(state);
        Overwriting { world: world.clone(), place }
    }
}

impl Drop for Overwriting {
    fn drop(&mut self) {
        if let Some(now) = self.world.state().overwriting.get_mut(&self.place) {
            *now = now.saturating_sub(1);
        }
    }
}

#[async_trait]
impl HostShell for SimWorld {
    async fn file_sha256(&self, host: &HostTarget, path: &str) -> Result<String, EffectError> {
        self.look(host, |state| {
            let volume = volume_at(state, host, path)?;
            Ok(volume.arrived.sha256(volume.capacity_bytes))
        })
        .await
    }

    async fn file_chunks(
        &self,
        host: &HostTarget,
        path: &str,
        chunk_bytes: u64,
    ) -> Result<FileChunks, EffectError> {
        self.look(host, |state| {
            let volume = volume_at(state, host, path)?;
            Ok(volume.arrived.chunks(volume.capacity_bytes, chunk_bytes))
        })
        .await
    }

    async fn zero_file(
        &self,
        host: &HostTarget,
        path: &str,
        _timeout: Duration,
    ) -> Result<Option<String>, EffectError> {
        let copies = self.look(host, |state| {
            volume_at(state, host, path)?;
            let host = state.host_by_ssh(host)?;
            Ok(host.pools.values().any(|pool| pool.copies_on_write && pool.file_name(path).is_some()))
        });
        if copies.await? {
            let why = "its file system (btrfs) writes elsewhere, and not over what is there";
            return Ok(Some(why.to_owned()));
        }
        let _overwriting = Overwriting::begin(self, &host.name);
        let (target, path) = (host.clone(), path.to_owned());
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        self.change(host, "zero_volume", name, move |state| {
            let (host, path) = (&target, path.as_str());
            state.judge_zero(host, path);
            volume_at(state, host, path)?;
            if let Some(volume) = state.host_by_ssh(host)?.volume_at_mut(path) {
                volume.zeroed = true;
                volume.joined = None;
                volume.lived = None;
            }
            Ok(())
        })
        .await?;
        Ok(None)
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
        let is_visitor = host.lease_token.is_none();
        self.effect("release_lease", &host.name, move |state| {
            let host = &target;
            if is_visitor {
                return Err(crate::fault::visitor(&host.name));
            }
            // Asking for the host compares the lease: what is left to release is this caller's.
            state.host_by_ssh(host)?.lease = None;
            Ok(())
        })
        .await
    }

    async fn addresses_answer(
        &self,
        host: &HostTarget,
        bridge: &str,
        addresses: &[Ipv4Addr],
    ) -> Result<BTreeSet<Ipv4Addr>, EffectError> {
        self.look(host, |state| {
            state.host_by_ssh(host)?;
            let is_foreign = |address| state.foreign_addresses.contains(&(bridge.to_owned(), address));
            let answers = |address: &Ipv4Addr| {
                is_foreign(*address) || crate::guest::answers_at(state, bridge, *address)
            };
            Ok(addresses.iter().copied().filter(answers).collect())
        })
        .await
    }
}
