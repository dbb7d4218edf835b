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

release: the project's published binaries and images, checksums verified.
modules: the same versions, built from Go modules (needs Go and a module proxy).
auto:    the first of the two that answers.")]
pub(crate) struct ImageBuildArgs {
    /// Kubernetes version
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes: Option<String>,
    /// Where Kubernetes comes from
    #[arg(long, value_enum, default_value_t = ImageSource::Auto)]
    pub(crate) source: ImageSource,
    /// The small guest for probes and tests, in place of a node
    #[arg(long, conflicts_with_all = ["kubernetes", "source"])]
    pub(crate) test: bool,
    /// Build only; do not record it in the store
    #[arg(long)]
    pub(crate) no_register: bool,
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
