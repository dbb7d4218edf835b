//! `cargo xtask sim`: seeds of the simulated world, in an optimized build.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cargo::cargo;

/// `cargo xtask sim`
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// `run --seed N`, `search --seeds A..B --minutes M --jobs J`; `--help` says more
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds `ashlar-sim` and runs it: this crate knows none of the others.
pub(crate) fn run(options: &Options) -> Result<()> {
    let status = cargo()
        .args(["run", "--quiet", "--release", "--package", "ashlar-sim", "--bin", "ashlar-sim", "--"])
        .args(&options.arguments)
        .env("ASHLAR_COMMIT", commit())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("a promise was broken, or the search could not be run: see above");
    }
    Ok(())
}

/// What a seed is told with, so that it can be told again.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => format!("{commit} with changes"),
        _ => commit,
    }
}
