//! Columns of clusters and what belongs to them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ashlar_api::{
    Accelerator, AllocatedEndpoint, Cni, EventType, MachineRole, Mebibytes, ObjectRef, SecretPurpose,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{ConditionRow, Meta, Row, cells, or_dash, word};
use crate::output::age;

#[derive(Deserialize)]
pub(super) struct ClusterRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    spec: ClusterSpecRow,
    #[serde(default)]
    record: ClusterRecordRow,
    #[serde(borrow, default)]
    status: ClusterStatusRow<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterSpecRow {
    kubernetes_version: String,
    network: String,
    pod_cidr: String,
    service_cidr: String,
    #[serde(default)]
    cni: Cni,
}

#[derive(Default, Deserialize)]
struct ClusterRecordRow {
    #[serde(default)]
    endpoint: Option<AllocatedEndpoint>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    stopped: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterStatusRow<'a> {
    #[serde(borrow, default)]
    conditions: Vec<ConditionRow<'a>>,
    #[serde(default)]
    ready_machines: u32,
    #[serde(default)]
    machines: u32,
}

impl<'a> Row<'a> for ClusterRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] = &[
        ("STATUS", false),
        ("VERSION", false),
        ("ENDPOINT", false),
        ("MACHINES", false),
        ("NETWORK", true),
        ("PODS", true),
        ("SERVICES", true),
        ("CNI", true),
        ("IMAGE", true),
    ];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let status = match () {
            () if self.metadata.deletion_timestamp.is_some() => "Deleting".to_owned(),
            () if self.record.stopped => "Stopped".to_owned(),
            () => word(&self.status.conditions, "Ready", "Ready").unwrap_or_else(|| "Pending".to_owned()),
        };
        let endpoint = self.record.endpoint.as_ref();
        cells![
            status,
            &self.spec.kubernetes_version,
            endpoint.map_or_else(|| "-".to_owned(), |at| format!("{}:{}", at.address, at.port)),
            format!("{}/{}", self.status.ready_machines, self.status.machines),
            &self.spec.network,
            &self.spec.pod_cidr,
            &self.spec.service_cidr,
            match self.spec.cni {
                Cni::Flannel => "flannel",
                Cni::None => "none",
            },
            or_dash(&self.record.image),
        ]
    }
}

#[derive(Deserialize)]
pub(super) struct GroupRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    spec: GroupSpecRow,
    #[serde(default)]
    status: GroupStatusRow,
}

#[derive(Deserialize)]
struct GroupSpecRow {
    cluster: String,
    class: String,
    #[serde(default)]
    replicas: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupStatusRow {
    #[serde(default)]
    ready_replicas: u32,
}

impl<'a> Row<'a> for GroupRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] =
        &[("CLUSTER", false), ("CLASS", false), ("READY", false), ("REPLICAS", false)];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        cells![
            &self.spec.cluster,
            &self.spec.class,
            self.status.ready_replicas.to_string(),
            self.spec.replicas.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        ]
    }
}

#[derive(Deserialize)]
pub(super) struct MachineRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: MachineSpecRow<'a>,
    #[serde(default)]
    record: MachineRecordRow,
    #[serde(borrow, default)]
    status: MachineStatusRow<'a>,
}

#[derive(Deserialize)]
struct MachineSpecRow<'a> {
    #[serde(borrow)]
    cluster: Cow<'a, str>,
    role: MachineRole,
    #[serde(borrow)]
    class: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    domain: DomainRow<'a>,
    vcpus: u32,
    memory: Mebibytes,
    accelerator: Accelerator,
    #[serde(borrow)]
    image: MachineImageRow<'a>,
    #[serde(borrow)]
    nics: Vec<NicRow<'a>>,
}

#[derive(Deserialize)]
struct DomainRow<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct MachineImageRow<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct NicRow<'a> {
    #[serde(borrow)]
    address: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct MachineRecordRow {
    #[serde(default)]
    failure: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct MachineStatusRow<'a> {
    #[serde(borrow, default)]
    phase: Cow<'a, str>,
}

impl<'a> Row<'a> for MachineRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] = &[
        ("CLUSTER", false),
        ("ROLE", false),
        ("STATUS", false),
        ("HOST", false),
        ("ADDRESS", false),
        ("VCPUS", true),
        ("MEMORY", true),
        ("CLASS", true),
        ("ACCELERATOR", true),
        ("IMAGE", true),
        ("DOMAIN", true),
    ];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let spec = &self.spec;
        let status = match () {
            () if self.metadata.deletion_timestamp.is_some() => "Deleting",
            () if self.record.failure.is_some() => "Failed",
            () if self.status.phase.is_empty() => "Pending",
            () => &self.status.phase,
        };
        let address = spec.nics.first().and_then(|nic| nic.address.split('/').next());
        cells![
            &*spec.cluster,
            match spec.role {
                MachineRole::ControlPlane => "control-plane",
                MachineRole::Worker => "worker",
            },
            status,
            &*spec.host,
            or_dash(address.unwrap_or_default()),
            spec.vcpus.to_string(),
            spec.memory.to_string(),
            &*spec.class,
            match spec.accelerator {
                Accelerator::Kvm => "kvm",
                Accelerator::Emulated => "emulated",
            },
            &*spec.image.name,
            &*spec.domain.name,
        ]
    }
}

#[derive(Deserialize)]
pub(super) struct SecretRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    spec: SecretSpecRow,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretSpecRow {
    purpose: SecretPurpose,
    key_id: String,
    sealed: BTreeMap<String, IgnoredAny>,
}

impl<'a> Row<'a> for SecretRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] =
        &[("PURPOSE", false), ("FOR", false), ("VALUES", false), ("KEY-ID", true)];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, _: Timestamp) -> Vec<Cow<'_, str>> {
        let (purpose, owner) = match &self.spec.purpose {
            SecretPurpose::ClusterPki { cluster } => ("ClusterPki", format!("cluster/{cluster}")),
            SecretPurpose::JoinToken { machine } => ("JoinToken", format!("machine/{machine}")),
            SecretPurpose::MachineSshHostKey { machine } => ("SshHostKey", format!("machine/{machine}")),
        };
        cells![purpose, owner, self.spec.sealed.len().to_string(), &self.spec.key_id]
    }
}

#[derive(Deserialize)]
pub(super) struct EventRow<'a> {
    #[serde(borrow)]
    metadata: Meta<'a>,
    #[serde(borrow)]
    spec: EventSpecRow<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventSpecRow<'a> {
    about: ObjectRef,
    #[serde(rename = "type")]
    event_type: EventType,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    count: u32,
    last_time: Timestamp,
}

impl<'a> Row<'a> for EventRow<'a> {
    const HEADERS: &'static [(&'static str, bool)] = &[
        ("LAST", false),
        ("TYPE", false),
        ("REASON", false),
        ("OBJECT", false),
        ("COUNT", false),
        ("MESSAGE", false),
    ];
    fn meta(&self) -> &Meta<'a> {
        &self.metadata
    }
    fn cells(&self, now: Timestamp) -> Vec<Cow<'_, str>> {
        let about = &self.spec.about;
        cells![
            age(now, Some(self.spec.last_time)),
            match self.spec.event_type {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            },
            &*self.spec.reason,
            format!("{}/{}", about.kind.name().to_ascii_lowercase(), about.key()),
            self.spec.count.to_string(),
            self.spec.message.replace('\n', " "),
        ]
    }
}
