//! Commands that reach into clusters and machines, and the small ones.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::SignedDuration;

/// `ashlar kubeconfig`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar kubeconfig demo > demo.kubeconfig
  ashlar kubeconfig demo --merge
  ashlar kubeconfig demo --server https://127.0.0.1:6443   for use with `ashlar proxy demo --port 6443`

The file holds a client key: anyone who has it is the cluster's administrator, until its
certificate runs out. Nobody can take one back; `ashlar cluster rotate-kubeconfig` replaces it.")]
pub(crate) struct KubeconfigArgs {
    /// Cluster
    pub(crate) cluster: String,
    /// Merge into $KUBECONFIG or ~/.kube/config, and make it the current context
    #[arg(long)]
    pub(crate) merge: bool,
    /// URL to write in place of the cluster's own address
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// How long its certificate is good: such as 30d or 8h, a year at most
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_lifetime)]
    pub(crate) valid_for: SignedDuration,
}

/// A certificate's life: at least as long as clocks may differ, a year at most.
pub(super) fn parse_lifetime(text: &str) -> Result<SignedDuration, String> {
    let time = match text.strip_suffix('d').map(str::parse::<i64>) {
        Some(Ok(days)) => SignedDuration::try_from_hours(days.saturating_mul(24)),
        _ => super::parse_duration(text).ok().and_then(|time| SignedDuration::try_from(time).ok()),
    };
    let limits = SignedDuration::from_mins(10)..=SignedDuration::from_hours(365 * 24);
    time.filter(|time| limits.contains(time))
        .ok_or_else(|| format!("`{text}` is not between 10m and 365d: write it as 30d, 8h or 20m"))
}

/// `ashlar kubectl`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar kubectl demo -- get nodes -o wide
  ashlar kubectl demo --kubectl /opt/kubectl -- apply -f app.yaml

kubectl is taken from --kubectl, else from the PATH, else from the image cache.")]
pub(crate) struct KubectlArgs {
    /// Cluster
    pub(crate) cluster: String,
    /// kubectl program
    #[arg(long, value_name = "FILE", env = "ASHLAR_KUBECTL", hide_env_values = true)]
    pub(crate) kubectl: Option<PathBuf>,
    /// Arguments of kubectl, after --
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

/// `ashlar proxy`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar proxy demo --port 6443
  KUBECONFIG=$(mktemp) && ashlar kubeconfig demo --server https://127.0.0.1:6443 > $KUBECONFIG")]
pub(crate) struct ProxyArgs {
    /// Cluster
    pub(crate) cluster: String,
    /// Local port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
}

/// `ashlar console`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar console demo-ctrl-1
  ashlar console demo-ctrl-1 --follow")]
pub(crate) struct ConsoleArgs {
    /// Machine
    pub(crate) machine: String,
    /// Go on with what comes until Ctrl-C
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
}

/// `ashlar ssh`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar ssh demo-ctrl-1
  ashlar ssh demo-wkr-1 -- journalctl -u kubelet -n 50

The machine knows the keys that its cluster was created with. `cluster create` writes this installation's own
key among them (made at first use); --identity gives another one.")]
pub(crate) struct SshArgs {
    /// Machine
    pub(crate) machine: String,
    /// User on the machine
    #[arg(short, long, default_value = "root")]
    pub(crate) login: String,
    /// SSH private key
    #[arg(short, long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Command to run, after --
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

/// `ashlar completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar completions bash > /etc/bash_completion.d/ashlar")]
pub(crate) struct CompletionsArgs {
    /// Shell
    pub(crate) shell: clap_complete::Shell,
}

/// Commands that other commands run.
#[derive(Debug, Subcommand)]
pub(crate) enum InternalCommand {
    /// Connects stdin and stdout to a port of a machine, through the tunnel.
    Dial {
        /// Machine
        machine: String,
        /// TCP port
        port: u16,
    },
    /// The second half of `demo up`, in the lab's control namespace.
    DemoCluster(super::DemoClusterArgs),
    /// Runs the smoke test: a pod on a worker reaches a Service by name.
    Smoke {
        /// Cluster
        cluster: String,
    },
}
