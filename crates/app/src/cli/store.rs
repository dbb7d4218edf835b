//! `ashlar store`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `ashlar store …`
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Copy the store into a new directory, while whoever works in it goes on
    #[command(after_help = "\
The directory gets the store, the installation's identity, and what the vault needs besides its key. The key that opens
the secrets is not in it: keep it elsewhere.

Examples:
  ashlar store backup /backup/ashlar-$(date +%F)")]
    Backup {
        /// Directory to make
        directory: PathBuf,
    },
    /// Put a copy in the store's place; nobody may work meanwhile
    #[command(after_help = "\
What was there is kept beside the store. Nothing outside is changed; machines that were made after the copy are unknown to
it, and are left alone. Hosts obey whoever took them last: where the store in place says how often that was, the copy goes
on from there; where it is lost, --take-hosts does it, and another Ashlar that still works on them is shut out.

Examples:
  ashlar store restore /backup/ashlar-2026-11-28
  ashlar store restore /backup/ashlar-2026-11-28 --take-hosts    the machine with the store is lost")]
    Restore(StoreRestoreArgs),
    /// Move the store from SQLite to etcd, or back; nobody may work meanwhile
    #[command(after_help = "\
All objects are copied and compared (number and digest); then the old store gives itself up in one transaction, and is left
as it is, marked, so that nothing works on it any more. Whatever this is cut off by, one of the two is the store.
To etcd, revisions go on from where they were: what was read before is out of date, and never taken for something newer.
Back to SQLite, every object keeps its resourceVersion. The audit log stays with each machine.

FILE says where (paths in it are relative to it; the store keeps it as store.yaml in the state directory):
  endpoints: [https://10.0.0.1:2379, https://10.0.0.2:2379, https://10.0.0.3:2379]
  prefix: /ashlar                  # this is the default; each installation has its own
  ca: etcd/ca.crt
  certificate: etcd/client.crt
  key: etcd/client.key

Examples:
  ashlar store migrate --to-etcd /etc/ashlar/etcd.yaml
  ashlar store migrate --to-sqlite")]
    Migrate(StoreMigrateArgs),
    /// Work from this machine on a store that is in etcd already
    #[command(after_help = "\
Examples:
  ashlar store use /etc/ashlar/etcd.yaml     as for `store migrate`; the secrets' key is brought by other means")]
    Use {
        /// YAML file with endpoints, prefix, ca, certificate, key
        file: PathBuf,
    },
    /// Say where the store is, and which daemons lead and stand by
    Show,
    /// See whether this version of Ashlar can read all that the store holds; nothing is changed
    #[command(after_help = "\
To upgrade Ashlar: `store backup`, then the new program in place of the old one. To go back: stop the daemon, and ask the old
program. Where it can read everything it goes on from here, machines and all. Where it cannot, it is said which objects have
what it does not know: fields that are new are there only while they say something. What it cannot read it does not touch.

Examples:
  ashlar store check                               the store in place
  ashlar-0.1.0 store check                         may that version go on from here?
  ashlar store check /backup/ashlar-2026-11-28     a copy that `store backup` made")]
    Check {
        /// Directory that `store backup` made [default: the store in place]
        directory: Option<PathBuf>,
    },
}

/// `ashlar store migrate`
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct StoreMigrateArgs {
    /// From SQLite to etcd, as this YAML file says
    #[arg(long, value_name = "FILE")]
    pub(crate) to_etcd: Option<PathBuf>,
    /// From etcd to SQLite, in the state directory
    #[arg(long)]
    pub(crate) to_sqlite: bool,
}

/// `ashlar store restore`
#[derive(Debug, Args)]
pub(crate) struct StoreRestoreArgs {
    /// Directory that `store backup` made
    pub(crate) directory: PathBuf,
    /// Take the hosts over from whatever Ashlar works on them: for a copy that is put where the store was lost
    #[arg(long)]
    pub(crate) take_hosts: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}
