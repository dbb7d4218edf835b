//! Judging what people write: all problems at once, each with object, path, reason and what to do.
//!
//! [`validate_object`] looks at one object alone, [`validate_set`] at what it refers to, [`validate_update`] at
//! what may not change, [`validate_delete`] at who still needs it. [`validate_apply`] is the first three together.
//! All of them take Clusters as they were written or after [`crate::expand::expand`].

mod class;
mod cluster;
mod delete;
mod fencing;
mod host;
mod image;
mod labels;
mod network;
mod pool;
mod set;
mod syntax;
mod update;
mod worker_group;

pub use delete::validate_delete;
pub use set::validate_set;
pub use syntax::parse_version;
pub use update::validate_update;

use std::collections::BTreeMap;

use crate::expand::ObjectMap;
use crate::names::{MAX_CLUSTER_NAME, MAX_LABEL, MAX_WORKER_GROUP_NAME, label_problem, quoted};
use crate::own_network::with_own_networks;
use crate::{Kind, Object, ObjectRef};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{object}: {}{message}", if path.is_empty() { String::new() } else { format!("{path}: ") })]
pub struct Violation {
    /// The object.
    pub object: ObjectRef,
    /// Path of the field; empty if it is the object as a whole.
    pub path: String,
    /// What is wrong, why, and what to do.
    pub message: String,
}

/// Collects what is wrong with one object.
pub(crate) struct Report<'a> {
    object: ObjectRef,
    out: &'a mut Vec<Violation>,
}

impl<'a> Report<'a> {
    fn new(object: ObjectRef, out: &'a mut Vec<Violation>) -> Self {
        Report { object, out }
    }

    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let violation = Violation { object: self.object.clone(), path: path.into(), message: message.into() };
        self.out.push(violation);
    }

    /// Adds a problem, if there is one.
    fn check(&mut self, path: &str, problem: Option<String>) {
        if let Some(problem) = problem {
            self.add(path, problem);
        }
    }
}

/// Judges one object by itself: names, syntax, bounds, and what its fields say about each other.
pub fn validate_object(object: &Object) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut report = Report::new(object.object_ref(), &mut out);
    check_metadata(&mut report, object);
    match object {
        Object::Host(host) => host::check(&mut report, &host.spec),
        Object::StoragePool(pool) => pool::check(&mut report, &pool.spec),
        Object::Network(network) => network::check(&mut report, &network.spec),
        Object::Image(image) => image::check(&mut report, &image.spec),
        Object::MachineClass(class) => class::check(&mut report, &class.spec),
        Object::Cluster(cluster) => cluster::check(&mut report, cluster),
        Object::WorkerGroup(group) => worker_group::check(&mut report, group),
        // Written by the planner and the engine, whose checker judges them.
        Object::Machine(_) | Object::Volume(_) | Object::Secret(_) | Object::Event(_) => {}
    }
    out
}

/// Judges objects that are to be applied: each by itself, against what they refer to, and against what is stored
/// under their names; with the networks that clusters get which name none.
pub fn validate_apply(objects: &[Object], existing: &ObjectMap) -> Vec<Violation> {
    let mut out = Vec::new();
    let objects = &with_own_networks(objects.to_vec(), existing);
    for object in objects {
        out.extend(validate_object(object));
        if let Some(stored) = existing.get(&object.object_ref()) {
            out.extend(validate_update(stored, object));
            if let (Object::Image(stored), Object::Image(object)) = (stored, object) {
                out.extend(update::image_files(stored, object, existing));
            }
            if let (Object::Cluster(stored), Object::Cluster(object)) = (stored, object) {
                out.extend(update::version(stored, object, existing));
            }
        }
    }
    out.extend(validate_set(objects, existing));
    // What is wrong with one object stands together, in the order of the file.
    let places: BTreeMap<ObjectRef, usize> =
        objects.iter().enumerate().map(|(index, object)| (object.object_ref(), index)).collect();
    out.sort_by_key(|violation| places.get(&violation.object).copied());
    out.dedup();
    out
}

fn check_metadata(report: &mut Report<'_>, object: &Object) {
    let kind = object.kind();
    let metadata = object.metadata();
    // What becomes part of a host name is a DNS label; the others may be DNS names of several.
    let (with_dots, longest) = match kind {
        Kind::Cluster => (false, MAX_CLUSTER_NAME),
        Kind::WorkerGroup => (false, MAX_WORKER_GROUP_NAME),
        Kind::Image | Kind::Event | Kind::Volume | Kind::Secret | Kind::Host => (true, MAX_LABEL),
        _ => (false, MAX_LABEL),
    };
    if let Some(problem) = syntax::object_name_problem(&metadata.name, with_dots, longest) {
        let reason = match kind {
            Kind::Cluster | Kind::WorkerGroup => {
                " (machines are named after it, and their names are DNS labels)"
            }
            _ => "",
        };
        report.add("metadata.name", format!("{} {problem}{reason}", quoted(&metadata.name)));
    }
    if kind.is_namespaced() {
        let problem = label_problem(&metadata.namespace, MAX_LABEL);
        report.check("metadata.namespace", problem.map(|p| format!("{} {p}", quoted(&metadata.namespace))));
    } else if !metadata.namespace.is_empty() {
        report.add("metadata.namespace", format!("a {kind} belongs to no namespace: remove it"));
    }
    labels::check_labels(report, "metadata.labels", &metadata.labels);
    labels::check_annotations(report, "metadata.annotations", &metadata.annotations);
}
