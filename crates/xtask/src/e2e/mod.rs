//! The end-to-end test: a real lab, real libvirt, real kubeadm; everything through the `ashlar` binary, and judged by
//! what lies on the host and what the API server says, not by Ashlar's own store.

mod canary;
mod checks;
pub(crate) mod context;
pub(crate) mod daemon;
mod failure;
mod identity;
mod kills;
mod needles;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;

use context::Context;

/// `cargo xtask e2e`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Binary under test
    #[arg(long, default_value = "target/debug/ashlar")]
    ashlar: PathBuf,
    /// Name of the lab and of the cluster
    #[arg(long, default_value = "e2e")]
    name: String,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
    /// Run only these checks (in their order; the cluster is made in any case)
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<String>,
    /// Create the cluster in one go, without kills
    #[arg(long)]
    no_kills: bool,
    /// Work on the lab and cluster that an earlier run with --keep left
    #[arg(long)]
    reuse: bool,
    /// Only list the checks
    #[arg(long)]
    list: bool,
}

type Check = (&'static str, &'static str, fn(&mut Context) -> Result<()>);

/// In order: later ones use what earlier ones made.
const CHECKS: &[Check] = &[
    (
        "foreign",
        "a foreign domain and volume of our names are refused by name and left alone",
        checks::foreign_things,
    ),
    (
        "create",
        "a cluster comes up although `ashlar` is killed at six points of its creation",
        kills::create_with_kills,
    ),
    (
        "kubernetes",
        "nodes and kube-system pods are Ready; a pod on the worker reaches a Service by name",
        checks::kubernetes,
    ),
    (
        "fixpoint",
        "a second run changes nothing within 5 s, and makes no changing libvirt call",
        checks::fixpoint,
    ),
    ("seed", "no seed and no join token is left after the join", checks::no_seed_left),
    ("canary", "keys, tokens and passwords are found nowhere, and a planted one is", canary::search),
    (
        "daemon",
        "`ashlar serve` brings back a worker that virsh undefined; killed in the middle of a cold reboot, it goes on: same addresses, machine ids and host keys",
        daemon::heals,
    ),
    (
        "failure",
        "nodes that fail are reported with phase, cause and lines: an image without what it needs, too little memory, a tap cut off the bridge; a second command meanwhile says who works",
        failure::of_nodes,
    ),
    ("delete", "after delete nothing of the cluster is left on the host", checks::delete),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for (name, what, _) in CHECKS {
            println!("{name:<12} {what}");
        }
        return Ok(());
    }
    for name in &options.only {
        let is_known = CHECKS.iter().any(|(known, _, _)| known == name);
        ensure!(is_known, "there is no check {name}; `cargo xtask e2e --list` shows them");
    }
    let mut context = Context::new(&options.ashlar, &options.name)?;
    context.kills = !options.no_kills;
    let chosen = |name: &str| {
        let is_made = options.reuse && ["foreign", "create"].contains(&name);
        let is_wanted = options.only.is_empty() || options.only.iter().any(|only| only == name);
        !is_made && (is_wanted || name == "create")
    };
    let (mut passed, mut failed) = (0, Vec::new());
    let begin = Instant::now();
    if !options.reuse {
        context.fresh_lab()?;
    }
    for (name, what, check) in CHECKS.iter().filter(|(name, _, _)| chosen(name)) {
        let start = Instant::now();
        println!("e2e {name}: {what}");
        match check(&mut context) {
            Ok(()) => {
                passed += 1;
                println!("e2e {name}: ok ({})", seconds(start.elapsed()));
            }
            Err(error) => {
                failed.push(*name);
                println!("e2e {name}: FAILED ({}): {error:#}", seconds(start.elapsed()));
                context.keep_evidence(name);
                if *name == "create" {
                    break;
                }
            }
        }
    }
    if !options.keep {
        context.take_lab_down()?;
    }
    println!("e2e: {passed} passed, {} failed in {}", failed.len(), seconds(begin.elapsed()));
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
