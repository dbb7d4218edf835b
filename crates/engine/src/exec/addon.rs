//! Applying add-ons.

use ashlar_api::NamespacedName;

use super::{Failure, Job, Outcome, token};
use crate::addon;

/// Applies an add-on's objects in order, by server-side apply. The last one carries the digest, so that an add-on cut
/// off in the middle is seen as not applied, and is applied again from the start.
pub(super) async fn apply(job: Job<'_>, cluster: &NamespacedName, name: &str) -> Outcome {
    let addons = addon::of_cluster(job.snapshot, cluster);
    let addon = addons
        .iter()
        .find(|addon| addon.name == name)
        .ok_or_else(|| Failure::NotNow(format!("cluster {cluster} has no add-on {name}")))?;
    let target = token::target(job, cluster).await?;
    for patch in &addon.patches {
        let what = format!("looking for what add-on {name} changes in cluster {cluster}");
        if job.observe(&what, job.engine.world.kube.exists(&target, patch)).await? {
            let what = format!("applying add-on {name} to cluster {cluster}");
            job.call(&what, job.engine.world.kube.apply(&target, patch)).await?;
        }
    }
    for object in addon::manifests(addon) {
        let what = format!("applying add-on {name} to cluster {cluster}");
        job.call(&what, job.engine.world.kube.apply(&target, &object)).await?;
    }
    Ok(())
}
