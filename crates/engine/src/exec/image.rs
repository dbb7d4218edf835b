//! Image files: sent chunk by chunk, so that an upload that was cut goes on where it was, and verified as a whole.
//!
//! Nothing is written down about how far an upload came: the host is asked what the file holds. What is there and right
//! is not sent again, be it from an upload that was cut, or zeros that a new file consists of anyway.

use std::path::{Path, PathBuf};

use ashlar_api::{ImagePart, Volume, VolumeContent};
use ashlar_plan::Guard;

use super::{Failure, Job, Outcome, record, volume};
use crate::{
    EngineEvent,
    deadline::bulk,
    effects::{EffectError, EffectErrorKind, FileChunks, HostTarget, VolumeSource},
    event::Transfer,
};

/// What is in a volume before anything is sent.
enum OnHost {
    /// Nothing was ever written to it: it reads as zeros.
    Blank,
    /// Something was.
    Written(FileChunks),
}

pub(super) async fn fill(job: Job<'_>, host: &HostTarget, volume: &Volume, size_bytes: u64) -> Outcome {
    let path = local_file(job, volume)?;
    check_length(job, host, &path, size_bytes).await?;
    let there = on_host(job, host, volume, size_bytes).await?;
    let chunk_bytes = job.engine.settings.upload_chunk_bytes;
    let started = job.engine.world.clock.now();
    let (mut done_bytes, mut sent_bytes) = (0, 0);
    let mut number = 0;
    while done_bytes < size_bytes {
        let stretch = (done_bytes, chunk_bytes.min(size_bytes - done_bytes));
        if !is_right(job, host, &path, stretch, &there, number).await? {
            send(job, host, volume, &path, stretch).await?;
            sent_bytes += stretch.1;
        }
        done_bytes += stretch.1;
        number += 1;
        let elapsed = job.engine.world.clock.now().duration_since(started).unsigned_abs();
        job.engine.sink.event(&EngineEvent::Transferred(Transfer {
            volume: volume.object_ref(),
            host: host.name.clone(),
            chunk_bytes: stretch.1,
            done_bytes,
            sent_bytes,
            size_bytes,
            elapsed,
        }));
    }
    Ok(())
}

/// An upload of the wrong length would only be found out on the host, after all of it.
async fn check_length(job: Job<'_>, host: &HostTarget, path: &Path, size_bytes: u64) -> Outcome {
    let found = job.engine.world.files.length(path).await.map_err(|error| unreadable(host, path, error))?;
    if found == size_bytes {
        return Ok(());
    }
    Err(Failure::Blocked {
        reason: "ImageCorrupt",
        message: format!(
            "{} is corrupt: it has {found} bytes and should have {size_bytes}; `ashlar image inspect --verify` says \
             more; build the image again",
            path.display(),
        ),
    })
}

/// What the volume holds. A file that has another size than its content is no half of an upload: another one is made.
async fn on_host(
    job: Job<'_>,
    host: &HostTarget,
    volume: &Volume,
    size_bytes: u64,
) -> Result<OnHost, Failure> {
    let seen = super::owned::volume(job, host, volume).await?;
    if seen.is_some_and(|seen| seen.allocation_bytes == 0) {
        return Ok(OnHost::Blank);
    }
    let what = format!("looking at what {} on {} holds already", volume.spec.file_name, host.name);
    let settings = &job.engine.settings;
    let path = volume.spec.path();
    let call = job.engine.world.shell.file_chunks(host, &path, settings.upload_chunk_bytes);
    let chunks = job.call_within(bulk(settings, size_bytes), &what, call).await?;
    if chunks.size_bytes == size_bytes {
        return Ok(OnHost::Written(chunks));
    }
    volume::give_up_file(job, volume).await?;
    Err(Failure::NotNow(format!(
        "{path} on {} has {} bytes and should have {size_bytes}: another file is made in its place",
        host.name, chunks.size_bytes
    )))
}

/// Whether a stretch of the file is on the host already.
async fn is_right(
    job: Job<'_>,
    host: &HostTarget,
    path: &Path,
    (offset, length): (u64, u64),
    there: &OnHost,
    number: usize,
) -> Result<bool, Failure> {
    let files = &job.engine.world.files;
    let answer = match there {
        OnHost::Blank => files.is_zero(path, offset, length).await,
        OnHost::Written(chunks) => match chunks.sha256.get(number) {
            Some(there) => files.sha256(path, offset, length).await.map(|here| here == *there),
            None => Ok(false),
        },
    };
    answer.map_err(|error| unreadable(host, path, error))
}

async fn send(
    job: Job<'_>,
    host: &HostTarget,
    volume: &Volume,
    path: &Path,
    (offset, length): (u64, u64),
) -> Outcome {
    let spec = &volume.spec;
    let what = format!("filling volume {} on {} from byte {offset} on", spec.file_name, host.name);
    let source = VolumeSource::File { path: path.to_owned(), offset, length };
    let call = job.engine.world.hypervisor.upload_volume(host, spec.pool_uuid, &spec.file_name, source);
    job.call_within(bulk(&job.engine.settings, length), &what, call).await
}

/// A file here that is gone, or cannot be read: what to do about it.
fn unreadable(host: &HostTarget, path: &Path, error: EffectError) -> Failure {
    match error.kind {
        EffectErrorKind::NotFound => Failure::Blocked {
            reason: "ImageMissing",
            message: format!(
                "{} is gone from the machine that runs Ashlar, and {} has no copy yet: build that image again",
                path.display(),
                host.name
            ),
        },
        _ => Failure::Effect(error),
    }
}

/// Compares an image file on the host with its record. What differs is sent again in the next pass; the number of
/// attempts is bounded like that of every action.
pub(super) async fn verify(job: Job<'_>, volume: &Volume, sha256: &str, size_bytes: u64) -> Outcome {
    let host = job.leased(&volume.spec.host)?;
    let what = format!("checking the digest of {} on {}", volume.spec.file_name, host.name);
    let path = volume.spec.path();
    let call = job.engine.world.shell.file_sha256(&host, &path);
    let found = job.call_within(bulk(&job.engine.settings, size_bytes), &what, call).await?;
    if found == sha256 || !Guard::ImageDigest.stands() {
        return record(job, volume, |volume| !std::mem::replace(&mut volume.record.filled, true)).await;
    }
    let local = local_file(job, volume)?;
    let here = job.engine.world.files.sha256(&local, 0, size_bytes).await;
    let here = here.map_err(|error| unreadable(&host, &local, error))?;
    if here != sha256 {
        return Err(Failure::Blocked {
            reason: "ImageCorrupt",
            message: format!(
                "{} is corrupt: its SHA-256 is {here} and should be {sha256}; `ashlar image inspect --verify` says more; build the image again",
                local.display()
            ),
        });
    }
    Err(Failure::NotNow(format!(
        "{path} on {} arrived damaged (SHA-256 {found}): the chunks that differ are sent again",
        host.name
    )))
}

/// The image's file on this machine.
fn local_file(job: Job<'_>, volume: &Volume) -> Result<PathBuf, Failure> {
    let VolumeContent::ImageFile { image, digest, part, .. } = &volume.spec.content else {
        return Err(Failure::NotNow(format!("volume {} is no image file", volume.key())));
    };
    let missing = |message: String| Failure::Blocked { reason: "ImageMissing", message };
    let object = job.snapshot.images.get(image).ok_or_else(|| {
        missing(format!(
            "image {image} is not in the store any more; `ashlar image register {image}` records it again, or delete what boots it"
        ))
    })?;
    let spec = &object.spec;
    if spec.digest != *digest {
        return Err(missing(format!(
            "image {image} has digest {} now, and volume {} was made from {digest}; record the new one under another name, and that one under its own again",
            spec.digest,
            volume.key()
        )));
    }
    let file = match part {
        ImagePart::Disk => spec.disk.as_ref(),
        ImagePart::Kernel => Some(&spec.kernel),
        ImagePart::Initrd => Some(&spec.initrd),
    };
    let file = file.ok_or_else(|| missing(format!("image {image} has no {part:?}")))?;
    Ok(PathBuf::from(&spec.directory).join(&file.file))
}
