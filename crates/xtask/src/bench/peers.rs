//! Other schedulers on the same sort of pool: OpenStack placement and Ganeti's hspace, where they are installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use super::program::{output_of, root};

/// Which peers, and how big.
#[derive(Debug, Args)]
pub(crate) struct PeerOptions {
    /// Python that has OpenStack placement (of a virtualenv); by default, `python3`
    #[arg(long, value_name = "PYTHON", default_value = "python3")]
    openstack: PathBuf,
    /// Hosts of the peers' pools: as many as Ashlar's has
    #[arg(long, default_value_t = 1000)]
    peer_hosts: u32,
    /// How long OpenStack placement places
    #[arg(long, default_value_t = 30)]
    peer_seconds: u32,
    /// For how many machines hspace is asked; with 1 000 hosts each takes it many seconds
    #[arg(long, default_value_t = 3)]
    peer_machines: u32,
}

/// Machines of a group, each on a host of its own.
const GROUP: u32 = 5;

#[derive(Deserialize)]
struct Placed {
    version: String,
    machines: u32,
    seconds: f64,
}

/// One row for each peer: its rate, or how to have it.
pub(crate) fn print(options: &PeerOptions) -> Result<()> {
    println!("peers     {} hosts; machines one after the other, each placed and claimed", options.peer_hosts);
    openstack(options)?;
    hspace(options)
}

fn row(what: &str, placed: &Placed, how: &str) {
    println!(
        "{:<28}{:>9.1} placements/s   {} machines in {:.1} s; {how}",
        format!("{what} {}", placed.version),
        f64::from(placed.machines) / placed.seconds,
        placed.machines,
        placed.seconds
    );
}

fn openstack(options: &PeerOptions) -> Result<()> {
    let has_it = Command::new(&options.openstack)
        .args(["-c", "import placement.wsgi"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_it {
        println!(
            "OpenStack placement         not installed: `python3 -m venv DIR && DIR/bin/pip install openstack-placement`, then \
             --openstack DIR/bin/python"
        );
        return Ok(());
    }
    let script = root().join("bench/peers/openstack_placement.py");
    let (hosts, group) = (options.peer_hosts.to_string(), GROUP.to_string());
    let text = output_of(Command::new(&options.openstack).arg(script).args([
        hosts,
        group,
        options.peer_seconds.to_string(),
    ]))?;
    let placed: Placed = serde_json::from_str(text.trim()).context("the script's answer")?;
    row(
        "OpenStack placement",
        &placed,
        "WSGI called in its own process, SQLite, groups of 5 on different hosts",
    );
    Ok(())
}

fn hspace(options: &PeerOptions) -> Result<()> {
    let Ok(version) = Command::new("hspace").arg("--version").output() else {
        println!("Ganeti hspace               not installed: `apt-get install ganeti-htools`");
        return Ok(());
    };
    let version = String::from_utf8_lossy(&version.stdout);
    let version = version.split_whitespace().last().unwrap_or_default().to_owned();
    // It has no machine-by-machine input: what one machine costs is the difference between many and one. Once for the
    // tiered allocation, which cannot be left out, and once for the standard one.
    let (few, _) = timed_hspace(options, 1)?;
    let (many, machines) = timed_hspace(options, options.peer_machines)?;
    let seconds = many.saturating_sub(few).as_secs_f64().max(0.001);
    let placed = Placed { version, machines: machines - 2, seconds };
    row("Ganeti hspace", &placed, "in memory, no anti-affinity, the time to start taken off");
    Ok(())
}

/// How long it takes, and how many machines it placed.
fn timed_hspace(options: &PeerOptions, at_most: u32) -> Result<(Duration, u32)> {
    let simulate = format!("--simulate=p,{},8388608,391168,46", options.peer_hosts);
    let length = format!("--max-length={at_most}");
    let started = Instant::now();
    let text = output_of(Command::new("hspace").args([
        &simulate,
        &length,
        "--max-cpu=4",
        "--standard-alloc=51200,32768,8",
        "--tiered-alloc=51200,32768,8",
        "--disk-template=plain",
        "--machine-readable",
    ]))?;
    let elapsed = started.elapsed();
    let count = |key: &str| -> u32 {
        text.lines()
            .filter_map(|line| line.strip_prefix(key)?.trim_matches(['=', '\'']).parse::<u32>().ok())
            .sum()
    };
    let machines = count("HTS_FIN_INST_CNT") + count("HTS_TRL_FIN_INST_CNT") + count("HTS_TRL_INST_CNT");
    ensure!(machines > 2 || at_most == 1, "hspace placed {machines} machines:\n{text}");
    Ok((elapsed, machines))
}
