//! Moving a domain to another host, alive. Every step looks at both ends first.

use ashlar_api::{Machine, MachineVolumeRole, Migration, NamespacedName};
use ashlar_plan::{
    DomainSeen, DomainState, Guard, MIGRATION_ATTEMPTS, domain::domain_spec, network::underlay,
};

use super::{Failure, Job, Outcome, fine_if_gone, owned, record};
use crate::effects::{EffectErrorKind, HostTarget, MigrationRoute};
use crate::objects;

/// What a host has of the machine.
enum Seen {
    /// The host is proved off.
    Off,
    /// It did not tell, and it does not matter.
    Nothing,
    No,
    Domain(DomainSeen),
}

impl Seen {
    fn domain(&self) -> Option<&DomainSeen> {
        match self {
            Seen::Domain(domain) => Some(domain),
            Seen::Off | Seen::Nothing | Seen::No => None,
        }
    }

    fn is_active(&self) -> bool {
        self.domain().is_some_and(|domain| domain.state.is_active())
    }

    /// Whether it gave it away: what it has did nothing after all had come to the target.
    fn has_left(&self, has_gone_on: bool) -> bool {
        match self {
            Seen::Nothing => false,
            Seen::Domain(domain) if domain.state.is_active() => false,
            _ if !Guard::CertainArrival.stands() => true,
            Seen::No => !has_gone_on,
            Seen::Domain(domain) => domain.left_by_migration && !has_gone_on,
            Seen::Off => false,
        }
    }
}

/// Both ends, with what is there of the machine.
struct Ends<'a> {
    machine: &'a Machine,
    migration: &'a Migration,
    to: HostTarget,
    here: Seen,
    there: Seen,
    /// Whether the store says by now that what is at the target is the machine.
    has_arrived: bool,
    /// Whether it says that its source went on beside what may be at the target.
    has_gone_on: bool,
    is_deleting: bool,
}

async fn look<'a>(job: Job<'a>, name: &NamespacedName) -> Result<Ends<'a>, Failure> {
    let machine = job.machine(name)?;
    let not_on_its_way = || Failure::NotNow(format!("machine {name} is not on its way to another host"));
    let migration = machine.record.migration.as_deref().ok_or_else(not_on_its_way)?;
    // Another process may have written since that it has arrived, or that it stays.
    let stored: Option<Machine> = objects::read(job.engine.store.as_ref(), &machine.object_ref()).await?;
    let stored = stored.filter(|stored| stored.metadata.uid == machine.metadata.uid);
    let is_deleting = stored.as_ref().is_some_and(|stored| stored.metadata.is_deleting());
    let stored = stored.and_then(|stored| stored.record.migration).filter(|stored| stored.is(migration));
    let stored = stored.ok_or_else(not_on_its_way)?;
    let (has_arrived, has_gone_on) = (stored.arrived_at.is_some(), stored.went_on_at.is_some());
    let to = job.leased(&migration.to)?;
    let here = match at(job, &machine.spec.host, machine).await {
        Err(Failure::Effect(_) | Failure::NotNow(_)) if has_arrived => Seen::Nothing,
        here => here?,
    };
    // The mark is that of the machine, whichever host it names.
    let there = at(job, &migration.to, machine).await?;
    Ok(Ends { machine, migration, to, here, there, has_arrived, has_gone_on, is_deleting })
}

/// What is of the machine at a host; nothing is asked of one that is proved off.
async fn at(job: Job<'_>, host: &str, machine: &Machine) -> Result<Seen, Failure> {
    if ashlar_plan::proof_of_host_off(job.snapshot, host).is_some() {
        return Ok(Seen::Off);
    }
    let host = job.leased(host)?;
    Ok(owned::domain(job, &host, machine).await?.map_or(Seen::No, Seen::Domain))
}

/// Writes down that what is at the target is the machine, before it goes on there: from then on nobody goes back to the source. Who
/// decided meanwhile that it stays was first.
async fn arrived(job: Job<'_>, machine: &Machine, moves: &Migration) -> Outcome {
    let now = job.engine.world.clock.now();
    let mut stands = false;
    let change = |machine: &mut Machine| match &mut machine.record.migration {
        Some(migration)
            if migration.is(moves) && (migration.went_on_at.is_none() || !Guard::CertainArrival.stands()) =>
        {
            stands = true;
            let is_new = migration.arrived_at.is_none();
            migration.arrived_at.get_or_insert(now);
            is_new
        }
        _ => {
            stands = false;
            false
        }
    };
    record(job, machine, change).await?;
    if stands {
        return Ok(());
    }
    let message =
        format!("what {} has at {} is not what counts any more: looked at again", machine.key(), moves.to);
    Err(Failure::NotNow(message))
}

/// Moves it. It stands still at the target when the call has ended well; the next step lets it go on.
pub(super) async fn migrate(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let Ends { machine, migration, to, here, there, has_arrived, has_gone_on, .. } = look(job, name).await?;
    let from = job.leased(&machine.spec.host)?;
    let here = here.domain().filter(|here| here.state == DomainState::Running && here.persistent);
    let Some(here) = here.filter(|_| matches!(there, Seen::No) && !has_arrived && !has_gone_on) else {
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
        Ok(()) => arrived(job, machine, migration).await,
        Err(other) => Err(other),
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

/// Lets it go on where all of it is, once it is certain that it did nothing at the other end after it came there.
pub(super) async fn resume(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let Ends { machine, migration, to, here, there, has_arrived, has_gone_on, .. } = look(job, name).await?;
    let is_certain = here.has_left(has_gone_on) || has_arrived && !here.is_active();
    let (host, domain) = match (here.domain(), &there) {
        (_, Seen::Domain(there)) if there.persistent && is_certain => {
            arrived(job, machine, migration).await?;
            (to, there)
        }
        (Some(here), Seen::No | Seen::Off) if here.paused_by_migration && !has_arrived => {
            (job.leased(&machine.spec.host)?, here)
        }
        _ => {
            let message = format!(
                "{name} is not at one of {} and {} alone: looked at again",
                machine.spec.host, to.name
            );
            return Err(Failure::NotNow(message));
        }
    };
    match domain.state {
        DomainState::Running => Ok(()),
        DomainState::Paused => {
            let what = format!("letting domain {} go on at {}", domain.name, host.name);
            job.call(&what, job.engine.world.hypervisor.resume_domain(&host, domain.uuid)).await
        }
        _ => Err(Failure::NotNow(format!("domain {} on {} is off", domain.name, host.name))),
    }
}

/// Ends what is left at the target of a move that ended in the middle, or removes its definition: it never ran there.
pub(super) async fn drop_arrival(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let Ends { machine, to, here, there, has_arrived, has_gone_on, is_deleting, .. } =
        look(job, name).await?;
    let Seen::Domain(there) = there else { return Ok(()) };
    let may_be_all = match &here {
        Seen::Nothing => true,
        Seen::Off => there.persistent && !is_deleting,
        here => there.persistent && here.has_left(has_gone_on),
    };
    if there.state.is_running() || has_arrived || may_be_all {
        let message =
            format!("{name} may have come to {}, and is not sure to be at {}", to.name, machine.spec.host);
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
