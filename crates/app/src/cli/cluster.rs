//! `ashlar cluster`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::EngineArgs;

/// `ashlar cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Create a cluster and wait until it is ready
    Create(ClusterCreateArgs),
    /// Show a cluster as a tree: control plane, workers, machines, phases
    Status(ClusterStatusArgs),
    /// List clusters
    List,
    /// Delete a cluster with all its machines and disks
    Delete(ClusterDeleteArgs),
    /// Start the machines of a cluster that was stopped
    Start(ClusterNameArgs),
    /// Shut the machines of a cluster down; disks and addresses stay
    Stop(ClusterStopArgs),
    /// Put a new administrator's certificate into your kubeconfig, in the old one's place
    RotateKubeconfig(ClusterRotateArgs),
    /// Let a rollout rest: no further machine is replaced; what has begun is finished
    Pause(ClusterPauseArgs),
    /// Let a rollout go on, and wait until it is done
    Resume(ClusterNameArgs),
}

/// `ashlar cluster rotate-kubeconfig`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar cluster rotate-kubeconfig demo
  ashlar cluster rotate-kubeconfig demo --valid-for 8h
  ashlar cluster rotate-kubeconfig demo --print > demo.kubeconfig

If $KUBECONFIG or ~/.kube/config has the cluster (from `ashlar kubeconfig --merge`), its user
gets a new key and certificate there; server, contexts and all else stay as they are. If not,
the kubeconfig is printed.

What was handed out before is NOT taken back: a certificate is good until it runs out, and this
command says when that is of the one that it replaces. If a key got into wrong hands before
that: the rights of all these certificates hang on ClusterRoleBinding kubeadm:cluster-admins.
Without it none of them may do anything, new ones neither (on the first control plane
/etc/kubernetes/super-admin.conf still may; Ashlar needs no binding, kubeadm does at joins). For
good they end only with the cluster's certificate authority: with a cluster that is made anew.")]
pub(crate) struct ClusterRotateArgs {
    /// Name
    pub(crate) name: String,
    /// How long the new certificate is good: such as 30d or 8h, a year at most
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = super::reach::parse_lifetime)]
    pub(crate) valid_for: jiff::SignedDuration,
    /// Print the kubeconfig, and change no file
    #[arg(long)]
    pub(crate) print: bool,
}

/// `ashlar cluster create`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar cluster create demo
  ashlar cluster create prod --kubernetes v1.37.2 --control-planes 3 --control-plane-class ctrl \\
      --workers wkr=3:wkr --network office --endpoint 10.88.1.10
  ashlar cluster create prod -f prod.yaml

What is not given is taken where there is no choice: the newest image's version, the only
class; without --network the cluster gets an overlay of its own, which goes with it. An existing cluster of the name is left as it is if the flags say the same, and refused otherwise.")]
pub(crate) struct ClusterCreateArgs {
    /// Name
    pub(crate) name: String,
    /// File with the Cluster and what it needs, in place of the flags
    #[arg(short, long = "filename", value_name = "FILE",
          conflicts_with_all = ["kubernetes", "control_planes", "control_plane_class", "workers", "network", "endpoint", "spread", "admission"])]
    pub(crate) filename: Option<PathBuf>,
    /// Kubernetes version, such as v1.37.2
    #[arg(long, value_name = "VERSION")]
    pub(crate) kubernetes: Option<String>,
    /// Control planes: 1, 3 or 5
    #[arg(long, value_name = "N")]
    pub(crate) control_planes: Option<u32>,
    /// MachineClass of the control planes
    #[arg(long, value_name = "CLASS")]
    pub(crate) control_plane_class: Option<String>,
    /// Workers: N, or NAME=N:CLASS; may be given several times
    #[arg(long, value_name = "WORKERS")]
    pub(crate) workers: Vec<String>,
    /// Network of the nodes [default: an overlay of the cluster's own]
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Virtual address of the API [default: one of the network's ranges]
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) endpoint: Option<std::net::Ipv4Addr>,
    /// Whether control planes must be on different hosts: required or preferred
    #[arg(long, value_name = "HOW")]
    pub(crate) spread: Option<String>,
    /// Whether new machines leave room for those of any one host that may die: n+1 or none [default: n+1 from three hosts up]
    #[arg(long, value_name = "ROOM")]
    pub(crate) admission: Option<String>,
    /// Show the plan and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `ashlar cluster status`
#[derive(Debug, Args)]
pub(crate) struct ClusterStatusArgs {
    /// Name; none means all clusters of the namespace
    pub(crate) name: Option<String>,
}

/// One cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterNameArgs {
    /// Name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `ashlar cluster pause`
#[derive(Debug, Args)]
pub(crate) struct ClusterPauseArgs {
    /// Name
    pub(crate) name: String,
}

/// `ashlar cluster delete`
#[derive(Debug, Args)]
pub(crate) struct ClusterDeleteArgs {
    /// Name
    pub(crate) name: String,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `ashlar cluster stop`
#[derive(Debug, Args)]
pub(crate) struct ClusterStopArgs {
    /// Name
    pub(crate) name: String,
    /// Turn the machines off at once, without asking their systems to shut down
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
