//! Worker groups: those written inside a Cluster become objects of their own.

use ashlar_api::*;

use crate::draft::{Draft, Unit, new_metadata, owner_reference};
use crate::{Ids, NoteKind};

/// Makes, or brings up to date, the groups that a cluster's file holds.
pub(super) fn ensure_inline(draft: &mut Draft<'_>, ids: &mut dyn Ids, cluster: &Cluster) {
    let namespace = &cluster.metadata.namespace;
    let cluster_name = &cluster.metadata.name;
    for inline in &cluster.spec.workers {
        let key = NamespacedName::new(namespace, ashlar_api::names::worker_group(cluster_name, &inline.name));
        let wanted = inline.to_spec(cluster_name);
        match draft.groups.get(&key).cloned() {
            None => {
                let mut group = WorkerGroup::new(&key.name, wanted);
                let uid = ids.uuid(&format!("group/{namespace}/{}/uid", key.name));
                let owner = owner_reference(cluster);
                group.metadata = new_metadata(&key, uid, draft.snapshot.now, Some(owner));
                let mut unit = Unit::default();
                unit.create(group.clone());
                draft.groups.insert(key, group);
                draft.commit(unit);
            }
            Some(group) if !is_owned(&group, cluster) => {
                draft.block(
                    cluster.object_ref(),
                    "NameTaken",
                    format!(
                        "{} exists and was not made from this cluster's file: rename one of the two",
                        group.object_ref()
                    ),
                );
            }
            Some(mut group) => {
                // Without a number the present one stays, so that an autoscaler and `apply` do not fight.
                let replicas = wanted.replicas.or(group.spec.replicas);
                let wanted = WorkerGroupSpec { replicas, ..wanted };
                if group.spec != wanted && !group.metadata.is_deleting() {
                    group.spec = wanted;
                    group.metadata.generation += 1;
                    let mut unit = Unit::default();
                    unit.update(group.clone());
                    draft.groups.insert(key, group);
                    draft.commit(unit);
                }
            }
        }
    }
    let inline: Vec<String> = cluster
        .spec
        .workers
        .iter()
        .map(|inline| ashlar_api::names::worker_group(cluster_name, &inline.name))
        .collect();
    let gone: Vec<ObjectRef> = draft
        .groups_of(&cluster.key())
        .into_iter()
        .filter_map(|key| draft.groups.get(&key))
        .filter(|group| is_owned(group, cluster) && !group.metadata.is_deleting())
        .filter(|group| !inline.contains(&group.metadata.name))
        .map(WorkerGroup::object_ref)
        .collect();
    for group in gone {
        draft.note(
            group.clone(),
            NoteKind::Notice,
            "NotInFile",
            format!(
                "{group} is not in its cluster's file any more; it stays until you say `ashlar delete workergroup {}`",
                group.name
            ),
        );
    }
}

fn is_owned(group: &WorkerGroup, cluster: &Cluster) -> bool {
    let uid = cluster.metadata.uid.unwrap_or_default();
    group.metadata.owner_references.iter().any(|owner| owner.kind == Kind::Cluster && owner.uid == uid)
}

/// Groups whose cluster does not exist.
pub(super) fn note_orphans(draft: &mut Draft<'_>) {
    let orphans: Vec<(ObjectRef, String)> = draft
        .groups
        .values()
        .filter(|group| {
            let cluster = NamespacedName::new(&group.metadata.namespace, &group.spec.cluster);
            !group.metadata.is_deleting() && !draft.clusters.contains(&cluster)
        })
        .map(|group| (group.object_ref(), group.spec.cluster.clone()))
        .collect();
    for (group, cluster) in orphans {
        draft.block(
            group,
            "NoSuchCluster",
            format!("cluster {cluster} does not exist: create it, or delete the group"),
        );
    }
}
