//! How far the peer came, and what that cost.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Options;
use super::build::{CAPI, KUBERNETES};
use super::drive::Driven;

/// Linux counts processor time in these for programs, whatever the kernel's own clock.
const TICKS_PER_S: f64 = 100.0;

/// What a process used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    name: String,
    cpu_s: f64,
    peak_mib: u64,
}

impl Usage {
    /// Of a process that still runs.
    pub(super) fn of(name: &str, pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("{name} has ended: its log says why"))?;
        // The name in parentheses may hold anything; user and system time are the 14th and 15th field.
        let (_, rest) = stat.rsplit_once(')').context("stat of a process")?;
        let ticks: u64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak_kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
            .context("VmHWM of a process")?;
        Ok(Usage { name: name.to_owned(), cpu_s: ticks as f64 / TICKS_PER_S, peak_mib: peak_kib / 1024 })
    }
}

/// How far it came.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    wanted: usize,
    submitted: usize,
    /// Clusters that became Available, all three nodes Ready.
    pub(crate) available: usize,
    machines_running: usize,
    pub(crate) elapsed_s: f64,
    /// When the half of those that came had come.
    half_s: f64,
    in_flight: usize,
    qps: u32,
    concurrency: u32,
    usage: Vec<Usage>,
}

impl Report {
    pub(super) fn new(options: &Options, driven: Driven, machines_running: usize, usage: Vec<Usage>) -> Self {
        let half = driven.available.get(driven.available.len() / 2).copied().unwrap_or(Duration::ZERO);
        Report {
            wanted: options.clusters,
            submitted: driven.submitted,
            available: driven.available.len(),
            machines_running,
            elapsed_s: driven.elapsed.as_secs_f64(),
            half_s: half.as_secs_f64(),
            in_flight: options.in_flight,
            qps: options.qps,
            concurrency: options.concurrency,
            usage,
        }
    }

    /// Clusters of three nodes a second.
    pub(crate) fn clusters_per_s(&self) -> f64 {
        self.available as f64 / self.elapsed_s
    }

    /// What it is, with its versions.
    pub(crate) fn name() -> String {
        format!("Cluster API in-memory {CAPI}, Kubernetes {KUBERNETES}")
    }

    /// As `bench fleet` prints it, beside so many clusters a second of Ashlar's.
    pub(crate) fn row(&self, ours_per_s: f64) -> Vec<String> {
        let (cpu_s, mib) = self.cpu_and_memory();
        let rate = self.clusters_per_s();
        vec![
            format!("  beside {}", Self::name()),
            format!("{} of {}", self.available, self.wanted),
            format!("{:.0} s", self.elapsed_s),
            "-".to_owned(),
            "-".to_owned(),
            format!(
                "{rate:.2} clusters/s, of which Ashlar does {:.0} times as many; {cpu_s:.0} s of CPU, {mib} MiB",
                ours_per_s / rate
            ),
        ]
    }

    /// All processes together.
    pub(crate) fn cpu_and_memory(&self) -> (f64, u64) {
        let cpu_s = self.usage.iter().map(|usage| usage.cpu_s).sum();
        (cpu_s, self.usage.iter().map(|usage| usage.peak_mib).sum())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu_s, mib) = self.cpu_and_memory();
        writeln!(f, "{}", Self::name())?;
        writeln!(
            f,
            "          {} of {} clusters of 3 nodes available, {} machines running, after {:.0} s: {:.2} clusters/s (half of them \
             after {:.0} s); {} submitted",
            self.available,
            self.wanted,
            self.machines_running,
            self.elapsed_s,
            self.clusters_per_s(),
            self.half_s,
            self.submitted
        )?;
        writeln!(
            f,
            "          {} at a time, {} requests/s for each manager, {} objects of a kind at a time; {:.0} s of CPU, {mib} MiB at most",
            self.in_flight, self.qps, self.concurrency, cpu_s
        )?;
        for usage in &self.usage {
            writeln!(
                f,
                "          {:<16} {:>7.1} s of CPU  {:>6} MiB",
                usage.name, usage.cpu_s, usage.peak_mib
            )?;
        }
        Ok(())
    }
}
