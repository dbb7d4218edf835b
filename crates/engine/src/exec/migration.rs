//! Moving a domain to another host, alive. Every step looks at both ends first.

use ashlar_api::{Machine, MachineVolumeRole, Migration, NamespacedName};
use ashlar_plan::{DomainSeen, DomainState, MIGRATION_ATTEMPTS, domain::domain_spec, network::underlay};

use super::{Failure, Job, Outcome, fine_if_gone, owned, record};
use crate::effects::{EffectErrorKind, HostTarget, MigrationRoute};

/// Both ends, with what is there of the machine.
struct Ends<'a> {
    machine: &'a Machine,
    migration: &'a Migration,
    from: HostTarget,
    to: HostTarget,
    here: Option<DomainSeen>,
    there: Option<DomainSeen>,
}

async fn look<'a>(job: Job<'a>, name: &NamespacedName) -> Result<Ends<'a>, Failure> {
    let machine = job.machine(name)?;
    let migration = machine.record.migration.as_deref();
    let migration = migration
        .ok_or_else(|| Failure::NotNow(format!("machine {name} is not on its way to another host")))?;
    let from = job.leased(&machine.spec.host)?;
    let to = job.leased(&migration.to)?;
    let here = at(job, &from, machine).await?;
    // The mark is that of the machine, whichever host it names.
    let there = at(job, &to, machine).await?;
    Ok(Ends { machine, migration, from, to, here, there })
}

/// What is of the machine at a host; nothing at one that is proved off.
async fn at(job: Job<'_>, host: &HostTarget, machine: &Machine) -> Result<Option<DomainSeen>, Failure> {
    match ashlar_plan::proof_of_host_off(job.snapshot, &host.name) {
        Some(_) => Ok(None),
        None => owned::domain(job, host, machine).await,
    }
}

/// Moves it. It stands still at the target when the call has ended well; the next step lets it go on.
pub(super) async fn migrate(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let Ends { machine, migration, from, to, here, there } = look(job, name).await?;
    let here = here.filter(|here| here.state == DomainState::Running && here.persistent);
    let Some(here) = here.filter(|_| there.is_none()) else {
        let message = format!("{name} does not run on {} alone: looked at again", from.name);
        return Err(Failure::NotNow(message));
    };
    let mut own = Vec::new();
    for volume in &machine.spec.volumes {
        if volume.role != MachineVolumeRole::Seed {
            own.push(job.volume(&NamespacedName::new(&name.namespace, &volume.name))?.spec.path());
        }
    }
    if let Some(path) = here.disk_paths.iter().chain(&here.medium_path).find(|path| !own.contains(path)) {
        let message =
            format!("{path} is attached to {} beside its own disks, and would stay behind", here.name);
        return failed(job, machine, message, MIGRATION_ATTEMPTS).await;
    }
    for volume in &migration.volumes {
        let volume = job.volume(&NamespacedName::new(&name.namespace, &volume.name))?;
        if owned::volume(job, &to, volume).await?.is_none() {
            let message = format!("{} is not on {} (any more)", volume.spec.path(), to.name);
            return Err(Failure::NotNow(message));
        }
    }
    let Some(moved) = machine.moved() else { return Ok(()) };
    let spec = domain_spec(job.engine.settings.installation, &moved, &job.snapshot.volumes, false)
        .map_err(|missing| Failure::NotNow(missing.to_string()))?;
    let Some(address) = underlay(job.host(&to.name)?) else {
        let message = format!("host {} has no IPv4 address that is known: set spec.underlayAddress", to.name);
        return failed(job, machine, message, MIGRATION_ATTEMPTS).await;
    };
    let timeout = job.engine.settings.migration_deadline;
    let route = MigrationRoute { address, timeout };
    let what = format!("moving domain {} from {} to {}", spec.name, from.name, to.name);
    let call = job.engine.world.hypervisor.migrate_domain(&from, &to, &spec, &route);
    // The call keeps to its time itself, and undoes what it began; this is for one that does not.
    let limit = timeout.saturating_add(job.engine.settings.call_deadline);
    match job.call_within(limit, &what, call).await {
        Err(Failure::Effect(error)) => {
            let counts = match error.kind {
                EffectErrorKind::Fenced | EffectErrorKind::NotOurs => 0,
                EffectErrorKind::Refused => MIGRATION_ATTEMPTS,
                _ => 1,
            };
            note(job, machine, &error.message, counts).await?;
            Err(Failure::Effect(error))
        }
        other => other,
    }
}

/// Counts a failure, and is one.
async fn failed(job: Job<'_>, machine: &Machine, message: String, counts: u32) -> Outcome {
    note(job, machine, &message, counts).await?;
    Err(Failure::NotNow(message))
}

async fn note(job: Job<'_>, machine: &Machine, message: &str, counts: u32) -> Outcome {
    let now = job.engine.world.clock.now();
    let change = |machine: &mut Machine| match &mut machine.record.migration {
        Some(migration) if counts > 0 => {
            migration.failures += counts;
            migration.failed_at = Some(now);
            message.clone_into(&mut migration.last_failure);
            true
        }
        _ => false,
    };
    record(job, machine, change).await
}

/// Lets it go on where all of it is, once it was seen that nothing of it can go on at the other end.
pub(super) async fn resume(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let Ends { from, to, here, there, .. } = look(job, name).await?;
    let is_active = |seen: &Option<DomainSeen>| seen.as_ref().is_some_and(|seen| seen.state.is_active());
    let (host, domain) = match (&here, &there) {
        (_, Some(there)) if there.persistent && !is_active(&here) => (&to, there),
        (Some(here), None) if here.paused_by_migration => (&from, here),
        _ => {
            let message =
                format!("{name} is not at one of {} and {} alone: looked at again", from.name, to.name);
            return Err(Failure::NotNow(message));
        }
    };
    match domain.state {
        DomainState::Running => Ok(()),
        DomainState::Paused => {
            let what = format!("letting domain {} go on at {}", domain.name, host.name);
            job.call(&what, job.engine.world.hypervisor.resume_domain(host, domain.uuid)).await
        }
        _ => Err(Failure::NotNow(format!("domain {} on {} is off", domain.name, host.name))),
    }
}

/// Ends what is left at the target of a move that ended in the middle, or removes its definition: it never ran there.
pub(super) async fn drop_arrival(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let Ends { from, to, here, there, .. } = look(job, name).await?;
    let Some(there) = there else { return Ok(()) };
    if there.state.is_running() || here.is_none() && there.persistent {
        let message =
            format!("{name} may have gone on at {}, and is not sure to be at {}", to.name, from.name);
        return Err(Failure::NotNow(message));
    }
    let hypervisor = &job.engine.world.hypervisor;
    if there.state.is_active() {
        let what = format!("ending what is of domain {} on {}", there.name, to.name);
        return fine_if_gone(job.call(&what, hypervisor.destroy_domain(&to, there.uuid)).await);
    }
    let what = format!("removing domain {} on {}", there.name, to.name);
    fine_if_gone(job.call(&what, hypervisor.undefine_domain(&to, there.uuid)).await)
}
