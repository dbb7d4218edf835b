//! `ashlar etcd-snapshot`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `ashlar etcd-snapshot …`
#[derive(Debug, Subcommand)]
pub(crate) enum EtcdSnapshotCommand {
    /// List the copies, whose they are, and the key that each of them needs
    #[command(after_help = "\
They lie in INSTALLATION/NAMESPACE/CLUSTER/UID/TIME, those of before in NAMESPACE/CLUSTER/TIME.
A copy may be called NAMESPACE/CLUSTER/TIME where only one is called so; where several clusters
have the name, the table has whole names, as -o name always has.

Examples:
  ashlar etcd-snapshot list
  ashlar etcd-snapshot list --config /etc/ashlar/serve.yaml    wherever the daemon puts them
  ashlar etcd-snapshot list --directory /mnt/copies")]
    List(EtcdSnapshotPlace),
    /// Open copies, and prove that they are whole and have all that a restore needs
    #[command(after_help = "\
Every chunk of the files opens, their digests are those of the manifest, etcd's own digest fits
the database, and each secret beside it opens. Nothing is written. The key is that of when the
copy was taken (--key; where `secrets rotate` replaced the default key file, the one that it kept
is found).

Examples:
  ashlar etcd-snapshot verify                              all
  ashlar etcd-snapshot verify default/prod/20261129T180000Z
  ashlar etcd-snapshot verify ./20261129T180000Z.json      where only its three files are")]
    Verify(EtcdSnapshotVerifyArgs),
    /// Decrypt a copy into a new directory; needs its three files and the key, and no store
    #[command(after_help = "\
The directory gets etcd.db (for `etcdutl snapshot restore`), objects.json, copy.json (of which
cluster, node and when, and which versions), vault.json and installation. The secrets in
objects.json stay sealed; --secrets writes the cluster's CAs and keys beside them, too. All of it
is for its owner alone; what is not whole is not left there.

Examples:
  ashlar etcd-snapshot extract default/prod/20261129T180000Z --to /root/prod
  ashlar etcd-snapshot extract ./20261129T180000Z.json --to /root/prod --secrets
  ashlar etcd-snapshot extract ./20261129T180000Z.json --to /root/prod --key file:/root/old-key")]
    Extract(EtcdSnapshotExtractArgs),
}

/// Where copies lie.
#[derive(Debug, Args)]
pub(crate) struct EtcdSnapshotPlace {
    /// The daemon's settings: the place is where they put copies [default: etcd-snapshots in the state directory]
    #[arg(long, value_name = "FILE", conflicts_with = "directory")]
    pub(crate) config: Option<PathBuf>,
    /// A directory with copies in it
    #[arg(long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// `ashlar etcd-snapshot verify`
#[derive(Debug, Args)]
pub(crate) struct EtcdSnapshotVerifyArgs {
    /// Copies, by the names that `list` shows or by one of their files; all of them unless some are named
    #[arg(value_name = "COPY")]
    pub(crate) copies: Vec<String>,
    #[command(flatten)]
    pub(crate) place: EtcdSnapshotPlace,
}

/// `ashlar etcd-snapshot extract`
#[derive(Debug, Args)]
pub(crate) struct EtcdSnapshotExtractArgs {
    /// The copy, by the name that `list` shows or by one of its files
    pub(crate) copy: String,
    /// Directory to make
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Write the cluster's CAs and keys in the clear, too
    #[arg(long)]
    pub(crate) secrets: bool,
    #[command(flatten)]
    pub(crate) place: EtcdSnapshotPlace,
}
