//! A domain's definition as its host tells it, as far as Ashlar decides it, and where it is not what its machine says.
//!
//! What libvirt and QEMU add is in none of it: addresses, aliases, controllers, the processor's model, threads of disks
//! (which a migration may leave out), the drive that held the seed.

mod differences;

use ashlar_api::{Accelerator, CpuSet, NumaCell};
use serde::{Deserialize, Serialize};

use crate::DomainSpec;
use crate::domain::{TAP_FILTER, disk_cache, format_name};

pub use differences::differences;

/// What of a domain's definition Ashlar decides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// libvirt's type of the domain (`kvm`, `qemu`).
    pub kind: String,
    /// Machine type (`pc-q35-7.2`).
    pub machine_type: String,
    /// Memory.
    pub memory_kib: u64,
    /// So much of it the guest is given.
    pub current_memory_kib: u64,
    /// vCPUs.
    pub vcpus: u32,
    /// So many of them are plugged in.
    pub current_vcpus: u32,
    /// Threads of the host for all of its vCPUs.
    pub shared_cpus: CpuSet,
    /// Threads of the host for one vCPU each, in the order of the vCPUs.
    pub own_cpus: Vec<CpuSet>,
    /// NUMA nodes that its memory comes from.
    pub numa_nodes: CpuSet,
    /// Size of the huge pages that its memory is made of.
    pub hugepages_kib: Option<u64>,
    /// Path of the kernel.
    pub kernel_path: String,
    /// Path of the initrd.
    pub initrd_path: String,
    /// Kernel command line.
    pub command_line: String,
    /// Disks, CD-ROM drives not among them.
    pub disks: Vec<DefinedDisk>,
    /// Network cards.
    pub nics: Vec<DefinedNic>,
    /// Devices of kinds that Ashlar never gives, and libvirt never adds.
    pub devices: Vec<String>,
}

/// A disk of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinedDisk {
    /// Serial in the guest.
    pub serial: String,
    /// File or device.
    pub path: String,
    /// Format.
    pub format: String,
    /// How the host caches it.
    pub cache: String,
    /// The file below it, where it is told.
    pub backing_path: Option<String>,
}

/// A network card of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefinedNic {
    /// MAC address.
    pub mac: String,
    /// Bridge; empty if it is attached to something else.
    pub bridge: String,
    /// The tap's name.
    pub tap: String,
    /// VLAN.
    pub vlan: Option<u16>,
    /// libvirt's filter on it.
    pub filter: String,
    /// Model.
    pub model: String,
    /// MTU.
    pub mtu: Option<u16>,
}

/// One thing that is not as it was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What.
    pub field: String,
    /// As declared.
    pub declared: String,
    /// As found.
    pub found: String,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} → {}", self.field, self.declared, self.found)
    }
}

/// Of what is not there, and was not to be.
pub(crate) const NONE: &str = "none";

/// Model of every network card.
const NIC_MODEL: &str = "virtio";

impl Definition {
    /// What libvirt tells of a domain that was just defined so.
    pub fn of(spec: &DomainSpec) -> Self {
        let own = spec.binding.numa.iter().flat_map(|cell| &cell.cpus.0);
        Definition {
            kind: kind(spec.accelerator).to_owned(),
            machine_type: spec.machine_type.clone(),
            memory_kib: spec.memory_mib * 1024,
            current_memory_kib: spec.memory_mib * 1024,
            vcpus: spec.vcpus,
            current_vcpus: spec.vcpus,
            shared_cpus: spec.binding.shared_cpus.clone(),
            own_cpus: own.map(|thread| CpuSet([*thread].into())).collect(),
            numa_nodes: nodes(&spec.binding.numa),
            hugepages_kib: spec.binding.hugepages.map(|size| size.mib() * 1024),
            kernel_path: spec.kernel_path.clone(),
            initrd_path: spec.initrd_path.clone(),
            command_line: spec.command_line.trim().to_owned(),
            disks: spec
                .disks
                .iter()
                .map(|disk| DefinedDisk {
                    serial: disk.serial.clone(),
                    path: disk.path.clone(),
                    format: format_name(disk.format).to_owned(),
                    cache: disk_cache(spec.accelerator).to_owned(),
                    backing_path: disk.backing_path.clone(),
                })
                .collect(),
            nics: spec
                .nics
                .iter()
                .map(|nic| DefinedNic {
                    mac: nic.mac.clone(),
                    bridge: nic.bridge.clone(),
                    tap: nic.tap.clone(),
                    vlan: nic.vlan.map(|vlan| vlan.tag),
                    filter: TAP_FILTER.to_owned(),
                    model: NIC_MODEL.to_owned(),
                    mtu: Some(nic.mtu),
                })
                .collect(),
            devices: Vec::new(),
        }
    }
}

fn kind(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Emulated => "qemu",
    }
}

fn nodes(cells: &[NumaCell]) -> CpuSet {
    CpuSet(cells.iter().map(|cell| cell.host_node).collect())
}
