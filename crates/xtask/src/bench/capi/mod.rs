//! Cluster API's in-memory provider, the peer of P2: its four managers with a real kube-apiserver and etcd, all of them
//! in a network and a process namespace of their own, so that nothing binds to the machine's network or outlives the bench.

mod build;
mod docker;
mod drive;
mod install;
mod report;
mod servers;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::facts;
pub(super) use report::Report;

/// `cargo xtask bench capi`
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Clusters of one control plane and two workers to bring up
    #[arg(id = "peer-clusters", long, value_name = "N", default_value_t = 1000)]
    clusters: usize,
    /// It gets so long
    #[arg(long = "peer-minutes", value_name = "MINUTES", default_value_t = 15.0)]
    minutes: f64,
    /// Clusters that are coming up at one moment
    #[arg(long = "peer-in-flight", value_name = "N", default_value_t = 20)]
    in_flight: usize,
    /// Requests a second that each manager may send; bursts of twice as many
    #[arg(long = "peer-qps", value_name = "N", default_value_t = 1000)]
    qps: u32,
    /// Objects of a kind that each manager works on at one moment
    #[arg(long = "peer-concurrency", value_name = "N", default_value_t = 100)]
    concurrency: u32,
    /// Keeps the logs here
    #[arg(long = "peer-logs", value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
    /// Already in namespaces of its own; writes its report here
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// By itself.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(report) = &options.inside {
        return inside(options, report);
    }
    facts::print_machine();
    print!("{}", measure(options)?);
    Ok(())
}

/// Builds what is not built, and measures in namespaces of its own.
pub(super) fn measure(options: &Options) -> Result<Report> {
    build::programs()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("report.json");
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe()?)
        .args(["bench", "capi", "--inside"])
        .arg(&file)
        .args(["--peer-clusters", &options.clusters.to_string()])
        .args(["--peer-minutes", &options.minutes.to_string()])
        .args(["--peer-in-flight", &options.in_flight.to_string()])
        .args(["--peer-qps", &options.qps.to_string()])
        .args(["--peer-concurrency", &options.concurrency.to_string()]);
    if let Some(logs) = &options.logs {
        std::fs::create_dir_all(logs)?;
        command.arg("--peer-logs").arg(std::fs::canonicalize(logs)?);
    }
    let status = command.status().context("unshare cannot be run (package util-linux)")?;
    ensure!(status.success(), "Cluster API's in-memory provider could not be measured: see above");
    let text = std::fs::read_to_string(&file).context("it left no report")?;
    Ok(serde_json::from_str(&text)?)
}

fn inside(options: &Options, report: &std::path::Path) -> Result<()> {
    let programs = build::programs()?;
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("ip")?;
    ensure!(status.success(), "the loopback of the new network namespace does not come up");
    // etcd's fsync has to be a real one: /tmp may be in memory.
    let directory = tempfile::Builder::new().prefix("ashlar-capi-").tempdir_in("/var/tmp")?;
    let logs = options.logs.clone().unwrap_or_else(|| directory.path().join("logs"));
    std::fs::create_dir_all(&logs)?;
    let mut servers = servers::Servers::new(directory.path(), &logs)?;
    docker::answer(&servers.docker_socket())?;
    servers.start_store(&programs)?;
    let kubectl = servers.kubectl(&programs);
    install::definitions(&kubectl, &programs)?;
    servers.start_managers(&programs, options.qps, options.concurrency)?;
    install::webhooks(&kubectl, &programs, &servers)?;
    install::cluster_class(&kubectl, &programs)?;
    let driven = drive::drive(&kubectl, options)?;
    let machines = drive::machines_running(&kubectl)?;
    let found = report::Report::new(options, driven, machines, servers.usage()?);
    std::fs::write(report, serde_json::to_string(&found)?)?;
    Ok(())
}
