//! A definition that was found beside what its machine says.

use ashlar_api::*;

use super::{Change, Definition, NIC_MODEL, NONE, kind, nodes};
use crate::domain::{TAP_FILTER, disk_cache, format_name};
use crate::{Objects, network};

/// Where the definition that was found is not what the machine says; nearly always nothing, which costs next to nothing.
/// A volume that is not in the store is not compared.
pub fn differences(
    machine: &Machine,
    volumes: &Objects<NamespacedName, Volume>,
    found: &Definition,
) -> Vec<Change> {
    let mut changes = Changes::default();
    hardware(&mut changes, &machine.spec, found);
    let image = &machine.spec.image;
    let find_image = |name: &str| volumes.get(&NamespacedName::new(SYSTEM_NAMESPACE, name));
    changes.path("kernel", find_image(&image.kernel_volume), &found.kernel_path);
    changes.path("initrd", find_image(&image.initrd_volume), &found.initrd_path);
    changes.text("kernel command line", image.command_line.trim(), &found.command_line);
    disks(&mut changes, machine, volumes, found);
    nics(&mut changes, &machine.spec, found);
    for device in &found.devices {
        changes.add("device", NONE, device);
    }
    changes.0
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, field: impl Into<String>, declared: impl ToString, found: impl ToString) {
        let (declared, found) = (declared.to_string(), found.to_string());
        self.0.push(Change { field: field.into(), declared, found });
    }

    fn text(&mut self, field: &str, declared: &str, found: &str) {
        if declared != found {
            self.add(field, or_none(declared), or_none(found));
        }
    }

    /// A path is compared without being made.
    fn path(&mut self, field: &str, declared: Option<&Volume>, found: &str) {
        if let Some(volume) = declared.filter(|volume| !is_at(volume, found)) {
            self.add(field, volume.spec.path(), or_none(found));
        }
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

fn is_at(volume: &Volume, path: &str) -> bool {
    let rest = path.strip_prefix(volume.spec.pool_path.trim_end_matches('/'));
    rest.and_then(|rest| rest.strip_prefix('/')) == Some(volume.spec.file_name.as_str())
}

fn hardware(changes: &mut Changes, spec: &MachineSpec, found: &Definition) {
    changes.text("type", kind(spec.accelerator), &found.kind);
    changes.text("machine type", &spec.machine_type, &found.machine_type);
    let kib = spec.memory.0 * 1024;
    if kib != found.memory_kib {
        changes.add("memory", memory(kib), memory(found.memory_kib));
    }
    // What follows the whole is said once.
    if ![kib, found.memory_kib].contains(&found.current_memory_kib) {
        changes.add("current memory", memory(kib), memory(found.current_memory_kib));
    }
    if spec.vcpus != found.vcpus {
        changes.add("vCPUs", spec.vcpus, found.vcpus);
    }
    if ![spec.vcpus, found.vcpus].contains(&found.current_vcpus) {
        changes.add("current vCPUs", spec.vcpus, found.current_vcpus);
    }
    if spec.shared_cpus != found.shared_cpus {
        changes.text("threads", &spec.shared_cpus.to_string(), &found.shared_cpus.to_string());
    }
    let own = || spec.numa.iter().flat_map(|cell| &cell.cpus.0).copied();
    let is_own = |set: &CpuSet, thread: u32| set.0.len() == 1 && set.0.contains(&thread);
    if own().count() != found.own_cpus.len()
        || !own().zip(&found.own_cpus).all(|(thread, set)| is_own(set, thread))
    {
        let declared: Vec<String> = own().map(|thread| thread.to_string()).collect();
        let found: Vec<String> = found.own_cpus.iter().map(CpuSet::to_string).collect();
        changes.text("threads of its own", &declared.join(" "), &found.join(" "));
    }
    let is_bound = !spec.numa.is_empty() || !found.numa_nodes.is_empty();
    if is_bound && nodes(&spec.numa) != found.numa_nodes {
        changes.text("NUMA nodes", &nodes(&spec.numa).to_string(), &found.numa_nodes.to_string());
    }
    let pages = spec.hugepages.map(|size| size.mib() * 1024);
    if pages != found.hugepages_kib {
        let text = |kib: Option<u64>| kib.map_or_else(|| NONE.to_owned(), memory);
        changes.add("huge pages", text(pages), text(found.hugepages_kib));
    }
}

fn memory(kib: u64) -> String {
    if kib.is_multiple_of(1024) { Mebibytes(kib / 1024).to_string() } else { format!("{kib}Ki") }
}

fn disks(
    changes: &mut Changes,
    machine: &Machine,
    volumes: &Objects<NamespacedName, Volume>,
    found: &Definition,
) {
    let spec = &machine.spec;
    let is_declared = |serial: &str| {
        spec.volumes
            .iter()
            .any(|volume| volume.role != MachineVolumeRole::Seed && volume.role.serial() == serial)
    };
    for role in [MachineVolumeRole::Root, MachineVolumeRole::Etcd] {
        let Some(name) = spec.volume(role) else { continue };
        let Some(volume) = volumes.get(&NamespacedName::new(&machine.metadata.namespace, name)) else {
            continue;
        };
        let serial = role.serial();
        let Some(disk) = found.disks.iter().find(|disk| disk.serial == serial) else {
            changes.add(format!("{serial} disk"), volume.spec.path(), NONE);
            continue;
        };
        if !is_at(volume, &disk.path) {
            changes.path(&format!("{serial} disk"), Some(volume), &disk.path);
        }
        if format_name(volume.spec.format) != disk.format {
            changes.text(&format!("{serial} disk's format"), format_name(volume.spec.format), &disk.format);
        }
        if disk_cache(spec.accelerator) != disk.cache {
            changes.text(&format!("{serial} disk's cache"), disk_cache(spec.accelerator), &disk.cache);
        }
        if role == MachineVolumeRole::Root
            && let Some(below) = &disk.backing_path
        {
            let base = volumes.get(&NamespacedName::new(SYSTEM_NAMESPACE, &spec.image.disk_volume));
            changes.path("root disk's base", base, below);
        }
    }
    for disk in found.disks.iter().filter(|disk| !is_declared(&disk.serial)) {
        changes.add("disk", NONE, or_none(&disk.path));
    }
}

fn nics(changes: &mut Changes, spec: &MachineSpec, found: &Definition) {
    for nic in &spec.nics {
        let Some(there) = found.nics.iter().find(|there| there.mac.eq_ignore_ascii_case(&nic.mac)) else {
            changes.add("network card", format!("{} on bridge {}", nic.mac, nic.bridge), NONE);
            continue;
        };
        let mut change = |what: &str, declared: &str, found: &str| {
            if declared != found {
                changes.text(&format!("{what} of {}", nic.mac), declared, found);
            }
        };
        change("bridge", &nic.bridge, &there.bridge);
        change("tap", &network::names::tap(&nic.mac), &there.tap);
        change("filter", TAP_FILTER, &there.filter);
        change("model", NIC_MODEL, &there.model);
        let vlan = nic.vlan.map(|vlan| vlan.tag);
        let number =
            |number: Option<u16>| number.map_or_else(|| NONE.to_owned(), |number| number.to_string());
        if vlan != there.vlan {
            change("VLAN", &number(vlan), &number(there.vlan));
        }
        if there.mtu != Some(nic.mtu) {
            change("MTU", &nic.mtu.to_string(), &number(there.mtu));
        }
    }
    let is_declared = |mac: &str| spec.nics.iter().any(|nic| nic.mac.eq_ignore_ascii_case(mac));
    for nic in found.nics.iter().filter(|nic| !is_declared(&nic.mac)) {
        changes.add("network card", NONE, format!("{} on {}", nic.mac, or_none(&nic.bridge)));
    }
}
