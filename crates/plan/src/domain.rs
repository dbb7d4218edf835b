//! What a machine's libvirt domain is made of: a pure function of the Machine and its Volumes.

use ashlar_api::{
    Accelerator, CpuSet, HugepageSize, Machine, MachineVolumeRole, NamespacedName, NicVlan, NumaCell,
    SYSTEM_NAMESPACE, Volume, VolumeFormat,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DomainMark, Objects, network};

/// A domain, free of libvirt's XML; `ashlar-libvirt` writes the XML, the simulation takes it as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainSpec {
    /// UUID.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// Machine type.
    pub machine_type: String,
    /// vCPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory_mib: u64,
    /// What of the host it is bound to.
    #[serde(default)]
    pub binding: DomainBinding,
    /// How it runs.
    pub accelerator: Accelerator,
    /// Guest clock counts instructions (`-icount shift=1,sleep=on`), tests under emulation only.
    pub virtual_time: bool,
    /// Path of the kernel on the host.
    pub kernel_path: String,
    /// Path of the initrd on the host.
    pub initrd_path: String,
    /// Kernel command line.
    pub command_line: String,
    /// Disks, in order.
    pub disks: Vec<DomainDisk>,
    /// Path of the seed, in a CD-ROM drive; none leaves the drive empty.
    pub seed_path: Option<String>,
    /// Network interfaces.
    pub nics: Vec<DomainNic>,
    /// Our mark.
    pub mark: DomainMark,
}

/// Threads, NUMA nodes and huge pages of the host that a domain is bound to; by default none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainBinding {
    /// Threads for vCPUs without threads of their own, and for QEMU itself; empty means all.
    pub shared_cpus: CpuSet,
    /// What its memory is made of.
    pub hugepages: Option<HugepageSize>,
    /// Its parts on NUMA nodes.
    pub numa: Vec<NumaCell>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainDisk {
    /// Path on the host.
    pub path: String,
    /// Format.
    pub format: VolumeFormat,
    /// Serial in the guest.
    pub serial: String,
    /// Path and format of the backing file, written into the XML so that nothing is probed.
    pub backing_path: Option<String>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DomainNic {
    /// Bridge on the host.
    pub bridge: String,
    /// The tap, by name: the filter names it before it is there.
    pub tap: String,
    /// MAC address.
    pub mac: String,
    /// MTU.
    pub mtu: u16,
    /// VLAN of the bridge.
    pub vlan: Option<NicVlan>,
}

/// Name of libvirt's filter on every node's tap.
pub const TAP_FILTER: &str = "ashlar-mac";

/// How a host caches the disks. Never `unsafe`: both pass the guest's flushes on. Emulated guests share a machine with their
/// host's page cache, and their pool may lie where O_DIRECT is impossible.
pub fn disk_cache(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "none",
        Accelerator::Emulated => "writeback",
    }
}

/// libvirt's name of a format. A seed is plain bytes to libvirt.
pub fn format_name(format: VolumeFormat) -> &'static str {
    match format {
        VolumeFormat::Qcow2 => "qcow2",
        VolumeFormat::Raw | VolumeFormat::Iso => "raw",
    }
}

/// A machine refers to a volume that is not in the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("machine {machine} refers to volume {volume}, which is not in the store")]
pub struct MissingVolume {
    machine: NamespacedName,
    volume: String,
}

/// The domain of a machine. `with_seed` says whether the seed is still in its drive.
pub fn domain_spec(
    installation: Uuid,
    machine: &Machine,
    volumes: &Objects<NamespacedName, Volume>,
    with_seed: bool,
) -> Result<DomainSpec, MissingVolume> {
    let find_in = |namespace: &str, name: &str| {
        volumes
            .get(&NamespacedName::new(namespace, name))
            .ok_or_else(|| MissingVolume { machine: machine.key(), volume: name.to_owned() })
    };
    let find = |name: &str| find_in(&machine.metadata.namespace, name);
    let find_image = |name: &str| find_in(SYSTEM_NAMESPACE, name);
    let spec = &machine.spec;
    let mut disks = Vec::new();
    for role in [MachineVolumeRole::Root, MachineVolumeRole::Etcd] {
        let Some(name) = spec.volume(role) else { continue };
        let volume = find(name)?;
        let backing_path = match role {
            MachineVolumeRole::Root => Some(find_image(&spec.image.disk_volume)?.spec.path()),
            MachineVolumeRole::Etcd | MachineVolumeRole::Seed => None,
        };
        disks.push(DomainDisk {
            path: volume.spec.path(),
            format: volume.spec.format,
            serial: role.serial().to_owned(),
            backing_path,
        });
    }
    let seed_path = match spec.volume(MachineVolumeRole::Seed) {
        Some(name) if with_seed => Some(find(name)?.spec.path()),
        _ => None,
    };
    Ok(DomainSpec {
        uuid: spec.domain.uuid,
        name: spec.domain.name.clone(),
        machine_type: spec.machine_type.clone(),
        vcpus: spec.vcpus,
        memory_mib: spec.memory.0,
        binding: DomainBinding {
            shared_cpus: spec.shared_cpus.clone(),
            hugepages: spec.hugepages,
            numa: spec.numa.clone(),
        },
        accelerator: spec.accelerator,
        virtual_time: spec.virtual_time,
        kernel_path: find_image(&spec.image.kernel_volume)?.spec.path(),
        initrd_path: find_image(&spec.image.initrd_volume)?.spec.path(),
        command_line: spec.image.command_line.clone(),
        disks,
        seed_path,
        nics: spec
            .nics
            .iter()
            .map(|nic| DomainNic {
                bridge: nic.bridge.clone(),
                tap: network::names::tap(&nic.mac),
                mac: nic.mac.clone(),
                mtu: nic.mtu,
                vlan: nic.vlan,
            })
            .collect(),
        mark: mark(installation, machine),
    })
}

/// Our mark for a machine: the whole object without what changes by itself (resourceVersion, record, status).
pub fn mark(installation: Uuid, machine: &Machine) -> DomainMark {
    let mut kept = machine.clone();
    kept.metadata.resource_version = String::new();
    kept.record = Default::default();
    kept.status = Default::default();
    DomainMark {
        installation,
        machine_uid: machine.metadata.uid.unwrap_or_default(),
        generation: machine.metadata.generation,
        machine: Some(std::sync::Arc::new(kept)),
    }
}
