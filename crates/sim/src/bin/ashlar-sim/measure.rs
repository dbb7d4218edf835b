//! `measure`: what the simulation and a simulated fleet cost. Prints JSON, one object for each measurement: the bench
//! of the workspace makes a table of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use ashlar_sim::adversary::{Options, Size, run_seed};
use ashlar_sim::fleet::{Fleet, FleetSize, Measured, peak_mib};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::SizeName;

#[derive(Debug, Subcommand)]
pub(crate) enum Measure {
    /// Clusters of three nodes, from nothing until all are Ready, with a store on disk
    Up(Up),
    /// A fleet that is up: a pass with nothing to do, and hosts that are lost
    Steady(Steady),
    /// A fleet that is up: the daemon while nothing happens
    Idle(Idle),
    /// Seeds of the adversary, on one core
    Seeds(Seeds),
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[arg(long, default_value_t = 1000)]
    clusters: usize,
    #[arg(long, default_value_t = 2)]
    workers: usize,
    #[arg(long, default_value_t = 60)]
    hosts: usize,
    /// Where the store is made, on the disk that is to be measured
    #[arg(long)]
    directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Steady {
    #[arg(long, default_value_t = 1000)]
    hosts: usize,
    #[arg(long, default_value_t = 1000)]
    clusters: usize,
    #[arg(long, default_value_t = 19)]
    workers: usize,
    #[arg(long, default_value_t = 50)]
    lost: usize,
    /// Where the store is made, on the disk that is to be measured
    #[arg(long)]
    directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[arg(long, default_value_t = 20)]
    hosts: usize,
    #[arg(long, default_value_t = 100)]
    clusters: usize,
    #[arg(long, default_value_t = 9)]
    workers: usize,
    /// Virtual time
    #[arg(long, default_value_t = 3600)]
    seconds: u32,
    /// Where the store is made, on the disk that is to be measured
    #[arg(long)]
    directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Seeds {
    #[arg(long, default_value_t = 1)]
    first: u64,
    #[arg(long, default_value_t = 20)]
    count: u64,
    #[arg(long, default_value = "large")]
    size: SizeName,
}

pub(crate) fn measure(measure: &Measure) -> anyhow::Result<()> {
    match measure {
        Measure::Up(up) => bring_up(up),
        Measure::Steady(steady) => stay(steady),
        Measure::Idle(idle) => rest(idle),
        Measure::Seeds(seeds) => tell(seeds),
    }
}

fn bring_up(up: &Up) -> anyhow::Result<()> {
    let size = FleetSize { hosts: up.hosts, clusters: up.clusters, workers: up.workers };
    let fleet = Fleet::new(size, &up.directory.join("fleet.db"))?;
    let (engine, before) = (fleet.engine(), fleet.spent());
    let (done, took) = Measured::of(|| fleet.bring_up(&engine));
    let (summary, spent, peak) = (done?, fleet.spent(), peak_mib());
    fleet.look_at_end()?;
    let seconds = took.wall.as_secs_f64();
    println!(
        "{}",
        json!({
            "what": "up", "hosts": up.hosts, "clusters": up.clusters, "nodes": up.clusters * (1 + up.workers),
            "seconds": seconds, "processor_s": took.processor_s, "peak_mib": peak, "passes": summary.passes,
            "commits": spent.commits - before.commits, "calls": spent.calls - before.calls,
            "events": spent.events - before.events, "events_per_s": (spent.events - before.events) as f64 / seconds,
            "virtual_s": spent.virtual_s - before.virtual_s,
        })
    );
    Ok(())
}

fn stay(steady: &Steady) -> anyhow::Result<()> {
    let size = FleetSize { hosts: steady.hosts, clusters: steady.clusters, workers: steady.workers };
    let fleet = Fleet::new(size, &steady.directory.join("fleet.db"))?;
    let engine = fleet.engine();
    let (done, took) = Measured::of(|| fleet.bring_up(&engine));
    done?;
    fleet.look_at_end()?;
    let calm = fleet.steady(&engine)?;
    let one = fleet.lose(&engine, 1)?;
    let many = fleet.lose(&engine, steady.lost)?;
    let loss = |hosts: usize, loss: &ashlar_sim::fleet::Loss| {
        json!({
            "hosts": hosts, "machines": loss.machines, "silence_ms": loss.silence.ms(),
            "silence_commits": loss.silence_commits, "silence_planning_ms": ms(loss.silence_planning),
            "planning_ms": ms(loss.planning), "check_ms": ms(loss.check), "placed": loss.placed,
            "durable_ms": loss.durable.ms(), "commits": loss.commits,
        })
    };
    println!(
        "{}",
        json!({
            "what": "steady", "hosts": steady.hosts, "machines": steady.clusters * (1 + steady.workers),
            "up_s": took.wall.as_secs_f64(), "first_pass_ms": calm.first.ms(), "pass_ms": calm.again.ms(),
            "planning_ms": ms(calm.planning), "commits": calm.commits, "peak_mib": peak_mib(),
            "one": loss(1, &one), "many": loss(steady.lost, &many),
        })
    );
    Ok(())
}

fn rest(idle: &Idle) -> anyhow::Result<()> {
    let size = FleetSize { hosts: idle.hosts, clusters: idle.clusters, workers: idle.workers };
    let fleet = Fleet::new(size, &idle.directory.join("fleet.db"))?;
    fleet.bring_up(&fleet.engine())?;
    fleet.look_at_end()?;
    let found = fleet.idle(Duration::from_secs(idle.seconds.into()))?;
    println!(
        "{}",
        json!({
            "what": "idle", "hosts": idle.hosts, "clusters": idle.clusters,
            "machines": idle.clusters * (1 + idle.workers), "virtual_s": idle.seconds,
            "passes": found.passes, "commits": found.commits, "processor_s": found.took.processor_s,
            "processor_percent": 100.0 * found.took.processor_s / f64::from(idle.seconds),
            "daemon_mib": found.daemon_bytes.map(|bytes| bytes as f64 / 1_048_576.0),
        })
    );
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn tell(seeds: &Seeds) -> anyhow::Result<()> {
    let options = Options { size: Some(Size::from(seeds.size)), ..Options::default() };
    let (mut virtual_s, mut effects, mut hosts, mut machines, mut broken) = (0, 0, 0, 0, Vec::new());
    let (stories, took) = Measured::of(|| {
        (seeds.first..seeds.first + seeds.count).map(|seed| run_seed(seed, &options)).collect::<Vec<_>>()
    });
    for story in stories {
        match story {
            Ok(story) => {
                virtual_s += story.virtual_s;
                effects += story.effects;
                hosts = hosts.max(story.hosts);
                machines = machines.max(story.machines);
            }
            Err(error) => broken.push(error.seed),
        }
    }
    if took.processor_s == 0.0 {
        bail!("no processor time can be measured here");
    }
    let per_core = |count: f64| count / took.processor_s;
    println!(
        "{}",
        json!({
            "what": "seeds", "seeds": seeds.count, "hosts": hosts, "machines": machines, "broken": broken,
            "seconds": took.wall.as_secs_f64(), "processor_s": took.processor_s, "effects": effects,
            "seeds_per_core_s": per_core(seeds.count as f64),
            "virtual_s_per_core_s": per_core(i32::try_from(virtual_s).context("a long time")?.into()),
            "peak_mib": peak_mib(),
        })
    );
    Ok(())
}
