//! Proving the accelerator: a VM that boots says more than any file in /dev.

use std::time::Duration;

use ashlar_api::{Accelerator, HostSpec, StoragePool};
use uuid::Uuid;

use super::{EnrolError, Proof, add::host_ref, probe_image};
use crate::{
    Engine, EngineError,
    deadline::within,
    effects::{EffectErrorKind, HostTarget, ProbeSeen},
    ids::random_uuid,
    objects,
};

/// How long a probe VM may take. With KVM a small kernel is up within two seconds; under emulation on a busy machine
/// it took up to 40.
const KVM_DEADLINE: Duration = Duration::from_secs(60);
const EMULATED_DEADLINE: Duration = Duration::from_secs(180);
/// How often it is looked at.
const POLL: Duration = Duration::from_millis(500);
/// Lines of the consoles that an error carries.
const LOG_LINES: usize = 10;

/// Boots a probe VM with KVM, else by emulation, and records what worked.
pub(super) async fn prove(
    engine: &Engine,
    host: &str,
    image: &str,
    pools: &[StoragePool],
    kvm_claimed: bool,
) -> Result<Proof, EnrolError> {
    let pool = pools.first().ok_or_else(|| {
        EnrolError::Refused(format!("host {host} has no pool for the probe VM's files: name one"))
    })?;
    let files = probe_image::place(engine, host, image, pool).await?;
    let proof = try_both(engine, host, &files, kvm_claimed).await;
    // Whatever came out: what the probe needed goes.
    probe_image::take_away(engine, host).await?;
    let proof = proof?;
    let name = host_ref(host);
    let seen = objects::read::<HostSpec>(engine.store.as_ref(), &name)
        .await?
        .ok_or_else(|| EngineError::NoSuchObject(name))?;
    objects::update(engine.store.as_ref(), &seen, |host| {
        host.record.accelerator.replace(proof.accelerator) != Some(proof.accelerator)
    })
    .await?;
    Ok(proof)
}

async fn try_both(
    engine: &Engine,
    host: &str,
    files: &probe_image::ProbeFiles,
    kvm_claimed: bool,
) -> Result<Proof, EnrolError> {
    let kvm_refusal = if kvm_claimed {
        match try_one(engine, &files.target, Accelerator::Kvm, files, KVM_DEADLINE).await? {
            None => return Ok(Proof { accelerator: Accelerator::Kvm, kvm_refusal: None }),
            Some(reason) => reason,
        }
    } else {
        "libvirt offers no KVM there (is /dev/kvm missing, or virtualization off in the firmware?)".to_owned()
    };
    match try_one(engine, &files.target, Accelerator::Emulated, files, EMULATED_DEADLINE).await? {
        None => Ok(Proof { accelerator: Accelerator::Emulated, kvm_refusal: Some(kvm_refusal) }),
        Some(reason) => Err(EnrolError::NoAccelerator {
            host: host.to_owned(),
            reason: format!("with KVM: {kvm_refusal}; by emulation: {reason}"),
        }),
    }
}

/// Boots one probe VM; says why it did not come up, or nothing if it did.
async fn try_one(
    engine: &Engine,
    target: &HostTarget,
    accelerator: Accelerator,
    files: &probe_image::ProbeFiles,
    deadline: Duration,
) -> Result<Option<String>, EnrolError> {
    let domain = random_uuid(engine.world.entropy.as_ref());
    let doing = format!("starting a probe VM on host {}", target.name);
    let hypervisor = &engine.world.hypervisor;
    let clock = engine.world.clock.as_ref();
    let call = hypervisor.start_probe(target, domain, accelerator, &files.kernel_path, &files.initrd_path);
    let started = within(clock, engine.settings.call_deadline, &doing, call).await;
    let outcome = match started {
        Err(error) if error.kind == EffectErrorKind::Refused => Ok(Some(error.message)),
        Err(source) => Err(EngineError::Effect { doing, source }.into()),
        Ok(()) => wait_for_mark(engine, target, domain, deadline).await,
    };
    end(engine, target, domain).await;
    outcome
}

async fn wait_for_mark(
    engine: &Engine,
    target: &HostTarget,
    domain: Uuid,
    deadline: Duration,
) -> Result<Option<String>, EnrolError> {
    let clock = engine.world.clock.as_ref();
    let ends = clock.now().checked_add(deadline).unwrap_or(jiff::Timestamp::MAX);
    let doing = format!("reading the console of the probe VM on host {}", target.name);
    loop {
        let call = engine.world.hypervisor.read_probe(target, domain);
        let seen = within(clock, engine.settings.call_deadline, &doing, call)
            .await
            .map_err(|source| EngineError::Effect { doing: doing.clone(), source })?;
        if seen.marked {
            return Ok(None);
        }
        if !seen.running {
            return Ok(Some(format!("the probe VM ended without coming up{}", last_lines(&seen))));
        }
        if clock.now() >= ends {
            let seconds = deadline.as_secs();
            return Ok(Some(format!("the probe VM was not up after {seconds} s{}", last_lines(&seen))));
        }
        clock.sleep(POLL).await;
    }
}

fn last_lines(seen: &ProbeSeen) -> String {
    let skip = seen.log_lines.len().saturating_sub(LOG_LINES);
    seen.log_lines[skip..].iter().map(|line| format!("\n  {line}")).collect()
}

/// Ends the probe VM. It is transient and powers itself off: what cannot be ended now ends by itself.
async fn end(engine: &Engine, target: &HostTarget, domain: Uuid) {
    let doing = format!("ending the probe VM on host {}", target.name);
    let call = engine.world.hypervisor.destroy_domain(target, domain);
    let ended = within(engine.world.clock.as_ref(), engine.settings.call_deadline, &doing, call).await;
    if let Err(error) = ended
        && error.kind != EffectErrorKind::NotFound
    {
        tracing::debug!(%error, "the probe VM was not ended");
    }
}
