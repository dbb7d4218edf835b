//! What a cluster settles once: its image and its endpoint.

use ashlar_api::*;

use super::{PoolTier, upgrade};
use crate::Snapshot;
use crate::draft::Draft;

/// The objects that a cluster's machines are made from.
#[derive(Clone, Copy)]
pub(super) struct Parts<'s> {
    pub(super) image: &'s Image,
    pub(super) network: &'s Network,
}

/// Finds a cluster's image and network; says what is missing.
pub(super) fn parts<'s>(draft: &mut Draft<'s>, tier: &mut PoolTier, cluster: &Cluster) -> Option<Parts<'s>> {
    let snapshot = draft.snapshot;
    let name = &cluster.spec.network;
    let Some(network) = snapshot.networks.get(name).filter(|network| !network.metadata.is_deleting()) else {
        draft.block(
            cluster.object_ref(),
            "NoSuchNetwork",
            format!("network {name} does not exist: create it, or name another one in the cluster"),
        );
        return None;
    };
    let has_machines = !draft.machines_of(&cluster.key()).is_empty();
    let image = match snapshot.images.get(&cluster.record.image) {
        // Chosen before: it stays as long as the spec agrees with it.
        Some(recorded) if agrees(recorded, &cluster.spec) => usable(recorded),
        Some(recorded) if has_machines => {
            let wanted = wanted_image(snapshot, &cluster.spec);
            usable(upgrade::begin(draft, tier, cluster, (recorded, network), wanted))
        }
        _ => wanted_image(snapshot, &cluster.spec),
    };
    match image {
        Ok(image) => Some(Parts { image, network }),
        Err(message) => {
            let is_lost = has_machines && !snapshot.images.contains_key(&cluster.record.image);
            let lost = if is_lost { lost_image(&cluster.record.image) } else { String::new() };
            draft.block(cluster.object_ref(), "NoImage", format!("{lost}{message}"));
            None
        }
    }
}

fn lost_image(image: &str) -> String {
    format!(
        "image {image}, of which its machines are, is not in the store: was that edited or restored? They run on. "
    )
}

fn agrees(image: &Image, spec: &ClusterSpec) -> bool {
    image.spec.kubernetes_version == spec.kubernetes_version
        && (spec.image.is_empty() || spec.image == image.metadata.name)
}

/// The image that a cluster's spec asks for.
fn wanted_image<'s>(snapshot: &'s Snapshot, spec: &ClusterSpec) -> Result<&'s Image, String> {
    let version = spec.kubernetes_version.as_str();
    if !spec.image.is_empty() {
        let image = snapshot.images.get(&spec.image).ok_or_else(|| {
            format!("image {} does not exist: `ashlar image list` shows those that do", spec.image)
        })?;
        if image.spec.kubernetes_version != version {
            return Err(format!(
                "image {} holds Kubernetes {}, and the cluster asks for {version}: name another image or version",
                spec.image,
                if image.spec.kubernetes_version.is_empty() {
                    "none"
                } else {
                    &image.spec.kubernetes_version
                }
            ));
        }
        return usable(image);
    }
    let newest = snapshot
        .images
        .values()
        .filter(|image| image.spec.kubernetes_version == version && !image.metadata.is_deleting())
        .max_by_key(|image| (image.metadata.creation_timestamp, &image.metadata.name));
    match newest {
        Some(image) => usable(image),
        None => {
            let mut versions: Vec<&str> = snapshot
                .images
                .values()
                .map(|image| image.spec.kubernetes_version.as_str())
                .filter(|version| !version.is_empty())
                .collect();
            versions.sort_unstable();
            versions.dedup();
            let there = if versions.is_empty() { "none".to_owned() } else { versions.join(", ") };
            Err(format!(
                "there is no image with Kubernetes {version} (there: {there}): build it with `ashlar image build --kubernetes {version}`"
            ))
        }
    }
}

fn usable(image: &Image) -> Result<&Image, String> {
    if image.spec.disk.is_none() {
        return Err(format!("image {} has no root disk: it is for tests only", image.metadata.name));
    }
    Ok(image)
}

/// The cluster's endpoint: the recorded one, the one asked for, or the next free address.
pub(super) fn endpoint(
    tier: &mut PoolTier,
    cluster: &Cluster,
    network: &Network,
) -> Result<AllocatedEndpoint, String> {
    if let Some(endpoint) = &cluster.record.endpoint {
        return Ok(endpoint.clone());
    }
    let name = &network.metadata.name;
    let holder = cluster.object_ref();
    let address = match cluster.spec.endpoint.address {
        Some(address) => {
            tier.addresses.take_given(network, address, &holder)?;
            address
        }
        None => tier.addresses.take(network, &holder).ok_or_else(|| {
            format!("network {name} has no free address left: add a range to it or delete machines")
        })?,
    };
    let vrrp_id = tier.addresses.take_vrrp_id(network).ok_or_else(|| {
        format!("network {name} has no free VRRP id left: widen its vrrpIds or delete clusters")
    })?;
    Ok(AllocatedEndpoint { address, port: 6443, vrrp_id })
}

/// The class, if it exists and its root disk can hold the image.
pub(super) fn class<'s>(
    draft: &mut Draft<'s>,
    about: ObjectRef,
    name: &str,
    image: &Image,
) -> Option<&'s MachineClass> {
    let Some(class) = draft.snapshot.classes.get(name) else {
        draft.block(
            about,
            "NoSuchClass",
            format!("machine class {name} does not exist: create it, or name another one"),
        );
        return None;
    };
    if class.spec.root_disk < image.spec.virtual_size {
        draft.block(
            about,
            "RootDiskTooSmall",
            format!(
                "machine class {name} has a root disk of {}, image {} needs {}: enlarge rootDisk",
                class.spec.root_disk, image.metadata.name, image.spec.virtual_size
            ),
        );
        return None;
    }
    Some(class)
}
