//! Making, wiping and deleting volumes.

use ashlar_api::{MachineVolumeRole, NamespacedName, SYSTEM_NAMESPACE, Volume, VolumeContent, VolumeFormat};
use ashlar_plan::{Guard, HostSeen, Snapshot};

use super::{Failure, Job, Outcome, fine_if_gone, owned, record};
use crate::{
    Scope,
    deadline::bulk,
    effects::{EffectError, EffectErrorKind, HostTarget, VolumeCreate},
};

pub(super) async fn create(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let volume = job.volume(name)?;
    let host = job.leased(&volume.spec.host)?;
    let wanted = wanted(job, volume)?;
    if owned::volume(job, &host, volume).await?.is_some() {
        return settle_existing(job, &host, volume, &wanted).await;
    }
    let what = format!("making volume {} on {}", volume.spec.file_name, host.name);
    let limit = bulk(&job.engine.settings, if wanted.preallocate { wanted.capacity_bytes } else { 0 });
    match job.call_within(limit, &what, job.engine.world.hypervisor.create_volume(&host, &wanted)).await {
        Err(Failure::Effect(EffectError { kind: EffectErrorKind::AlreadyExists, .. })) => {
            settle_existing(job, &host, volume, &wanted).await
        }
        Err(failure @ Failure::Effect(EffectError { kind: EffectErrorKind::Unreachable, .. })) => {
            // It may take effect when nobody waits for it any more, even after the volume is gone.
            record(job, volume, |volume| !std::mem::replace(&mut volume.record.unanswered, true)).await?;
            Err(failure)
        }
        other => other,
    }
}

/// A file of our random name is ours: a call of an earlier run took effect after all. It stays if it has the size that
/// it should have; if not, that call was cut off in the middle, and another file is made in its place, unless its
/// content counts already. Not under the same name: a call that deletes it and is late would delete the new one.
async fn settle_existing(job: Job<'_>, host: &HostTarget, volume: &Volume, wanted: &VolumeCreate) -> Outcome {
    let Some(seen) = owned::volume(job, host, volume).await? else {
        return Err(Failure::NotNow(format!("volume {} comes and goes", volume.key())));
    };
    if seen.capacity_bytes == wanted.capacity_bytes || !Guard::HalfMadeVolume.stands() {
        return Ok(());
    }
    if volume.record.filled || was_started(job, volume) {
        return Err(Failure::Blocked {
            reason: "VolumeSizeDiffers",
            message: format!(
                "volume {} ({}) has {} bytes and should have {}: it was left alone, since it may hold data",
                volume.key(),
                volume.spec.path(),
                seen.capacity_bytes,
                wanted.capacity_bytes
            ),
        });
    }
    give_up_file(job, volume).await?;
    Err(Failure::NotNow(format!("volume {} was half made: another file is made in its place", volume.key())))
}

/// Whether the volume's machine ever ran.
fn was_started(job: Job<'_>, volume: &Volume) -> bool {
    match &volume.spec.content {
        VolumeContent::ImageFile { .. } | VolumeContent::Leftover { .. } => false,
        VolumeContent::MachineDisk { machine, .. } => job
            .snapshot
            .machines
            .get(&NamespacedName::new(&volume.metadata.namespace, machine))
            .is_none_or(|machine| machine.record.first_started_at.is_some()),
    }
}

fn wanted(job: Job<'_>, volume: &Volume) -> Result<VolumeCreate, Failure> {
    let spec = &volume.spec;
    let (format, capacity_bytes, backing) = match &spec.content {
        // Whatever its format, the file arrives as it is, by upload: it is made raw and of exactly its size.
        VolumeContent::ImageFile { size_bytes, .. } => (VolumeFormat::Raw, *size_bytes, None),
        VolumeContent::MachineDisk { backing, .. } => (spec.format, spec.capacity.bytes(), backing.as_ref()),
        VolumeContent::Leftover { .. } => {
            return Err(Failure::NotNow(format!("volume {} is only to be deleted", volume.key())));
        }
    };
    let backing_path = match backing {
        None => None,
        Some(backing) => Some(job.volume(&NamespacedName::new(SYSTEM_NAMESPACE, backing))?.spec.path()),
    };
    Ok(VolumeCreate {
        pool: spec.pool_uuid,
        file_name: spec.file_name.clone(),
        format,
        capacity_bytes,
        // etcd's disk: a full pool must fail here, not in the middle of a write.
        preallocate: matches!(&spec.content, VolumeContent::MachineDisk { .. })
            && spec.format == VolumeFormat::Raw,
        backing_path,
    })
}

pub(super) async fn wipe(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let volume = job.volume(name)?;
    let host = job.leased(&volume.spec.host)?;
    let Some(seen) = owned::volume(job, &host, volume).await? else { return Ok(()) };
    refuse_in_use(job, &host, volume).await?;
    match &volume.spec.content {
        VolumeContent::MachineDisk { role: MachineVolumeRole::Seed, .. } => {}
        VolumeContent::MachineDisk { .. } if volume.record.wipe => {
            return overwrite(job, &host, volume, seen.allocation_bytes).await;
        }
        _ => return Err(Failure::NotNow(format!("volume {} is not to be overwritten", volume.key()))),
    }
    let what = format!("wiping volume {} on {}", volume.spec.file_name, host.name);
    let limit = bulk(&job.engine.settings, seen.capacity_bytes);
    let spec = &volume.spec;
    let call = job.engine.world.hypervisor.wipe_volume(&host, spec.pool_uuid, &spec.file_name);
    if Guard::SeedWipe.stands() {
        job.call_within(limit, &what, call).await?;
    }
    record(job, volume, |volume| !std::mem::replace(&mut volume.record.wiped, true)).await
}

/// Overwrites a machine's disk. libvirt's own wiping would not do: of a file with holes, as overlays are, it only gives the
/// blocks back.
async fn overwrite(job: Job<'_>, host: &HostTarget, volume: &Volume, bytes: u64) -> Outcome {
    let what = format!("overwriting volume {} on {}", volume.spec.file_name, host.name);
    let timeout = bulk(&job.engine.settings, bytes);
    let path = volume.spec.path();
    let call = job.engine.world.shell.zero_file(host, &path, timeout);
    // The call keeps to its time itself; this is for one that does not.
    let limit = timeout.saturating_add(job.engine.settings.call_deadline);
    match job.call_within(limit, &what, call).await {
        Ok(None) => record(job, volume, |volume| !std::mem::replace(&mut volume.record.wiped, true)).await,
        Ok(Some(why)) => {
            let change = |volume: &mut Volume| {
                let is_new = volume.record.not_wiped != why;
                volume.record.not_wiped.clone_from(&why);
                is_new
            };
            record(job, volume, change).await?;
            // Said before it goes: the next pass deletes it, and says so too.
            let path = volume.spec.path();
            Err(Failure::NotNow(format!("{path} cannot be overwritten, and is deleted as it is: {why}")))
        }
        Err(failure) => fine_if_gone(Err(failure)),
    }
}

pub(super) async fn delete(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let volume = job.volume(name)?;
    let host = job.leased(&volume.spec.host)?;
    if owned::volume(job, &host, volume).await?.is_none() {
        return Ok(());
    }
    refuse_in_use(job, &host, volume).await?;
    if matches!(volume.spec.content, VolumeContent::ImageFile { .. }) {
        refuse_wanted_again(job, volume).await?;
    }
    remove_file(job, &host, volume).await
}

/// An image file is everybody's: right before it goes, the store is read once more.
async fn refuse_wanted_again(job: Job<'_>, volume: &Volume) -> Outcome {
    let snapshot = job.engine.snapshot(&Scope::StoreOnly).await?;
    let fresh = snapshot.volumes.get(&volume.key());
    let still_goes = fresh
        .is_some_and(|fresh| fresh.metadata.is_deleting() && fresh.spec.file_name == volume.spec.file_name);
    if !still_goes {
        return Err(Failure::NotNow(format!("volume {} is not to go any more", volume.key())));
    }
    refuse_used(&snapshot, volume, None)
}

/// Records that another file is to be made in the place of this one, which is not used yet and never will be.
pub(super) async fn give_up_file(job: Job<'_>, volume: &Volume) -> Outcome {
    record(job, volume, |volume| !std::mem::replace(&mut volume.record.half_made, true)).await
}

async fn remove_file(job: Job<'_>, host: &HostTarget, volume: &Volume) -> Outcome {
    let what = format!("deleting volume {} on {}", volume.spec.file_name, host.name);
    let spec = &volume.spec;
    let call = job.engine.world.hypervisor.delete_volume(host, spec.pool_uuid, &spec.file_name);
    fine_if_gone(job.call(&what, call).await)
}

/// Before its first use: a file whose making was cut off has another size than it should have, and another one takes its
/// place.
pub(super) async fn refuse_half_made(job: Job<'_>, host: &HostTarget, volume: &Volume) -> Outcome {
    let wanted = wanted(job, volume)?;
    match owned::volume(job, host, volume).await? {
        None => Err(Failure::NotNow(format!("volume {} is not there (yet)", volume.key()))),
        Some(seen) if seen.capacity_bytes == wanted.capacity_bytes || !Guard::HalfMadeVolume.stands() => {
            Ok(())
        }
        // libvirt shows an image file's virtual size once it knows its format.
        Some(seen)
            if matches!(volume.spec.content, VolumeContent::ImageFile { .. })
                && seen.capacity_bytes > wanted.capacity_bytes =>
        {
            Ok(())
        }
        Some(_) => settle_existing(job, host, volume, &wanted).await,
    }
}

/// Refuses to take away a file that something stands on: a domain that has it as disk or medium, or an overlay.
async fn refuse_in_use(job: Job<'_>, host: &HostTarget, volume: &Volume) -> Outcome {
    if !Guard::FileInUse.stands() {
        return Ok(());
    }
    let path = volume.spec.path();
    if let VolumeContent::MachineDisk { machine, .. } = &volume.spec.content {
        let machine = NamespacedName::new(&volume.metadata.namespace, machine);
        if let Some(machine) = job.snapshot.machines.get(&machine)
            && let Some(domain) = owned::domain(job, host, machine).await?
        {
            let holds = domain.medium_path.as_ref() == Some(&path)
                || domain.state.is_active() && domain.disk_paths.contains(&path);
            if holds {
                return Err(Failure::NotNow(format!("{path} is still in use by domain {}", domain.name)));
            }
        }
    }
    let other_user = match job.snapshot.observed.hosts.get(&volume.spec.host) {
        Some(HostSeen::Seen(world)) => world
            .domains
            .values()
            .find(|domain| domain.mark.is_none() && domain.disk_paths.contains(&path))
            .map(|domain| format!("domain {}", domain.name)),
        _ => None,
    };
    refuse_used(job.snapshot, volume, other_user)
}

/// An overlay that stands on an image's file, or a machine that boots from it.
fn user_of_image_file(snapshot: &Snapshot, name: &str) -> Option<String> {
    let overlay = snapshot.volumes.values().find(|other| {
        matches!(&other.spec.content, VolumeContent::MachineDisk { backing: Some(backing), .. } if backing == name)
    });
    let machine = || {
        snapshot.machines.values().find(|machine| {
            let image = &machine.spec.image;
            [&image.disk_volume, &image.kernel_volume, &image.initrd_volume].iter().any(|file| *file == name)
        })
    };
    overlay
        .map(|overlay| overlay.object_ref().to_string())
        .or_else(|| machine().map(|machine| machine.object_ref().to_string()))
}

/// Refuses if an overlay stands on the file, a machine boots from it, or somebody else was found with it.
fn refuse_used(snapshot: &Snapshot, volume: &Volume, other_user: Option<String>) -> Outcome {
    if !Guard::FileInUse.stands() {
        return Ok(());
    }
    let path = volume.spec.path();
    // Nothing stands on a machine's own disk or seed: only files of images are looked for in all that there is.
    let is_shared = volume.metadata.namespace == SYSTEM_NAMESPACE;
    match other_user
        .or_else(|| if is_shared { user_of_image_file(snapshot, &volume.metadata.name) } else { None })
    {
        None => Ok(()),
        Some(user) => Err(Failure::Blocked {
            reason: "VolumeInUse",
            message: format!("volume {} ({path}) is used by {user}: it was left alone", volume.key()),
        }),
    }
}
