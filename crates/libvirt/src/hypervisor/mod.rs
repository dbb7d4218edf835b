//! [`Hypervisor`] on real hosts.

mod domains;
mod migration;
mod observe;
mod probe;
mod upload;
mod volumes;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ashlar_api::{Accelerator, DomainIdentity};
use ashlar_engine::effects::{
    ConsoleChunk, EffectError, HostProbe, HostTarget, Hypervisor, MigrationRoute, ProbeSeen, VolumeCreate,
    VolumeSource, probe_name,
};
use ashlar_plan::{DomainSeen, DomainSpec, DomainState, HostWorld, PoolSeen, VolumeSeen};
use async_trait::async_trait;
use uuid::Uuid;

use crate::counters::{Counters, READ};
use crate::ffi::Connection;
use crate::hosts::{Hosts, Patience, Via, token_of};
use crate::known::Known;
use crate::lane::CallError;
use crate::{console, xml};

impl Hosts {
    /// A call that only looks.
    async fn ask<T: Send + 'static>(
        &self,
        host: &HostTarget,
        doing: impl Into<String>,
        call: impl FnOnce(&Connection, &Counters) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, EffectError> {
        let patience = Patience::Total(self.settings.call_timeout);
        self.entry(host)?
            .call(Via::Control, patience, doing.into(), |connection, counters, _| {
                counters.count(READ);
                call(connection, counters)
            })
            .await
    }

    /// What is there.
    async fn look(&self, host: &HostTarget, is_glance: bool) -> Result<HostWorld, EffectError> {
        let patience = Patience::Total(self.settings.call_timeout);
        let look = move |connection: &Connection, counters: &Counters, known: &mut Known| {
            counters.count(READ);
            known.read.begin(is_glance && connection.listens(), &connection.take_touched());
            let world = observe::world(connection, counters, &mut known.read);
            known.read.end();
            world
        };
        self.entry(host)?.call(Via::Control, patience, "say what is there".to_owned(), look).await
    }

    /// A call that changes something, and counts that itself: it may find that there is nothing to do.
    async fn change<T: Send + 'static>(
        &self,
        host: &HostTarget,
        via: Via,
        doing: impl Into<String>,
        call: impl FnOnce(&Connection, &Counters) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, EffectError> {
        token_of(host)?;
        let patience = Patience::Total(self.settings.slow_call_timeout);
        self.entry(host)?
            .call(via, patience, doing.into(), |connection, counters, _| call(connection, counters))
            .await
    }
}

#[async_trait]
impl Hypervisor for Hosts {
    async fn stirred(&self) {
        self.stirred.notified().await;
    }

    async fn probe(&self, host: &HostTarget) -> Result<HostProbe, EffectError> {
        // With a cold cache libvirt starts each QEMU to answer this.
        let patience = Patience::Total(self.settings.slow_call_timeout);
        self.entry(host)?
            .call(Via::Control, patience, "describe itself".to_owned(), |connection, counters, _| {
                counters.count(READ);
                probe::host(connection)
            })
            .await
    }

    async fn start_probe(
        &self,
        host: &HostTarget,
        domain: Uuid,
        accelerator: Accelerator,
        kernel_path: &str,
        initrd_path: &str,
    ) -> Result<(), EffectError> {
        let xml = xml::probe(domain, accelerator, kernel_path, initrd_path);
        self.change(host, Via::Control, "start a probe domain", move |connection, counters| {
            let xml = xml?;
            counters.count("start_probe");
            connection.start_transient(&xml)?;
            Ok(())
        })
        .await
    }

    async fn read_probe(&self, host: &HostTarget, domain: Uuid) -> Result<ProbeSeen, EffectError> {
        let seen = self.domain(host, domain).await?;
        let identity = DomainIdentity { uuid: domain, name: probe_name(domain) };
        let (console, qemu) = console::read_tails(self, host, &identity).await?;
        // Paused is how QEMU leaves a guest that the accelerator could not run.
        let running = seen.is_some_and(|seen| seen.state.is_active() && seen.state != DomainState::Paused);
        Ok(probe::seen(running, &console, &qemu))
    }

    async fn observe(&self, host: &HostTarget) -> Result<HostWorld, EffectError> {
        self.look(host, false).await
    }

    async fn glance(&self, host: &HostTarget) -> Result<HostWorld, EffectError> {
        self.look(host, true).await
    }

    async fn pool(&self, host: &HostTarget, pool: Uuid) -> Result<Option<PoolSeen>, EffectError> {
        self.ask(host, format!("show the pool {pool}"), move |connection, counters| {
            Ok(observe::active(connection.pool_by_uuid(pool), counters)?.map(|(_, seen)| seen))
        })
        .await
    }

    async fn pool_by_name(
        &self,
        host: &HostTarget,
        name: &str,
    ) -> Result<Option<(Uuid, PoolSeen)>, EffectError> {
        let wanted = name.to_owned();
        self.ask(host, format!("show the pool {name}"), move |connection, counters| {
            observe::active(connection.pool_by_name(&wanted), counters)
        })
        .await
    }

    async fn domain(&self, host: &HostTarget, domain: Uuid) -> Result<Option<DomainSeen>, EffectError> {
        self.ask(host, format!("show the domain {domain}"), move |connection, _| {
            observe::domain(connection.domain_by_uuid(domain))
        })
        .await
    }

    async fn domain_by_name(&self, host: &HostTarget, name: &str) -> Result<Option<DomainSeen>, EffectError> {
        let wanted = name.to_owned();
        self.ask(host, format!("show the domain {name}"), move |connection, _| {
            observe::domain(connection.domain_by_name(&wanted))
        })
        .await
    }

    async fn define_domain(&self, host: &HostTarget, domain: &DomainSpec) -> Result<(), EffectError> {
        token_of(host)?;
        let xml = xml::domain(domain);
        let doing = format!("define the domain {}", domain.name);
        let patience = Patience::Total(self.settings.slow_call_timeout);
        self.entry(host)?
            .call(Via::Control, patience, doing, move |connection, counters, known| {
                let xml = xml?;
                if !known.filter_seen {
                    domains::ensure_filter(connection, counters)?;
                    known.filter_seen = true;
                }
                counters.count("define_domain");
                connection.define_domain(&xml)?;
                Ok(())
            })
            .await
    }

    async fn start_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.change(host, Via::Work, format!("start the domain {domain}"), move |connection, counters| {
            domains::start(connection, counters, domain)
        })
        .await
    }

    async fn shutdown_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.change(
            host,
            Via::Control,
            format!("shut the domain {domain} down"),
            move |connection, counters| domains::shutdown(connection, counters, domain),
        )
        .await
    }

    async fn destroy_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.change(host, Via::Work, format!("end the domain {domain}"), move |connection, counters| {
            domains::destroy(connection, counters, domain)
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
        migration::run(self, from, to, domain, route).await
    }

    async fn resume_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let doing = format!("let the domain {domain} go on");
        // A guest stands still meanwhile: no connection is opened for it.
        self.change(host, Via::Control, doing, move |connection, counters| {
            domains::resume(connection, counters, domain)
        })
        .await
    }

    async fn undefine_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.change(host, Via::Work, format!("undefine the domain {domain}"), move |connection, counters| {
            domains::undefine(connection, counters, domain)
        })
        .await
    }

    async fn eject_medium(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        let doing = format!("eject the medium of the domain {domain}");
        self.change(host, Via::Control, doing, move |connection, counters| {
            domains::eject(connection, counters, domain)
        })
        .await
    }

    async fn create_volume(&self, host: &HostTarget, volume: &VolumeCreate) -> Result<(), EffectError> {
        let doing = format!("create the volume {}", volume.file_name);
        // Allocating gigabytes takes as long as the disk wants.
        let via = if volume.preallocate { Via::Bulk } else { Via::Work };
        let volume = volume.clone();
        self.change(host, via, doing, move |connection, counters| {
            volumes::create(connection, counters, &volume)
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
        token_of(host)?;
        let steps = Arc::new(AtomicU64::new(0));
        let patience = Patience::Stall(self.settings.stall_timeout, Arc::clone(&steps));
        let doing = format!("fill the volume {file_name}");
        let file_name = file_name.to_owned();
        self.entry(host)?
            .call(Via::Bulk, patience, doing, move |connection, counters, _| {
                let volume = connection.pool_by_uuid(pool)?.volume(&file_name)?;
                counters.count("upload_volume");
                upload::run(connection, &volume, &source, &steps)
            })
            .await
    }

    async fn wipe_volume(&self, host: &HostTarget, pool: Uuid, file_name: &str) -> Result<(), EffectError> {
        let wanted = file_name.to_owned();
        self.change(host, Via::Bulk, format!("wipe the volume {file_name}"), move |connection, counters| {
            let volume = connection.pool_by_uuid(pool)?.volume(&wanted)?;
            counters.count("wipe_volume");
            Ok(volume.wipe()?)
        })
        .await
    }

    async fn delete_volume(&self, host: &HostTarget, pool: Uuid, file_name: &str) -> Result<(), EffectError> {
        let wanted = file_name.to_owned();
        self.change(host, Via::Work, format!("delete the volume {file_name}"), move |connection, counters| {
            let volume = connection.pool_by_uuid(pool)?.volume(&wanted)?;
            counters.count("delete_volume");
            Ok(volume.delete()?)
        })
        .await
    }

    async fn volume(
        &self,
        host: &HostTarget,
        pool: Uuid,
        file_name: &str,
    ) -> Result<Option<VolumeSeen>, EffectError> {
        let wanted = file_name.to_owned();
        self.ask(host, format!("show the volume {file_name}"), move |connection, _| {
            volumes::seen(connection, pool, &wanted)
        })
        .await
    }

    async fn read_console(
        &self,
        host: &HostTarget,
        domain: &DomainIdentity,
        offset: u64,
    ) -> Result<ConsoleChunk, EffectError> {
        console::read(self, host, domain, offset).await
    }
}
