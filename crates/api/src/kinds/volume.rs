//! Volume: every disk, recorded before it is made.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Condition, Kind, MachineVolumeRole, Mebibytes, Resource, Spec};

/// A volume in a host's storage pool.
pub type Volume = Resource<VolumeSpec>;

/// What a volume is. It is ours if pool UUID and file name equal this record, which was written before its
/// exclusive creation; the file name holds a random UUID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeSpec {
    /// Host that has it.
    pub host: String,
    /// StoragePool object.
    pub pool: String,
    /// Libvirt's UUID of the pool on that host.
    #[schemars(with = "crate::schema::UuidText")]
    pub pool_uuid: Uuid,
    /// Directory of the pool on that host.
    pub pool_path: String,
    /// File name in the pool; ends in .qcow2, .raw or .iso (virt-aa-helper refuses other shapes).
    pub file_name: String,
    /// Format.
    pub format: VolumeFormat,
    /// Capacity.
    pub capacity: Mebibytes,
    /// What it holds.
    pub content: VolumeContent,
    /// What happens to it when its owner goes.
    pub reclaim: ReclaimPolicy,
}

/// Disk formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VolumeFormat {
    /// QEMU copy on write.
    Qcow2,
    /// Plain bytes.
    Raw,
    /// A seed.
    Iso,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum VolumeContent {
    /// One file of an Image, uploaded once a host, verified by digest, read-only.
    ImageFile {
        /// Image object.
        image: String,
        /// Image digest.
        digest: String,
        /// Which file.
        part: ImagePart,
        /// SHA-256 of the file, hex.
        sha256: String,
        /// Size in bytes.
        size_bytes: u64,
    },
    /// A machine's disk or seed.
    MachineDisk {
        /// Machine object, same namespace.
        machine: String,
        /// Its role there.
        role: MachineVolumeRole,
        /// Volume object with the backing image, for overlays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backing: Option<String>,
    },
    /// A file that a call without an answer may still make, or that was half made under a name that is not used any
    /// more. It is deleted whenever it is seen, and forgotten a day after.
    Leftover {
        /// The volume whose file it was or might have been, as `namespace/name`.
        of: String,
    },
}

/// Files of an image.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ImagePart {
    /// Root disk.
    Disk,
    /// Kernel.
    Kernel,
    /// Initial RAM disk.
    Initrd,
}

/// What happens to a volume when its owner goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReclaimPolicy {
    /// It is deleted.
    Delete,
    /// It stays.
    Retain,
}

/// What was recorded about a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeRecord {
    /// Its content was written completely and, for image files, verified by digest on the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filled: bool,
    /// Image files: since when no machine needs it. After the image's grace time it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<crate::schema::TimeText>")]
    pub unused_since: Option<Timestamp>,
    /// Its content was overwritten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wiped: bool,
    /// A machine's disk that is overwritten before it is deleted, as its cluster says (`wipeDisks`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wipe: bool,
    /// Why it was not overwritten although it should have been: its host cannot do that. It is deleted all the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub not_wiped: String,
    /// A call that makes its file had no answer: it may still take effect, when nobody waits for it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unanswered: bool,
    /// Its file was found half made, before its first use: it gets another name, since a late call may still make or
    /// delete what has this one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub half_made: bool,
}

/// What was last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeStatus {
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Spec for VolumeSpec {
    const KIND: Kind = Kind::Volume;
    type Record = VolumeRecord;
    type Status = VolumeStatus;
}

impl VolumeSpec {
    /// Path of the volume on its host.
    pub fn path(&self) -> String {
        format!("{}/{}", self.pool_path.trim_end_matches('/'), self.file_name)
    }
}
