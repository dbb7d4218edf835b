//! Structured logs, to stderr: systemd's journal takes them from there.

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::cli::LogFormat;
use crate::failure::{Failure, Result};

/// Sets what is logged from now on.
pub(super) struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logs {
    /// Starts logging; once for each process.
    pub(super) fn start(format: LogFormat, filter: &str) -> Result<Logs> {
        let (filter, handle) = reload::Layer::new(parse(filter)?);
        let registry = tracing_subscriber::registry().with(filter);
        let started = match format {
            LogFormat::Text => registry
                .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false))
                .try_init(),
            LogFormat::Json => registry
                .with(
                    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr),
                )
                .try_init(),
        };
        started.map_err(|error| Failure::internal(format!("logging cannot be started: {error}")))?;
        Ok(Logs { filter: handle })
    }

    pub(super) fn set(&self, filter: &str) -> Result<()> {
        self.filter.reload(parse(filter)?).map_err(Failure::from)
    }
}

fn parse(filter: &str) -> Result<EnvFilter> {
    filter.parse::<EnvFilter>().map_err(|error| Failure::new(format!("log: {error}")))
}
