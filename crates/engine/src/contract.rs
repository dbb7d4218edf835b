//! What every [`Hypervisor`] has to do, as cases that run against any of them: the real one in a lab, and the
//! simulated one. A case panics where the contract is broken, and leaves nothing behind.
//!
//! Only tests use this (feature `contract-tests`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken contract is a panic: only tests use this"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_api::{Accelerator, VolumeFormat};
use ashlar_plan::domain::{DomainDisk, DomainNic};
use ashlar_plan::{DomainMark, DomainSeen, DomainSpec, DomainState};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::effects::{EffectErrorKind, HostTarget, Hypervisor, MigrationRoute, VolumeCreate, VolumeSource};

/// How long a guest that boots may keep its tray shut.
const EJECT_DEADLINE: Duration = Duration::from_secs(60);

/// Where the cases run.
pub struct Place<'a> {
    /// Who is asked.
    pub hypervisor: &'a dyn Hypervisor,
    /// The host.
    pub host: HostTarget,
    /// A pool of it.
    pub pool: Uuid,
    /// Path of the pool.
    pub pool_path: String,
    /// A bridge of it.
    pub bridge: String,
    /// Machine type.
    pub machine_type: String,
    /// Kernel and initrd on the host that boot and stay up.
    pub kernel_path: String,
    /// See `kernel_path`.
    pub initrd_path: String,
    /// Kernel command line.
    pub command_line: String,
}

impl Place<'_> {
    fn path(&self, file_name: &str) -> String {
        format!("{}/{file_name}", self.pool_path)
    }

    /// A volume of that name, 1 MiB, raw.
    pub fn volume(&self, file_name: &str) -> VolumeCreate {
        VolumeCreate {
            pool: self.pool,
            file_name: file_name.to_owned(),
            format: VolumeFormat::Raw,
            capacity_bytes: 1 << 20,
            preallocate: false,
            backing_path: None,
        }
    }

    /// A small emulated domain with a root disk of that file name, and a seed if one is named.
    pub fn domain(&self, name: &str, root: &str, seed: Option<&str>) -> DomainSpec {
        let uuid = fresh_uuid(name);
        let [.., a, b, c, d] = *uuid.as_bytes();
        let mac = format!("02:a5:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        DomainSpec {
            uuid,
            name: name.to_owned(),
            machine_type: self.machine_type.clone(),
            vcpus: 1,
            memory_mib: 256,
            binding: Default::default(),
            accelerator: Accelerator::Emulated,
            virtual_time: false,
            kernel_path: self.kernel_path.clone(),
            initrd_path: self.initrd_path.clone(),
            command_line: self.command_line.clone(),
            disks: vec![DomainDisk {
                path: self.path(root),
                format: VolumeFormat::Raw,
                serial: "root".to_owned(),
                backing_path: None,
            }],
            seed_path: seed.map(|seed| self.path(seed)),
            nics: vec![DomainNic {
                bridge: self.bridge.clone(),
                tap: ashlar_plan::network::names::tap(&mac),
                mac,
                mtu: 1500,
                vlan: None,
            }],
            mark: DomainMark {
                installation: self.host.installation,
                machine_uid: fresh_uuid("machine"),
                generation: 3,
                machine: None,
            },
        }
    }

    async fn seen(&self, domain: &DomainSpec) -> Option<DomainSeen> {
        let by_uuid = self.hypervisor.domain(&self.host, domain.uuid).await.unwrap();
        let by_name = self.hypervisor.domain_by_name(&self.host, &domain.name).await.unwrap();
        assert_eq!(by_uuid, by_name);
        let world = self.hypervisor.observe(&self.host).await.unwrap();
        assert_eq!(world.domains.get(&domain.uuid), by_uuid.as_ref());
        by_uuid
    }

    async fn remove(&self, file_name: &str) {
        self.hypervisor.delete_volume(&self.host, self.pool, file_name).await.unwrap();
    }
}

/// A UUID of its own for each call in a process.
fn fresh_uuid(salt: &str) -> Uuid {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let salt = salt.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Uuid::from_u64_pair(
        0xa5a5_0000_0000_4000 | (u64::from(std::process::id()) << 16),
        (2 << 62) | (salt << 24 >> 2) | number,
    )
}

fn bytes(content: Vec<u8>) -> VolumeSource {
    let length = content.len() as u64;
    VolumeSource::Bytes { bytes: Arc::new(Zeroizing::new(content)), length }
}

/// All cases, one after the other.
pub async fn all(place: &Place<'_>) {
    a_volume_is_made_once_filled_wiped_and_deleted(place).await;
    a_missing_pool_is_not_found(place).await;
    an_overlay_stands_on_its_backing_file(place).await;
    a_domain_lives_from_definition_to_removal(place).await;
    a_name_that_is_taken_is_left_alone(place).await;
    an_unknown_domain_is_not_found(place).await;
    a_volume_that_is_there_stays_as_it_is(place).await;
    a_domain_that_runs_is_not_undefined(place).await;
    a_disk_that_is_in_use_starts_no_second_domain(place).await;
    a_domain_without_its_disk_does_not_start(place).await;
    a_medium_without_its_file_is_ejected_from_what_is_off(place).await;
    a_visitor_looks_and_changes_nothing(place).await;
}

/// Who comes without a lease sees everything, and every change is refused before anything happened.
pub async fn a_visitor_looks_and_changes_nothing(place: &Place<'_>) {
    let Place { hypervisor, host, pool, .. } = place;
    let visitor = HostTarget { lease_token: None, ..host.clone() };
    let root = "ashlar-contract-visited.raw";
    hypervisor.create_volume(host, &place.volume(root)).await.unwrap();
    let spec = place.domain("ashlar-contract-visited", root, None);
    hypervisor.define_domain(host, &spec).await.unwrap();
    let before = place.seen(&spec).await;
    assert_eq!(hypervisor.domain(&visitor, spec.uuid).await.unwrap(), before);
    let (uuid, other) = (spec.uuid, place.domain("ashlar-contract-visitors", root, None));
    let nowhere = MigrationRoute { address: std::net::Ipv4Addr::LOCALHOST, timeout: EJECT_DEADLINE };
    for refused in [
        hypervisor.create_volume(&visitor, &place.volume("ashlar-contract-visitors.raw")).await,
        hypervisor.upload_volume(&visitor, *pool, root, bytes(vec![1; 512])).await,
        hypervisor.wipe_volume(&visitor, *pool, root).await,
        hypervisor.delete_volume(&visitor, *pool, root).await,
        hypervisor.define_domain(&visitor, &other).await,
        hypervisor.start_domain(&visitor, uuid).await,
        hypervisor.shutdown_domain(&visitor, uuid).await,
        hypervisor.destroy_domain(&visitor, uuid).await,
        hypervisor.resume_domain(&visitor, uuid).await,
        hypervisor.migrate_domain(&visitor, host, &spec, &nowhere).await,
        hypervisor.eject_medium(&visitor, uuid).await,
        hypervisor.undefine_domain(&visitor, uuid).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, EffectErrorKind::Refused, "{refused}");
        assert!(refused.message.contains("without a lease"), "{refused}");
    }
    assert_eq!(place.seen(&spec).await, before);
    hypervisor.undefine_domain(host, uuid).await.unwrap();
    place.remove(root).await;
}

/// A volume is made exclusively: who comes second with the same name changes nothing.
pub async fn a_volume_that_is_there_stays_as_it_is(place: &Place<'_>) {
    let Place { hypervisor, host, pool, .. } = place;
    let name = "ashlar-contract-first.raw";
    hypervisor.create_volume(host, &place.volume(name)).await.unwrap();
    let before = hypervisor.volume(host, *pool, name).await.unwrap();
    let bigger = VolumeCreate { capacity_bytes: 4 << 20, ..place.volume(name) };
    let taken = hypervisor.create_volume(host, &bigger).await.unwrap_err();
    assert_eq!(taken.kind, EffectErrorKind::AlreadyExists, "{taken}");
    assert_eq!(hypervisor.volume(host, *pool, name).await.unwrap(), before);
    place.remove(name).await;
}

/// What runs keeps its definition, and starting or ending it once more is fine.
pub async fn a_domain_that_runs_is_not_undefined(place: &Place<'_>) {
    let Place { hypervisor, host, .. } = place;
    let root = "ashlar-contract-runs.raw";
    hypervisor.create_volume(host, &place.volume(root)).await.unwrap();
    let spec = place.domain("ashlar-contract-runs", root, None);
    hypervisor.define_domain(host, &spec).await.unwrap();
    // What is off is not let go on, what runs goes on.
    let off = hypervisor.resume_domain(host, spec.uuid).await.unwrap_err();
    assert_eq!(off.kind, EffectErrorKind::Refused, "{off}");
    hypervisor.start_domain(host, spec.uuid).await.unwrap();
    hypervisor.start_domain(host, spec.uuid).await.unwrap();
    hypervisor.resume_domain(host, spec.uuid).await.unwrap();
    let refused = hypervisor.undefine_domain(host, spec.uuid).await.unwrap_err();
    assert_eq!(refused.kind, EffectErrorKind::Busy, "{refused}");
    assert_eq!(place.seen(&spec).await.unwrap().state, DomainState::Running);
    hypervisor.destroy_domain(host, spec.uuid).await.unwrap();
    hypervisor.destroy_domain(host, spec.uuid).await.unwrap();
    hypervisor.undefine_domain(host, spec.uuid).await.unwrap();
    // One that is gone is off.
    hypervisor.destroy_domain(host, spec.uuid).await.unwrap();
    place.remove(root).await;
}

/// QEMU locks its disks.
pub async fn a_disk_that_is_in_use_starts_no_second_domain(place: &Place<'_>) {
    let Place { hypervisor, host, .. } = place;
    let root = "ashlar-contract-locked.raw";
    hypervisor.create_volume(host, &place.volume(root)).await.unwrap();
    let first = place.domain("ashlar-contract-locked-a", root, None);
    let second = place.domain("ashlar-contract-locked-b", root, None);
    hypervisor.define_domain(host, &first).await.unwrap();
    hypervisor.define_domain(host, &second).await.unwrap();
    hypervisor.start_domain(host, first.uuid).await.unwrap();
    let locked = hypervisor.start_domain(host, second.uuid).await.unwrap_err();
    assert_eq!(locked.kind, EffectErrorKind::Refused, "{locked}");
    assert!(locked.message.contains("lock"), "{locked}");
    assert_eq!(place.seen(&second).await.unwrap().state, DomainState::ShutOff);
    // It is the first one's as long as that runs.
    hypervisor.destroy_domain(host, first.uuid).await.unwrap();
    hypervisor.start_domain(host, second.uuid).await.unwrap();
    hypervisor.destroy_domain(host, second.uuid).await.unwrap();
    for domain in [first.uuid, second.uuid] {
        hypervisor.undefine_domain(host, domain).await.unwrap();
    }
    place.remove(root).await;
}

/// Nothing is made in place of a disk that is not there.
pub async fn a_domain_without_its_disk_does_not_start(place: &Place<'_>) {
    let Place { hypervisor, host, pool, .. } = place;
    let root = "ashlar-contract-absent.raw";
    let spec = place.domain("ashlar-contract-absent", root, None);
    hypervisor.define_domain(host, &spec).await.unwrap();
    let refused = hypervisor.start_domain(host, spec.uuid).await.unwrap_err();
    assert_eq!(refused.kind, EffectErrorKind::Refused, "{refused}");
    assert!(refused.message.contains(root), "{refused}");
    assert_eq!(place.seen(&spec).await.unwrap().state, DomainState::ShutOff);
    assert_eq!(hypervisor.volume(host, *pool, root).await.unwrap(), None);
    hypervisor.undefine_domain(host, spec.uuid).await.unwrap();
}

/// A definition that came back with a medium whose file is gone: without that the domain starts.
pub async fn a_medium_without_its_file_is_ejected_from_what_is_off(place: &Place<'_>) {
    let Place { hypervisor, host, pool, .. } = place;
    let (root, seed) = ("ashlar-contract-late.raw", "ashlar-contract-late.iso");
    hypervisor.create_volume(host, &place.volume(root)).await.unwrap();
    hypervisor.create_volume(host, &place.volume(seed)).await.unwrap();
    let spec = place.domain("ashlar-contract-late", root, Some(seed));
    hypervisor.define_domain(host, &spec).await.unwrap();
    hypervisor.delete_volume(host, *pool, seed).await.unwrap();
    assert!(place.seen(&spec).await.unwrap().medium_path.is_some());
    hypervisor.start_domain(host, spec.uuid).await.unwrap_err();

    hypervisor.eject_medium(host, spec.uuid).await.unwrap();
    assert_eq!(place.seen(&spec).await.unwrap().medium_path, None);
    hypervisor.start_domain(host, spec.uuid).await.unwrap();
    hypervisor.destroy_domain(host, spec.uuid).await.unwrap();
    hypervisor.undefine_domain(host, spec.uuid).await.unwrap();
    place.remove(root).await;
}

/// Volumes.
pub async fn a_volume_is_made_once_filled_wiped_and_deleted(place: &Place<'_>) {
    let Place { hypervisor, host, pool, .. } = place;
    let name = "ashlar-contract-a.raw";
    assert_eq!(hypervisor.volume(host, *pool, name).await.unwrap(), None);
    hypervisor.create_volume(host, &place.volume(name)).await.unwrap();
    let again = hypervisor.create_volume(host, &place.volume(name)).await.unwrap_err();
    assert_eq!(again.kind, EffectErrorKind::AlreadyExists, "{again}");
    assert!(again.message.contains(name) && again.message.contains(&host.name), "{again}");
    let seen = hypervisor.volume(host, *pool, name).await.unwrap().expect("the volume is there");
    assert_eq!(seen.capacity_bytes, 1 << 20);
    let world = hypervisor.observe(host).await.unwrap();
    assert_eq!(world.pools[pool].volumes[name].capacity_bytes, 1 << 20);
    assert_eq!(hypervisor.pool(host, *pool).await.unwrap().unwrap().path, place.pool_path);

    hypervisor.upload_volume(host, *pool, name, bytes(vec![7; 1 << 20])).await.unwrap();
    // What was written is as often as one likes.
    hypervisor.upload_volume(host, *pool, name, bytes(vec![8; 1000])).await.unwrap();
    hypervisor.wipe_volume(host, *pool, name).await.unwrap();
    hypervisor.wipe_volume(host, *pool, name).await.unwrap();

    place.remove(name).await;
    let gone = hypervisor.delete_volume(host, *pool, name).await.unwrap_err();
    assert_eq!(gone.kind, EffectErrorKind::NotFound, "{gone}");
    let gone = hypervisor.wipe_volume(host, *pool, name).await.unwrap_err();
    assert_eq!(gone.kind, EffectErrorKind::NotFound, "{gone}");
    let gone = hypervisor.upload_volume(host, *pool, name, bytes(vec![1])).await.unwrap_err();
    assert_eq!(gone.kind, EffectErrorKind::NotFound, "{gone}");
    assert_eq!(hypervisor.volume(host, *pool, name).await.unwrap(), None);
}

/// Pools that are not there.
pub async fn a_missing_pool_is_not_found(place: &Place<'_>) {
    let missing = fresh_uuid("pool");
    let volume = VolumeCreate { pool: missing, ..place.volume("ashlar-contract-b.raw") };
    let error = place.hypervisor.create_volume(&place.host, &volume).await.unwrap_err();
    assert_eq!(error.kind, EffectErrorKind::NotFound, "{error}");
    assert_eq!(place.hypervisor.pool(&place.host, missing).await.unwrap(), None);
    assert_eq!(place.hypervisor.pool_by_name(&place.host, "ashlar-no-such-pool").await.unwrap(), None);
}

/// Overlays.
pub async fn an_overlay_stands_on_its_backing_file(place: &Place<'_>) {
    let Place { hypervisor, host, .. } = place;
    let base = VolumeCreate { format: VolumeFormat::Qcow2, ..place.volume("ashlar-contract-base.qcow2") };
    let overlay = VolumeCreate {
        format: VolumeFormat::Qcow2,
        capacity_bytes: 4 << 20,
        backing_path: Some(place.path(&base.file_name)),
        ..place.volume("ashlar-contract-overlay.qcow2")
    };
    let early = hypervisor.create_volume(host, &overlay).await;
    assert!(early.is_err(), "an overlay without its backing file");
    hypervisor.create_volume(host, &base).await.unwrap();
    hypervisor.create_volume(host, &overlay).await.unwrap();
    let seen = hypervisor.volume(host, place.pool, &overlay.file_name).await.unwrap().unwrap();
    assert_eq!(seen.capacity_bytes, 4 << 20);
    place.remove(&overlay.file_name).await;
    place.remove(&base.file_name).await;
}

/// Domains.
pub async fn a_domain_lives_from_definition_to_removal(place: &Place<'_>) {
    let Place { hypervisor, host, .. } = place;
    let (root, seed) = ("ashlar-contract-root.raw", "ashlar-contract-seed.iso");
    hypervisor.create_volume(host, &place.volume(root)).await.unwrap();
    let medium = VolumeCreate { format: VolumeFormat::Iso, ..place.volume(seed) };
    hypervisor.create_volume(host, &medium).await.unwrap();
    let spec = place.domain("ashlar-contract", root, Some(seed));

    assert_eq!(place.seen(&spec).await, None);
    hypervisor.define_domain(host, &spec).await.unwrap();
    hypervisor.define_domain(host, &spec).await.unwrap();
    let seen = place.seen(&spec).await.expect("it is defined");
    assert_eq!(seen.state, DomainState::ShutOff);
    assert_eq!(seen.mark, Some(spec.mark.clone()));
    assert_eq!(seen.disk_paths.iter().collect::<Vec<_>>(), [&place.path(root)]);
    assert_eq!(seen.medium_path, Some(place.path(seed)));

    hypervisor.start_domain(host, spec.uuid).await.unwrap();
    hypervisor.start_domain(host, spec.uuid).await.unwrap();
    assert_eq!(place.seen(&spec).await.unwrap().state, DomainState::Running);
    let running = hypervisor.undefine_domain(host, spec.uuid).await.unwrap_err();
    assert_eq!(running.kind, EffectErrorKind::Busy, "{running}");

    // A definition that changed under a running domain counts as what is defined.
    let newer = DomainSpec { mark: DomainMark { generation: 4, ..spec.mark.clone() }, ..spec.clone() };
    hypervisor.define_domain(host, &newer).await.unwrap();
    assert_eq!(place.seen(&spec).await.unwrap().mark, Some(newer.mark.clone()));

    eject_when_not_busy(place, spec.uuid).await;
    hypervisor.eject_medium(host, spec.uuid).await.unwrap();
    assert_eq!(place.seen(&spec).await.unwrap().medium_path, None);

    hypervisor.destroy_domain(host, spec.uuid).await.unwrap();
    hypervisor.destroy_domain(host, spec.uuid).await.unwrap();
    let seen = place.seen(&spec).await.unwrap();
    assert_eq!((seen.state, seen.medium_path), (DomainState::ShutOff, None));
    hypervisor.shutdown_domain(host, spec.uuid).await.unwrap();
    hypervisor.undefine_domain(host, spec.uuid).await.unwrap();
    let gone = hypervisor.undefine_domain(host, spec.uuid).await.unwrap_err();
    assert_eq!(gone.kind, EffectErrorKind::NotFound, "{gone}");
    assert_eq!(place.seen(&spec).await, None);
    place.remove(root).await;
    place.remove(seed).await;
}

/// A guest that is booting may take its time to open the tray: the engine tries again then, and so does this.
async fn eject_when_not_busy(place: &Place<'_>, domain: Uuid) {
    let begin = Instant::now();
    while let Err(error) = place.hypervisor.eject_medium(&place.host, domain).await {
        assert!(error.kind == EffectErrorKind::Busy && begin.elapsed() < EJECT_DEADLINE, "{error}");
    }
}

/// Names that somebody else has.
pub async fn a_name_that_is_taken_is_left_alone(place: &Place<'_>) {
    let Place { hypervisor, host, .. } = place;
    let root = "ashlar-contract-taken.raw";
    hypervisor.create_volume(host, &place.volume(root)).await.unwrap();
    let first = place.domain("ashlar-contract-taken", root, None);
    let second = place.domain("ashlar-contract-taken", root, None);
    assert_ne!(first.uuid, second.uuid);
    hypervisor.define_domain(host, &first).await.unwrap();
    let before = place.seen(&first).await;
    let taken = hypervisor.define_domain(host, &second).await.unwrap_err();
    assert_eq!(taken.kind, EffectErrorKind::AlreadyExists, "{taken}");
    assert_eq!(place.seen(&first).await, before);
    hypervisor.undefine_domain(host, first.uuid).await.unwrap();
    place.remove(root).await;
}

/// Domains that are not there.
pub async fn an_unknown_domain_is_not_found(place: &Place<'_>) {
    let Place { hypervisor, host, .. } = place;
    let unknown = fresh_uuid("nobody");
    for result in [
        hypervisor.start_domain(host, unknown).await,
        hypervisor.shutdown_domain(host, unknown).await,
        hypervisor.resume_domain(host, unknown).await,
        hypervisor.undefine_domain(host, unknown).await,
        hypervisor.eject_medium(host, unknown).await,
    ] {
        assert_eq!(result.unwrap_err().kind, EffectErrorKind::NotFound);
    }
    assert_eq!(hypervisor.domain(host, unknown).await.unwrap(), None);
    assert_eq!(hypervisor.domain_by_name(host, "ashlar-nobody").await.unwrap(), None);
}
