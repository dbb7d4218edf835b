//! The command line, as clap sees it: names, types and help. Nothing is decided here; `settings` resolves it.

mod cluster;
mod demo;
mod global;
mod host;
mod image;
mod lab;
mod objects;
mod reach;

pub(crate) use cluster::*;
pub(crate) use demo::*;
pub(crate) use global::*;
pub(crate) use host::*;
pub(crate) use image::*;
pub(crate) use lab::*;
pub(crate) use objects::*;
pub(crate) use reach::*;

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
    /// List objects
    Get(GetArgs),
    /// Show one object with its conditions and events
    Describe(DescribeArgs),
    /// Explain the fields of a kind, or why a machine is where it is
    Explain(ExplainArgs),
    /// Wait until objects are ready or gone
    Wait(WaitArgs),
    /// Show what happened
    Events(EventsArgs),
    /// Make, show and remove a pool of hosts out of this machine
    #[command(subcommand)]
    Lab(LabCommand),
    /// Build, list, inspect and remove node images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Install the system packages that Ashlar needs on this machine
    Setup(SetupArgs),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}
