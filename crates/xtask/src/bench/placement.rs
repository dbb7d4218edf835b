//! Placement and planning alone, without hosts: what the planner's own bench program measures, in release mode.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::facts;
use super::peers::{self, PeerOptions};

/// `cargo xtask bench placement`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The CoSpot traces: the archive (azure-protean-cospot.tar.xz), or the directory that it unpacks to
    #[arg(long, value_name = "PATH")]
    traces: Option<PathBuf>,
    /// Measure durable placements too, in this directory: it should be on the disk that is to be measured
    #[arg(long, value_name = "DIRECTORY")]
    durable: Option<PathBuf>,
    #[command(flatten)]
    peers: PeerOptions,
}

/// `cargo xtask bench plan`
#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    #[arg(long, default_value_t = 1000)]
    hosts: u32,
    #[arg(long, default_value_t = 200)]
    clusters: u32,
    /// Machines of each cluster, three control planes among them
    #[arg(long, default_value_t = 15)]
    machines: u32,
}

/// Placements a second in a synthetic pool, beside OpenStack placement and Ganeti's hspace where they are installed; first
/// fit, best fit and Ashlar on the traces.
pub(crate) fn placement(options: &Options) -> Result<()> {
    facts::print_machine();
    bench(&["pool".to_owned()])?;
    match &options.durable {
        Some(directory) => run("ashlar-engine", "durable_placement", &[directory.display().to_string()])?,
        None => println!("durable   not measured: name a directory with --durable"),
    }
    peers::print(&options.peers)?;
    let Some(path) = &options.traces else {
        println!("traces    not replayed: name them with --traces");
        return Ok(());
    };
    let unpacked = tempfile::tempdir()?;
    let directory = if path.is_dir() { path.clone() } else { unpack(path, unpacked.path())? };
    println!("traces    {}", path.file_name().unwrap_or_default().to_string_lossy());
    bench(&["traces".to_owned(), directory.display().to_string()])
}

/// A plan for a big pool, and one that has nothing to do; the same for a quarter and half of it, to see what grows faster
/// than the pool.
pub(crate) fn plan(options: &PlanOptions) -> Result<()> {
    facts::print_machine();
    let sizes = [options.hosts, options.clusters, options.machines].map(|size| size.to_string());
    bench(&[&["plan".to_owned()], sizes.as_slice()].concat())
}

fn unpack(archive: &Path, into: &Path) -> Result<PathBuf> {
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(into).status().context("tar")?;
    ensure!(status.success(), "tar could not unpack {}", archive.display());
    let directory = into.join("azure-protean-cospot");
    ensure!(directory.join("batched").is_dir(), "{} holds no traces as expected", archive.display());
    Ok(directory)
}

fn bench(arguments: &[String]) -> Result<()> {
    run("ashlar-plan", "placement", arguments)
}

fn run(package: &str, example: &str, arguments: &[String]) -> Result<()> {
    let status = crate::cargo::cargo()
        .args(["run", "--quiet", "--release", "--package", package, "--example", example, "--"])
        .args(arguments)
        .status()
        .context("cargo")?;
    ensure!(status.success(), "the bench ended with {status}: one of its checks failed");
    Ok(())
}
