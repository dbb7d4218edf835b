//! What of a domain's XML Ashlar decides: what somebody may have edited.

use ashlar_api::CpuSet;
use ashlar_plan::Definition;
use ashlar_plan::definition::{DefinedDisk, DefinedNic};

use super::Element;

/// Devices that Ashlar never gives, and that libvirt never adds by itself.
const FOREIGN: [&str; 9] =
    ["filesystem", "graphics", "hostdev", "memory", "redirdev", "shmem", "smartcard", "tpm", "vsock"];

/// Reads it. What cannot be read is what it is not: it shows as changed.
pub(super) fn read(root: &Element) -> Definition {
    let text = |path: &[&str]| root.path(path).map(|it| it.trimmed().to_owned()).unwrap_or_default();
    let attribute = |path: &[&str], name: &str| root.path(path).and_then(|it| it.attribute(name));
    let memory_kib = root.child("memory").map(kib).unwrap_or_default();
    let vcpus = text(&["vcpu"]).parse().unwrap_or_default();
    let devices = root.child("devices");
    let all = |name: &'static str| devices.into_iter().flat_map(move |devices| devices.all(name));
    Definition {
        kind: root.attribute("type").unwrap_or_default().to_owned(),
        machine_type: attribute(&["os", "type"], "machine").unwrap_or_default().to_owned(),
        memory_kib,
        current_memory_kib: root.child("currentMemory").map_or(memory_kib, kib),
        vcpus,
        current_vcpus: attribute(&["vcpu"], "current")
            .map_or(Some(vcpus), |count| count.parse().ok())
            .unwrap_or(0),
        shared_cpus: set(attribute(&["vcpu"], "cpuset")),
        own_cpus: own_cpus(root),
        numa_nodes: numa_nodes(root),
        hugepages_kib: root.path(&["memoryBacking", "hugepages", "page"]).map(size_kib),
        kernel_path: text(&["os", "kernel"]),
        initrd_path: text(&["os", "initrd"]),
        command_line: text(&["os", "cmdline"]),
        disks: all("disk").filter(|disk| !is_drive(disk)).map(disk).collect(),
        nics: all("interface").map(nic).collect(),
        devices: FOREIGN.iter().flat_map(|name| all(name).map(|it| device(name, it))).collect(),
    }
}

/// A number with its unit, as libvirt writes it: in KiB unless it says otherwise.
fn kib(element: &Element) -> u64 {
    in_kib(element.trimmed().parse().unwrap_or_default(), element.attribute("unit"))
}

fn size_kib(page: &Element) -> u64 {
    in_kib(
        page.attribute("size").and_then(|size| size.parse().ok()).unwrap_or_default(),
        page.attribute("unit"),
    )
}

fn in_kib(number: u64, unit: Option<&str>) -> u64 {
    match unit {
        Some("b" | "bytes") => number / 1024,
        Some("M" | "MiB") => number.saturating_mul(1024),
        Some("G" | "GiB") => number.saturating_mul(1024 * 1024),
        _ => number,
    }
}

fn set(text: Option<&str>) -> CpuSet {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn own_cpus(root: &Element) -> Vec<CpuSet> {
    let pins = root.child("cputune").into_iter().flat_map(|tune| tune.all("vcpupin"));
    let mut pins: Vec<(u32, CpuSet)> = pins
        .map(|pin| {
            let vcpu = pin.attribute("vcpu").and_then(|vcpu| vcpu.parse().ok()).unwrap_or(u32::MAX);
            (vcpu, set(pin.attribute("cpuset")))
        })
        .collect();
    pins.sort_by_key(|(vcpu, _)| *vcpu);
    pins.into_iter().map(|(_, set)| set).collect()
}

fn numa_nodes(root: &Element) -> CpuSet {
    let Some(tune) = root.child("numatune") else { return CpuSet::default() };
    let nodes = tune.all("memory").chain(tune.all("memnode"));
    CpuSet(nodes.flat_map(|node| set(node.attribute("nodeset")).0).collect())
}

fn is_drive(disk: &Element) -> bool {
    matches!(disk.attribute("device"), Some("cdrom" | "floppy"))
}

/// An attribute of a child; empty if there is none.
fn of_child(element: &Element, child: &str, name: &str) -> String {
    element.child(child).and_then(|child| child.attribute(name)).unwrap_or_default().to_owned()
}

fn disk(disk: &Element) -> DefinedDisk {
    let path = |layer: &Element| {
        let source = layer.child("source")?;
        let path = ["file", "dev", "name", "volume"].iter().find_map(|name| source.attribute(name));
        path.map(str::to_owned)
    };
    DefinedDisk {
        serial: disk.child("serial").map(|serial| serial.trimmed().to_owned()).unwrap_or_default(),
        path: path(disk).unwrap_or_default(),
        format: of_child(disk, "driver", "type"),
        cache: of_child(disk, "driver", "cache"),
        backing_path: disk.child("backingStore").and_then(path),
    }
}

fn nic(nic: &Element) -> DefinedNic {
    DefinedNic {
        mac: of_child(nic, "mac", "address"),
        bridge: of_child(nic, "source", "bridge"),
        tap: of_child(nic, "target", "dev"),
        vlan: nic.path(&["vlan", "tag"]).and_then(|tag| tag.attribute("id")?.parse().ok()),
        filter: of_child(nic, "filterref", "filter"),
        model: of_child(nic, "model", "type"),
        mtu: nic.child("mtu").and_then(|mtu| mtu.attribute("size")?.parse().ok()),
    }
}

fn device(name: &str, element: &Element) -> String {
    match element.attribute("type") {
        Some(kind) => format!("{name} ({kind})"),
        None => name.to_owned(),
    }
}
