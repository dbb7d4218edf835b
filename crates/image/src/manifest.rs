//! `image.json`: what an image is, beside its files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// File name of the root disk.
pub const DISK: &str = "disk.qcow2";
/// File name of the kernel.
pub const KERNEL: &str = "vmlinuz";
/// File name of the initial RAM file system.
pub const INITRD: &str = "initrd.img";
/// File name of the manifest.
pub const MANIFEST: &str = "image.json";

/// What kind of guest an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A Kubernetes node.
    Node,
    /// The busybox guest for probes and tests.
    Test,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageFile {
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// Something that was downloaded for an image, verified against a checksum of its publisher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Download {
    /// Where it came from.
    pub url: String,
    /// `sha256:` or `sha512:` and lower-case hex; of an OCI image, that of its manifest.
    pub digest: String,
}

/// One OCI image in the guest's containerd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerImage {
    /// Full reference as kubelet asks for it, such as `registry.k8s.io/pause:3.10.2`.
    pub reference: String,
    /// Version of the program inside, where its module or release has one.
    pub version: String,
}

/// The Kubernetes part of a node image: what kubeadm must be told so that it uses what is inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KubernetesContents {
    /// `release` or `modules`.
    pub source: String,
    /// What built it, such as `go1.26.8`; absent for released binaries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolchain: Option<String>,
    /// Repository that kubeadm names its images after.
    pub image_repository: String,
    /// Tag of the etcd image: what it truly is, which may differ from kubeadm's default.
    pub etcd_tag: String,
    /// kubeadm's own default, for the reader.
    pub etcd_default_tag: String,
    /// Tag of the CoreDNS image.
    pub coredns_tag: String,
    /// kubeadm's own default.
    pub coredns_default_tag: String,
    /// Tag of the pause image, the same in containerd's configuration.
    pub pause_tag: String,
    /// Full reference of the flannel image.
    pub flannel_image: String,
    /// Version of flannel.
    pub flannel_version: String,
    /// Version of the CNI plugins where they are not Debian's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_plugins_version: Option<String>,
    /// What was downloaded, where released binaries and images are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub downloads: Vec<Download>,
}

/// The manifest of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// Name of the image, which is also its directory.
    pub name: String,
    /// What kind of guest it is.
    pub purpose: Purpose,
    /// SHA-256 of everything that decided the build, lower-case hex.
    pub inputs_digest: String,
    /// `v1.37.2`; absent for the test image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,
    /// Such as `Debian GNU/Linux 13 (trixie)`.
    pub os: String,
    /// As the Linux kernel says it: `x86_64`.
    pub arch: String,
    /// What is inside for kubeadm; absent for the test image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesContents>,
    /// OCI images that need no pull.
    #[serde(default)]
    pub container_images: Vec<ContainerImage>,
    /// Debian packages and their versions.
    #[serde(default)]
    pub packages: BTreeMap<String, String>,
    /// Files by name.
    pub files: BTreeMap<String, ImageFile>,
    /// Size that a root disk has at least, in bytes.
    pub virtual_size_bytes: u64,
    /// What the kernel's command line must hold for this image to boot.
    pub kernel_command_line: String,
    /// Creation time, RFC 3339.
    pub created: String,
}
