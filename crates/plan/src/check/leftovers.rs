//! A leftover is the file of a volume that goes, or that gets another file, in the same plan; nothing else becomes one.

use ashlar_api::*;

use super::{Findings, Projected};
use crate::lifecycle::LEFTOVERS_REMEMBERED;
use crate::{Decision, Plan, Snapshot};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    for decision in plan.decisions.iter().flatten() {
        match decision {
            Decision::Create(Object::Volume(left)) if is_leftover(left) => {
                let was_it = snapshot.volumes.values().find(|volume| is_same_file(volume, left));
                let still_it = projected
                    .volumes
                    .values()
                    .find(|volume| !is_leftover(volume) && is_same_file(volume, left));
                if was_it.is_none() || still_it.is_some() {
                    findings.add(
                        "Leftover",
                        &left.object_ref(),
                        "its file is not one that a volume gives up",
                    );
                }
            }
            Decision::Remove { object, .. } if object.kind == Kind::Volume => {
                let Some(left) = snapshot.volumes.get(&object.key()).filter(|volume| is_leftover(volume))
                else {
                    continue;
                };
                let is_old = left
                    .metadata
                    .deletion_timestamp
                    .is_none_or(|since| snapshot.now.duration_since(since) >= LEFTOVERS_REMEMBERED);
                if !is_old && snapshot.hosts.contains_key(&left.spec.host) {
                    findings.add("Leftover", object, "a call may still make its file");
                }
            }
            _ => {}
        }
    }
}

/// Whether a volume got another file in place of one that was found half made, and never used.
pub(super) fn is_made_anew(read: &Volume, changed: &Volume) -> bool {
    let mut renamed = read.spec.clone();
    renamed.file_name.clone_from(&changed.spec.file_name);
    read.record.half_made && !read.record.filled && !changed.record.half_made && renamed == changed.spec
}

pub(super) fn is_leftover(volume: &Volume) -> bool {
    matches!(volume.spec.content, VolumeContent::Leftover { .. })
}

fn is_same_file(one: &Volume, other: &Volume) -> bool {
    let file =
        |volume: &Volume| (volume.spec.host.clone(), volume.spec.pool_uuid, volume.spec.file_name.clone());
    file(one) == file(other)
}
