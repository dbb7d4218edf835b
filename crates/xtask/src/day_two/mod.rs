//! `cargo xtask test-day-two`: what breaks under a running cluster, and what `ashlar serve` makes of it.
//!
//! Two lab hosts, one control plane and two workers; real libvirt, kubeadm and kubelets, emulated. Judged by what the API
//! server and the hosts say, not by Ashlar's own store; times are printed.

mod fleet;
mod moved;
mod replaced;
mod stages;
mod told;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use fleet::Fleet;

/// `cargo xtask test-day-two`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Binary under test
    #[arg(long, default_value = "target/release/ashlar")]
    ashlar: PathBuf,
    /// Name of the lab and of the cluster
    #[arg(long, default_value = "daytwo")]
    name: String,
    /// Node image [default: the newest in the cache]
    #[arg(long)]
    image: Option<String>,
    /// Run only these stages (in their order; the cluster is made in any case)
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
    /// Work on the lab and cluster that an earlier run with --keep left
    #[arg(long)]
    reuse: bool,
}

type Stage = (&'static str, &'static str, fn(&mut Fleet) -> Result<()>);

/// In order.
const STAGES: &[Stage] = &[
    ("killed", "a worker's QEMU is killed: the same node comes back", stages::killed),
    (
        "hung",
        "the same, while the other host's libvirtd is frozen: it is brought back no later for that",
        stages::killed_beside_a_hung_host,
    ),
    (
        "ailing",
        "a static pod is gone, and a kubelet is silent while no controller manager runs: both told, and nobody is replaced",
        told::ailing,
    ),
    (
        "drifted",
        "a taint, an edited and a removed definition are put right under a running worker",
        told::drifted,
    ),
    (
        "corrupted",
        "a worker's disk is overwritten: another worker takes its place under a new name",
        stages::corrupted,
    ),
    ("plain", "one worker more, and fewer again: what replacements are measured by", stages::plain),
    (
        "replaced",
        "a person replaces a worker: its pods' budget lets none go, which is said, and once it does all goes on",
        replaced::replaced,
    ),
    (
        "powerless",
        "a host freezes and loses its power: nothing is started in its place before a person says so, then its worker is replaced",
        stages::powerless,
    ),
    (
        "drained",
        "a host is emptied: the only control plane and workers move alive, under a ping and under writes to the API",
        moved::drained,
    ),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mut fleet = Fleet::new(&options.ashlar, &options.name)?;
    let outcome = play(&mut fleet, options, begin);
    if let Err(error) = &outcome {
        println!("test-day-two: FAILED after {}: {error:#}", seconds(begin.elapsed()));
        fleet.keep_evidence();
    }
    fleet.daemon = None;
    if !options.keep {
        fleet.context.take_lab_down()?;
    }
    outcome?;
    println!("test-day-two: passed in {}", seconds(begin.elapsed()));
    Ok(())
}

fn play(fleet: &mut Fleet, options: &Options, begin: Instant) -> Result<()> {
    if !options.reuse {
        fleet.create(options.image.as_deref())?;
        println!("test-day-two cluster: Ready after {}", seconds(begin.elapsed()));
    }
    fleet.find()?;
    fleet.serve()?;
    for (name, what, stage) in STAGES {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        println!("test-day-two {name}: {what}");
        let start = Instant::now();
        stage(fleet)?;
        println!(
            "test-day-two {name}: ok ({}, {} since the start)",
            seconds(start.elapsed()),
            seconds(begin.elapsed())
        );
    }
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
