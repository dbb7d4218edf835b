//! `ashlar serve`

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `ashlar serve`
#[derive(Debug, Args)]
#[command(after_help = "\
It holds the store's engine lock: there is one for each store. With a store in etcd there may be
several, on as many machines: one leads, the others stand by, and one of them takes over within 5 s.
Other commands find it, declare what they are asked to, and watch it until it is done. SIGTERM ends
it after the calls under way; SIGHUP reads --config anew and connects to the hosts again.
/healthz, /readyz and /metrics are answered on the socket and on --listen.

Examples:
  ashlar serve                                        in the foreground, as a systemd unit runs it
  ashlar serve --listen 127.0.0.1:9477 --log-format json
  ashlar serve --config /etc/ashlar/serve.yaml        log, period, retryBlockedAfter, stopGrace, uploadHosts,
                                                      etcdSnapshots (packaging/serve.yaml has all with their defaults)
  curl --unix-socket /var/lib/ashlar/run/daemon.sock http://ashlar/readyz")]
pub(crate) struct ServeArgs {
    /// YAML file with what can be changed while it runs
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Unix socket for commands, probes and figures [default: run/daemon.sock in the state directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// This daemon's name among those that share a store in etcd [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Also answer probes and figures here; an address of this machine alone
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// How log lines look
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}
