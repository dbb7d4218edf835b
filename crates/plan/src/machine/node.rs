//! Labels and taints of a node that joined.

use ashlar_api::*;

use super::chain::Chain;
use super::context::ClusterContext;
use crate::drift::{self, DriftKind, taint_text};
use crate::{Action, NodeSeen};

/// A step if the node has not what its machine says: since that was declared anew, or since somebody changed it. What
/// others gave it is not looked at.
pub(super) fn configure(context: &ClusterContext<'_>, machine: &Machine, chain: &mut Chain) {
    if context.is_stopped() {
        return;
    }
    if !machine.record.node_lags() {
        let drifts = &context.draft.report.drifts;
        if let Some(drift) = drift::of(drifts, machine, DriftKind::Node).filter(|drift| drift.heals) {
            chain.push_elsewhere(
                Action::ConfigureNode { machine: machine.key() },
                format!("put back labels and taints of its node (declared → found): {}", drift.diff()),
            );
        }
        return;
    }
    let Ok(world) = context.api() else { return };
    let config = &machine.spec.node;
    let Some(node) = world.nodes.get(&config.name).filter(|node| node.provider_id == config.provider_id)
    else {
        return;
    };
    let changes = changes(machine, node);
    if !changes.is_empty() {
        chain.push_elsewhere(
            Action::ConfigureNode { machine: machine.key() },
            format!("change its node in place: {}", changes.join(", ")),
        );
    }
}

/// What has to change, for people: `+key=value`, `-key`.
fn changes(machine: &Machine, node: &NodeSeen) -> Vec<String> {
    let (config, record) = (&machine.spec.node, &machine.record);
    let mut changes = Vec::new();
    for (key, value) in &config.labels {
        if node.labels.get(key) != Some(value) {
            changes.push(format!("+label {key}={value}"));
        }
    }
    for key in &record.removed_labels {
        if node.labels.contains_key(key) && !config.labels.contains_key(key) {
            changes.push(format!("-label {key}"));
        }
    }
    for taint in &config.taints {
        if !node.taints.contains(taint) {
            changes.push(format!("+taint {}", taint_text(taint)));
        }
    }
    for taint in &record.removed_taints {
        if node.taints.contains(taint) && !config.taints.contains(taint) {
            changes.push(format!("-taint {}", taint_text(taint)));
        }
    }
    changes
}
