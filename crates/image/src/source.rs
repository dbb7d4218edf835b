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
    /// The first source that can be had: Go modules, while there is no other.
    #[default]
    Auto,
    /// The project's published binaries and images: refused, not supported yet.
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

/// A source's result.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    /// Directory with [`HOST_PROGRAMS`].
    pub(crate) programs_dir: PathBuf,
    /// Archives for `ctr images import`.
    pub(crate) archives: Vec<PathBuf>,
    pub(crate) contents: KubernetesContents,
    pub(crate) images: Vec<ContainerImage>,
}
