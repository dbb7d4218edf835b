//! What objects say about each other: references, and what may belong to one of them only.

mod addresses;
mod references;

use std::collections::BTreeMap;

use super::{Report, Violation};
use crate::expand::{ObjectMap, inline_groups};
use crate::names::{did_you_mean, quoted, some_of};
use crate::{
    Cluster, Host, Image, Kind, Machine, MachineClass, Network, Object, ObjectRef, StoragePool, WorkerGroup,
};

/// The world as it would be with the objects applied.
pub(super) struct World<'a> {
    objects: BTreeMap<ObjectRef, &'a Object>,
    /// What is being applied, with its place in the file.
    applying: BTreeMap<ObjectRef, usize>,
}

macro_rules! lookups {
    (all $($all:ident $kind:ident;)*) => {$(
        fn $all(&self) -> impl Iterator<Item = &'a $kind> + '_ {
            let start = ObjectRef::new(Kind::$kind, "", "");
            let all = self.objects.range(start..).take_while(|(name, _)| name.kind == Kind::$kind);
            all.filter_map(|(_, object)| match object {
                Object::$kind(object) => Some(&**object),
                _ => None,
            })
        }
    )*};
    (one $($one:ident $kind:ident;)*) => {$(
        fn $one(&self, namespace: &str, name: &str) -> Option<&'a $kind> {
            match self.objects.get(&ObjectRef::new(Kind::$kind, namespace, name)) {
                Some(Object::$kind(object)) => Some(&**object),
                _ => None,
            }
        }
    )*};
}

impl<'a> World<'a> {
    lookups! { all
        hosts Host;
        pools StoragePool;
        networks Network;
        images Image;
        clusters Cluster;
        groups WorkerGroup;
        machines Machine;
    }
    lookups! { one
        network Network;
        image Image;
        class MachineClass;
        cluster Cluster;
    }

    /// The clusters that are there and stay as they are: those that are being applied are judged themselves.
    fn other_clusters(&self) -> impl Iterator<Item = &'a Cluster> + '_ {
        self.clusters().filter(|cluster| {
            !self.applying.contains_key(&cluster.object_ref()) && !cluster.metadata.is_deleting()
        })
    }

    /// Whether a conflict of two objects is reported at the first of them: at the one that is being applied, or, if
    /// both are, at the later one.
    fn is_reported_at(&self, object: &ObjectRef, other: &ObjectRef) -> bool {
        object != other
            && match (self.applying.get(object), self.applying.get(other)) {
                (Some(object), Some(other)) => object > other,
                _ => true,
            }
    }

    /// Finds what is referred to; else says that it is missing, and what it may have been meant to be.
    fn refer(&self, kind: Kind, namespace: &str, name: &str) -> Result<(), String> {
        match self.objects.get(&ObjectRef::new(kind, namespace, name)) {
            Some(object) if object.metadata().is_deleting() => {
                Err(format!("{} {} is being deleted", kind.name(), quoted(name)))
            }
            Some(_) => Ok(()),
            None => {
                let known: Vec<&str> = self
                    .objects
                    .keys()
                    .filter(|other| other.kind == kind && other.namespace == namespace)
                    .map(|other| other.name.as_str())
                    .collect();
                let hint = match did_you_mean(name, known.iter().copied()) {
                    hint if !hint.is_empty() => hint,
                    _ if known.is_empty() => "; there is none yet".to_owned(),
                    _ => format!("; there is {}", some_of(known)),
                };
                Err(format!("there is no {} {}{hint}", kind.name(), quoted(name)))
            }
        }
    }
}

/// Judges objects by what they refer to and what they share with others, in the world that applying them would
/// make of the existing one.
pub fn validate_set(applying: &[Object], existing: &ObjectMap) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, object) in applying.iter().enumerate() {
        if seen.insert(object.object_ref(), index).is_some() {
            Report::new(object.object_ref(), &mut out).add("", "is written twice");
        }
    }
    let inline: Vec<Object> = applying
        .iter()
        .filter_map(|object| match object {
            Object::Cluster(cluster) => Some(inline_groups(cluster)),
            _ => None,
        })
        .flatten()
        .map(Object::from)
        .collect();
    for group in &inline {
        if seen.contains_key(&group.object_ref()) {
            let message = "is written twice: inline in its Cluster, and as an object of its own";
            Report::new(group.object_ref(), &mut out).add("", message);
        }
    }
    let mut world = World {
        objects: existing.iter().map(|(name, object)| (name.clone(), object)).collect(),
        applying: seen,
    };
    world.objects.extend(applying.iter().chain(&inline).map(|object| (object.object_ref(), object)));
    for object in applying {
        let mut report = Report::new(object.object_ref(), &mut out);
        match object {
            Object::Host(host) => {
                references::host(&mut report, &world, host);
                references::bmc(&mut report, &world, host);
            }
            Object::StoragePool(pool) => references::pool(&mut report, &world, pool),
            Object::Network(network) => {
                references::network(&mut report, &world, network);
                addresses::network(&mut report, &world, network);
            }
            Object::MachineClass(class) => references::class(&mut report, &world, class),
            Object::Cluster(cluster) => {
                references::cluster(&mut report, &world, existing, cluster);
                addresses::cluster(&mut report, &world, cluster);
            }
            Object::WorkerGroup(group) => {
                references::worker_group(&mut report, &world, group);
                addresses::worker_group(&mut report, &world, group);
            }
            Object::Image(_)
            | Object::Machine(_)
            | Object::Volume(_)
            | Object::Secret(_)
            | Object::Event(_) => {}
        }
    }
    out
}
