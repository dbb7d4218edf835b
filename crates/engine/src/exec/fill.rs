//! Filling volumes: image files from this machine, seeds from memory.

use std::sync::Arc;

use ashlar_api::{Kind, Machine, MachineVolumeRole, NamespacedName, ObjectRef, Volume, VolumeContent};
use ashlar_plan::{
    bootstrap::{NodeBootstrap, SecretNames, SecretRef, seed_template},
    names,
};
use zeroize::Zeroizing;

use super::{Failure, Job, Outcome, image, record, secret, volume};
use crate::{
    deadline::bulk,
    effects::VolumeSource,
    seed,
    vault::{SecretValues, VaultError},
};

pub(super) async fn fill(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let volume = job.volume(name)?;
    let host = job.leased(&volume.spec.host)?;
    volume::refuse_half_made(job, &host, volume).await?;
    match &volume.spec.content {
        VolumeContent::ImageFile { size_bytes, .. } => image::fill(job, &host, volume, *size_bytes).await,
        VolumeContent::MachineDisk { machine, role: MachineVolumeRole::Seed, .. } => {
            let machine = job.machine(&NamespacedName::new(&name.namespace, machine))?;
            let content = build_seed(job, volume, machine).await?;
            let length = volume.spec.capacity.bytes();
            let limit = bulk(&job.engine.settings, length);
            let what = format!("filling volume {} on {}", volume.spec.file_name, host.name);
            let (pool, file) = (volume.spec.pool_uuid, &volume.spec.file_name);
            let source = VolumeSource::Bytes { bytes: Arc::new(content), length };
            let call = job.engine.world.hypervisor.upload_volume(&host, pool, file, source);
            job.call_within(limit, &what, call).await?;
            record(job, volume, |volume| !std::mem::replace(&mut volume.record.filled, true)).await
        }
        VolumeContent::MachineDisk { .. } | VolumeContent::Leftover { .. } => {
            Err(Failure::NotNow(format!("volume {name} is no seed and no image: nothing fills it")))
        }
    }
}

pub(super) async fn verify(job: Job<'_>, name: &NamespacedName) -> Outcome {
    let volume = job.volume(name)?;
    let VolumeContent::ImageFile { sha256, size_bytes, .. } = &volume.spec.content else {
        return Err(Failure::NotNow(format!("volume {name} is no image file: nothing to verify")));
    };
    image::verify(job, volume, sha256, *size_bytes).await
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
