//! `ashlar audit`

use clap::{Args, Subcommand};

/// `ashlar audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the record: who changed what, when and why
    #[command(after_help = "\
Examples:
  ashlar audit list --last 20
  ashlar audit list --object machine/default/prod-wkr-2
  ashlar audit list -o json | jq 'select(.deed == \"failed\")'")]
    List(AuditListArgs),
    /// Prove that no line of the record was changed, removed, added or moved
    #[command(after_help = "\
Every line holds the digest of the line before it; how long the record was is noted sealed, beside it. Exit code 1, and
the number of the line, where it is not whole. The digest that is printed, kept elsewhere, proves later that nothing
before it was changed, even by somebody who has the key.")]
    Verify,
}

/// `ashlar audit list`
#[derive(Debug, Args)]
pub(crate) struct AuditListArgs {
    /// Only the last so many lines
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// Only lines that name this object: kind/name or kind/namespace/name
    #[arg(long, value_name = "OBJECT")]
    pub(crate) object: Option<String>,
}
