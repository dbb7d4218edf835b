//! libvirt on the hosts.

use ashlar_api::{Accelerator, DomainIdentity, HostCapacity, VolumeFormat};
use ashlar_plan::{DomainSeen, DomainSpec, HostWorld, PoolSeen, VolumeSeen};
use async_trait::async_trait;
use uuid::Uuid;

use super::{EffectError, HostTarget};

/// libvirt on the hosts. Every method is one call, has a deadline, and names host and object in its error.
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// Comes back when a domain ended, paused or was undefined on some host: a hint to look. Hints get lost, and say nothing of
    /// what there is; who gets none looks from time to time.
    async fn stirred(&self) {
        std::future::pending().await
    }
    /// Hardware, versions and identity of a host.
    async fn probe(&self, host: &HostTarget) -> Result<HostProbe, EffectError>;
    /// Starts a transient domain [`probe_name`] that boots the test image's kernel and initrd, marks its console
    /// with [`PROBE_MARK`] and powers itself off. `Refused`, with QEMU's own words, if it does not start. Whoever
    /// starts it polls [`Hypervisor::read_probe`] with a deadline, and ends it with
    /// [`Hypervisor::destroy_domain`] whatever came out.
    async fn start_probe(
        &self,
        host: &HostTarget,
        domain: Uuid,
        accelerator: Accelerator,
        kernel_path: &str,
        initrd_path: &str,
    ) -> Result<(), EffectError>;
    /// What a probe domain said so far. Neither a mark nor running: it failed, and the logs say why.
    async fn read_probe(&self, host: &HostTarget, domain: Uuid) -> Result<ProbeSeen, EffectError>;
    /// Domains, pools and volumes of a host: one bulk observation.
    async fn observe(&self, host: &HostTarget) -> Result<HostWorld, EffectError>;
    /// The same for little: states are those of now, and of definitions and volumes those may be missing, or as they were
    /// some minutes ago, that changed without an event. Whoever does something because of it observes before.
    async fn glance(&self, host: &HostTarget) -> Result<HostWorld, EffectError> {
        self.observe(host).await
    }
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
    /// Moves a running domain to another host, alive, with what its disks hold (libvirt's managed migration). `domain` is what it
    /// is there: the same guest, whose disks' files are there already, empty and of the right size. All that happens
    /// is one call of libvirt's: either it stands still there, defined there and here no more, or it goes on here and
    /// nothing is left there. Whoever gets no answer looks at both hosts; libvirt ends a migration whose connection is lost.
    /// Fine if it was moved before.
    /// What passes between the hosts is the guest's memory and disks.
    async fn migrate_domain(
        &self,
        from: &HostTarget,
        to: &HostTarget,
        domain: &DomainSpec,
        route: &MigrationRoute,
    ) -> Result<(), EffectError>;
    /// Lets a paused domain go on; fine if it runs.
    async fn resume_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError>;
    /// Removes the definition (with NVRAM, managed save, snapshot and checkpoint metadata); `NotFound` if gone.
    async fn undefine_domain(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError>;
    /// Empties the CD-ROM drive, live and in the definition.
    async fn eject_medium(&self, host: &HostTarget, domain: Uuid) -> Result<(), EffectError>;
    /// Creates a volume, exclusively.
    async fn create_volume(&self, host: &HostTarget, volume: &VolumeCreate) -> Result<(), EffectError>;
    /// Writes into a volume, in one stream: bytes from its beginning on, a stretch of a file where it lies in the file.
    /// What else the volume holds stays.
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
    /// The serial console's log of a domain from an offset on; nothing if there is no log yet. The log belongs to
    /// this domain: another one that had its name before wrote to another file.
    async fn read_console(
        &self,
        host: &HostTarget,
        domain: &DomainIdentity,
        offset: u64,
    ) -> Result<ConsoleChunk, EffectError>;
}

/// How a migration's data goes from host to host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationRoute {
    /// Address at which the source's QEMU reaches the target.
    pub address: std::net::Ipv4Addr,
    /// Give up after so long: the domain goes on where it was.
    pub timeout: std::time::Duration,
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

/// What the console of a probe domain shows once its kernel and init ran.
pub const PROBE_MARK: &str = "ASHLAR-PROBE-OK";

/// Name of a probe domain. It is transient: nothing of it is left once it is off.
pub fn probe_name(domain: Uuid) -> String {
    format!("ashlar-probe-{domain}")
}

/// What a probe domain said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeSeen {
    /// Whether it still runs.
    pub running: bool,
    /// Whether [`PROBE_MARK`] stands on its console: the accelerator works.
    pub marked: bool,
    /// Last lines of the console and of QEMU's log, for people.
    pub log_lines: Vec<String>,
}

/// A volume to make.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeCreate {
    /// Pool.
    pub pool: Uuid,
    /// File name.
    pub file_name: String,
    /// Format. What is filled by an upload (image files of any kind, seeds) is made as `Raw` or `Iso`, with exactly
    /// the size of its content: an upload neither shortens a file nor rewrites its header.
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
    /// A stretch of a file on the machine that runs Ashlar.
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Where it begins, there and in the volume.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// Bytes in memory: a seed. They may hold secrets, so this is not printable.
    Bytes {
        /// What the volume begins with.
        bytes: std::sync::Arc<zeroize::Zeroizing<Vec<u8>>>,
        /// So many bytes are written, with zeros after the others: what was there before is gone.
        length: u64,
    },
}

impl std::fmt::Debug for VolumeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VolumeSource::File { path, offset, length } => {
                write!(f, "File({}, {length} bytes from {offset} on)", path.display())
            }
            VolumeSource::Bytes { length, .. } => write!(f, "Bytes({length} bytes)"),
        }
    }
}

/// A piece of a console log. Offsets count from the oldest byte that is kept: rotation moves bytes to other files, and
/// only what falls off the oldest file is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleChunk {
    /// Bytes from the offset on, at most 1 MiB.
    pub bytes: Vec<u8>,
    /// Offset to ask for next. After the oldest part fell off, reading starts again with the oldest byte kept: then
    /// this is smaller than the offset asked for plus the bytes.
    pub next_offset: u64,
}
