//! Disks that are overwritten before they are deleted, as their cluster says.

use ashlar_api::*;

use crate::draft::{Draft, Unit};

/// Whether a cluster wants that of a disk. A seed is wiped in any case, and earlier.
pub(super) fn is_asked(cluster: &Cluster, role: MachineVolumeRole) -> bool {
    cluster.spec.wipe_disks == WipeDisks::Zero && role != MachineVolumeRole::Seed
}

/// Whether a disk that goes is overwritten first. Where its machine never ran, nothing is in it.
pub(crate) fn is_due(volume: &Volume, owner: Option<&Machine>) -> bool {
    let record = &volume.record;
    record.wipe
        && !record.wiped
        && record.not_wiped.is_empty()
        && owner.is_none_or(|owner| owner.record.first_started_at.is_some())
}

/// Writes down what clusters say now. It stands with the disk, because that may be there for longer than its machine. Of a
/// cluster that wants nothing only those are looked at that go: the others have their time.
pub(super) fn record(draft: &mut Draft<'_>) {
    let snapshot = draft.snapshot;
    for cluster in snapshot.clusters.values() {
        let key = cluster.key();
        let wants = cluster.spec.wipe_disks == WipeDisks::Zero;
        let machines: Vec<_> = draft
            .machines_of(&key)
            .into_iter()
            .filter(|machine| wants || machine.metadata.is_deleting())
            .cloned()
            .collect();
        for machine in machines {
            for name in machine.volume_names() {
                let key = NamespacedName::new(&key.namespace, name);
                let Some(volume) = draft.volumes.get(&key) else { continue };
                let VolumeContent::MachineDisk { role, .. } = &volume.spec.content else { continue };
                let is_asked = is_asked(cluster, *role);
                if volume.record.wipe == is_asked {
                    continue;
                }
                let mut changed = volume.clone();
                changed.record.wipe = is_asked;
                let mut unit = Unit::default();
                unit.update(changed.clone());
                draft.volumes.insert(key, changed);
                draft.commit(unit);
            }
        }
    }
}
