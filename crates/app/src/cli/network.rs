//! `ashlar network`

use clap::{Args, Subcommand};

/// `ashlar network …`
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// List networks: how they exist on hosts, and how much of them is given out
    List,
    /// Show a network, and who holds which of its addresses, MACs and VRRP ids
    Describe(NetworkDescribeArgs),
}

/// `ashlar network describe`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar network describe office
  ashlar network describe office -o json")]
pub(crate) struct NetworkDescribeArgs {
    /// Name
    pub(crate) name: String,
}
