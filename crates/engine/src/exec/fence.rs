//! Hosts that give no answer.

use ashlar_api::Host;
use ashlar_plan::too_many_silent;
use jiff::SignedDuration;

use super::{Failure, Job, Outcome, record};
use crate::fencing::{Dialled, NotOff};

/// A proof that is older than this is none: what was frozen in between may have slept while the host came back.
const PROOF_LASTS: SignedDuration = SignedDuration::from_secs(10);

/// Turns a host off, sees that it is, and records the proof, unless the host answered meanwhile.
pub(super) async fn fence(job: Job<'_>, name: &str) -> Outcome {
    let Some(host) = job.snapshot.hosts.get(name) else {
        return Err(Failure::NotNow(format!("host {name} is not in the store any more")));
    };
    // What a pass saw may have been the beginning of a cut between Ashlar and all of them: all are dialled once more.
    let enrolled: Vec<&Host> =
        job.snapshot.hosts.values().filter(|host| host.record.host_uuid.is_some()).collect();
    let may = |dialled: &Dialled<'_>| may_be_turned_off(job, host, dialled, enrolled.len());
    let turned_off = job.engine.turn_off_if(host, &enrolled, may);
    let proof = turned_off.await.map_err(|not_off| match not_off {
        NotOff::NotNow(message) => Failure::NotNow(message),
        // The daemon tries again after a rest, as whatever waits for a person.
        NotOff::Failed(error) => Failure::Blocked { reason: "FencingFailed", message: error.message },
        NotOff::Doubted(message) => Failure::Blocked { reason: "AnotherHostFellSilent", message },
        NotOff::Store(error) => Failure::Engine(error),
    })?;
    let since = host.record.silence.as_ref().map(|silence| silence.since);
    let clock = job.engine.world.clock.as_ref();
    let proved_at = clock.now();
    let mut answered = false;
    record(job, host, |host| {
        answered = since.is_none()
            || clock.now().duration_since(proved_at).abs() > PROOF_LASTS
            || host.record.silence.as_ref().map(|silence| silence.since) != since;
        if answered || host.record.fence.is_some() {
            return false;
        }
        if !host.spec.cordoned {
            host.spec.cordoned = true;
            host.metadata.generation += 1;
        }
        (host.record.fence, host.record.power_cut) = (Some(proof.clone()), None);
        true
    })
    .await?;
    if answered {
        return Err(Failure::NotNow(format!("host {name} may have answered meanwhile")));
    }
    Ok(())
}

fn may_be_turned_off(job: Job<'_>, host: &Host, dialled: &Dialled<'_>, all: usize) -> Result<(), String> {
    let silent = dialled.silent();
    let name = host.metadata.name.as_str();
    if !silent.contains(&name) {
        return Err(format!(
            "host {name} is not turned off: something answers at its address, though its libvirt does not. Look at it; if it \
             is to be turned off all the same: `ashlar host fence {name}`"
        ));
    }
    match too_many_silent(&silent, all, job.snapshot.fence_max_percent) {
        Some(message) => Err(message),
        None => Ok(()),
    }
}
