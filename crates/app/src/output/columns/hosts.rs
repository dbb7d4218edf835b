//! Columns of what the pool is made of: hosts, storage, networks, images, classes, volumes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ashlar_api::{
    Accelerator, AddressRange, CpuPolicy, HostCapacity, Mebibytes, PoolOnHost, PoolType, VolumeContent,
    VolumeFormat,
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{ConditionRow, Meta, Row, cells, or_dash, word};

#[derive(Deserialize)]
pub(super) struct HostRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: HostSpecRow<'a>,
    #[serde(borrow, default)]
    record: HostRecordRow<'a>,
    #[serde(borrow, default)]
    status: ConditionsRow<'a>,
}

#[derive(Deserialize)]
struct HostSpecRow<'a> {
    #[serde(borrow)]
    uri: Cow<'a, str>,
    #[serde(default)]
    rack: String,
    #[serde(default)]
    zone: String,
    #[serde(default)]
    cordoned: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostRecordRow<'a> {
    #[serde(default)]
    capacity: Option<HostCapacity>,
    #[serde(default)]
    accelerator: Option<Accelerator>,
    #[serde(borrow, default)]
    libvirt_version: Cow<'a, str>,
    #[serde(borrow, default)]
    qemu_version: Cow<'a, str>,
}

/// A status of which only the conditions are shown.
#[derive(Default, Deserialize)]
pub(super) struct ConditionsRow<'a> {
    #[serde(borrow, default)]
    pub(super) conditions: Vec<ConditionRow<'a>>,
}

impl<'a> Row<'a> for HostRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] = &[
        ("STATUS", false),
        ("ACCELERATOR", false),
        ("THREADS", false),
        ("MEMORY", false),
        ("ZONE", true),
        ("RACK", true),
        ("LIBVIRT", true),
        ("QEMU", true),
        ("URI", true),
    ];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let mut status = word(&self.status.conditions, "Ready", "Ready").unwrap_or_else(|| {
            if self.record.capacity.is_some() { "Enrolled".to_owned() } else { "NotEnrolled".to_owned() }
        });
        if self.spec.cordoned {
            status.push_str(",Cordoned");
        }
        let capacity = self.record.capacity.as_ref();
        cells![
            if self.metadata.deletion_timestamp.is_some() { "Removing".to_owned() } else { status },
            match self.record.accelerator {
                Some(Accelerator::Kvm) => "kvm",
                Some(Accelerator::Emulated) => "emulated",
                None => "-",
            },
            capacity.map_or_else(|| "-".to_owned(), |capacity| capacity.threads.to_string()),
            capacity.map_or_else(|| "-".to_owned(), |capacity| capacity.memory.to_string()),
            or_dash(&*self.spec.zone),
            or_dash(&*self.spec.rack),
            or_dash(&*self.record.libvirt_version),
            or_dash(&*self.record.qemu_version),
            &*self.spec.uri,
        ]
    }
}

#[derive(Deserialize)]
pub(super) struct PoolRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    spec: PoolSpecRow,
    #[serde(default)]
    record: PoolRecordRow,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoolSpecRow {
    #[serde(rename = "type")]
    pool_type: PoolType,
    libvirt_name: String,
}

#[derive(Default, Deserialize)]
struct PoolRecordRow {
    #[serde(default)]
    hosts: BTreeMap<String, PoolOnHost>,
}

impl<'a> Row<'a> for PoolRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] =
        &[("TYPE", false), ("LIBVIRT-NAME", false), ("HOSTS", false), ("CAPACITY", false), ("ON", true)];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let hosts = &self.record.hosts;
        let capacity_gib = hosts.values().map(|pool| pool.capacity_mib).sum::<u64>() / 1024;
        cells![
            match self.spec.pool_type {
                PoolType::Dir => "dir",
            },
            &self.spec.libvirt_name,
            hosts.len().to_string(),
            format!("{capacity_gib}Gi"),
            or_dash(hosts.keys().map(String::as_str).collect::<Vec<_>>().join(",")),
        ]
    }
}

#[derive(Deserialize)]
pub(super) struct NetworkRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    spec: NetworkSpecRow,
}

#[derive(Deserialize)]
struct NetworkSpecRow {
    attachment: AttachmentRow,
    cidrs: Vec<String>,
    gateway: String,
    #[serde(default)]
    mtu: Option<u16>,
    ranges: Vec<AddressRange>,
}

#[derive(Deserialize)]
struct AttachmentRow {
    #[serde(default)]
    bridge: Option<String>,
    #[serde(default)]
    vlan: Option<VlanRow>,
    #[serde(default)]
    vxlan: Option<VxlanRow>,
    #[serde(default)]
    hosts: Vec<String>,
}

#[derive(Deserialize)]
struct VlanRow {
    bridge: String,
    tag: u16,
}

#[derive(Deserialize)]
struct VxlanRow {
    vni: u32,
}

impl AttachmentRow {
    fn text(&self) -> String {
        match (&self.bridge, &self.vlan, &self.vxlan) {
            (Some(bridge), ..) => format!("bridge {bridge}"),
            (_, Some(vlan), _) => format!("vlan {} of {}", vlan.tag, vlan.bridge),
            (.., Some(vxlan)) => format!("vxlan {}", vxlan.vni),
            (None, None, None) => format!("nat on {}", self.hosts.join(",")),
        }
    }
}

impl<'a> Row<'a> for NetworkRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] =
        &[("ATTACHMENT", false), ("CIDR", false), ("GATEWAY", false), ("MTU", true), ("RANGES", true)];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let default_mtu =
            if self.spec.attachment.vxlan.is_some() { 1500 - ashlar_api::VXLAN_OVERHEAD } else { 1500 };
        let ranges: Vec<String> =
            self.spec.ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
        cells![
            self.spec.attachment.text(),
            self.spec.cidrs.join(","),
            &self.spec.gateway,
            self.spec.mtu.unwrap_or(default_mtu).to_string(),
            ranges.join(","),
        ]
    }
}

#[derive(Deserialize)]
pub(super) struct ImageRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    spec: ImageSpecRow,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ImageSpecRow {
    digest: String,
    architecture: String,
    os: String,
    #[serde(default)]
    kubernetes_version: String,
    directory: String,
    #[serde(default)]
    virtual_size: Mebibytes,
}

impl<'a> Row<'a> for ImageRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] = &[
        ("KUBERNETES", false),
        ("ARCH", false),
        ("SIZE", false),
        ("OS", true),
        ("DIGEST", true),
        ("DIRECTORY", true),
    ];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let spec = &self.spec;
        cells![
            or_dash(&*spec.kubernetes_version),
            &spec.architecture,
            spec.virtual_size.to_string(),
            &spec.os,
            &spec.digest,
            &spec.directory,
        ]
    }
}

#[derive(Deserialize)]
pub(super) struct ClassRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    spec: ashlar_api::MachineClassSpec,
}

impl<'a> Row<'a> for ClassRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] = &[
        ("VCPUS", false),
        ("MEMORY", false),
        ("ROOT-DISK", false),
        ("ETCD-DISK", false),
        ("CPU", true),
        ("POOL", true),
    ];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let spec = &self.spec;
        cells![
            spec.vcpus.to_string(),
            spec.memory.to_string(),
            spec.root_disk.to_string(),
            spec.etcd_disk.to_string(),
            match spec.cpu_policy {
                CpuPolicy::Shared => "shared",
                CpuPolicy::Dedicated => "dedicated",
            },
            or_dash(&*spec.storage_pool),
        ]
    }
}

#[derive(Deserialize)]
pub(super) struct VolumeRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: VolumeSpecRow<'a>,
    #[serde(default)]
    record: ashlar_api::VolumeRecord,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeSpecRow<'a> {
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    pool: Cow<'a, str>,
    #[serde(borrow)]
    file_name: Cow<'a, str>,
    format: VolumeFormat,
    capacity: Mebibytes,
    content: VolumeContent,
}

impl<'a> Row<'a> for VolumeRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] = &[
        ("HOST", false),
        ("CAPACITY", false),
        ("FOR", false),
        ("STATE", false),
        ("POOL", true),
        ("FORMAT", true),
        ("FILE", true),
    ];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let (what, needs_filling) = match &self.spec.content {
            VolumeContent::ImageFile { image, .. } => (format!("image/{image}"), true),
            VolumeContent::MachineDisk { machine, role, .. } => (
                format!("machine/{machine} ({})", role.serial()),
                *role == ashlar_api::MachineVolumeRole::Seed,
            ),
            VolumeContent::Leftover { of } => (format!("left by {of}"), false),
        };
        let state = match () {
            () if matches!(self.spec.content, VolumeContent::Leftover { .. }) => "Watched",
            () if self.metadata.deletion_timestamp.is_some() => "Deleting",
            () if self.record.wiped => "Wiped",
            () if self.record.filled => "Filled",
            () if needs_filling => "Empty",
            () => "Disk",
        };
        cells![
            &*self.spec.host,
            self.spec.capacity.to_string(),
            what,
            state,
            &*self.spec.pool,
            match self.spec.format {
                VolumeFormat::Qcow2 => "qcow2",
                VolumeFormat::Raw => "raw",
                VolumeFormat::Iso => "iso",
            },
            &*self.spec.file_name,
        ]
    }
}
