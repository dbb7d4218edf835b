//! libvirt on the hosts.

use ashlar_api::{Accelerator, HostCapacity, VolumeFormat};
use ashlar_plan::{DomainSeen, DomainSpec, HostWorld, PoolSeen, VolumeSeen};
use async_trait::async_trait;
use uuid::Uuid;

use super::{EffectError, HostTarget};

/// libvirt on the hosts. Every method is one call, has a deadline, and names host and object in its error.
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// Hardware, versions and identity of a host.
    async fn probe(&self, host: &HostTarget) -> Result<HostProbe, EffectError>;
    /// Whether the accelerator works: boots the test image's kernel and initrd in a transient domain that marks
    /// its console and powers itself off, and waits for the mark. `Refused` with the cause if not.
    async fn probe_accelerator(
        &self,
        host: &HostTarget,
        accelerator: Accelerator,
        kernel_path: &str,
        initrd_path: &str,
        mark: Uuid,
    ) -> Result<(), EffectError>;
    /// Domains, pools and volumes of a host: one bulk observation.
    async fn observe(&self, host: &HostTarget) -> Result<HostWorld, EffectError>;
    /// One pool with its volumes.
    async fn pool(&self, host: &HostTarget, pool: Uuid) -> Result<Option<PoolSeen>, EffectError>;
    /// One pool by libvirt's name: its UUID and what it holds (for enrolment).
    async fn pool_by_name(
        &self,
        host: &HostTarget,
        name: &str,
    ) -> Result<Option<(Uuid, PoolSeen)>, EffectError>;
    /// A domain by UUID.
    async fn domain(&self, host: &HostTarget, domain: Uuid) -> Result<Option<DomainSeen>, EffectError>;
    /// A domain by name: who has it, if anybody.
    async fn domain_by_name(&self, host: &HostTarget, name: &str) -> Result<Option<DomainSeen>, EffectError>;
    /// Defines (or redefines, same UUID and name) a domain.
    async fn define_domain(&self, host: &HostTarget, domain: &DomainSpec) -> Result<(), EffectError>;
    /// Starts a defined domain; fine if it is running.
    async fn start_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError>;
    /// Asks the guest to power off.
    async fn shutdown_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError>;
    /// Ends the domain's process; fine if it is off.
    async fn destroy_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError>;
    /// Removes the definition (with NVRAM, managed save, snapshot and checkpoint metadata); `NotFound` if gone.
    async fn undefine_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError>;
    /// Empties the CD-ROM drive, live and in the definition.
    async fn eject_medium(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError>;
    /// Creates a volume, exclusively.
    async fn create_volume(&self, host: &HostTarget, volume: &VolumeCreate) -> Result<(), EffectError>;
    /// Writes a whole volume.
    async fn upload_volume(
        &self,
        host: &HostTarget,
        pool: Uuid,
        file_name: &str,
        source: VolumeSource,
    ) -> Result<(), EffectError>;
    /// Overwrites a volume's content with zeros.
    async fn wipe_volume(&self, host: &HostTarget, pool: Uuid, file_name: &str) -> Result<(), EffectError>;
    /// Deletes a volume; `NotFound` if gone.
    async fn delete_volume(&self, host: &HostTarget, pool: Uuid, file_name: &str) -> Result<(), EffectError>;
    /// One volume.
    async fn volume(
        &self,
        host: &HostTarget,
        pool: Uuid,
        file_name: &str,
    ) -> Result<Option<VolumeSeen>, EffectError>;
    /// The serial console's log of a domain from an offset on.
    async fn read_console(
        &self,
        host: &HostTarget,
        domain_name: &str,
        offset: u64,
    ) -> Result<ConsoleChunk, EffectError>;
}

/// A host, as libvirt describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostProbe {
    /// libvirt's UUID of the host.
    pub host_uuid: Uuid,
    /// The host's own name.
    pub hostname: String,
    /// Hardware.
    pub capacity: HostCapacity,
    /// libvirt version.
    pub libvirt_version: String,
    /// QEMU version.
    pub qemu_version: String,
    /// What `q35` expands to.
    pub machine_type: String,
    /// Whether libvirt says that KVM is there (only a probe VM proves it).
    pub kvm_claimed: bool,
    /// Architecture (`x86_64`).
    pub architecture: String,
}

/// A volume to make.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeCreate {
    /// Pool.
    pub pool: Uuid,
    /// File name.
    pub file_name: String,
    /// Format.
    pub format: VolumeFormat,
    /// Virtual size.
    pub capacity_bytes: u64,
    /// Whether all of it is allocated at once (etcd's disk).
    pub preallocate: bool,
    /// Path of the qcow2 backing file; its format is always written down.
    pub backing_path: Option<String>,
}

/// Where a volume's content comes from.
#[derive(Clone)]
pub enum VolumeSource {
    /// A file on the machine that runs Ashlar.
    File(std::path::PathBuf),
    /// Bytes in memory: a seed. They may hold secrets, so this is not printable.
    Bytes(std::sync::Arc<zeroize::Zeroizing<Vec<u8>>>),
}

impl std::fmt::Debug for VolumeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VolumeSource::File(path) => write!(f, "File({})", path.display()),
            VolumeSource::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

/// A piece of a console log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleChunk {
    /// Bytes from the offset on, at most 1 MiB.
    pub bytes: Vec<u8>,
    /// Offset to ask for next. Smaller than the one asked for if the log was rotated.
    pub next_offset: u64,
}
