//! `ashlar support-bundle`

use std::path::PathBuf;

use clap::Args;

/// `ashlar support-bundle`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar support-bundle demo
  ashlar support-bundle demo --file /tmp/demo.tar && tar -tf /tmp/demo.tar

What is not to be had (a node that does not answer, a cluster without an API server) is named in the bundle in its place.
Private keys, tokens and passwords are taken out of all texts; look through the bundle before you give it away.")]
pub(crate) struct SupportBundleArgs {
    /// Cluster
    pub(crate) cluster: String,
    /// Where to write it [default: support-CLUSTER-TIME.tar in this directory]; a file that is there is left alone
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// kubectl program [default: on the PATH, else in the image cache]
    #[arg(long, value_name = "FILE", env = "ASHLAR_KUBECTL", hide_env_values = true)]
    pub(crate) kubectl: Option<PathBuf>,
}
