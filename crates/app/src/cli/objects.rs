//! Commands on objects of any kind.

use std::path::PathBuf;

use clap::Args;

/// Files that objects are read from.
#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// YAML or JSON file, directory, or - for stdin; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub(crate) filename: Vec<PathBuf>,
    /// Also read directories inside directories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
}

/// How to meet another `ashlar` that is working in the same state directory.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Do not wait for another ashlar that is working here: say who it is and exit with 1
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Hosts that get image files at the same time, each one file
    #[arg(long, env = "ASHLAR_UPLOAD_HOSTS", hide_env_values = true, value_name = "N", default_value_t = UPLOAD_HOSTS,
        value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) upload_hosts: u16,
}

/// Enough to fill a link, and few enough for the first to be done soon.
const UPLOAD_HOSTS: u16 = 4;

impl Default for EngineArgs {
    fn default() -> Self {
        EngineArgs { no_wait: false, upload_hosts: UPLOAD_HOSTS }
    }
}

/// What a change may do at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Only {
    /// Labels, taints and add-ons: no machine is made, replaced, removed, started or stopped
    InPlace,
}

/// `ashlar apply`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar apply -f cluster.yaml              write the objects, then work until the world is as they say
  ashlar apply -f pool/ --dry-run           what would be written and done; nothing is
  ashlar apply -f - --store-only < x.yaml   write the objects and stop there
  ashlar apply -f cluster.yaml --only in-place   refuse it if any machine would be made, replaced or removed")]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// Show what would be written and done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write the objects and stop: nothing is made or changed outside the store
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) store_only: bool,
    /// Refuse the whole file if it takes more than changes where things run: nothing is written then
    #[arg(long, value_name = "HOW", value_enum, conflicts_with_all = ["dry_run", "store_only"])]
    pub(crate) only: Option<Only>,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `ashlar plan`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar plan                    what is left to do for what is in the store
  ashlar plan -f cluster.yaml    as if the file had been applied
  ashlar plan --offline          without asking the hosts: all that is decided counts as not made yet
  ashlar plan -o json            for programs")]
pub(crate) struct PlanArgs {
    /// YAML or JSON file, directory, or - for stdin; may be given several times
    #[arg(short, long = "filename", value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Also read directories inside directories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Do not ask hosts and clusters
    #[arg(long)]
    pub(crate) offline: bool,
}

/// `ashlar get`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar get machines
  ashlar get hosts,pools -o wide
  ashlar get machine demo-ctrl-1 -o yaml
  ashlar get volumes -l ashlar.dev/cluster=demo
  ashlar get all -A

Kinds (short names): hosts, storagepools (pools), networks (net), images, machineclasses (classes), secrets,
clusters, workergroups (wg), machines (m), volumes (vol), events (ev); `all` is every kind but events.")]
pub(crate) struct GetArgs {
    /// Kind, several kinds with commas, KIND/NAME, or all
    #[arg(value_name = "KIND")]
    pub(crate) kinds: String,
    /// Names; without any, all objects are listed
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Only objects with these labels: key=value, key!=value, key, !key; several with commas
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Leave the headings out
    #[arg(long)]
    pub(crate) no_headers: bool,
}

/// `ashlar describe`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar describe machine demo-ctrl-1
  ashlar describe cluster/demo")]
pub(crate) struct DescribeArgs {
    /// Kind, or KIND/NAME
    pub(crate) kind: String,
    /// Names; without any, all objects of the kind
    pub(crate) names: Vec<String>,
}

/// `ashlar delete`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar delete cluster demo         shows what will be destroyed, asks, then works until it is gone
  ashlar delete -f cluster.yaml --yes
  ashlar delete machine demo-wkr-2   a worker that failed is made anew")]
pub(crate) struct DeleteArgs {
    /// Kind, or KIND/NAME
    #[arg(required_unless_present = "filename", conflicts_with = "filename")]
    pub(crate) kind: Option<String>,
    /// Names
    pub(crate) names: Vec<String>,
    /// Delete the objects that these files name
    #[arg(short, long = "filename", value_name = "FILE")]
    pub(crate) filename: Vec<PathBuf>,
    /// Also read directories inside directories
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Record that the objects are to go, and stop: nothing is destroyed yet
    #[arg(long)]
    pub(crate) store_only: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `ashlar explain`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar explain cluster                       the fields of a Cluster
  ashlar explain cluster.spec.controlPlane     one field and what is in it
  ashlar explain machine demo-ctrl-1           why it is on its host, and what is being done with it")]
pub(crate) struct ExplainArgs {
    /// Kind, or kind.field.path
    #[arg(value_name = "KIND[.FIELD]")]
    pub(crate) path: String,
    /// Name of a machine: why it is where it is
    pub(crate) name: Option<String>,
}

/// `ashlar wait`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar wait cluster/demo --for ready --timeout 30m
  ashlar wait machine demo-wkr-1 --for condition=NodeReady
  ashlar wait cluster/demo --for gone

It only watches: it needs another ashlar that works, such as an `apply` in another terminal.")]
pub(crate) struct WaitArgs {
    /// Kind, or KIND/NAME
    pub(crate) kind: String,
    /// Names
    pub(crate) names: Vec<String>,
    /// What to wait for: ready, gone, or condition=TYPE[=STATUS]
    #[arg(long = "for", value_name = "WHAT", default_value = "ready")]
    pub(crate) until: String,
}

/// `ashlar events`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ashlar events
  ashlar events --about machine/demo-ctrl-1
  ashlar events --follow")]
pub(crate) struct EventsArgs {
    /// Only events about this object: KIND/NAME
    #[arg(long, value_name = "KIND/NAME")]
    pub(crate) about: Option<String>,
    /// Events of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only warnings
    #[arg(long)]
    pub(crate) warnings: bool,
    /// Go on with new ones until Ctrl-C
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
}
