//! Rules about a host as such, apart from room and distance. Each refusal carries its reason.

use ashlar_api::*;

use super::request::{Request, image_files};
use crate::draft::Draft;
use crate::report::Refusal;
use crate::{HostSeen, migration, names};

pub(super) fn refusal(rule: &str, message: impl Into<String>) -> Refusal {
    Refusal { rule: rule.to_owned(), message: message.into() }
}

fn refuse(rule: &str, message: impl Into<String>) -> Result<(), Refusal> {
    Err(refusal(rule, message))
}

/// Whether any machine may be placed on the host.
pub(super) fn usable(draft: &Draft<'_>, host: &Host) -> Result<(), Refusal> {
    let name = &host.metadata.name;
    if host.metadata.is_deleting() {
        return refuse("Leaving", "it is being removed");
    }
    if host.record.capacity.is_none() || host.record.accelerator.is_none() {
        return refuse(
            "NotEnrolled",
            format!("it was not enrolled to the end: run `ashlar host add {name}`"),
        );
    }
    if host.spec.draining {
        return refuse(
            "Draining",
            "it is being emptied (`ashlar host drain`): no new machine is placed there",
        );
    }
    if host.spec.cordoned {
        return refuse("Cordoned", "it is cordoned: no new machine is placed there");
    }
    match draft.snapshot.observed.hosts.get(name) {
        Some(HostSeen::Unreachable { reason }) => {
            refuse("Unreachable", format!("it does not answer: {reason}"))
        }
        Some(HostSeen::NotOurs { reason }) => {
            refuse("NotOurs", format!("it is not the host that was enrolled: {reason}"))
        }
        Some(HostSeen::Fenced { reason, .. }) => refuse("TakenOver", reason.clone()),
        // One that was not asked in this pass is taken as it was recorded.
        Some(HostSeen::Seen(_)) | None => Ok(()),
    }
}

/// Whether image, network and storage pool are there, or can be.
pub(super) fn fitting(draft: &Draft<'_>, host: &Host, request: &Request<'_>) -> Result<(), Refusal> {
    let name = &host.metadata.name;
    let (has, wants) = (go_architecture(&host.record.architecture), &request.image.spec.architecture);
    if !has.is_empty() && has != wants {
        return refuse(
            "Architecture",
            format!("it is {has}; image {} is {wants}", request.image.metadata.name),
        );
    }
    if let Some(machine) = request.moves
        && let Some(from) = draft.hosts.get(&machine.spec.host)
        && let Some(why) = migration::unlike(from, host, machine)
    {
        return refuse("Unlike", format!("{why}: the guest cannot go on there"));
    }
    let network = &request.network;
    if !network.spec.is_on(name) {
        return refuse("Network", format!("network {} is not there", network.metadata.name));
    }
    let pool = &request.pool;
    let allowed = pool.spec.hosts.is_empty() || pool.spec.hosts.contains(name);
    let Some(on_host) = pool.record.hosts.get(name).filter(|_| allowed) else {
        return refuse("Pool", format!("storage pool {} is not there", pool.metadata.name));
    };
    if let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(name)
        && !world.pools.contains_key(&on_host.uuid)
    {
        if let Some(reason) = world.distrusted_pools.get(&on_host.uuid) {
            return refuse("PoolNotMounted", reason.clone());
        }
        return refuse("PoolNotActive", format!("storage pool {} is not active there", pool.metadata.name));
    }
    for (part, ..) in image_files(request.image) {
        let key = names::image_volume(&request.image.spec.digest, name, part);
        // One whose end this plan records has its name in the store until that is committed.
        let there = draft.volumes.get(&key);
        let known = there.or_else(|| draft.snapshot.volumes.get(&key));
        if known.is_some_and(|volume| volume.metadata.is_deleting()) {
            return refuse("ImageLeaving", format!("image file {} is being removed there", key.name));
        }
        let Some(volume) = there else { continue };
        if !matches!(&volume.spec.content, VolumeContent::ImageFile { digest, .. } if *digest == request.image.spec.digest)
        {
            return refuse("ImageName", format!("volume {} there holds another image", key.name));
        }
    }
    Ok(())
}

/// Architectures as Go names them, from the names of the kernel.
pub fn go_architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What of the image is not on the host yet.
pub(super) fn missing_image_mib(draft: &Draft<'_>, host: &str, image: &Image) -> u64 {
    image_files(image)
        .filter(|(part, ..)| !draft.volumes.contains(&names::image_volume(&image.spec.digest, host, *part)))
        .map(|(_, _, mib)| mib)
        .sum()
}
