//! Nodes of machines that went down with their host. Once that is proved, Kubernetes is told so, and lets go of their pods and volumes
//! at once: without, it waits for a kubelet that will never answer, and takes volumes away by force after six minutes, whatever the
//! machine does. The taint goes with the node.

use ashlar_api::*;
use jiff::SignedDuration;

use super::chain::{Chain, wait};
use super::context::ClusterContext;
use crate::{Action, fence};

/// How long a node may wait for what still hangs on it. A driver that never answers holds up no replacement for longer.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// What says that a node is shut down for good.
pub fn out_of_service() -> Taint {
    Taint {
        key: "node.kubernetes.io/out-of-service".to_owned(),
        value: "nodeshutdown".to_owned(),
        effect: TaintEffect::NoExecute,
    }
}

/// Steps before the node of a machine is deleted whose host is proved off.
pub(super) fn steps(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    let snapshot = context.draft.snapshot;
    let Some(proof) = fence::proof(snapshot, &machine.spec.host) else { return };
    let Ok(world) = context.api() else { return };
    let name = &machine.spec.node.name;
    let node = world.nodes.get(name).filter(|node| node.provider_id == machine.spec.node.provider_id);
    let Some(node) = node else { return };
    let is_told = node.taints.contains(&out_of_service());
    if !is_told {
        chain.push_elsewhere(
            Action::TaintOutOfService { machine: machine.key() },
            format!(
                "tell Kubernetes that node {name} is out of service, since its host {} is proved off: its pods and volumes are free",
                machine.spec.host
            ),
        );
    }
    let since = machine.metadata.deletion_timestamp.map_or(proof.at, |at| at.max(proof.at));
    let until = since.checked_add(PATIENCE).unwrap_or(since);
    let pods = world.pods.get(name).map_or(0, Vec::len);
    let volumes = world.attached.get(name).map_or(&[][..], Vec::as_slice);
    if snapshot.now >= until || is_told && pods == 0 && volumes.is_empty() {
        return;
    }
    let message = if is_told {
        let named = if volumes.is_empty() { String::new() } else { format!(" ({})", volumes.join(", ")) };
        format!(
            "{pods} pods and {} volumes{named} still hang on node {name}; at {until} it is deleted all the same",
            volumes.len()
        )
    } else {
        "what hangs on it is looked at after that".to_owned()
    };
    chain.push_wait("its pods are gone and its volumes detached", wait("OutOfService", message));
}
