//! What a node finds on its seed at first boot, and what it says on its console while it becomes a node.
//!
//! The seed is a NoCloud disk with a few files beside the three that cloud-init reads. cloud-init only configures
//! the network; the rest is `bootstrap.sh`, started from the mounted seed by a unit of the image
//! (`ashlar-bootstrap.service`) at every boot until it has succeeded. So nothing that cloud-init writes down
//! holds a secret, and a machine that was cut off in the middle goes on where it was.
//!
//! Rendering is pure and knows no secrets: a [`SeedTemplate`] names them, and whoever uploads the seed fills
//! them in with [`SeedTemplate::render`].

pub mod console;
mod kubeadm;
mod profile;
mod seed;
mod template;

pub use profile::kernel_arguments;
pub use seed::{BootstrapError, NodeBootstrap, SecretNames, seed_template};
pub use template::{Encoding, Piece, SecretRef, SeedContent, SeedFile, SeedTemplate};

/// Where the images of Kubernetes' own components are from, by name.
pub const IMAGE_REPOSITORY: &str = kubeadm::IMAGE_REPOSITORY;

/// kubeadm's ClusterConfiguration, as one of the cluster's control planes would write it.
pub fn cluster_configuration(cluster: &str, control_plane: &ashlar_api::MachineSpec) -> serde_json::Value {
    kubeadm::cluster(cluster, control_plane, profile::Profile::of(control_plane.accelerator))
}

#[cfg(test)]
pub(crate) mod tests;
