//! `ashlar lab` and `ashlar setup`

use std::ffi::OsString;

use clap::{Args, Subcommand, ValueEnum};

/// `ashlar lab …`
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Bring a lab up, or make it complete
    #[command(after_help = "Examples:\n  ashlar lab up --hosts 3\n  ashlar lab up mine --hosts 1")]
    Up {
        #[command(flatten)]
        lab: LabNameArgs,
        /// Number of hosts
        #[arg(long, default_value_t = 1)]
        hosts: u16,
    },
    /// Take a lab down: no process, mount, namespace, cgroup or file is left
    Down {
        #[command(flatten)]
        lab: LabNameArgs,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Show what of a lab is there
    Status(LabNameArgs),
    /// What becomes of a host: its power is cut or comes back, or it freezes and thaws
    #[command(
        after_help = "Examples:\n  ashlar lab power off --on h2       everything in it dies at once, its disks stay\n  ashlar lab power on --on h2\n  ashlar lab power freeze --on h2    nothing in it goes on, and nobody gets an answer\n  ashlar lab power thaw --on h2"
    )]
    Power {
        /// What happens to it
        #[arg(value_enum, value_name = "WHAT")]
        what: PowerChange,
        #[command(flatten)]
        lab: LabNameArgs,
        /// Host (h1, h2, …)
        #[arg(long = "on", value_name = "HOST")]
        host: String,
    },
    /// A shell inside: on a host, or where commands against the lab run
    #[command(
        after_help = "Examples:\n  ashlar lab shell --on h1      on the host h1: virsh list, ls /var/lib/libvirt/images\n  ashlar lab shell              where `ashlar` commands against the lab run"
    )]
    Shell {
        #[command(flatten)]
        lab: LabNameArgs,
        #[command(flatten)]
        place: PlaceArgs,
    },
    /// Run a program inside: on a host, or where commands against the lab run
    #[command(after_help = "Examples:\n  ashlar lab exec --on h1 -- virsh list --all")]
    Exec {
        #[command(flatten)]
        lab: LabNameArgs,
        #[command(flatten)]
        place: PlaceArgs,
        /// Program and arguments, after --
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// What happens to a host.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PowerChange {
    On,
    Off,
    Freeze,
    Thaw,
}

/// Which lab.
#[derive(Debug, Args)]
pub(crate) struct LabNameArgs {
    /// Name [default: that of --lab, else lab]
    pub(crate) name: Option<String>,
}

/// Where inside a lab.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Host (h1, h2, …); without it, the control namespace
    #[arg(long = "on", value_name = "HOST")]
    pub(crate) host: Option<String>,
}

/// `ashlar setup`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar setup            install what is missing for labs and image builds
  ashlar setup --check    only say what is missing (exit code 1 if anything is)
  ashlar setup --tests    also what the tests need")]
pub(crate) struct SetupArgs {
    /// Only say what is missing
    #[arg(long)]
    pub(crate) check: bool,
    /// Also what the tests need
    #[arg(long)]
    pub(crate) tests: bool,
}
