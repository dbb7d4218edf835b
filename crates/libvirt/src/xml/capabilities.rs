//! What a host's capabilities say.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::{CpuSet, HostCapacity, HugepageSize, Mebibytes, NumaNode};
use uuid::Uuid;

use super::{Element, XmlError};

const KIND: &str = "host's capabilities";

/// A host's hardware and what its QEMU offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Capabilities {
    /// libvirt's UUID of the host.
    pub host_uuid: Uuid,
    /// Architecture.
    pub architecture: String,
    /// Hardware.
    pub capacity: HostCapacity,
    /// What `q35` expands to.
    pub machine_type: Option<String>,
    /// Whether libvirt offers `type='kvm'`.
    pub kvm_claimed: bool,
}

/// Reads the XML of `virConnectGetCapabilities`.
pub fn capabilities(xml: &str) -> Result<Capabilities, XmlError> {
    let root = Element::parse(KIND, xml)?;
    let missing = |name: &str| XmlError::unreadable(KIND, format!("it has no {name}"));
    let host = root.child("host").ok_or_else(|| missing("host"))?;
    let host_uuid = host
        .child("uuid")
        .and_then(|element| element.trimmed().parse().ok())
        .ok_or_else(|| missing("host uuid"))?;
    let cpu = host.child("cpu").ok_or_else(|| missing("cpu"))?;
    let architecture = cpu.child("arch").ok_or_else(|| missing("cpu architecture"))?.trimmed().to_owned();
    let guest = root.all("guest").filter(|guest| is_hvm(guest)).find_map(|guest| {
        guest.child("arch").filter(|arch| arch.attribute("name") == Some(architecture.as_str()))
    });
    let machine_type = guest.and_then(|arch| {
        arch.all("machine")
            .find(|machine| machine.trimmed() == "q35")
            .map(|machine| machine.attribute("canonical").unwrap_or("q35").to_owned())
    });
    let kvm_claimed =
        guest.is_some_and(|arch| arch.all("domain").any(|domain| domain.attribute("type") == Some("kvm")));
    Ok(Capabilities { host_uuid, architecture, capacity: capacity(host, cpu), machine_type, kvm_claimed })
}

fn is_hvm(guest: &Element) -> bool {
    guest.child("os_type").is_some_and(|os_type| os_type.trimmed() == "hvm")
}

/// Preallocated huge pages of a NUMA node. Pages of the ordinary size stand in the same list.
fn hugepages(cell: &Element) -> BTreeMap<HugepageSize, u64> {
    cell.all("pages")
        .filter(|pages| matches!(pages.attribute("unit"), None | Some("KiB")))
        .filter_map(|pages| {
            let kib: u64 = pages.attribute("size")?.parse().ok()?;
            let size = HugepageSize::ALL.into_iter().find(|size| size.mib() * 1024 == kib)?;
            let count: u64 = pages.trimmed().parse().ok()?;
            (count > 0).then_some((size, count))
        })
        .collect()
}

fn capacity(host: &Element, cpu: &Element) -> HostCapacity {
    let mut numa = BTreeMap::new();
    let mut threads = 0;
    let mut cores = BTreeSet::new();
    let mut sockets = BTreeSet::new();
    for cell in host.path(&["topology", "cells"]).iter().flat_map(|cells| cells.all("cell")) {
        let id: u32 = cell.attribute("id").and_then(|id| id.parse().ok()).unwrap_or_default();
        let kib: u64 = cell
            .child("memory")
            .filter(|memory| matches!(memory.attribute("unit"), None | Some("KiB")))
            .and_then(|memory| memory.trimmed().parse().ok())
            .unwrap_or_default();
        let mut in_cell = 0;
        let mut cpus = BTreeSet::new();
        for cpu in cell.child("cpus").iter().flat_map(|cpus| cpus.all("cpu")) {
            in_cell += 1;
            cpus.extend(cpu.attribute("id").and_then(|id| id.parse::<u32>().ok()));
            let part = |name: &str| cpu.attribute(name).unwrap_or_default().to_owned();
            sockets.insert(part("socket_id"));
            cores.insert((part("socket_id"), part("die_id"), part("core_id")));
        }
        threads += in_cell;
        let hugepages = hugepages(cell);
        numa.insert(
            id,
            NumaNode { threads: in_cell, memory: Mebibytes(kib / 1024), cpus: CpuSet(cpus), hugepages },
        );
    }
    let model = cpu.child("model").map(|model| model.trimmed().to_owned()).unwrap_or_default();
    HostCapacity {
        threads,
        cores: u32::try_from(cores.len()).unwrap_or(u32::MAX),
        sockets: u32::try_from(sockets.len()).unwrap_or(u32::MAX),
        memory: Mebibytes(numa.values().map(|node| node.memory.0).sum()),
        numa,
        cpu_model: model,
    }
}
