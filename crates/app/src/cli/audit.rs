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
    /// Go on with a record whose end is in doubt, once you have looked
    #[command(after_help = "\
Where lines are missing at the end of the record, or the note beside it that says how long it was is missing or not ours,
nothing is recorded any more, and so nothing is done. Look first: `ashlar audit verify` says what is whole, and a backup has
what is missing. This command records what was wrong and who accepted it, and notes how long the record is now. To begin a
new one instead, stop what works here and move audit.jsonl and audit.head elsewhere together.

Examples:
  ashlar audit accept")]
    Accept(AuditAcceptArgs),
}

/// `ashlar audit accept`
#[derive(Debug, Args)]
pub(crate) struct AuditAcceptArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
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
