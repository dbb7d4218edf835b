//! What still needs an object that is to be deleted.

use super::{Report, Violation};
use crate::expand::ObjectMap;
use crate::names::some_of;
use crate::{Kind, Object, ObjectRef, VolumeContent};

/// Judges a deletion: who uses the object, and what to delete first. Volumes that only cache an Image on a host
/// keep neither the Image nor the host: they go with it.
pub fn validate_delete(object: &ObjectRef, existing: &ObjectMap) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut report = Report::new(object.clone(), &mut out);
    if let Some(reason) = not_deleted_by_people(object, existing) {
        report.add("", reason);
        return out;
    }
    let users: Vec<&ObjectRef> = existing
        .iter()
        .filter(|(name, other)| *name != object && uses(other, object))
        .map(|(name, _)| name)
        .collect();
    let clusters: Vec<&&ObjectRef> = users.iter().filter(|user| user.kind == Kind::Cluster).collect();
    if !users.is_empty() {
        let next = match (object.kind, clusters.first()) {
            (_, Some(cluster)) => {
                format!("delete the cluster first: `ashlar cluster delete {}`", cluster.key())
            }
            (Kind::Host, None) => "move or delete them first".to_owned(),
            (_, None) => "delete or change them first".to_owned(),
        };
        report.add("", format!("is used by {}: {next}", some_of(&users)));
    }
    out
}

/// Volumes follow from machines and images. Machines do from clusters and groups, and a person who deletes one has
/// another made in its place.
fn not_deleted_by_people(object: &ObjectRef, existing: &ObjectMap) -> Option<String> {
    match (object.kind, existing.get(object)) {
        (Kind::Volume, Some(_)) => Some("belongs to a machine or an image, and goes with it".to_owned()),
        _ => None,
    }
}

/// Whether one object cannot do without another.
fn uses(user: &Object, used: &ObjectRef) -> bool {
    let name = used.name.as_str();
    match (used.kind, user) {
        (Kind::Network, Object::Cluster(cluster)) => cluster.spec.network == name,
        (Kind::Network, Object::Machine(machine)) => machine.spec.nics.iter().any(|nic| nic.network == name),
        (Kind::Image, Object::Cluster(cluster)) => cluster.spec.image == name || cluster.record.image == name,
        (Kind::Image, Object::Machine(machine)) => machine.spec.image.name == name,
        (Kind::MachineClass, Object::Cluster(cluster)) => {
            cluster.spec.control_plane.class == name
                || cluster.spec.workers.iter().any(|group| group.class == name)
        }
        (Kind::MachineClass, Object::WorkerGroup(group)) => group.spec.class == name,
        (Kind::Host, Object::Machine(machine)) => machine.hosts().any(|host| host == name),
        (Kind::Host, Object::Volume(volume)) => volume.spec.host == name && is_disk(&volume.spec.content),
        (Kind::Host, Object::StoragePool(pool)) => pool.spec.hosts.iter().any(|host| host == name),
        (Kind::Host, Object::Network(network)) => {
            network.spec.attachment.hosts.iter().any(|host| host == name)
                || network.record.hosts.contains(name)
        }
        (Kind::StoragePool, Object::MachineClass(class)) => class.spec.storage_pool == name,
        (Kind::StoragePool, Object::Volume(volume)) => {
            volume.spec.pool == name && is_disk(&volume.spec.content)
        }
        _ => false,
    }
}

fn is_disk(content: &VolumeContent) -> bool {
    matches!(content, VolumeContent::MachineDisk { .. })
}
