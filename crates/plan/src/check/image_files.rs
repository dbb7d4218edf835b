//! Image files on hosts: nothing that is needed is given up, and nothing that is given up is claimed.

use ashlar_api::*;

use super::{Findings, Projected};
use crate::{Decision, Plan, Snapshot};

/// A file that a new machine claims is recorded as used by the same plan: else another planner that wants it gone
/// would not conflict with the claim.
pub(super) fn check(plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    for decision in plan.decisions.iter().flatten() {
        let Decision::Create(Object::Machine(machine)) = decision else { continue };
        for name in files_of(machine) {
            let volume = projected.volumes.get(&NamespacedName::new(SYSTEM_NAMESPACE, name));
            let Some(volume) = volume else { continue };
            if volume.record.unused_since.is_some() || volume.metadata.is_deleting() {
                let message = format!("{} boots from it, and it is recorded as unused", machine.object_ref());
                findings.add("ImageClaim", &volume.object_ref(), message);
            }
        }
    }
}

/// The decision to delete a file: of no use, neither before the plan nor after it, for as long as its grace time.
pub(super) fn retirement(
    snapshot: &Snapshot,
    projected: &Projected<'_>,
    before: &Volume,
    findings: &mut Findings,
) {
    let object = before.object_ref();
    let VolumeContent::ImageFile { image, digest, .. } = &before.spec.content else { return };
    let grace = match snapshot.images.get(image) {
        Some(image) if image.spec.digest == *digest => image.spec.unused_grace_s,
        _ => None,
    };
    let grace_s = i64::from(grace.unwrap_or(DEFAULT_UNUSED_GRACE_S));
    match before.record.unused_since {
        Some(since) if snapshot.now.as_second() - since.as_second() >= grace_s => {}
        Some(_) => findings.add("ImageGrace", &object, "its grace time is not over"),
        None => findings.add("ImageGrace", &object, "it was not recorded as unused"),
    }
    let name = &before.metadata.name;
    if let Some(machine) = snapshot.machines.values().find(|machine| files_of(machine).contains(&name)) {
        findings.add("InUse", &object, format!("{} boots from it", machine.object_ref()));
    }
    if let Some(overlay) = snapshot.volumes.values().find(|other| stands_on(other, name)) {
        findings.add("InUse", &object, format!("{} stands on it", overlay.object_ref()));
    }
    unused(projected, &before.key(), &object, findings);
}

/// Nothing boots from the file or stands on it once the plan is committed.
pub(super) fn unused(
    projected: &Projected<'_>,
    key: &NamespacedName,
    object: &ObjectRef,
    findings: &mut Findings,
) {
    if let Some(overlay) = projected.volumes.values().find(|other| stands_on(other, &key.name)) {
        findings.add("InUse", object, format!("{} stands on it", overlay.object_ref()));
    }
    if let Some(machine) = projected.machines.values().find(|machine| files_of(machine).contains(&&key.name))
    {
        findings.add("InUse", object, format!("{} boots from it", machine.object_ref()));
    }
}

fn files_of(machine: &Machine) -> [&String; 3] {
    let image = &machine.spec.image;
    [&image.disk_volume, &image.kernel_volume, &image.initrd_volume]
}

fn stands_on(volume: &Volume, file: &str) -> bool {
    matches!(&volume.spec.content, VolumeContent::MachineDisk { backing: Some(backing), .. } if backing == file)
}
