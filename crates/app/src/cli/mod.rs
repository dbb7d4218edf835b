//! The command line, as clap sees it: names, types and help. Nothing is decided here; `settings` resolves it.

mod adopt;
mod audit;
mod cluster;
mod demo;
mod etcd_snapshot;
mod global;
mod host;
mod image;
mod lab;
mod machine;
mod network;
mod objects;
mod reach;
mod secrets;
mod serve;
mod store;
mod support;

pub(crate) use adopt::*;
pub(crate) use audit::*;
pub(crate) use cluster::*;
pub(crate) use demo::*;
pub(crate) use etcd_snapshot::*;
pub(crate) use global::*;
pub(crate) use host::*;
pub(crate) use image::*;
pub(crate) use lab::*;
pub(crate) use machine::*;
pub(crate) use network::*;
pub(crate) use objects::*;
pub(crate) use reach::*;
pub(crate) use secrets::*;
pub(crate) use serve::*;
pub(crate) use store::*;
pub(crate) use support::*;

use clap::{Parser, Subcommand};

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    the input or the environment is at fault; the message says what to do
  2    a bug in Ashlar
  3    what was waited for did not come in time
  130  stopped by Ctrl-C; the same command goes on where it stopped
  (kubectl, ssh and lab exec end with the code of the program they run)

Examples:
  ashlar host add h1 --uri qemu+ssh://root@10.0.0.11/system
  ashlar plan -f cluster.yaml
  ashlar apply -f cluster.yaml
  ashlar get machines -o wide
  ashlar kubectl demo -- get nodes
  ashlar --lab demo cluster status demo";

/// Plain Linux/KVM hosts in, isolated Kubernetes clusters in virtual machines out.
#[derive(Debug, Parser)]
#[command(name = "ashlar", version, after_help = AFTER_HELP, max_term_width = 110, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Enrol, show, check and remove hosts
    #[command(subcommand)]
    Host(HostCommand),
    /// Make the world as the files say, and wait until it is
    Apply(ApplyArgs),
    /// Keep the world as the store says, for ever: the daemon
    Serve(ServeArgs),
    /// Show what would happen: per VM what, where, why and in which order; changes nothing
    Plan(PlanArgs),
    /// List objects
    Get(GetArgs),
    /// Show one object with its conditions and events
    Describe(DescribeArgs),
    /// Delete objects and what they stand for
    Delete(DeleteArgs),
    /// Explain the fields of a kind, or why a machine is where it is
    Explain(ExplainArgs),
    /// Create, show, delete, start and stop clusters; let their rollouts rest and go on
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Put another machine in a machine's place
    #[command(subcommand)]
    Machine(MachineCommand),
    /// Say what to do about clusters that Ashlar did not make: it can adopt nothing yet
    Adopt(AdoptArgs),
    /// Print the administrator's kubeconfig of a cluster, or merge it into yours
    Kubeconfig(KubeconfigArgs),
    /// Run kubectl against a cluster, through the tunnel
    Kubectl(KubectlArgs),
    /// Listen on 127.0.0.1 and forward to a cluster's API server
    Proxy(ProxyArgs),
    /// Show a machine's serial console
    Console(ConsoleArgs),
    /// Log in to a machine, through the tunnel, its host key pinned
    Ssh(SshArgs),
    /// Wait until objects are ready or gone
    Wait(WaitArgs),
    /// Show what happened
    Events(EventsArgs),
    /// Show who changed what, and prove that the record is whole
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Gather what somebody who helps would ask for about a cluster, in one file, without secrets
    SupportBundle(SupportBundleArgs),
    /// Change the key that seals the secrets, and say which it is
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Copy the store, and put a copy in its place
    #[command(subcommand)]
    Store(StoreCommand),
    /// List the copies of clusters' etcd, prove that they are good, and get them out
    #[command(subcommand)]
    EtcdSnapshot(EtcdSnapshotCommand),
    /// Show networks, and who holds what of them
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Make, show and remove a pool of hosts out of this machine
    #[command(subcommand)]
    Lab(LabCommand),
    /// Build, list, inspect and remove node images
    #[command(subcommand)]
    Image(ImageCommand),
    /// A lab with one real cluster: what `make cluster` and `make down` run
    #[command(subcommand)]
    Demo(DemoCommand),
    /// Install the system packages that Ashlar needs on this machine
    Setup(SetupArgs),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// For Ashlar's own use
    #[command(subcommand, hide = true)]
    Internal(InternalCommand),
}

impl Command {
    /// Whether the command talks to hosts: against a lab it then runs in the lab's control namespace.
    pub(crate) fn needs_hosts(&self) -> bool {
        match self {
            Command::Host(command) => !matches!(command, HostCommand::List | HostCommand::Show(_)),
            Command::Cluster(command) => !matches!(
                command,
                ClusterCommand::List
                    | ClusterCommand::Status(_)
                    | ClusterCommand::Pause(_)
                    | ClusterCommand::RotateKubeconfig(_)
            ),
            Command::Machine(_) => true,
            Command::Apply(args) => !args.store_only,
            Command::Delete(args) => !args.store_only,
            Command::Plan(args) => !args.offline,
            Command::Kubectl(_)
            | Command::Proxy(_)
            | Command::Console(_)
            | Command::Ssh(_)
            | Command::SupportBundle(_)
            | Command::Serve(_)
            | Command::Internal(_) => true,
            _ => false,
        }
    }
}
