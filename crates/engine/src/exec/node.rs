//! Deleting Nodes.

use ashlar_api::NamespacedName;
use ashlar_plan::ClusterSeen;

use super::{Failure, Job, Outcome, fine_if_gone, token};

/// Deletes the Node of a machine that goes. The Node was seen in this pass and names this machine as its provider: one
/// of the same name with another provider id is somebody else's.
pub(super) async fn delete(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let machine = job.machine(name)?;
    let cluster = NamespacedName::new(&name.namespace, &machine.spec.cluster);
    let node = &machine.spec.node;
    let seen = match job.snapshot.observed.clusters.get(&cluster) {
        Some(ClusterSeen::Seen(world)) => world.nodes.get(&node.name),
        _ => return Err(Failure::NotNow(format!("the API of cluster {cluster} was not seen"))),
    };
    match seen {
        None => return Ok(()),
        Some(seen) if seen.provider_id != node.provider_id => {
            return Err(Failure::Blocked {
                reason: "NotOurs",
                message: format!(
                    "node {} of cluster {cluster} has provider id `{}`, and machine {name} has `{}`: it was left alone",
                    node.name, seen.provider_id, node.provider_id
                ),
            });
        }
        Some(_) => {}
    }
    let target = token::target(job, &cluster).await?;
    let what = format!("deleting node {} of cluster {cluster}", node.name);
    fine_if_gone(job.call(&what, job.engine.world.kube.delete_node(&target, &node.name)).await)
}
