//! What a file says in short, written out: inline worker groups become WorkerGroup objects.

use std::collections::BTreeMap;

use crate::{Cluster, Kind, Object, ObjectRef, Resource, WorkerGroup, names};

/// Annotation of a WorkerGroup that is written inline in a Cluster file; the value is the Cluster's name.
pub const INLINE_ANNOTATION: &str = "ashlar.dev/inline-in";

/// Objects by kind, namespace and name.
pub type ObjectMap = BTreeMap<ObjectRef, Object>;

/// Puts objects into a map; of several with one name the last counts.
pub fn object_map(objects: impl IntoIterator<Item = Object>) -> ObjectMap {
    objects.into_iter().map(|object| (object.object_ref(), object)).collect()
}

/// The objects of one kind, in all namespaces.
pub fn of_kind(objects: &ObjectMap, kind: Kind) -> impl Iterator<Item = &Object> {
    objects
        .range(ObjectRef::new(kind, "", "")..)
        .take_while(move |(name, _)| name.kind == kind)
        .map(|(_, object)| object)
}

/// The WorkerGroups that a Cluster's inline groups stand for.
pub fn inline_groups(cluster: &Cluster) -> Vec<WorkerGroup> {
    let group = |inline: &crate::InlineWorkerGroup| {
        let name = names::worker_group(&cluster.metadata.name, &inline.name);
        let mut group = Resource::new(name, inline.to_spec(&cluster.metadata.name));
        group.metadata.namespace.clone_from(&cluster.metadata.namespace);
        group.metadata.annotations.insert(INLINE_ANNOTATION.to_owned(), cluster.metadata.name.clone());
        group
    };
    cluster.spec.workers.iter().map(group).collect()
}

/// Writes out what is short: a Cluster's inline worker groups follow it as objects of their own, and are gone from
/// its spec. Expanding twice changes nothing more. Objects come in the order in which they are applied: what others
/// refer to comes first.
pub fn expand(objects: Vec<Object>) -> Vec<Object> {
    let mut out = Vec::with_capacity(objects.len());
    for object in objects {
        match object {
            Object::Cluster(mut cluster) => {
                let groups = inline_groups(&cluster);
                cluster.spec.workers.clear();
                out.push(Object::Cluster(cluster));
                out.extend(groups.into_iter().map(Object::from));
            }
            other => out.push(other),
        }
    }
    let rank = |object: &Object| Kind::ALL.iter().position(|kind| *kind == object.kind());
    out.sort_by_key(rank);
    out
}

/// Groups that were once written inline in one of these Cluster files and are not any more. Nothing deletes them
/// by itself; whoever applies says so and names the command. Takes the objects before [`expand`].
pub fn no_longer_inline(objects: &[Object], existing: &ObjectMap) -> Vec<ObjectRef> {
    let mut gone = Vec::new();
    for object in objects {
        let Object::Cluster(cluster) = object else { continue };
        let written: Vec<ObjectRef> = inline_groups(cluster).iter().map(Resource::object_ref).collect();
        let left = of_kind(existing, Kind::WorkerGroup).filter(|group| {
            let metadata = group.metadata();
            metadata.namespace == cluster.metadata.namespace
                && metadata.annotations.get(INLINE_ANNOTATION) == Some(&cluster.metadata.name)
                && !metadata.is_deleting()
                && !written.contains(&group.object_ref())
                && !objects.iter().any(|other| other.object_ref() == group.object_ref())
        });
        gone.extend(left.map(Object::object_ref));
    }
    gone
}
