//! Add-ons of a cluster with their digests: what is compared with the cluster, and what is applied to it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use ashlar_api::{Cluster, Cni, Machine};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::addons::{self, Addon, addons};

/// An add-on that a cluster should have.
#[derive(Clone, Debug, PartialEq)]
pub struct WantedAddon {
    /// Its name.
    pub name: &'static str,
    /// SHA-256 (hex) over its objects: the value of the annotation that says what was applied.
    pub digest: String,
    /// Fields of objects that others made, to be set first where these are there.
    pub patches: Vec<Value>,
    /// Its objects, in order, without that annotation.
    pub objects: Vec<Value>,
}

/// What the add-ons of a cluster that was never upgraded depend on.
type Grounds = (Cni, Ipv4Net, u16, String);

/// Those that were made lately: clusters differ little, and every pass asks for those of each.
static MADE: Mutex<Vec<(Grounds, Arc<[WantedAddon]>)>> = Mutex::new(Vec::new());
const MADE_LIMIT: usize = 64;

/// The add-ons of a cluster, from what its control planes were told: those of the newest version that has begun to come.
/// The control planes are given in the order of the plan, of those that go too.
pub fn wanted_addons(cluster: &Cluster, control_planes: &[&Machine]) -> Arc<[WantedAddon]> {
    let is_new = |machine: &&&Machine| machine.spec.image.name == cluster.record.image;
    let Some(model) = control_planes.iter().find(is_new).or(control_planes.first()) else {
        return Arc::default();
    };
    let spec = &model.spec;
    let mtu = spec.nics.first().map_or(1500, |nic| nic.mtu);
    let tag = &spec.image.tags.flannel;
    if cluster.record.upgraded {
        let mut all = addons(&spec.node, mtu, tag);
        for object in
            all.iter_mut().flat_map(|addon| &mut addon.objects).filter(|object| object["kind"] == "DaemonSet")
        {
            object["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
        }
        let has_node = control_planes.iter().filter(is_new).any(|machine| machine.record.joined_at.is_some());
        all.extend(addons::upgraded(&cluster.metadata.name, spec, has_node));
        return with_digests(all);
    }
    let grounds = (spec.node.cni, spec.node.pod_cidr, mtu, tag.clone());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = made.iter().find(|(other, _)| *other == grounds) {
        return Arc::clone(known);
    }
    let wanted = with_digests(addons(&spec.node, mtu, tag));
    if made.len() >= MADE_LIMIT {
        made.clear();
    }
    made.push((grounds, Arc::clone(&wanted)));
    wanted
}

fn with_digests(addons: Vec<Addon>) -> Arc<[WantedAddon]> {
    addons
        .into_iter()
        .map(|addon| WantedAddon {
            name: addon.name,
            digest: digest(addon.patches.iter().chain(&addon.objects)),
            patches: addon.patches,
            objects: addon.objects,
        })
        .collect()
}

fn digest<'v>(objects: impl Iterator<Item = &'v Value>) -> String {
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
