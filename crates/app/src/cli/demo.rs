//! `ashlar demo`

use clap::{Args, Subcommand};

use super::ReleaseArgs;

/// `ashlar demo …`
#[derive(Debug, Subcommand)]
pub(crate) enum DemoCommand {
    /// A one-host lab with a cluster of one control plane and one worker
    Up(DemoUpArgs),
    /// Take all of it away
    Down(DemoDownArgs),
}

/// `ashlar demo up`
#[derive(Debug, Args)]
#[command(after_help = "\
Stages, each timed: preflight, node image, lab, host, pool objects, cluster, smoke test. A second run changes
nothing and says so.")]
pub(crate) struct DemoUpArgs {
    /// Lab and cluster name
    #[arg(long, default_value = "demo")]
    pub(crate) name: String,
    /// Kubernetes version [default: the newest that can be built]
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes: Option<String>,
    /// Workers
    #[arg(long, default_value_t = 1)]
    pub(crate) workers: u32,
    #[command(flatten)]
    pub(crate) release: ReleaseArgs,
}

/// `ashlar demo down`
#[derive(Debug, Args)]
pub(crate) struct DemoDownArgs {
    /// Lab and cluster name
    #[arg(long, default_value = "demo")]
    pub(crate) name: String,
}

/// `ashlar internal demo-cluster`
#[derive(Debug, Args)]
pub(crate) struct DemoClusterArgs {
    /// Lab and cluster name
    pub(crate) name: String,
    /// Node image
    pub(crate) image: String,
    /// Workers
    pub(crate) workers: u32,
    /// When `demo up` began
    pub(crate) began: String,
}
