//! Kubelets' requests for the certificates that they serve with.

use ashlar_api::NamespacedName;
use ashlar_plan::{ClusterSeen, serving};

use super::{Failure, Job, Outcome, fine_if_gone, token};
use crate::effects::ServingDecision;

/// Approves or denies one, if the request as it is now, and the machine as it is stored now, say the same as what was planned
/// with. One that somebody decided meanwhile stays as they decided.
pub(super) async fn decide(job: Job<'_>, name: &NamespacedName, csr: &str, approve: bool) -> Outcome {
    let object = job.machine(name)?.object_ref();
    let Some(machine) =
        crate::objects::read::<ashlar_api::MachineSpec>(job.engine.store.as_ref(), &object).await?
    else {
        return Err(super::gone(object.kind, name));
    };
    if machine.metadata.is_deleting() {
        return Err(Failure::NotNow(format!("machine {name} is being deleted")));
    }
    let cluster = NamespacedName::new(&name.namespace, &machine.spec.cluster);
    let node = match job.snapshot.observed.clusters.get(&cluster) {
        Some(ClusterSeen::Seen(world)) => world.nodes.get(&machine.spec.node.name),
        _ => return Err(Failure::NotNow(format!("the API of cluster {cluster} was not seen"))),
    };
    let target = token::target(job, &cluster).await?;
    let kube = &job.engine.world.kube;
    let what = format!("reading certificate signing request {csr} of cluster {cluster}");
    let now = job.observe(&what, kube.serving_request(&target, csr)).await?;
    let Some(now) = now.filter(|now| !now.is_decided) else { return Ok(()) };
    if !now.request.concerns(&machine) {
        return Err(Failure::NotNow(format!("request {csr} of cluster {cluster} is another one by now")));
    }
    let decision = match now.request.judge(&machine, node) {
        Ok(()) if approve => ServingDecision {
            approve,
            reason: "AshlarApproved".to_owned(),
            message: serving::approval_message(name),
        },
        Err(fault) if !approve => ServingDecision {
            approve,
            reason: "AshlarDenied".to_owned(),
            message: format!("Ashlar: not what the node of machine {name} may have: {fault}"),
        },
        _ => {
            return Err(Failure::NotNow(format!("request {csr} of cluster {cluster} is another one by now")));
        }
    };
    let what = format!("deciding certificate signing request {csr} of cluster {cluster}");
    let call = kube.decide_serving_request(&target, csr, &now.resource_version, &decision);
    fine_if_gone(job.call(&what, call).await)
}
