//! Image: a node image, built or imported, named by its digest.

use serde::{Deserialize, Serialize};

use crate::{Kind, Mebibytes, Nothing, Resource, Spec};

/// How long hosts keep unused image files whose Image does not say.
pub const DEFAULT_UNUSED_GRACE_S: u32 = 24 * 60 * 60;

/// A node image.
pub type Image = Resource<ImageSpec>;

/// What an image holds and how it boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageSpec {
    /// Digest over the image's inputs or files: `sha256:…`.
    pub digest: String,
    /// Architecture as Go names it (`amd64`).
    pub architecture: String,
    /// Operating system, for people.
    pub os: String,
    /// Kubernetes inside; empty for images without (test images).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kubernetes_version: String,
    /// True tags of the OCI images inside.
    #[serde(default)]
    pub tags: ImageTags,
    /// Directory with the files on the machine that runs Ashlar.
    pub directory: String,
    /// Root disk; absent for images that run from their initrd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ImageFile>,
    /// Kernel.
    pub kernel: ImageFile,
    /// Initial RAM disk.
    pub initrd: ImageFile,
    /// Kernel command line that the image needs.
    pub command_line: String,
    /// Virtual size of the root disk.
    #[serde(default)]
    pub virtual_size: Mebibytes,
    /// How long a host keeps its copy after the last machine that needed it; a day unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_grace_s: Option<u32>,
}

/// One file of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageFile {
    /// File name in the image's directory.
    pub file: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Tags as kubeadm must be told them, where they differ from its defaults, and of the add-ons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageTags {
    /// etcd.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub etcd: String,
    /// CoreDNS.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub coredns: String,
    /// pause.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pause: String,
    /// flannel.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub flannel: String,
}

impl Spec for ImageSpec {
    const KIND: Kind = Kind::Image;
    type Record = Nothing;
    type Status = Nothing;
}
