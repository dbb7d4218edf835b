//! What a cluster settles once: its image and its endpoint.

use ashlar_api::*;

use super::PoolTier;
use crate::NoteKind;
use crate::draft::Draft;

/// The objects that a cluster's machines are made from.
#[derive(Clone, Copy)]
pub(super) struct Parts<'s> {
    pub(super) image: &'s Image,
    pub(super) network: &'s Network,
}

/// Finds a cluster's image and network; says what is missing.
pub(super) fn parts<'s>(draft: &mut Draft<'s>, cluster: &Cluster) -> Option<Parts<'s>> {
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
    let image = match choose_image(draft, cluster) {
        Ok(image) => image,
        Err(message) => {
            draft.block(cluster.object_ref(), "NoImage", message);
            return None;
        }
    };
    Some(Parts { image, network })
}

/// The image for new machines: the one chosen before as long as the spec agrees with it.
fn choose_image<'s>(draft: &mut Draft<'s>, cluster: &Cluster) -> Result<&'s Image, String> {
    let snapshot = draft.snapshot;
    let spec = &cluster.spec;
    let version = spec.kubernetes_version.as_str();
    let recorded = snapshot.images.get(&cluster.record.image);
    if let Some(image) = recorded {
        let agrees = image.spec.kubernetes_version == version
            && (spec.image.is_empty() || spec.image == image.metadata.name);
        let has_machines = !draft.machines_of(&cluster.key()).is_empty();
        if !agrees && has_machines {
            draft.note(
                cluster.object_ref(),
                NoteKind::Notice,
                "UpgradeNotSupported",
                format!(
                    "{} runs image {} ({}); this version of Ashlar does not upgrade clusters: new machines get that image too",
                    cluster.object_ref(),
                    image.metadata.name,
                    image.spec.kubernetes_version
                ),
            );
        }
        if agrees || has_machines {
            return usable(image);
        }
    }
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
                "there is no image with Kubernetes {version} (there: {there}): build it with `ashlar image build --kubernetes-version {version}`"
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
