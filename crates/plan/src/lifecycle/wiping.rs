//! Disks that are overwritten before they are deleted, as their cluster says.

use ashlar_api::*;

use crate::draft::{Draft, Unit, cluster_of};
use crate::fence;

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

/// Writes down that nothing is left of a machine but disks that are overwritten, which may take an hour: what it had of CPUs and
/// memory is free, and whoever comes in its place does not wait for them. A cluster that goes as a whole waits in any case.
pub(super) fn note_disks_only(draft: &mut Draft<'_>, machine: &Machine) {
    let goes = draft.clusters.get(&cluster_of(machine)).is_none_or(|cluster| cluster.metadata.is_deleting());
    // A control plane that is to go may be started again, as the vote that etcd lacks: not seen may be not there yet.
    let may_come_back =
        machine.spec.role == MachineRole::ControlPlane && draft.snapshot.under_way.contains(&machine.key());
    let mut disks = machine.spec.volumes.iter().filter_map(|volume| {
        draft.volumes.get(&NamespacedName::new(&machine.metadata.namespace, &volume.name))
    });
    let is_due =
        |volume: &Volume| volume.spec.reclaim == ReclaimPolicy::Delete && is_due(volume, Some(machine));
    if goes || may_come_back || machine.record.disks_only || !disks.any(is_due) {
        return;
    }
    let Some(mut changed) = draft.machines.get(&machine.key()).cloned() else { return };
    changed.record.disks_only = true;
    let mut unit = Unit::default();
    unit.update(changed.clone());
    draft.put_machine(changed);
    // By itself: what is removed in the same pass waits for the end of the lane that overwrites them.
    draft.end_commit();
    draft.commit(unit);
    draft.end_commit();
}

/// Whether others go on as if the machine were gone: nothing is left to do about it but on its host, which is off, or with its
/// disks. What is decided only now is no record yet.
pub(super) fn is_past(draft: &Draft<'_>, machine: &Machine) -> bool {
    fence::is_left_behind(draft, machine) || is_disks_only(draft, machine)
}

pub(crate) fn is_disks_only(draft: &Draft<'_>, machine: &Machine) -> bool {
    draft.snapshot.machines.get(&machine.key()).is_some_and(|machine| machine.record.disks_only)
}

/// The machine whose disks may be in the way of a new one of the cluster that has no room: they give theirs back when they are gone.
pub(super) fn in_the_way(draft: &Draft<'_>, cluster: &NamespacedName) -> Option<NamespacedName> {
    let mut machines = draft.machines_of(cluster).into_iter();
    machines.find(|machine| is_disks_only(draft, machine)).map(|machine| machine.key())
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
