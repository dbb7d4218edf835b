//! P3 and P4: one lab host with real libvirt, Ashlar's engine beside virsh and Ansible.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Deserialize;

use super::facts;
use super::fleet::COLUMNS;
use super::program::cargo;
use super::table::Table;

/// `cargo xtask bench host`
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(crate) struct Options {
    /// Domains that a plan with nothing to do looks at
    #[arg(long = "host-domains", value_name = "N", default_value_t = 1000)]
    domains: usize,
    /// Machines that are made and deleted
    #[arg(long = "host-machines", value_name = "N", default_value_t = 100)]
    machines: usize,
    /// Ansible's executable, with community.libvirt (Debian's packages `ansible` and `python3-libvirt`); lab hosts do not see /root
    #[arg(long = "host-ansible", value_name = "PATH")]
    ansible: Option<PathBuf>,
}

/// What the plan with nothing to do took, and what others take to look at the same domains; medians.
#[derive(Debug, Deserialize)]
pub(super) struct Steady {
    domains: usize,
    plan_cold_ms: f64,
    plan_warm_ms: f64,
    dominfo_ms: f64,
    domstats_ms: f64,
    ansible_ms: Option<f64>,
}

/// What making and deleting machines took.
#[derive(Debug, Deserialize)]
pub(super) struct Churn {
    machines: usize,
    create_s: f64,
    delete_s: f64,
    virsh: Vec<Virsh>,
}

/// The same by virsh.
#[derive(Debug, Deserialize)]
struct Virsh {
    connections: usize,
    with_seed: bool,
    create_s: f64,
    delete_s: f64,
}

/// By itself.
pub(crate) fn run(options: &Options) -> Result<()> {
    facts::print_machine();
    println!("{}", facts::libvirt());
    check(options)?;
    let (steady, churn) = measure(options)?;
    let mut table = Table::new(&COLUMNS);
    for row in rows(&steady, &churn) {
        table.push(row);
    }
    print!("{table}");
    Ok(())
}

/// What would be found out only when everything else has been measured.
pub(super) fn check(options: &Options) -> Result<()> {
    let Some(ansible) = &options.ansible else { return Ok(()) };
    let arguments =
        ["localhost", "-m", "community.libvirt.virt", "-a", "command=list_vms uri=test:///default"];
    let output = Command::new(ansible)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {}", ansible.display()))?;
    ensure!(
        output.status.success(),
        "{} cannot ask libvirt (Debian: `ansible` and `python3-libvirt`): {}",
        ansible.display(),
        String::from_utf8_lossy(&output.stdout).trim()
    );
    Ok(())
}

/// Both, one after the other, each on a fresh lab.
pub(super) fn measure(options: &Options) -> Result<(Steady, Churn)> {
    let steady = example(&["steady", &options.domains.to_string()], options)?;
    let churn = example(&["churn", &options.machines.to_string()], options)?;
    Ok((serde_json::from_str(&steady)?, serde_json::from_str(&churn)?))
}

/// Runs the bench program of the libvirt crate in release mode; its last line is the report.
fn example(arguments: &[&str], options: &Options) -> Result<String> {
    let mut all =
        vec!["run", "--quiet", "--release", "--package", "ashlar-libvirt", "--example", "one_host", "--"];
    all.extend(arguments);
    let ansible = options.ansible.as_ref().map(|path| path.display().to_string());
    all.extend(ansible.as_deref());
    let text = cargo(&all)?;
    text.lines().last().map(str::to_owned).context("the bench program printed no report")
}

/// Ashlar's rows, each followed by those of what it stands beside. A lost bar says so.
pub(super) fn rows(steady: &Steady, churn: &Churn) -> Vec<Vec<String>> {
    let row = |what: &str, size: String, time: String, bar: &str, more: String| {
        vec![what.to_owned(), size, time, bar.to_owned(), "-".to_owned(), more]
    };
    let ms = |ms: f64| format!("{ms:.1} ms");
    let domains = || format!("{} domains", steady.domains);
    let ours = steady.plan_warm_ms;
    let judged = |ratio: f64, most: f64| if ratio <= most { "held" } else { "LOST" };
    let mut rows = vec![
        row("P3 plan with nothing to do", domains(), ms(ours), "150 ms", judged(ours, 150.0).to_owned()),
        row(
            "  in a new process's stead: store and connections opened",
            domains(),
            ms(steady.plan_cold_ms),
            "-",
            String::new(),
        ),
    ];
    let mut beside = |what: &str, took: f64| {
        rows.push(row(what, domains(), ms(took), "-", format!("Ashlar takes {:.2} times that", ours / took)));
    };
    beside("  beside virsh dominfo, one connection", steady.dominfo_ms);
    beside("  beside virsh domstats", steady.domstats_ms);
    if let Some(ansible_ms) = steady.ansible_ms {
        beside("  beside Ansible, community.libvirt.virt command=info", ansible_ms);
    }
    let machines = || format!("{} machines", churn.machines);
    for (verb, ours, of) in [
        ("create", churn.create_s, (|virsh: &Virsh| virsh.create_s) as fn(&Virsh) -> f64),
        ("delete", churn.delete_s, |virsh| virsh.delete_s),
    ] {
        let best = |with_seed: bool| {
            let runs = churn.virsh.iter().filter(|virsh| virsh.with_seed == with_seed);
            runs.min_by(|a, b| of(a).total_cmp(&of(b)))
        };
        let verdict = best(false).map_or("", |best| judged(ours / of(best), 1.15));
        rows.push(row(
            &format!("P4 {verb}"),
            machines(),
            format!("{ours:.2} s"),
            "1.15 times virsh",
            verdict.to_owned(),
        ));
        for (with_seed, what) in [(false, ""), (true, ", with seeds as Ashlar's have")] {
            let Some(best) = best(with_seed) else { continue };
            let more = format!("Ashlar takes {:.2} times that", ours / of(best));
            let what = format!("  beside virsh on {} connections{what}", best.connections);
            rows.push(row(&what, machines(), format!("{:.2} s", of(best)), "-", more));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_the_other_side_is_what_counts_and_what_is_lost_says_so() {
        let steady = Steady {
            domains: 10,
            plan_cold_ms: 300.0,
            plan_warm_ms: 100.0,
            dominfo_ms: 2000.0,
            domstats_ms: 50.0,
            ansible_ms: None,
        };
        let virsh =
            |connections, with_seed, create_s, delete_s| Virsh { connections, with_seed, create_s, delete_s };
        let runs =
            vec![virsh(8, false, 10.0, 20.0), virsh(16, false, 12.0, 10.0), virsh(8, true, 11.0, 30.0)];
        let churn = Churn { machines: 5, create_s: 11.0, delete_s: 20.0, virsh: runs };
        let rows: Vec<String> = rows(&steady, &churn).iter().map(|row| row.join("|")).collect();
        let has = |row: &str| rows.iter().any(|other| other == row);
        assert!(has("P3 plan with nothing to do|10 domains|100.0 ms|150 ms|-|held"), "{rows:?}");
        assert!(
            has("  beside virsh domstats|10 domains|50.0 ms|-|-|Ashlar takes 2.00 times that"),
            "{rows:?}"
        );
        assert!(has("P4 create|5 machines|11.00 s|1.15 times virsh|-|held"), "{rows:?}");
        assert!(
            has("  beside virsh on 8 connections|5 machines|10.00 s|-|-|Ashlar takes 1.10 times that"),
            "{rows:?}"
        );
        assert!(has("P4 delete|5 machines|20.00 s|1.15 times virsh|-|LOST"), "{rows:?}");
        assert!(!rows.iter().any(|row| row.contains("Ansible")), "{rows:?}");
    }
}
