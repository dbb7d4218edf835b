//! The probe VM's kernel and initrd on a host: volumes as all others, recorded before they are made.

use ashlar_api::{
    Image, ImagePart, Kind, Mebibytes, NamespacedName, Object, ObjectRef, ReclaimPolicy, SYSTEM_NAMESPACE,
    StoragePool, Volume, VolumeContent, VolumeFormat, VolumeSpec,
};
use ashlar_plan::{Action, Snapshot, Step, StepState, names};
use ashlar_store::{Precondition, Transaction};

use super::EnrolError;
use crate::{
    Engine, EngineError, Scope,
    effects::HostTarget,
    exec::{Failure, Job},
    ids::random_uuid,
    objects,
};

/// Label of volumes that only a probe needs: whoever finds one after a crash may take it away.
const PROBE_LABEL: &str = "ashlar.dev/probe";
/// Attempts of one step; enrolment has somebody in front of it, who can repeat it.
const ATTEMPTS: u32 = 3;
const PARTS: [ImagePart; 2] = [ImagePart::Kernel, ImagePart::Initrd];

/// Where the files are on the host, and how to reach it.
pub(super) struct ProbeFiles {
    pub(super) target: HostTarget,
    pub(super) kernel_path: String,
    pub(super) initrd_path: String,
}

/// Brings kernel and initrd of the image onto the host, unless they are there.
pub(super) async fn place(
    engine: &Engine,
    host: &str,
    image: &str,
    pool: &StoragePool,
) -> Result<ProbeFiles, EnrolError> {
    let snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    let image = snapshot.images.get(image).ok_or_else(|| {
        EnrolError::Refused(format!(
            "there is no image {image}: `ashlar image build --test` makes the test image"
        ))
    })?;
    record(engine, &snapshot, host, image, pool).await?;
    let snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    let mut paths = Vec::new();
    for part in PARTS {
        let key = names::image_volume(&image.spec.digest, host, part);
        let volume = snapshot.volumes.get(&key).ok_or(EngineError::Contended)?;
        if !volume.record.filled {
            fill(engine, &snapshot, host, &key).await?;
        }
        paths.push(volume.spec.path());
    }
    let object =
        snapshot.hosts.get(host).ok_or_else(|| EngineError::NoSuchObject(super::add::host_ref(host)))?;
    let target = engine.leased(object).await?;
    let [kernel_path, initrd_path] = <[String; 2]>::try_from(paths).map_err(|_| EngineError::Contended)?;
    Ok(ProbeFiles { target, kernel_path, initrd_path })
}

/// Makes, fills and verifies one file. A damaged upload was deleted by the verification: it is made anew.
async fn fill(
    engine: &Engine,
    snapshot: &Snapshot,
    host: &str,
    volume: &NamespacedName,
) -> Result<(), EnrolError> {
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        take(engine, snapshot, host, Action::CreateVolume { volume: volume.clone() }).await?;
        take(engine, snapshot, host, Action::FillVolume { volume: volume.clone() }).await?;
        last = take(engine, snapshot, host, Action::VerifyVolume { volume: volume.clone() }).await;
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Writes the Volume objects that are missing.
async fn record(
    engine: &Engine,
    snapshot: &Snapshot,
    host: &str,
    image: &Image,
    pool: &StoragePool,
) -> Result<(), EnrolError> {
    let on_host = pool.record.hosts.get(host).ok_or(EngineError::Contended)?;
    let mut transaction = Transaction::new();
    for (part, file) in [(ImagePart::Kernel, &image.spec.kernel), (ImagePart::Initrd, &image.spec.initrd)] {
        let key = names::image_volume(&image.spec.digest, host, part);
        if snapshot.volumes.contains_key(&key) {
            continue;
        }
        let uuid = random_uuid(engine.world.entropy.as_ref());
        let spec = VolumeSpec {
            host: host.to_owned(),
            pool: pool.metadata.name.clone(),
            pool_uuid: on_host.uuid,
            pool_path: on_host.path.clone(),
            file_name: names::image_volume_file(&image.spec.digest, part, uuid),
            format: VolumeFormat::Raw,
            capacity: Mebibytes(file.size_bytes.div_ceil(1 << 20)),
            content: VolumeContent::ImageFile {
                image: image.metadata.name.clone(),
                digest: image.spec.digest.clone(),
                part,
                sha256: file.sha256.clone(),
                size_bytes: file.size_bytes,
            },
            reclaim: ReclaimPolicy::Delete,
        };
        let mut volume = Volume::new(&key.name, spec);
        volume.metadata.namespace = SYSTEM_NAMESPACE.to_owned();
        volume.metadata.uid = Some(random_uuid(engine.world.entropy.as_ref()));
        volume.metadata.generation = 1;
        volume.metadata.creation_timestamp = Some(snapshot.now);
        volume.metadata.labels.insert(PROBE_LABEL.to_owned(), "true".to_owned());
        let store_key = objects::key_of(&volume.object_ref());
        transaction =
            transaction.put(store_key, objects::to_stored(Object::from(volume))?, Precondition::Absent);
    }
    if !transaction.writes.is_empty() {
        engine.store.commit(transaction).await.map_err(EngineError::from)?;
    }
    Ok(())
}

/// Deletes the probe's files and their records, with the intent recorded first.
pub(super) async fn take_away(engine: &Engine, host: &str) -> Result<(), EnrolError> {
    let snapshot = engine.snapshot(&Scope::StoreOnly).await?;
    let is_probes = |volume: &&Volume| {
        volume.spec.host == host
            && volume.metadata.labels.contains_key(PROBE_LABEL)
            && !is_used(&snapshot, &volume.metadata.name)
    };
    for volume in snapshot.volumes.values().filter(is_probes) {
        delete(engine, &snapshot, volume).await?;
    }
    Ok(())
}

/// Whether a machine boots from an image file meanwhile.
fn is_used(snapshot: &Snapshot, volume: &str) -> bool {
    snapshot.machines.values().any(|machine| {
        let image = &machine.spec.image;
        [&image.disk_volume, &image.kernel_volume, &image.initrd_volume].iter().any(|name| *name == volume)
    })
}

/// Deletes an image file's volume and its record, with the intent recorded first.
pub(super) async fn delete(engine: &Engine, snapshot: &Snapshot, volume: &Volume) -> Result<(), EnrolError> {
    let now = engine.world.clock.now();
    let marked = objects::update(engine.store.as_ref(), volume, |volume| {
        let is_new = volume.metadata.deletion_timestamp.is_none();
        volume.metadata.deletion_timestamp.get_or_insert(now);
        is_new
    });
    let Some(marked) = marked.await? else { return Ok(()) };
    take(engine, snapshot, &volume.spec.host, Action::DeleteVolume { volume: volume.key() }).await?;
    let name = marked.object_ref();
    let expect = objects::unchanged_since(&marked.metadata.resource_version)?;
    let removal = Transaction::new().delete(objects::key_of(&name), expect);
    engine.store.commit(removal).await.map_err(EngineError::from)?;
    Ok(())
}

/// Takes one step outside of a run.
async fn take(engine: &Engine, snapshot: &Snapshot, host: &str, action: Action) -> Result<(), EnrolError> {
    let step = Step {
        object: ObjectRef::new(Kind::Host, "", host),
        host: host.to_owned(),
        action: Some(action),
        state: StepState::Ready,
        why: "enrolment".to_owned(),
    };
    let mut attempt = 1;
    loop {
        let message = match Job::alone(engine, snapshot, &step).run().await {
            Ok(()) => return Ok(()),
            Err(Failure::Engine(error)) => return Err(error.into()),
            Err(Failure::Blocked { message, .. }) => return Err(EnrolError::Refused(message)),
            Err(Failure::Effect(source)) if !source.kind.is_transient() => {
                return Err(EngineError::Effect { doing: format!("enrolling host {host}"), source }.into());
            }
            Err(Failure::Effect(error)) => error.message,
            Err(Failure::NotNow(message)) => message,
        };
        if attempt == ATTEMPTS {
            return Err(EnrolError::Refused(format!("{message} (after {ATTEMPTS} attempts)")));
        }
        engine.world.clock.sleep(engine.settings.backoff_first * (1 << attempt)).await;
        attempt += 1;
    }
}

/// Image files on a host that nothing stands on.
pub(super) fn unused_files<'a>(snapshot: &'a Snapshot, host: &'a str) -> impl Iterator<Item = &'a Volume> {
    snapshot.volumes.values().filter(move |volume| {
        volume.spec.host == host
            && matches!(volume.spec.content, VolumeContent::ImageFile { .. })
            && !is_used(snapshot, &volume.metadata.name)
            && volume.key() == NamespacedName::new(SYSTEM_NAMESPACE, &volume.metadata.name)
    })
}
