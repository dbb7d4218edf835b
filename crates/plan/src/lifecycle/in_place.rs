//! What of a worker group changes under running machines: labels and taints of their nodes.

use std::sync::Arc;

use ashlar_api::*;

use crate::draft::{Draft, Unit};
use crate::{ClusterSeen, NodeSeen};

/// Labels that come from where a machine is and what it is made of, and not from its group.
fn is_of_machine(key: &str) -> bool {
    key == "node.kubernetes.io/instance-type"
        || key == crate::names::VERSION_LABEL
        || key.starts_with("topology.kubernetes.io/")
        || key.starts_with("topology.ashlar.dev/")
}

/// Brings the group's labels and taints into its machines, and remembers which were taken away until no node has them.
pub(super) fn nodes(draft: &mut Draft<'_>, group: &NamespacedName, cluster: &NamespacedName) {
    let Some(group) = draft.groups.get_shared(group).cloned() else { return };
    let machines: Vec<Arc<Machine>> = draft
        .machines_of(cluster)
        .into_iter()
        .filter(|machine| machine.spec.group == group.metadata.name && !machine.metadata.is_deleting())
        .filter(|machine| !is_settled(machine, &group))
        .cloned()
        .collect();
    for machine in machines {
        let mut changed = Machine::clone(&machine);
        let config = &mut changed.spec.node;
        let mut labels = group.spec.labels.clone();
        labels.extend(
            machine
                .spec
                .node
                .labels
                .iter()
                .filter(|(key, _)| is_of_machine(key))
                .map(|(k, v)| (k.clone(), v.clone())),
        );
        let gone = machine.spec.node.labels.keys().filter(|key| !labels.contains_key(*key));
        changed.record.removed_labels.extend(gone.cloned());
        let gone = machine.spec.node.taints.iter().filter(|taint| !group.spec.taints.contains(taint));
        changed.record.removed_taints.extend(gone.cloned());
        if config.labels != labels || config.taints != group.spec.taints {
            changed.record.node_outdated = true;
        }
        config.labels = labels;
        config.taints = group.spec.taints.clone();
        forget(draft, &mut changed);
        if changed == *machine {
            continue;
        }
        if changed.spec != machine.spec {
            changed.metadata.generation += 1;
        }
        let mut unit = Unit::default();
        unit.update(changed.clone());
        draft.put_machine(changed);
        draft.commit(unit);
    }
}

/// Whether the machine has the group's labels and taints, and nothing is to be taken from its node: so it is nearly always.
fn is_settled(machine: &Machine, group: &WorkerGroup) -> bool {
    let (node, record) = (&machine.spec.node, &machine.record);
    let has = |(key, value): (&String, &String)| {
        node.labels.get(key).is_some_and(|found| found == value || is_of_machine(key))
    };
    !record.node_outdated
        && record.removed_labels.is_empty()
        && record.removed_taints.is_empty()
        && node.taints == group.spec.taints
        && group.spec.labels.iter().all(has)
        && node.labels.keys().all(|key| is_of_machine(key) || group.spec.labels.contains_key(key))
}

/// Whether the node has what its machine says, whatever else it has.
fn has_all(config: &NodeConfig, node: &NodeSeen) -> bool {
    config.labels.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && config.taints.iter().all(|taint| node.taints.contains(taint))
}

/// What is wanted again, or was seen to be gone, need not be remembered. A node that never was has nothing to lose.
fn forget(draft: &Draft<'_>, machine: &mut Machine) {
    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    let node = match draft.snapshot.observed.clusters.get(&cluster) {
        Some(ClusterSeen::Seen(world)) => world.nodes.get(&machine.spec.node.name),
        _ => None,
    };
    let never_was = machine.record.first_started_at.is_none();
    let config = &machine.spec.node;
    if never_was || node.is_some_and(|node| has_all(config, node)) {
        machine.record.node_outdated = false;
    }
    machine.record.removed_labels.retain(|key| {
        !config.labels.contains_key(key)
            && !never_was
            && node.is_none_or(|node| node.labels.contains_key(key))
    });
    machine.record.removed_taints.retain(|taint| {
        !config.taints.contains(taint) && !never_was && node.is_none_or(|node| node.taints.contains(taint))
    });
    machine.record.removed_labels.sort_unstable();
    machine.record.removed_labels.dedup();
    machine.record.removed_taints.sort_unstable();
    machine.record.removed_taints.dedup();
}
