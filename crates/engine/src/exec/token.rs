//! Join tokens in the cluster.

use ashlar_api::NamespacedName;
use ashlar_plan::names;
use jiff::SignedDuration;

use super::{Failure, Job, Outcome, secret};
use crate::{effects::KubeTarget, pki::JoinToken, read::TOKEN_ID_LABEL};

/// How long a token lives; renewed only while its join runs.
const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_mins(15);

pub(super) async fn publish(job: Job<'_>, machine: &NamespacedName) -> Outcome {
    let name = names::join_secret(machine);
    let values = secret::open(job, &name).await?;
    let token =
        JoinToken::parse(&secret::text(&name, &values, secret::TOKEN)?).ok_or_else(|| Failure::Blocked {
            reason: "TokenUnreadable",
            message: format!(
                "secret {name} holds no join token; delete machine {machine} to have another made"
            ),
        })?;
    let target = cluster_target(job, machine).await?;
    let now = job.engine.world.clock.now();
    let expires = now.checked_add(TOKEN_LIFETIME).unwrap_or(now);
    let what = format!("publishing the join token of machine {machine}");
    let description = names::token_description(machine);
    let call =
        job.engine.world.kube.put_bootstrap_token(&target, &token.id, &token.secret, expires, &description);
    job.call(&what, call).await
}

pub(super) async fn revoke(job: Job<'_>, machine: &NamespacedName) -> Outcome {
    let name = names::join_secret(machine);
    // Without the secret nobody knows the token's id; it expires by itself.
    let Some(secret) = secret::read(job, &name).await? else { return Ok(()) };
    let Some(token_id) = secret.metadata.labels.get(TOKEN_ID_LABEL) else { return Ok(()) };
    let target = cluster_target(job, machine).await?;
    let what = format!("revoking the join token of machine {machine}");
    let call = job.engine.world.kube.delete_bootstrap_token(&target, token_id);
    super::fine_if_gone(job.call(&what, call).await)
}

/// Takes a token out that no join needs.
pub(super) async fn revoke_stray(job: Job<'_>, cluster: &NamespacedName, token_id: &str) -> Outcome {
    let target = target(job, cluster).await?;
    let what = format!("revoking a stray join token of cluster {cluster}");
    let call = job.engine.world.kube.delete_bootstrap_token(&target, token_id);
    super::fine_if_gone(job.call(&what, call).await)
}

/// How to reach the API server of a machine's cluster.
pub(super) async fn cluster_target(job: Job<'_>, machine: &NamespacedName) -> Result<KubeTarget, Failure> {
    let object = job.machine(machine)?;
    target(job, &NamespacedName::new(&machine.namespace, &object.spec.cluster)).await
}

/// How to reach a cluster's API server.
pub(super) async fn target(job: Job<'_>, cluster: &NamespacedName) -> Result<KubeTarget, Failure> {
    let name = names::pki_secret(cluster);
    let secret = secret::read(job, &name)
        .await?
        .ok_or_else(|| Failure::NotNow(format!("secret {name} is not in the store")))?;
    job.engine
        .kube_target(job.snapshot, &secret, cluster)?
        .ok_or_else(|| Failure::NotNow(format!("cluster {cluster} has no endpoint yet")))
}
