//! Images for Ashlar's machines: Kubernetes nodes and a small guest for probes and tests.
//!
//! A build is a chain of stages, each kept in the cache under the digest of its inputs, and ends in
//! `images/<name>/` with a disk, a kernel, an initial RAM file system and a manifest. The name holds the digest
//! of everything that decided the build: same inputs, same name, nothing to do.
//!
//! Nothing here prints; progress goes to a [`Reporter`].

mod busybox;
mod cache;
mod debian;
mod digest;
mod disk;
mod error;
mod fetch;
mod initrd;
mod kmod;
mod kubeadm;
mod manifest;
mod modules_source;
mod node;
mod oci;
mod publish;
mod release_source;
mod report;
mod run;
mod source;
mod version;

pub use busybox::{TestImageRequest, build_test_image};
pub use cache::{BuiltImage, Context, Listing, inspect, list, remove, verify};
pub use debian::Debian;
pub use error::{Error, Result};
pub use manifest::{
    ContainerImage, DISK, Download, INITRD, ImageFile, KERNEL, KubernetesContents, MANIFEST, Manifest,
    Purpose,
};
pub use node::{BuildRequest, CHECK_IMAGE, build_node_image};
pub use report::{Reporter, Silent};
pub use source::{Release, Source};
pub use version::Version;
