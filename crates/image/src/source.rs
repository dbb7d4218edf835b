//! What a source of Kubernetes hands over: programs for the node, OCI images for its containerd, and what they are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::manifest::{ContainerImage, KubernetesContents};

/// Repository that kubeadm names its images after.
pub(crate) const REPOSITORY: &str = "registry.k8s.io";
/// flannel's image, without tag.
pub(crate) const FLANNEL_IMAGE: &str = "ghcr.io/flannel-io/flannel";
/// Programs that a node runs outside of containers.
pub(crate) const HOST_PROGRAMS: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];

/// Where Kubernetes comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The first of the two that can be had.
    #[default]
    Auto,
    /// The project's published binaries and images.
    Release,
    /// Go modules, built here.
    Modules,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Source::Auto => "auto",
            Source::Release => "release",
            Source::Modules => "modules",
        })
    }
}

/// Where released Kubernetes and what belongs to it is published: the projects' own servers, or a site's mirrors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Holds `v1.37.2/bin/linux/amd64/kubeadm` and its checksum.
    pub release_url: String,
    /// OCI registry with the images that kubeadm names `registry.k8s.io/…`; may end in a path.
    pub registry: String,
    /// OCI registry with `flannel-io/flannel`; may end in a path.
    pub flannel_registry: String,
    /// Holds `v1.9.1/cni-plugins-linux-amd64-v1.9.1.tgz` and its checksum.
    pub cni_plugins_url: String,
    /// Version of the CNI plugins.
    pub cni_plugins_version: String,
}

impl Default for Release {
    fn default() -> Self {
        Self {
            release_url: "https://dl.k8s.io/release".to_owned(),
            registry: format!("https://{REPOSITORY}"),
            flannel_registry: "https://ghcr.io".to_owned(),
            cni_plugins_url: "https://github.com/containernetworking/plugins/releases/download".to_owned(),
            cni_plugins_version: "v1.9.1".to_owned(),
        }
    }
}

/// A source's result.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    /// Directory with [`HOST_PROGRAMS`].
    pub(crate) programs_dir: PathBuf,
    /// Directory with CNI plugins that replace Debian's.
    pub(crate) cni_plugins_dir: Option<PathBuf>,
    /// Archives for `ctr images import`.
    pub(crate) archives: Vec<PathBuf>,
    pub(crate) contents: KubernetesContents,
    pub(crate) images: Vec<ContainerImage>,
}
