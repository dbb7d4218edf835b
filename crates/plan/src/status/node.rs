//! The condition of a machine whose node has others beside Ready that are not as they should be: there only while it has.
//!
//! They are told, and nobody is replaced for them: what fills a node's memory, disk or process table runs on it, and would do
//! the same to the next one; the kubelet evicts it, and pod networks come back by themselves. A kubelet that cannot go on is
//! not Ready.

use ashlar_api::*;
use jiff::Timestamp;

use super::warn;
use crate::NodeSeen;
use crate::lost::Lost;

const NODE_HEALTHY: &str = "NodeHealthy";

pub(super) fn set(node: &NodeSeen, machine: &Machine, now: Timestamp, conditions: &mut Vec<Condition>) {
    let told: Vec<String> =
        node.troubles.iter().map(|(kind, message)| format!("{kind}: {message}")).collect();
    let trouble = node.troubles.keys().next().map(|first| Lost {
        reason: reason(first),
        message: format!(
            "node {} has {}: `ashlar kubectl {} -- describe node {}`",
            machine.spec.node.name,
            told.join("; "),
            machine.spec.cluster,
            machine.spec.node.name
        ),
    });
    warn(NODE_HEALTHY, trouble, conditions, now, machine.metadata.generation);
}

fn reason(kind: &str) -> &'static str {
    match kind {
        "DiskPressure" => "DiskPressure",
        "MemoryPressure" => "MemoryPressure",
        "NetworkUnavailable" => "NetworkUnavailable",
        "PIDPressure" => "PIDPressure",
        _ => "NodeCondition",
    }
}
