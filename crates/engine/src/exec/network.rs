//! Networks on hosts.

use ashlar_plan::network;

use super::{Failure, Job, Outcome, record};
use crate::effects::{EffectError, EffectErrorKind};

pub(super) async fn ensure(job: Job<'_>, name: &str, host: &str) -> Outcome {
    let wanted = match job.networks.get(&(name.to_owned(), host.to_owned())) {
        Some(found) => found.clone(),
        None => network::desired(job.snapshot, name, host),
    };
    let wanted = wanted.map_err(Failure::NotNow)?;
    if wanted.taps.is_empty() {
        return Err(Failure::NotNow(format!("no machine on {host} is attached to network {name} any more")));
    }
    let host = job.leased(host)?;
    let what = format!("setting up network {name} on {}", host.name);
    let answer = job.call(&what, job.engine.world.networks.apply_network(&host, &wanted)).await;
    if let Err(Failure::Effect(EffectError { kind: EffectErrorKind::Unreachable, .. })) = &answer
        && let Some(network) = job.snapshot.networks.get(name)
    {
        // It may take effect when nobody waits for it any more, even after the last machine there is gone.
        let now = job.engine.world.clock.now();
        record(job, network, |network| network.record.unanswered.insert(host.name.clone(), now) != Some(now))
            .await?;
    }
    answer
}

pub(super) async fn remove(job: Job<'_>, name: &str, host: &str) -> Outcome {
    let Some(network) = job.snapshot.networks.get(name) else {
        return Err(Failure::NotNow(format!("network {name} is not in the store any more")));
    };
    let uid = network.metadata.uid.unwrap_or_default();
    let host = job.leased(host)?;
    let what = format!("removing network {name} from {}", host.name);
    let installation = job.engine.settings.installation;
    job.call(&what, job.engine.world.networks.remove_network(&host, installation, uid)).await
}
