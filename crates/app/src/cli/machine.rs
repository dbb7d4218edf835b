//! `ashlar machine`

use clap::{Args, Subcommand};

use super::EngineArgs;

/// `ashlar machine …`
#[derive(Debug, Subcommand)]
pub(crate) enum MachineCommand {
    /// Put another machine in a machine's place: drained first, out of etcd before it goes
    Replace(MachineReplaceArgs),
}

/// `ashlar machine replace`
#[derive(Debug, Args)]
#[command(after_help = "\
The new machine gets a new name and new disks, on the host that placement chooses. A healthy
machine is drained and goes when the new one has joined; a worker does not wait for that if
rollout.maxSurge of its group is 0 or the cluster is paused (`delete machine` never waits). Pods are
evicted as PodDisruptionBudgets allow; who blocks is named, and Ctrl-C loses nothing: the same
command goes on. --cancel takes the wish back as long as the old machine does not go yet; a
successor that came meanwhile is then one too many.

Examples:
  ashlar machine replace prod-wkr-2
  ashlar machine replace prod-wkr-2 --cancel
  ashlar machine replace prod-ctrl-1 --yes")]
pub(crate) struct MachineReplaceArgs {
    /// Name
    pub(crate) name: String,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Take the wish back: the machine stays
    #[arg(long)]
    pub(crate) cancel: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
