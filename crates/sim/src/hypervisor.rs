//! libvirt on simulated hosts.

use std::sync::Arc;

use ashlar_api::{Accelerator, DomainIdentity};
use ashlar_engine::effects::{
    ConsoleChunk, EffectError, EffectErrorKind, HostProbe, HostTarget, Hypervisor, MigrationRoute, ProbeSeen,
    VolumeCreate, VolumeSource,
};
use ashlar_plan::{DomainSeen, DomainSpec, DomainState, HostWorld, PoolSeen, VolumeSeen};
use async_trait::async_trait;
use jiff::SignedDuration;
use uuid::Uuid;

use crate::glance::glance;
use crate::guest::{self, Guest};
use crate::host::{Hidden, SimDomain, SimHost, SimPool, SimVolume};
use crate::image::{Arrived, UploadFaultKind};
use crate::seed::SeedFacts;
use crate::{SimWorld, State};

fn error(kind: EffectErrorKind, host: &HostTarget, message: &str) -> EffectError {
    EffectError::new(kind, format!("host {}: {message}", host.name))
}

fn pool_of<'a>(state: &'a mut State, host: &HostTarget, pool: Uuid) -> Result<&'a mut SimPool, EffectError> {
    let seen = state.host(host)?;
    let hidden = seen.hides.contains(&Hidden::Pools);
    seen.pools
        .get_mut(&pool)
        .filter(|_| !hidden)
        .filter(|pool| pool.active)
        .ok_or_else(|| error(EffectErrorKind::NotFound, host, &format!("no active pool {pool}")))
}

fn domain_of<'a>(
    state: &'a mut State,
    host: &HostTarget,
    domain: Uuid,
) -> Result<&'a mut SimDomain, EffectError> {
    let seen = state.host(host)?;
    let hidden = seen.hides.contains(&Hidden::Domains);
    seen.domains
        .get_mut(&domain)
        .filter(|_| !hidden)
        .ok_or_else(|| error(EffectErrorKind::NotFound, host, &format!("no domain {domain}")))
}

/// What it shows, lies and all.
pub(crate) fn world_of(host: &SimHost) -> HostWorld {
    if let Some(stale) = &host.stale {
        return HostWorld::clone(stale);
    }
    HostWorld {
        domains: domains_of(host).map(|(uuid, domain)| (*uuid, domain.seen(*uuid))).collect(),
        pools: pools_of(host).map(|(uuid, pool)| (*uuid, seen_pool(host, pool))).collect(),
        ..HostWorld::default()
    }
}

fn domains_of(host: &SimHost) -> impl Iterator<Item = (&Uuid, &SimDomain)> {
    host.domains.iter().filter(|_| !host.hides.contains(&Hidden::Domains))
}

fn pools_of(host: &SimHost) -> impl Iterator<Item = (&Uuid, &SimPool)> {
    host.pools.iter().filter(|(_, pool)| pool.active && !host.hides.contains(&Hidden::Pools))
}

fn seen_pool(host: &SimHost, pool: &SimPool) -> PoolSeen {
    let mut seen = pool.seen();
    if host.hides.contains(&Hidden::Volumes) {
        seen.volumes.clear();
    }
    seen
}

impl SimWorld {
    /// A domain's name, for the transcript.
    fn domain_name(&self, host: &HostTarget, domain: Uuid) -> String {
        let state = self.state();
        let name = state.host_at(host).and_then(|host| host.domains.get(&domain)).map(|seen| &seen.name);
        name.cloned().unwrap_or_else(|| "(no such domain)".to_owned())
    }
}

#[async_trait]
impl Hypervisor for SimWorld {
    async fn probe(&self, host: &HostTarget) -> Result<HostProbe, EffectError> {
        self.look(host, |state| {
            let seen = state.host(host)?;
            Ok(HostProbe {
                host_uuid: seen.host_uuid,
                hostname: seen.hostname.clone(),
                capacity: seen.capacity.clone(),
                libvirt_version: "9.0.0".to_owned(),
                qemu_version: "7.2.0".to_owned(),
                machine_type: "pc-q35-7.2".to_owned(),
                kvm_claimed: true,
                architecture: "x86_64".to_owned(),
            })
        })
        .await
    }

    async fn start_probe(
        &self,
        host: &HostTarget,
        domain: Uuid,
        accelerator: Accelerator,
        _kernel_path: &str,
        _initrd_path: &str,
    ) -> Result<(), EffectError> {
        let target = host.clone();
        self.change(host, "start_probe", format!("{accelerator:?}"), move |state| {
            let host = &target;
            let seen = state.host(host)?;
            if accelerator == Accelerator::Kvm && !seen.kvm_works {
                return Err(error(EffectErrorKind::Refused, host, "failed to set MSR 0x10a"));
            }
            seen.probes.insert(domain, true);
            Ok(())
        })
        .await
    }

    async fn read_probe(&self, host: &HostTarget, domain: Uuid) -> Result<ProbeSeen, EffectError> {
        self.look(host, |state| {
            let marked = state.host(host)?.probes.get(&domain).copied().unwrap_or(false);
            Ok(ProbeSeen { running: false, marked, log_lines: Vec::new() })
        })
        .await
    }

    async fn observe(&self, host: &HostTarget) -> Result<HostWorld, EffectError> {
        let process = self.process;
        self.look(host, |state| {
            let host = state.host(host)?;
            host.glanced.remove(&process);
            Ok(world_of(host))
        })
        .await
    }

    async fn glance(&self, host: &HostTarget) -> Result<HostWorld, EffectError> {
        let process = self.process;
        self.look(host, |state| state.host(host).map(|host| glance(host, process))).await
    }

    async fn pool(&self, host: &HostTarget, pool: Uuid) -> Result<Option<PoolSeen>, EffectError> {
        self.look(host, |state| {
            let seen = state.host(host)?;
            let found = pools_of(seen).find(|(uuid, _)| **uuid == pool);
            Ok(found.map(|(_, pool)| seen_pool(seen, pool)))
        })
        .await
    }

    async fn pool_by_name(
        &self,
        host: &HostTarget,
        name: &str,
    ) -> Result<Option<(Uuid, PoolSeen)>, EffectError> {
        self.look(host, |state| {
            let seen = state.host(host)?;
            let found = pools_of(seen).find(|(_, pool)| pool.name == name);
            Ok(found.map(|(uuid, pool)| (*uuid, seen_pool(seen, pool))))
        })
        .await
    }

    async fn domain(&self, host: &HostTarget, domain: Uuid) -> Result<Option<DomainSeen>, EffectError> {
        self.look(host, |state| {
            let mut domains = domains_of(state.host(host)?);
            Ok(domains.find(|(uuid, _)| **uuid == domain).map(|(_, seen)| seen.seen(domain)))
        })
        .await
    }

    async fn domain_by_name(&self, host: &HostTarget, name: &str) -> Result<Option<DomainSeen>, EffectError> {
        self.look(host, |state| {
            let mut domains = domains_of(state.host(host)?);
            let found = domains.find(|(_, domain)| domain.name == name);
            Ok(found.map(|(uuid, domain)| domain.seen(*uuid)))
        })
        .await
    }

    async fn define_domain(&self, host: &HostTarget, domain: &DomainSpec) -> Result<(), EffectError> {
        let (target, domain) = (host.clone(), domain.clone());
        self.change(host, "define_domain", domain.name.clone(), move |state| {
            let (host, domain) = (&target, &domain);
            state.judge_define(host, domain);
            let seen = state.host(host)?;
            if let Some((other, _)) =
                seen.domains.iter().find(|(uuid, other)| other.name == domain.name && **uuid != domain.uuid)
            {
                // libvirt's own words.
                let message = format!("domain '{}' already exists with uuid {other}", domain.name);
                return Err(error(EffectErrorKind::AlreadyExists, host, &message));
            }
            // A running domain goes on as it was started; the new definition counts from the next start.
            if let Some(kept) = seen.domains.get_mut(&domain.uuid) {
                kept.redefine(domain);
                return Ok(());
            }
            let mut defined = SimDomain::defined(domain.clone());
            defined.take_definition();
            seen.domains.insert(domain.uuid, defined);
            Ok(())
        })
        .await
    }

    async fn start_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let target = host.clone();
        self.change(host, "start_domain", self.domain_name(host, domain), move |state| {
            let host = &target;
            state.judge_start(host, domain);
            let now = state.now;
            let bridges = state.host(host)?.all_bridges();
            let paths: Vec<String> = {
                let seen = domain_of(state, host, domain)?;
                if seen.state.is_active() {
                    return Ok(());
                }
                seen.take_definition();
                let Some(spec) = &seen.spec else {
                    seen.state = DomainState::Running;
                    return Ok(());
                };
                if let Some(nic) = spec.nics.iter().find(|nic| !bridges.contains(&nic.bridge)) {
                    let message = format!("no bridge {}", nic.bridge);
                    return Err(error(EffectErrorKind::Refused, host, &message));
                }
                let boot = [spec.kernel_path.clone(), spec.initrd_path.clone()];
                let backing = spec.disks.iter().filter_map(|disk| disk.backing_path.clone());
                seen.disk_paths
                    .iter()
                    .cloned()
                    .chain(boot)
                    .chain(backing)
                    .chain(seen.medium_path.clone())
                    .collect()
            };
            let seen = state.host(host)?;
            if let Some(missing) = paths.iter().find(|path| seen.volume_at(path).is_none()) {
                let message = format!("cannot access storage file '{missing}': no such file");
                return Err(error(EffectErrorKind::Refused, host, &message));
            }
            if let Some(locked) = paths.iter().find(|path| seen.is_locked(path, domain)) {
                let message = format!("Failed to get \"write\" lock of {locked}: another process uses it");
                return Err(error(EffectErrorKind::Refused, host, &message));
            }
            let seen = domain_of(state, host, domain)?;
            (seen.state, seen.left_by_migration) = (DomainState::Running, false);
            seen.running.clone_from(&seen.definition);
            seen.started_at = Some(now);
            seen.has_run = true;
            seen.guest = Guest::default();
            state.judge_goes_on(host, domain);
            Ok(())
        })
        .await
    }

    async fn shutdown_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let target = host.clone();
        self.change(host, "shutdown_domain", self.domain_name(host, domain), move |state| {
            let host = &target;
            state.judge_stop(host, domain, "shutdown_domain");
            let now = state.now;
            let seen = domain_of(state, host, domain)?;
            if !seen.state.is_active() {
                return Ok(());
            }
            // A guest that has not come so far does not hear the power button.
            if seen.guest.is_up() && seen.off_at.is_none() {
                seen.off_at = now.saturating_add(SignedDuration::from_secs(guest::OFF_S)).ok();
            }
            Ok(())
        })
        .await
    }

    async fn destroy_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let target = host.clone();
        self.change(host, "destroy_domain", self.domain_name(host, domain), move |state| {
            let host = &target;
            if state.host(host)?.probes.remove(&domain).is_some() {
                return Ok(());
            }
            state.judge_stop(host, domain, "destroy_domain");
            match domain_of(state, host, domain) {
                // What is not defined there is gone with its process.
                Ok(seen) if seen.arriving => {
                    state.host(host)?.domains.remove(&domain);
                }
                Ok(seen) if seen.state.is_active() => seen.power_off(),
                Ok(_) => {}
                // One that is gone is off.
                Err(error) if error.kind == EffectErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(())
        })
        .await
    }

    async fn migrate_domain(
        &self,
        from: &HostTarget,
        to: &HostTarget,
        domain: &DomainSpec,
        route: &MigrationRoute,
    ) -> Result<(), EffectError> {
        self.migrate(from, to, domain, route.timeout).await
    }

    async fn resume_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.resume(host, domain).await
    }

    async fn undefine_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let target = host.clone();
        self.change(host, "undefine_domain", self.domain_name(host, domain), move |state| {
            let host = &target;
            state.judge_undefine(host, domain);
            let seen = domain_of(state, host, domain)?;
            if seen.state.is_active() {
                // libvirt would make it transient; the engine must never ask for that.
                return Err(error(EffectErrorKind::Busy, host, "the domain is running"));
            }
            state.host(host)?.domains.remove(&domain);
            Ok(())
        })
        .await
    }

    async fn eject_medium(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let target = host.clone();
        self.change(host, "eject_medium", self.domain_name(host, domain), move |state| {
            let host = &target;
            state.judge_eject(host, domain);
            let seen = domain_of(state, host, domain)?;
            seen.medium_path = None;
            if let Some(spec) = &mut seen.spec {
                spec.seed_path = None;
            }
            Ok(())
        })
        .await
    }

    async fn create_volume(&self, host: &HostTarget, volume: &VolumeCreate) -> Result<(), EffectError> {
        let (target, volume) = (host.clone(), volume.clone());
        self.change(host, "create_volume", volume.file_name.clone(), move |state| {
            let (host, volume) = (&target, &volume);
            state.judge_create_volume(host, volume.pool, &volume.file_name);
            let damages = state.damages;
            if let Some(backing) = &volume.backing_path
                && state.host(host)?.volume_at(backing).is_none()
            {
                let message = format!("backing file {backing} does not exist");
                return Err(error(EffectErrorKind::Refused, host, &message));
            }
            let pool = pool_of(state, host, volume.pool)?;
            if pool.volumes.contains_key(&volume.file_name) {
                let message = format!("storage volume '{}' exists already", volume.file_name);
                return Err(error(EffectErrorKind::AlreadyExists, host, &message));
            }
            let needed_mib =
                if volume.backing_path.is_some() { 1 } else { volume.capacity_bytes.div_ceil(1 << 20) };
            if pool.used_mib() + needed_mib > pool.capacity_mib {
                let message = format!("pool {} is full", pool.name);
                return Err(error(EffectErrorKind::Exhausted, host, &message));
            }
            // One that is cut off in the middle leaves a shorter file behind.
            let is_cut = damages;
            let made = SimVolume {
                format: volume.format,
                capacity_bytes: volume.capacity_bytes >> u32::from(is_cut),
                backing_path: volume.backing_path.clone(),
                arrived: Arrived::default(),
                foreign: false,
                seed: None,
                joined: None,
                zeroed: false,
                lived: None,
            };
            pool.volumes.insert(volume.file_name.clone(), made);
            if is_cut {
                return Err(error(EffectErrorKind::Unreachable, host, "the connection was lost"));
            }
            Ok(())
        })
        .await
    }

    async fn upload_volume(
        &self,
        host: &HostTarget,
        pool: Uuid,
        file_name: &str,
        source: VolumeSource,
    ) -> Result<(), EffectError> {
        let what = match &source {
            VolumeSource::File { path, offset, length } if self.is_part(path, *length) => {
                format!("{file_name} from {} MiB on, {} MiB", offset >> 20, length >> 20)
            }
            _ => file_name.to_owned(),
        };
        let (target, file) = (host.clone(), file_name.to_owned());
        self.change(host, "upload_volume", what, move |state| {
            let (host, file_name) = (&target, file.as_str());
            state.judge_upload(host, pool, file_name);
            let seed = match &source {
                VolumeSource::Bytes { bytes, .. } => Some(Arc::new(SeedFacts::read(bytes))),
                VolumeSource::File { .. } => None,
            };
            if let Some(seed) = &seed {
                state.oracle.learn(seed);
            }
            let is_file = matches!(source, VolumeSource::File { .. });
            let fault = if is_file { state.upload_fault(&host.name) } else { None };
            let arrives_well = fault.is_none() && !state.damages;
            let volume = volume_of(state, host, pool, file_name)?;
            match &source {
                // The simulated image store: a file's name is its digest.
                VolumeSource::File { path, offset, length } => {
                    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                    volume.arrived.put(*offset, *length, name.filter(|_| arrives_well));
                    if let Some(UploadFaultKind::Cut(time)) = fault {
                        return Err(state.cut(host, time));
                    }
                }
                VolumeSource::Bytes { bytes, length } => {
                    if (bytes.len() as u64).max(*length) > volume.capacity_bytes {
                        let message = format!("{file_name}: the upload is larger than the volume");
                        return Err(error(EffectErrorKind::Refused, host, &message));
                    }
                    volume.seed = seed;
                }
            }
            Ok(())
        })
        .await
    }

    async fn wipe_volume(&self, host: &HostTarget, pool: Uuid, file_name: &str) -> Result<(), EffectError> {
        let (target, file) = (host.clone(), file_name.to_owned());
        self.change(host, "wipe_volume", file_name.to_owned(), move |state| {
            let (host, file_name) = (&target, file.as_str());
            state.judge_wipe(host, pool, file_name);
            let volume = volume_of(state, host, pool, file_name)?;
            volume.seed = None;
            volume.joined = None;
            volume.lived = None;
            volume.arrived = Arrived::default();
            Ok(())
        })
        .await
    }

    async fn delete_volume(&self, host: &HostTarget, pool: Uuid, file_name: &str) -> Result<(), EffectError> {
        let (target, file) = (host.clone(), file_name.to_owned());
        self.change(host, "delete_volume", file_name.to_owned(), move |state| {
            let (host, file_name) = (&target, file.as_str());
            state.judge_delete_volume(host, pool, file_name);
            volume_of(state, host, pool, file_name)?;
            pool_of(state, host, pool)?.volumes.remove(file_name);
            Ok(())
        })
        .await
    }

    async fn volume(
        &self,
        host: &HostTarget,
        pool: Uuid,
        file_name: &str,
    ) -> Result<Option<VolumeSeen>, EffectError> {
        self.look(host, |state| {
            let hidden = state.host(host)?.hides.contains(&Hidden::Volumes);
            let pool = pool_of(state, host, pool)?;
            let found = pool.volumes.get(file_name).filter(|_| !hidden);
            Ok(found.map(|volume| pool.seen_volume(volume)))
        })
        .await
    }

    async fn read_console(
        &self,
        host: &HostTarget,
        domain: &DomainIdentity,
        offset: u64,
    ) -> Result<ConsoleChunk, EffectError> {
        self.look(host, |state| {
            let Some(seen) = state.host(host)?.domains.get(&domain.uuid) else {
                return Ok(ConsoleChunk::default());
            };
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(seen.console.len());
            let bytes = seen.console[start..].to_vec();
            Ok(ConsoleChunk { next_offset: (start + bytes.len()) as u64, bytes })
        })
        .await
    }
}

fn volume_of<'a>(
    state: &'a mut State,
    host: &HostTarget,
    pool: Uuid,
    file_name: &str,
) -> Result<&'a mut SimVolume, EffectError> {
    let hidden = state.host(host)?.hides.contains(&Hidden::Volumes);
    let pool = pool_of(state, host, pool)?;
    // What libvirt only remembers is not there to be changed.
    let hidden = hidden || pool.hidden;
    pool.volumes
        .get_mut(file_name)
        .filter(|_| !hidden)
        .ok_or_else(|| error(EffectErrorKind::NotFound, host, &format!("no volume {file_name}")))
}
