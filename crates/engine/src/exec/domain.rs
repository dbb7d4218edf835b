//! Domains: defining, starting, stopping, ejecting, removing.

use ashlar_api::{Machine, MachineVolumeRole, NamespacedName};
use ashlar_plan::{Guard, HostSeen, domain::domain_spec};
use uuid::Uuid;

use super::{Failure, Job, Outcome, etcd, fine_if_gone, owned, record, volume};
use crate::effects::{EffectError, EffectErrorKind, HostTarget};

pub(super) async fn define(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let host = job.leased(&machine.spec.host)?;
    // A foreign domain of this name or UUID blocks here; ours is defined again, with the same UUID.
    let is_gone = owned::domain(job, &host, machine).await?.is_none();
    if is_gone && machine.record.first_started_at.is_some() {
        nowhere_else(job, machine).await?;
    }
    if machine.record.first_started_at.is_none() {
        for disk in machine.spec.volumes.iter().filter(|disk| disk.role != MachineVolumeRole::Seed) {
            let disk = job.volume(&NamespacedName::new(&name.namespace, &disk.name))?;
            volume::refuse_half_made(job, &host, disk).await?;
        }
    }
    // The seed goes into the drive until the node has joined: after that there is none, or it is wiped.
    let with_seed = machine.record.joined_at.is_none()
        && machine
            .spec
            .volume(MachineVolumeRole::Seed)
            .and_then(|seed| job.snapshot.volumes.get(&NamespacedName::new(&name.namespace, seed)))
            .is_some_and(|seed| !seed.record.wiped);
    let spec = domain_spec(job.engine.settings.installation, machine, &job.snapshot.volumes, with_seed)
        .map_err(|missing| Failure::NotNow(missing.to_string()))?;
    let what = format!("defining domain {} on {}", spec.name, host.name);
    let outcome = job.call(&what, job.engine.world.hypervisor.define_domain(&host, &spec)).await;
    if let Err(Failure::Effect(EffectError { kind: EffectErrorKind::Unreachable, .. })) = &outcome {
        // It may take effect when nobody waits for it any more, even after the machine is gone.
        record(job, machine, |machine| !std::mem::replace(&mut machine.record.define_unanswered, true))
            .await?;
    }
    outcome
}

/// Looks once more whether another host has a domain that is gone: one that was migrated by hand may have been nowhere to be seen,
/// because the two hosts were not asked at the same moment.
async fn nowhere_else(job: Job<'_>, machine: &Machine) -> Outcome {
    let (hosts, uuid) = (&job.snapshot.observed.hosts, machine.spec.domain.uuid);
    let others = hosts.iter().filter(|(name, seen)| {
        matches!(seen, HostSeen::Seen(_)) && machine.hosts().all(|own| own != name.as_str())
    });
    let mut looks = Vec::new();
    for (name, _) in others {
        let target = job.engine.leases.target(job.host(name)?, &job.engine.settings);
        looks.push(async move {
            let what = format!("looking for domain {} on {}", machine.spec.domain.name, target.name);
            match job.observe(&what, job.engine.world.hypervisor.domain(&target, uuid)).await? {
                None => Ok(()),
                Some(_) => {
                    let message =
                        format!("domain {} is on {}: looked at again", machine.spec.domain.name, target.name);
                    Err(Failure::NotNow(message))
                }
            }
        });
    }
    futures::future::try_join_all(looks).await.map(drop)
}

/// Puts an edited definition right. One that went away meanwhile, or that moves, is not made here.
pub(super) async fn redefine(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let host = job.leased(&machine.spec.host)?;
    match owned::domain(job, &host, machine).await? {
        Some(domain) if !domain.paused_by_migration => define(job, name).await,
        _ => Err(Failure::NotNow(format!("the domain of machine {name} is not there, or moves"))),
    }
}

pub(super) async fn start(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let host = job.leased(&machine.spec.host)?;
    let domain = owned::domain(job, &host, machine)
        .await?
        .ok_or_else(|| Failure::NotNow(format!("the domain of machine {name} is not defined")))?;
    // In the store before the call: whoever comes after a crash must know that the disk may have been written.
    let now = job.engine.world.clock.now();
    let started = |machine: &mut ashlar_api::Machine| {
        let is_first = machine.record.first_started_at.is_none();
        machine.record.first_started_at.get_or_insert(now);
        is_first
    };
    if Guard::RecordedStart.stands() {
        record(job, machine, started).await?;
    }
    if domain.state.is_active() {
        return Ok(());
    }
    if domain.left_by_migration {
        return Err(Failure::NotNow(format!("domain {} went to another host: looked at again", domain.name)));
    }
    let what = format!("starting domain {} on {}", domain.name, host.name);
    job.call(&what, job.engine.world.hypervisor.start_domain(&host, domain.uuid)).await
}

pub(super) async fn shutdown(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let host = job.leased(&machine.spec.host)?;
    match owned::domain(job, &host, machine).await? {
        Some(domain) if domain.state.is_active() => {
            let what = format!("shutting down domain {} on {}", domain.name, host.name);
            job.call(&what, job.engine.world.hypervisor.shutdown_domain(&host, domain.uuid)).await
        }
        _ => Ok(()),
    }
}

pub(super) async fn destroy(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let host = job.leased(&machine.spec.host)?;
    match owned::domain(job, &host, machine).await? {
        Some(domain) if domain.state.is_active() => {
            etcd::ensure_out(job, machine).await?;
            let what = format!("stopping domain {} on {}", domain.name, host.name);
            fine_if_gone(
                job.call(&what, job.engine.world.hypervisor.destroy_domain(&host, domain.uuid)).await,
            )
        }
        _ => Ok(()),
    }
}

pub(super) async fn undefine(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let host = job.leased(&machine.spec.host)?;
    match owned::domain(job, &host, machine).await? {
        None => Ok(()),
        Some(domain) if domain.state.is_active() => {
            Err(Failure::NotNow(format!("domain {} still runs", domain.name)))
        }
        Some(domain) => {
            let what = format!("removing domain {} on {}", domain.name, host.name);
            fine_if_gone(
                job.call(&what, job.engine.world.hypervisor.undefine_domain(&host, domain.uuid)).await,
            )
        }
    }
}

/// A domain whose machine is gone or elsewhere: its host remembers that a call or a move may have left it.
pub(super) async fn undefine_left(job: Job<'_>, host: &str, uuid: Uuid) -> Outcome {
    let left = job.host(host)?.record.left_domains.iter().find(|left| left.uuid == uuid);
    let left = left.ok_or_else(|| Failure::NotNow(format!("nothing is known of domain {uuid}")))?;
    let host = job.leased(host)?;
    let hypervisor = &job.engine.world.hypervisor;
    let what = format!("looking at domain {} on {}", left.name, host.name);
    let Some(seen) = job.call(&what, hypervisor.domain(&host, uuid)).await? else { return Ok(()) };
    let is_left = seen.is_left(job.engine.settings.installation, left);
    if is_left && seen.stands_still_since_a_move(left) && is_not_here(job, &host, uuid).await? {
        let what = format!("ending what is of domain {} on {}", seen.name, host.name);
        return fine_if_gone(job.call(&what, hypervisor.destroy_domain(&host, uuid)).await);
    }
    if seen.state.is_active() || !is_left {
        let message = format!("domain {} on {} is another one by now, or runs", seen.name, host.name);
        return Err(Failure::NotNow(message));
    }
    let what = format!("removing domain {} on {}", seen.name, host.name);
    fine_if_gone(job.call(&what, hypervisor.undefine_domain(&host, uuid)).await)
}

/// Whether the machine of a domain that stands still here is gone, or to go, or seen where it is: then nobody will let this one go
/// on.
async fn is_not_here(job: Job<'_>, here: &HostTarget, uuid: Uuid) -> Result<bool, Failure> {
    let machine = job.snapshot.machines.values().find(|machine| machine.spec.domain.uuid == uuid);
    let Some(machine) = machine else { return Ok(true) };
    if machine.hosts().any(|host| host == here.name) {
        return Ok(false);
    }
    if machine.metadata.is_deleting() {
        return Ok(true);
    }
    let home = job.leased(&machine.spec.host)?;
    Ok(owned::domain(job, &home, machine).await?.is_some_and(|there| there.persistent))
}

pub(super) async fn eject(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let host = job.leased(&machine.spec.host)?;
    match owned::domain(job, &host, machine).await? {
        Some(domain) if domain.medium_path.is_some() => {
            let what = format!("ejecting the seed of domain {} on {}", domain.name, host.name);
            job.call(&what, job.engine.world.hypervisor.eject_medium(&host, domain.uuid)).await
        }
        _ => Ok(()),
    }
}
