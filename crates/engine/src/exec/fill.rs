//! Filling volumes: image files from this machine, seeds from memory.

use std::{io::Read, path::PathBuf, sync::Arc};

use ashlar_api::{
    ImagePart, Kind, Machine, MachineVolumeRole, NamespacedName, ObjectRef, Volume, VolumeContent,
};
use ashlar_plan::{
    Guard,
    bootstrap::{NodeBootstrap, SecretNames, SecretRef, seed_template},
    names,
};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Failure, Job, Outcome, record, secret, volume};
use crate::{
    deadline::bulk,
    effects::VolumeSource,
    seed,
    vault::{SecretValues, VaultError},
};

pub(super) async fn fill(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let volume = job.volume(name)?;
    let host = job.leased(&volume.spec.host).await?;
    volume::refuse_half_made(job, &host, volume).await?;
    let (source, bytes) = match &volume.spec.content {
        VolumeContent::ImageFile { size_bytes, .. } => {
            (VolumeSource::File(local_file(job, volume)?), *size_bytes)
        }
        VolumeContent::MachineDisk { machine, role: MachineVolumeRole::Seed, .. } => {
            let machine = job.machine(&NamespacedName::new(&name.namespace, machine))?;
            let image = build_seed(job, volume, machine).await?;
            let bytes = image.len() as u64;
            (VolumeSource::Bytes(Arc::new(image)), bytes)
        }
        VolumeContent::MachineDisk { .. } => {
            return Err(Failure::NotNow(format!("volume {name} is no seed and no image: nothing fills it")));
        }
    };
    let is_seed = matches!(source, VolumeSource::Bytes(_));
    let local = if let VolumeSource::File(path) = &source { Some(path.clone()) } else { None };
    // An upload of the wrong length would only be found out on the host, after all of it.
    if let Some(path) = &local
        && let Ok(found) = std::fs::metadata(path)
        && found.len() != bytes
    {
        return Err(Failure::Blocked {
            reason: "ImageCorrupt",
            message: format!(
                "{} is corrupt: it has {} bytes and should have {bytes}; `ashlar image inspect --verify` says more; \
                 build the image again",
                path.display(),
                found.len()
            ),
        });
    }
    let what = format!("filling volume {} on {}", volume.spec.file_name, host.name);
    let spec = &volume.spec;
    let call = job.engine.world.hypervisor.upload_volume(&host, spec.pool_uuid, &spec.file_name, source);
    let sent = job.call_within(bulk(&job.engine.settings, bytes), &what, call).await;
    if let (Err(_), Some(path)) = (&sent, &local)
        && !path.is_file()
    {
        return Err(Failure::Blocked {
            reason: "ImageMissing",
            message: format!(
                "{} is gone from the machine that runs Ashlar, and {} has no copy yet: build that image again",
                path.display(),
                host.name
            ),
        });
    }
    sent?;
    if is_seed {
        record(job, volume, |volume| !std::mem::replace(&mut volume.record.filled, true)).await?;
    }
    Ok(())
}

/// Compares an image file on the host with its record. A file that differs is deleted, and filled again in the next
/// pass; the number of attempts is bounded like that of every action.
pub(super) async fn verify(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let volume = job.volume(name)?;
    let VolumeContent::ImageFile { sha256, size_bytes, .. } = &volume.spec.content else {
        return Err(Failure::NotNow(format!("volume {name} is no image file: nothing to verify")));
    };
    let host = job.leased(&volume.spec.host).await?;
    let what = format!("checking the digest of {} on {}", volume.spec.file_name, host.name);
    let path = volume.spec.path();
    let call = job.engine.world.shell.file_sha256(&host, &path);
    let found = job.call_within(bulk(&job.engine.settings, *size_bytes), &what, call).await?;
    if found == *sha256 || !Guard::ImageDigest.stands() {
        return record(job, volume, |volume| !std::mem::replace(&mut volume.record.filled, true)).await;
    }
    let local = local_file(job, volume)?;
    if let Some(here) = hash_file(local.clone()).await
        && here != *sha256
    {
        return Err(Failure::Blocked {
            reason: "ImageCorrupt",
            message: format!(
                "{} is corrupt: its SHA-256 is {here} and should be {sha256}; `ashlar image inspect --verify` says more; build the image again",
                local.display()
            ),
        });
    }
    volume::remove_file(job, &host, volume).await?;
    Err(Failure::NotNow(format!(
        "{path} on {} arrived damaged (SHA-256 {found}): it is uploaded again",
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

/// SHA-256 (hex) of a file here, on a thread of its own; none if it cannot be read.
async fn hash_file(path: PathBuf) -> Option<String> {
    if !path.is_file() {
        return None;
    }
    let (send, receive) = futures::channel::oneshot::channel();
    let hash = move || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(crate::hex::encode(&hash.finalize())),
                length => hash.update(&buffer[..length]),
            }
        }
    };
    // Nobody waits any more if the receiver is gone: then the result is of no use.
    std::thread::spawn(move || drop(send.send(hash())));
    receive.await.ok()?.ok()
}

async fn build_seed(job: Job<'_>, volume: &Volume, machine: &Machine) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let key = machine.key();
    let cluster = NamespacedName::new(&key.namespace, &machine.spec.cluster);
    let (pki, join, ssh) = (names::pki_secret(&cluster), names::join_secret(&key), names::ssh_secret(&key));
    let template = seed_template(&NodeBootstrap {
        cluster: &machine.spec.cluster,
        machine: &machine.spec,
        machine_uid: machine.metadata.uid.unwrap_or_default(),
        secrets: SecretNames { pki: &pki.name, join_token: &join.name, ssh_host_key: Some(&ssh.name) },
    })
    .map_err(|error| Failure::Blocked { reason: "NoSeed", message: error.to_string() })?;
    let mut opened: Vec<(String, SecretValues)> = Vec::new();
    for SecretRef { object, .. } in template.secrets() {
        if !opened.iter().any(|(name, _)| name == object) {
            let name = NamespacedName::new(&key.namespace, object);
            opened.push((object.clone(), secret::open(job, &name).await?));
        }
    }
    let lookup = |reference: &SecretRef| {
        opened
            .iter()
            .find(|(name, _)| *name == reference.object)
            .and_then(|(_, values)| values.get(&reference.key).cloned())
            .ok_or_else(|| VaultError::Missing {
                secret: reference.object.clone(),
                value: reference.key.clone(),
            })
    };
    seed::build(&template, volume.spec.capacity.bytes(), lookup).map_err(|error| match error {
        seed::SeedError::Secret(error) => Failure::from(error),
        seed::SeedError::Image(error) => Failure::Blocked {
            reason: "NoSeed",
            message: format!("{}: {error}", ObjectRef::new(Kind::Machine, &key.namespace, &key.name)),
        },
    })
}
