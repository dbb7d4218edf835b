//! `ashlar secrets`

use clap::{Args, Subcommand};

/// `ashlar secrets …`
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Seal this installation's secrets with another key; nobody may work meanwhile
    #[command(after_help = "\
Each secret has a data key of its own, and this command changes the key that seals those. First every
data key is sealed with the new key too; then the new key becomes the installation's, in one step;
then the old seals go. Whatever cuts that off, every secret opens with the key that is the
installation's at that moment, and the same command again finishes it.

Copies of the store that were made before need the old key, and so do copies of clusters' etcd: keep
it where they are kept, as long as they are. Where somebody had the old key and a copy of the store,
--data-keys makes data keys anew, too; what they read stays read: rotate that itself.

Where the store is in etcd, other machines learn of the change by themselves, and need the new key
from you; daemons there are started anew with it.

Examples:
  ashlar secrets rotate                                      the default key file, by a new one
  ashlar secrets rotate --new-key file:/etc/ashlar/key-2
  ashlar secrets rotate --new-key passphrase --data-keys
  ashlar secrets rotate --key file:/etc/ashlar/key-2 --new-key 'command:tpm2_unseal -c 0x81000001'
  ashlar secrets rotate --data-keys --key credential:ashlar  data keys only")]
    Rotate(SecretsRotateArgs),
    /// Say which key seals the secrets, how many there are, and when that was changed
    Status,
}

/// `ashlar secrets rotate`
#[derive(Debug, Args)]
pub(crate) struct SecretsRotateArgs {
    /// Where the new key comes from, as --key says where the present one does [default: a new default key file]
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) new_key: Option<String>,
    /// Make data keys anew, too
    #[arg(long)]
    pub(crate) data_keys: bool,
}
