//! `ashlar host`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::EngineArgs;

/// `ashlar host …`
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Enrol a host: probe it, prove how it runs VMs, record its storage pools
    Add(Box<HostAddArgs>),
    /// Enrol the hosts of the lab that --lab names, those that are not yet
    #[command(after_help = "Examples:\n  ashlar lab up try --hosts 3\n  ashlar --lab try host add-lab")]
    AddLab(HostAddLabArgs),
    /// List hosts: what they offer, what is claimed and free; with `-o wide`, how many machines of each class still fit
    List,
    /// Show one host
    Show(HostNameArgs),
    /// Place no new machine on a host; those that are there stay
    Cordon(HostNameArgs),
    /// Empty a host: its machines are moved alive, or replaced by new ones elsewhere where they cannot be
    Drain(HostDrainArgs),
    /// Turn a host off that does not answer, or say that it is off: its machines are replaced by new ones elsewhere
    #[command(after_help = "\
A host that does not answer may run its VMs all the same, so that Ashlar starts nothing in their place without a proof.
By what its spec.fencing names (its BMC, a command) it is turned off, and seen to be off twice:

  ashlar host fence h3

A host that lost all of its power takes its BMC with it. Look that it is really off, then:

  ashlar host fence h3 --confirm-powered-off

Control planes leave etcd one at a time, as its majority allows, and nodes are deleted, so that Kubernetes moves pods
and volumes. An only control plane stays: what is in its etcd is nowhere else. The proof ends with the host's first
answer; what is left there of replaced machines is removed then, and the host stays cordoned until `host uncordon`.")]
    Fence(HostFenceArgs),
    /// Place machines on a host again, and end its emptying
    Uncordon(HostNameArgs),
    /// Give up a host that holds nothing of ours
    Remove(HostRemoveArgs),
    /// Check what a host needs for clusters: versions, accelerator, storage speed, time, firewall
    Check(HostCheckArgs),
}

/// `ashlar host add-lab`
#[derive(Debug, Args)]
pub(crate) struct HostAddLabArgs {
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `ashlar host add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar host add h1 --uri qemu+ssh://root@10.0.0.11/system --ssh-key ~/.ssh/id_ed25519 \\
      --ssh-host-key 'ssh-ed25519 AAAA…'
  ashlar host add h2 --uri qemu+ssh://root@10.0.0.12/system --known-hosts ~/.ssh/known_hosts --zone a --pool images

The host key is pinned. Get it over a way that you trust; without one of the two options, known_hosts of the
user is looked at, and an unknown host is refused.")]
pub(crate) struct HostAddArgs {
    /// Name
    pub(crate) name: String,
    /// qemu+ssh://USER@ADDRESS[:PORT]/system
    #[arg(long)]
    pub(crate) uri: String,
    /// SSH host key to pin: `ssh-ed25519 AAAA…`
    #[arg(long, value_name = "KEY")]
    pub(crate) ssh_host_key: Option<String>,
    /// known_hosts file to take the SSH host key from
    #[arg(long, value_name = "FILE", conflicts_with = "ssh_host_key")]
    pub(crate) known_hosts: Option<PathBuf>,
    /// SSH private key to log in with
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key: Option<PathBuf>,
    /// Storage pools to enrol, by libvirt's name; each becomes (or joins) a StoragePool object
    #[arg(long = "pool", value_name = "NAME", default_value = "images")]
    pub(crate) pools: Vec<String>,
    /// Rack
    #[arg(long, default_value = "")]
    pub(crate) rack: String,
    /// Zone; becomes the nodes' topology.kubernetes.io/zone
    #[arg(long, default_value = "")]
    pub(crate) zone: String,
    /// Memory kept for the host itself, such as 4Gi
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) reserved_memory: Option<ashlar_api::Mebibytes>,
    /// vCPUs promised per hardware thread
    #[arg(long, value_name = "N")]
    pub(crate) cpu_overcommit: Option<u32>,
    #[command(flatten)]
    pub(crate) fencing: FencingArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// How a host is turned off that does not answer.
#[derive(Debug, Args)]
pub(crate) struct FencingArgs {
    /// Name or address of the host's BMC, which turns it off by IPMI when it does not answer
    #[arg(long, value_name = "ADDRESS", requires_all = ["ipmi_username", "ipmi_password_file"])]
    pub(crate) ipmi_address: Option<String>,
    /// UDP port of the BMC
    #[arg(long, value_name = "PORT", requires = "ipmi_address")]
    pub(crate) ipmi_port: Option<u16>,
    /// User of the BMC
    #[arg(long, value_name = "NAME", requires = "ipmi_address")]
    pub(crate) ipmi_username: Option<String>,
    /// File with the user's password, on this machine; the password itself is never stored
    #[arg(long, value_name = "FILE", requires = "ipmi_address")]
    pub(crate) ipmi_password_file: Option<PathBuf>,
    /// Command that turns the host off when it does not answer, as a fence agent does: `/usr/sbin/fence_apc --plug={host}
    /// --action={action}`
    #[arg(long, value_name = "COMMAND", conflicts_with = "ipmi_address")]
    pub(crate) fence_command: Option<String>,
    /// Turn it off by itself once it was silent for so long, such as 5m; without it only `host fence` does
    #[arg(long, value_name = "TIME", value_parser = super::parse_duration)]
    pub(crate) fence_after: Option<std::time::Duration>,
}

/// One host.
#[derive(Debug, Args)]
pub(crate) struct HostNameArgs {
    /// Name
    pub(crate) name: String,
}

/// `ashlar host check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar host check          all hosts
  ashlar host check h1 h2    these")]
pub(crate) struct HostCheckArgs {
    /// Names; none means all hosts
    pub(crate) names: Vec<String>,
}

/// `ashlar host drain`
#[derive(Debug, Args)]
#[command(after_help = "\
Before it asks it says of each machine whether it moves alive, and to which host; or is replaced, and why (another
zone or rack, CPU, QEMU; dedicated CPUs, huge pages; a disk that is not Ashlar's); or what holds it up. With --yes it
neither asks nor looks first; with --dry-run it shows that, and the plan, and does nothing.

Machines that can go on elsewhere as they are move alive, one at a time, with what their disks hold: their nodes are
not drained. What passes between the hosts is not encrypted. Others are replaced as in a rollout, pods as far as
PodDisruptionBudgets allow, and their disks are deleted. Control planes go one at a time, and give up the leadership
of etcd first. `ashlar plan` shows what is left to do while it is under way; `ashlar host uncordon` ends it: what has
begun is finished.

Examples:
  ashlar host drain h1 --dry-run        what would become of each of its machines
  ashlar host drain h1                  for maintenance; then `ashlar host uncordon h1`
  ashlar host drain h1 --replace        new machines elsewhere for all of its own")]
pub(crate) struct HostDrainArgs {
    /// Name
    pub(crate) name: String,
    /// Move none alive: replace all of its machines by new ones elsewhere
    #[arg(long)]
    pub(crate) replace: bool,
    /// Only show each machine's fate and the plan (with `-o json` or `-o yaml`: as data); nothing is written
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `ashlar host fence`
#[derive(Debug, Args)]
pub(crate) struct HostFenceArgs {
    /// Name
    pub(crate) name: String,
    /// You have seen that it is off: nobody turns it off
    #[arg(long)]
    pub(crate) confirm_powered_off: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `ashlar host remove`
#[derive(Debug, Args)]
pub(crate) struct HostRemoveArgs {
    /// Name
    pub(crate) name: String,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
