//! Image files on hosts: each is created, written and verified once, and shared by all machines there.

use std::collections::BTreeSet;

use ashlar_api::*;

use super::chain::{Chain, wait};
use super::host_view::HostViews;
use crate::draft::Draft;
use crate::lifecycle::image_files_in_use;
use crate::{Action, Step};

/// Steps of all image files.
pub(super) fn steps(draft: &Draft<'_>, hosts: &HostViews<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut used: Option<BTreeSet<&str>> = None;
    for volume in draft.volumes.values() {
        let VolumeContent::ImageFile { image, .. } = &volume.spec.content else { continue };
        let mut chain = Chain::new(volume.object_ref(), &volume.spec.host);
        if volume.metadata.is_deleting() {
            let used = used
                .get_or_insert_with(|| image_files_in_use(draft.machines.values(), draft.volumes.values()));
            delete(hosts, volume, used, &mut chain);
        } else if volume.record.unused_since.is_none() {
            ensure(draft, hosts, volume, image, &mut chain);
        }
        steps.extend(chain.finish());
    }
    steps
}

fn ensure(draft: &Draft<'_>, hosts: &HostViews<'_>, volume: &Volume, image: &str, chain: &mut Chain) {
    let seen = match hosts.get(&volume.spec.host).and_then(|view| view.volume(volume)) {
        Ok(seen) => seen.is_some(),
        Err(_) if volume.record.filled => return,
        Err(hold) => {
            chain.hold(hold);
            false
        }
    };
    if volume.record.filled {
        return;
    }
    if !draft.snapshot.images.contains_key(image) {
        chain.wait_for(
            "NoImage",
            format!(
                "image {image} is not in the store any more: `ashlar image register {image}` records it again"
            ),
        );
    }
    let (key, path) = (volume.key(), volume.spec.path());
    if !seen {
        chain.push(Action::CreateVolume { volume: key.clone() }, format!("create {path} for image {image}"));
    }
    chain.push(
        Action::FillVolume { volume: key.clone() },
        format!("upload {} of image {image} once for this host", volume.spec.capacity),
    );
    chain.push(Action::VerifyVolume { volume: key }, "compare it with its digest on the host");
}

fn delete(hosts: &HostViews<'_>, volume: &Volume, used: &BTreeSet<&str>, chain: &mut Chain) {
    match hosts.get(&volume.spec.host).and_then(|view| {
        // No machine of ours stands on it, so that no domain may.
        view.unused_by_others(volume, uuid::Uuid::nil())?;
        view.volume(volume)
    }) {
        Ok(None) => return,
        Ok(Some(_)) => {}
        Err(hold) => chain.hold(hold),
    }
    if used.contains(volume.metadata.name.as_str()) {
        chain.hold(wait("ImageInUse", format!("machines on {} stand on it", volume.spec.host)));
    }
    chain.push(Action::DeleteVolume { volume: volume.key() }, format!("delete {}", volume.spec.path()));
}
