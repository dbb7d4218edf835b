//! Options that every command takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Directory with the store [default: /var/lib/ashlar for root, else $XDG_DATA_HOME/ashlar]
    #[arg(long, global = true, env = "ASHLAR_STATE_DIR", hide_env_values = true, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Directory with built images and build stages [default: /var/cache/ashlar for root, else $XDG_CACHE_HOME/ashlar]
    #[arg(long, global = true, env = "ASHLAR_CACHE_DIR", hide_env_values = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Run against the lab of this name: in its control namespace, with its state directory
    #[arg(long, global = true, env = "ASHLAR_LAB", hide_env_values = true, value_name = "NAME")]
    pub(crate) lab: Option<String>,
    /// How to print data
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
    /// Namespace (tenant) of the objects
    #[arg(short, long, global = true, value_name = "NAME", default_value = ashlar_api::DEFAULT_NAMESPACE)]
    pub(crate) namespace: String,
    /// Print data and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more on stderr (twice: debug, three times: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colour (NO_COLOR is obeyed)
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
    /// How long to work or wait before giving up, such as 90s or 30m
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<std::time::Duration>,
    /// Where the key that seals secrets comes from: file:PATH, command:PROGRAM ARG…, credential:NAME or passphrase
    /// [default: file:~/.config/ashlar/key, made at first use]
    #[arg(long, global = true, env = "ASHLAR_KEY", hide_env_values = true, value_name = "PROVIDER")]
    pub(crate) key: Option<String>,
    /// Work although the clock is far from what the store recorded last: it is right now, and was wrong then
    #[arg(long, global = true, hide = true)]
    pub(crate) trust_clock: bool,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns for people
    Table,
    /// More columns
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Only kind/name
    Name,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Reads `90s`, `30m`, `1h 30m`.
pub(crate) fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("`{text}` is not a time: write a number with s, m or h, as 90s or 30m");
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    std::time::Duration::try_from(span).map_err(|_| wrong())
}
