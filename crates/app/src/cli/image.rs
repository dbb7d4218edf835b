//! `ashlar image`

use clap::{Args, Subcommand, ValueEnum};

/// `ashlar image …`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build a node image and record it in the store
    Build(ImageBuildArgs),
    /// List the images in the cache
    List,
    /// Show what is in an image; --verify reads it all and compares digests
    Inspect {
        /// Name
        name: String,
        /// Read every file and compare its digest
        #[arg(long)]
        verify: bool,
    },
    /// Record an image of the cache in the store, so that clusters can use it
    Register {
        /// Name
        name: String,
    },
    /// Remove an image from the cache
    Remove {
        /// Name
        name: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}

/// `ashlar image build`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar image build                                newest version, from wherever it can be had
  ashlar image build --kubernetes v1.36.3 --source modules
  ashlar image build --test                         the small guest for probes

  ashlar image build --source release \\
      --release-url https://mirror.example/kubernetes/release \\
      --registry https://mirror.example/registry.k8s.io \\
      --flannel-registry https://mirror.example/ghcr.io \\
      --cni-plugins-url https://mirror.example/cni-plugins

release: the project's published binaries and images, checksums verified.
modules: the same versions, built from Go modules (needs Go and a module proxy).
auto:    an image that is there already, else the first of the two that answers.

Downloads go through the proxy of ALL_PROXY, HTTPS_PROXY or HTTP_PROXY (the first that is
set; NO_PROXY names exceptions) and trust the system's certificates. What has arrived is
kept: a build that broke off goes on where it was.")]
pub(crate) struct ImageBuildArgs {
    /// Kubernetes version
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes: Option<String>,
    /// Where Kubernetes comes from
    #[arg(long, value_enum, default_value_t = ImageSource::Auto)]
    pub(crate) source: ImageSource,
    #[command(flatten)]
    pub(crate) release: ReleaseArgs,
    /// The small guest for probes and tests, in place of a node
    #[arg(long, conflicts_with_all = ["kubernetes", "source"])]
    pub(crate) test: bool,
    /// Build only; do not record it in the store
    #[arg(long)]
    pub(crate) no_register: bool,
}

/// Mirrors of what is released.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ReleaseArgs {
    /// Holds VERSION/bin/linux/amd64/kubeadm and its checksum [default: https://dl.k8s.io/release]
    #[arg(long, value_name = "URL", env = "ASHLAR_RELEASE_URL")]
    pub(crate) release_url: Option<String>,
    /// Registry with Kubernetes's images; may end in a path [default: https://registry.k8s.io]
    #[arg(long, value_name = "URL", env = "ASHLAR_REGISTRY")]
    pub(crate) registry: Option<String>,
    /// Registry with flannel-io/flannel; may end in a path [default: https://ghcr.io]
    #[arg(long, value_name = "URL", env = "ASHLAR_FLANNEL_REGISTRY")]
    pub(crate) flannel_registry: Option<String>,
    /// Holds VERSION/cni-plugins-linux-amd64-VERSION.tgz and its checksum [default: the project's GitHub releases]
    #[arg(long, value_name = "URL", env = "ASHLAR_CNI_PLUGINS_URL")]
    pub(crate) cni_plugins_url: Option<String>,
}

/// Where Kubernetes comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImageSource {
    /// The first that answers
    Auto,
    /// Published binaries and images
    Release,
    /// Go modules, built
    Modules,
}
