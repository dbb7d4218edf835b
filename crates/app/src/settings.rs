//! What the global options come to, once and for all commands.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ashlar_lab::Lab;

use crate::cli::{ColorChoice, GlobalArgs, OutputFormat};
use crate::commands::no_such_lab;
use crate::failure::{Failure, Result};
use crate::output::{Printer, Verbosity};
use crate::wiring::Opened;

/// Resolved global options.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) state_dir: PathBuf,
    pub(crate) cache_dir: PathBuf,
    pub(crate) output: OutputFormat,
    pub(crate) namespace: String,
    pub(crate) timeout: Option<Duration>,
    /// As given; read by whoever opens secrets.
    pub(crate) key: Option<String>,
    /// The clock is right, whatever the store says.
    pub(crate) trust_clock: bool,
    /// The lab that this runs against, by `--lab`.
    pub(crate) lab: Option<String>,
    lab_is_missing: bool,
    pub(crate) printer: Printer,
    /// What this process has opened once for all of its parts.
    pub(crate) opened: Arc<Opened>,
}

impl Settings {
    /// Resolves flags and environment.
    pub(crate) fn resolve(args: GlobalArgs) -> Result<Settings> {
        let verbosity = match (args.quiet, args.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, level) => Verbosity::Verbose(level),
        };
        let colored = match args.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::io::stderr().is_terminal()
            }
        };
        let lab = args.lab.filter(|name| !name.is_empty());
        let description = match &lab {
            Some(name) => Lab::new(name)?.description()?,
            None => None,
        };
        let lab_is_missing = lab.is_some() && description.is_none();
        let state_dir = match (description, args.state_dir) {
            (Some(description), _) => description.ashlar_state_dir,
            (None, Some(dir)) => dir,
            (None, None) => base_dir("/var/lib/ashlar", "XDG_DATA_HOME", ".local/share", "--state-dir")?,
        };
        let cache_dir = match args.cache_dir {
            Some(dir) => dir,
            None => base_dir("/var/cache/ashlar", "XDG_CACHE_HOME", ".cache", "--cache-dir")?,
        };
        Ok(Settings {
            state_dir: absolute(&state_dir)?,
            cache_dir: absolute(&cache_dir)?,
            output: args.output,
            namespace: args.namespace,
            timeout: args.timeout,
            key: args.key,
            trust_clock: args.trust_clock,
            lab,
            lab_is_missing,
            printer: Printer::new(verbosity, colored),
            opened: Arc::default(),
        })
    }

    /// The store's file.
    ///
    /// # Errors
    /// `--lab` names a lab that is not there.
    pub(crate) fn store_path(&self) -> Result<PathBuf> {
        match &self.lab {
            Some(lab) if self.lab_is_missing => Err(no_such_lab(lab)),
            _ => Ok(self.state_dir.join("store.db")),
        }
    }

    /// The words that name this lab or state directory in a command that the user may type next.
    pub(crate) fn command_prefix(&self) -> String {
        match &self.lab {
            Some(lab) => format!("ashlar --lab {lab}"),
            None => "ashlar".to_owned(),
        }
    }
}

/// Root's directory, or the user's by the XDG rules.
fn base_dir(root: &str, variable: &str, fallback: &str, flag: &str) -> Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from(root));
    }
    if let Some(dir) = std::env::var_os(variable).filter(|value| Path::new(value).is_absolute()) {
        return Ok(PathBuf::from(dir).join("ashlar"));
    }
    let home = home_dir().ok_or_else(|| {
        Failure::new("neither $HOME nor a directory for Ashlar is set").hint(format!("give {flag} DIR"))
    })?;
    Ok(home.join(fallback).join("ashlar"))
}

/// The user's home directory.
pub(crate) fn home_dir() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Failure::from)
}
