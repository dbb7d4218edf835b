//! Add-ons of a cluster with their digests: what is compared with the cluster, and what is applied to it.

use std::fmt::Write as _;

use ashlar_api::Machine;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::addons::addons;

/// An add-on that a cluster should have.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedAddon {
    /// Its name.
    pub name: &'static str,
    /// SHA-256 (hex) over its objects: the value of the annotation that says what was applied.
    pub digest: String,
    /// Its objects, in order, without that annotation.
    pub objects: Vec<Value>,
}

/// The add-ons of a cluster, from what one of its control planes was told (the first in the order of the plan).
pub fn wanted_addons(control_plane: &Machine) -> Vec<WantedAddon> {
    let spec = &control_plane.spec;
    let mtu = spec.nics.first().map_or(1500, |nic| nic.mtu);
    addons(&spec.node, mtu, &spec.image.tags.flannel)
        .into_iter()
        .map(|addon| WantedAddon { name: addon.name, digest: digest(&addon.objects), objects: addon.objects })
        .collect()
}

fn digest(objects: &[Value]) -> String {
    let mut hash = Sha256::new();
    for object in objects {
        hash.update(object.to_string());
        hash.update("\n");
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
