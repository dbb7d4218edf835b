//! The simulated fleet: how long many clusters take from nothing until Ready, what a pass costs when nothing is to be
//! done or hosts are lost, and how fast the simulation is. The measuring program is `ashlar-sim measure`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use super::facts;
use super::program::{cargo, output_of, target_dir};
use super::table::Table;

/// `cargo xtask bench fleet`
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Clusters of one control plane and two workers; half as many are measured too, to see what grows faster
    #[arg(long, default_value_t = 1000)]
    clusters: u32,
    /// So many clusters as well; 0 leaves them out
    #[arg(long, default_value_t = 10_000)]
    many: u32,
    /// Hosts of the fleet that is up, with 20 machines each; half as many are measured too
    #[arg(long, default_value_t = 1000)]
    hosts: u32,
    /// Seeds of the adversary with 20 hosts and up to 100 machines; 0 leaves them out
    #[arg(long, default_value_t = 20)]
    seeds: u32,
    /// Where stores are made: on the disk that is to be measured
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// Machines of one cluster in the fleet that is up.
const MACHINES: u32 = 20;
/// Nodes that share one host while clusters are brought up.
const NODES_OF_HOST: u32 = 50;
/// Of twenty hosts one is lost.
const LOST: u32 = 20;

/// The measuring program, and where it works.
pub(super) struct Bench {
    program: PathBuf,
    directory: PathBuf,
}

impl Bench {
    /// Builds what measures, and says on what it is measured.
    pub(super) fn new(options: &Options) -> Result<Self> {
        cargo(&["build", "--quiet", "--release", "--package", "ashlar-sim", "--bin", "ashlar-sim"])?;
        let target = target_dir()?;
        let directory = options.directory.clone().unwrap_or_else(|| target.clone());
        println!(
            "store     SQLite, WAL, synchronous FULL, in {}; the world is simulated, in one thread",
            show(&directory)
        );
        println!("growth    time for the size beside that for half of it: 2 is linear");
        Ok(Bench { program: target.join("release/ashlar-sim"), directory })
    }

    /// One measurement, in a process of its own, with a store of its own.
    fn measure(&self, arguments: &[(&str, u32)], what: &str) -> Result<Value> {
        let store = tempfile::tempdir_in(&self.directory)?;
        let mut command = Command::new(&self.program);
        command.args(["measure", what]);
        for (name, value) in arguments {
            command.arg(format!("--{name}")).arg(value.to_string());
        }
        if what != "seeds" {
            command.arg("--directory").arg(store.path());
        }
        let text = output_of(&mut command)?;
        serde_json::from_str(text.trim()).context("the measuring program printed no JSON")
    }

    fn up(&self, clusters: u32) -> Result<Value> {
        let hosts = (clusters * 3).div_ceil(NODES_OF_HOST).max(3);
        self.measure(&[("clusters", clusters), ("workers", 2), ("hosts", hosts)], "up")
    }

    fn steady(&self, hosts: u32) -> Result<Value> {
        let lost = (hosts / LOST).max(1);
        self.measure(
            &[("hosts", hosts), ("clusters", hosts), ("workers", MACHINES - 1), ("lost", lost)],
            "steady",
        )
    }
}

/// By itself.
pub(crate) fn run(options: &Options) -> Result<()> {
    facts::print_machine();
    let bench = Bench::new(options)?;
    let mut table = Table::new(&COLUMNS);
    bench.rows_of_clusters(options, &mut table)?;
    bench.rows_of_hosts(options, &mut table)?;
    bench.rows_of_seeds(options, &mut table)?;
    print!("{table}");
    Ok(())
}

/// Headings of the rows of this bench, and of those beside which they stand.
pub(super) const COLUMNS: [&str; 6] = ["WHAT", "SIZE", "TIME", "BAR", "GROWTH", "MORE"];

fn show(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn number(value: &Value, pointer: &str) -> f64 {
    value.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

fn growth(half: &Value, whole: &Value, pointer: &str) -> String {
    format!("{:.2}", number(whole, pointer) / number(half, pointer))
}

impl Bench {
    /// P2; gives the clusters a second of the largest size that the bar of 15 s is for.
    pub(super) fn rows_of_clusters(&self, options: &Options, table: &mut Table) -> Result<f64> {
        if options.clusters == 0 {
            return Ok(f64::NAN);
        }
        let mut rows = vec![(options.clusters / 2, "-"), (options.clusters, "15 s")];
        if options.many > 0 {
            rows.push((options.many, "180 s, 1 GiB"));
        }
        let mut before: Option<(u32, Value)> = None;
        let mut per_s = f64::NAN;
        for (clusters, bar) in rows {
            let found = self.up(clusters)?;
            let grown = before.as_ref().filter(|(half, _)| half * 2 == clusters);
            table.push(vec![
            "P2 clusters of 3 nodes Ready".to_owned(),
            format!("{clusters} on {} hosts", number(&found, "/hosts")),
            format!("{:.1} s", number(&found, "/seconds")),
            bar.to_owned(),
            grown.map_or_else(|| "-".to_owned(), |(_, half)| growth(half, &found, "/seconds")),
            format!(
                "{:.1} s of a processor, {:.0} MiB, {} passes, {} commits, {} calls, {:.0} events/s, {} virtual s",
                number(&found, "/processor_s"),
                number(&found, "/peak_mib"),
                number(&found, "/passes"),
                number(&found, "/commits"),
                number(&found, "/calls"),
                number(&found, "/events_per_s"),
                number(&found, "/virtual_s")
            ),
        ]);
            if clusters == options.clusters {
                per_s = f64::from(clusters) / number(&found, "/seconds");
            }
            before = Some((clusters, found));
        }
        Ok(per_s)
    }

    /// P9, and passes with nothing to do.
    pub(super) fn rows_of_hosts(&self, options: &Options, table: &mut Table) -> Result<()> {
        if options.hosts < 2 {
            return Ok(());
        }
        let (half, whole) = (self.steady(options.hosts / 2)?, self.steady(options.hosts)?);
        let size = format!("{} hosts, {} machines", number(&whole, "/hosts"), number(&whole, "/machines"));
        let lost = number(&whole, "/many/hosts");
        let mut row = |what: &str, pointer: &str, bar: &str, more: String| {
            table.push(vec![
                what.to_owned(),
                size.clone(),
                format!("{:.1} ms", number(&whole, pointer)),
                bar.to_owned(),
                growth(&half, &whole, pointer),
                more,
            ]);
        };
        let commits = |pointer: &str| format!("{} commits", number(&whole, pointer));
        row("pass with nothing to do, new process", "/first_pass_ms", "-", commits("/commits"));
        row(
            "pass with nothing to do",
            "/pass_ms",
            "-",
            format!("{}, {:.0} MiB at most", commits("/commits"), number(&whole, "/peak_mib")),
        );
        row("  planning alone", "/planning_ms", "-", String::new());
        row("one host silent: pass", "/one/silence_ms", "-", commits("/one/silence_commits"));
        row("  planning alone", "/one/silence_planning_ms", "-", String::new());
        row(&format!("{lost} hosts silent: pass"), "/many/silence_ms", "-", commits("/many/silence_commits"));
        row("  planning alone", "/many/silence_planning_ms", "20 ms", "silence decides nothing".to_owned());
        let placed =
            |loss: &str| format!("{} machines placed anew", number(&whole, &format!("/{loss}/placed")));
        row("one host given up: planning alone", "/one/planning_ms", "-", placed("one"));
        row(
            &format!("P9 {lost} hosts given up: planning alone"),
            "/many/planning_ms",
            "20 ms",
            format!("{}; checking {:.1} ms", placed("many"), number(&whole, "/many/check_ms")),
        );
        row("  planned, checked, committed", "/many/durable_ms", "100 ms", commits("/many/commits"));
        Ok(())
    }

    /// P12.
    pub(super) fn rows_of_seeds(&self, options: &Options, table: &mut Table) -> Result<()> {
        if options.seeds == 0 {
            return Ok(());
        }
        let found = self.measure(&[("count", options.seeds)], "seeds")?;
        let size = format!("{} hosts, {} machines", number(&found, "/hosts"), number(&found, "/machines"));
        let broken = found.pointer("/broken").map(Value::to_string).unwrap_or_default();
        let more = format!(
            "{} seeds, {} calls and commits, broken: {broken}",
            number(&found, "/seeds"),
            number(&found, "/effects")
        );
        let row = |what: &str, rate: &str, bar: &str, more: &str| {
            vec![
                what.to_owned(),
                size.clone(),
                rate.to_owned(),
                bar.to_owned(),
                "-".to_owned(),
                more.to_owned(),
            ]
        };
        let virtual_s = format!("{:.0}/s", number(&found, "/virtual_s_per_core_s"));
        table.push(row("P12 virtual seconds, of one core", &virtual_s, "10000/s", &more));
        let rate = format!("{:.1}/s", number(&found, "/seeds_per_core_s"));
        table.push(row("P12 seeds, of one core", &rate, "30/s", ""));
        Ok(())
    }
}
