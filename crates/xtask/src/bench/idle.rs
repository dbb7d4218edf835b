//! P8: what the daemon costs while nothing is to be done.
//!
//! No machine of ours can run a thousand VMs with Kubernetes in them, so the two halves are measured apart: the daemon
//! with its store over a simulated world of 100 clusters whose API servers answer, in virtual time; and the daemon as a
//! process over the domains of a real libvirt, which are off and of one cluster. What the simulated world itself takes
//! is in the first; what talking TLS to API servers takes is in neither.

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use super::facts;
use super::fleet::COLUMNS;
use super::program::{cargo, target_dir};
use super::table::Table;

/// `cargo xtask bench idle`
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Clusters of ten nodes in the simulated world
    #[arg(long, default_value_t = 100)]
    clusters: u32,
    /// Domains of the real libvirt; 0 leaves it out
    #[arg(long, default_value_t = 1000)]
    domains: u32,
    /// So long the real daemon is watched
    #[arg(long, default_value_t = 300)]
    seconds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    facts::print_machine();
    println!("{}", facts::libvirt());
    let mut table = Table::new(&COLUMNS);
    let found = simulated(options)?;
    let size =
        format!("{} clusters, {} machines, {} hosts", found["clusters"], found["machines"], found["hosts"]);
    let passes = format!("{} passes, {} commits in a virtual hour", found["passes"], found["commits"]);
    for row in rows("simulated world", &size, &found, "daemon_mib", &passes) {
        table.push(row);
    }
    if options.domains > 0 {
        let found = real(options)?;
        let size = format!("{} domains, 1 host", found["domains"]);
        let passes = format!(
            "{} passes in {} s, the longest {:.0} ms; beside it {} ssh take {:.2} %",
            found["passes"],
            found["seconds"],
            number(&found, "longest_pass_ms"),
            found["ssh_processes"],
            number(&found, "ssh_percent")
        );
        for row in rows("real libvirt", &size, &found, "rss_mib", &passes) {
            table.push(row);
        }
    }
    print!("{table}");
    Ok(())
}

fn simulated(options: &Options) -> Result<Value> {
    let store = tempfile::tempdir_in(target_dir()?)?;
    let clusters = options.clusters.to_string();
    let text = cargo(&[
        "run",
        "--quiet",
        "--release",
        "--package",
        "ashlar-sim",
        "--features",
        "counted",
        "--bin",
        "ashlar-sim",
        "--",
        "measure",
        "idle",
        "--clusters",
        &clusters,
        "--directory",
        &store.path().display().to_string(),
    ])?;
    serde_json::from_str(text.trim()).context("the measuring program printed no JSON")
}

fn real(options: &Options) -> Result<Value> {
    let (domains, seconds) = (options.domains.to_string(), options.seconds.to_string());
    let text = cargo(&[
        "run",
        "--quiet",
        "--release",
        "--package",
        "ashlar-libvirt",
        "--example",
        "one_host",
        "--",
        "idle",
        &domains,
        &seconds,
    ])?;
    let last = text.lines().last().context("the bench program printed no report")?;
    serde_json::from_str(last).context("the bench program printed no JSON")
}

fn rows(world: &str, size: &str, found: &Value, memory: &str, passes: &str) -> Vec<Vec<String>> {
    let judged = |value: f64, most: f64| if value <= most { "held" } else { "LOST" };
    let row = |what: String, value: f64, unit: &str, most: f64, more: &str| {
        let bar = format!("{most}{unit}");
        let more = format!("{}; {more}", judged(value, most));
        vec![what, size.to_owned(), format!("{value:.2}{unit}"), bar, "-".to_owned(), more]
    };
    let of_what = if memory == "rss_mib" { "resident" } else { "what the daemon holds, at most" };
    vec![
        row(
            format!("P8 idle daemon, {world}: of a core"),
            number(found, "processor_percent"),
            " %",
            0.3,
            passes,
        ),
        row(format!("P8 idle daemon, {world}: memory"), number(found, memory), " MiB", 60.0, of_what),
    ]
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_says_so() {
        let found = serde_json::json!({"processor_percent": 0.4, "rss_mib": 59.96});
        let rows: Vec<String> = rows("real libvirt", "3 domains", &found, "rss_mib", "9 passes")
            .iter()
            .map(|row| row.join("|"))
            .collect();
        assert_eq!(
            rows,
            [
                "P8 idle daemon, real libvirt: of a core|3 domains|0.40 %|0.3 %|-|LOST; 9 passes",
                "P8 idle daemon, real libvirt: memory|3 domains|59.96 MiB|60 MiB|-|held; resident",
            ]
        );
    }
}
