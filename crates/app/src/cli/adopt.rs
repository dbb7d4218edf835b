//! `ashlar adopt`

use clap::Args;

/// `ashlar adopt`
#[derive(Debug, Args)]
#[command(after_help = "\
It always ends with exit code 1, and changes nothing: what others made is left alone.")]
pub(crate) struct AdoptArgs {
    /// What you would have adopted
    pub(crate) names: Vec<String>,
}
