//! What of a worker group changes under running machines: labels and taints of their nodes.

use ashlar_api::*;

use crate::ClusterSeen;
use crate::draft::{Draft, Unit};

/// Labels that come from where a machine is and what it is made of, and not from its group.
fn is_of_machine(key: &str) -> bool {
    key == "node.kubernetes.io/instance-type"
        || key.starts_with("topology.kubernetes.io/")
        || key.starts_with("topology.ashlar.dev/")
}

/// Brings the group's labels and taints into its machines, and remembers which were taken away until no node has them.
pub(super) fn nodes(draft: &mut Draft<'_>, group: &NamespacedName, cluster: &NamespacedName) {
    let Some(group) = draft.groups.get(group).cloned() else { return };
    let machines: Vec<Machine> = draft
        .machines_of(cluster)
        .into_iter()
        .filter(|machine| machine.spec.group == group.metadata.name && !machine.metadata.is_deleting())
        .cloned()
        .collect();
    for machine in machines {
        let mut changed = machine.clone();
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
        config.labels = labels;
        config.taints = group.spec.taints.clone();
        forget(draft, &mut changed);
        if changed == machine {
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

/// What is wanted again, or was seen to be gone, need not be remembered. A node that never was has nothing to lose.
fn forget(draft: &Draft<'_>, machine: &mut Machine) {
    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    let node = match draft.snapshot.observed.clusters.get(&cluster) {
        Some(ClusterSeen::Seen(world)) => world.nodes.get(&machine.spec.node.name),
        _ => None,
    };
    let never_was = machine.record.first_started_at.is_none();
    let config = &machine.spec.node;
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
