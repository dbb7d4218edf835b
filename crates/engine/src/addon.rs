//! Add-ons of a cluster, with the digest by which it is told whether the right ones are applied.

use std::sync::Arc;

use ashlar_api::NamespacedName;
use ashlar_plan::{Snapshot, WantedAddon, names::machine_number, wanted_addons};
use serde_json::{Value, json};

/// Annotation with the add-on's digest, on its last object: when that is applied, all of it is.
const DIGEST_ANNOTATION: &str = "ashlar.dev/addon-digest";

/// The add-ons of a cluster, as its control planes are told about it.
pub(crate) fn of_cluster(snapshot: &Snapshot, cluster: &NamespacedName) -> Arc<[WantedAddon]> {
    let Some(object) = snapshot.clusters.get(cluster) else { return Arc::default() };
    let mut control_planes: Vec<_> = snapshot.control_planes(cluster).collect();
    control_planes.sort_by_key(|machine| machine_number(&machine.metadata.name));
    wanted_addons(object, &control_planes)
}

/// The object that carries the digest: (add-on, apiVersion, kind, namespace, name).
pub(crate) fn digest_reference(addon: &WantedAddon) -> Option<(String, String, String, String, String)> {
    let object = addon.objects.last()?;
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = addon.name.to_owned();
    Some((name, text("/apiVersion"), text("/kind"), text("/metadata/namespace"), text("/metadata/name")))
}

/// The add-on's objects in order, the last with the digest.
pub(crate) fn manifests(addon: &WantedAddon) -> Vec<Value> {
    let mut objects = addon.objects.clone();
    let metadata =
        objects.last_mut().and_then(|object| object.get_mut("metadata")).and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(DIGEST_ANNOTATION.to_owned(), Value::from(addon.digest.clone()));
        }
    }
    objects
}
