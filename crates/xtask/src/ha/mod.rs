//! `cargo xtask test-ha`: three control planes on three lab hosts, and the one that holds the API's address is killed.
//!
//! Real libvirt, real kubeadm, real etcd; under software emulation in virtual time, so that it fits two cores. Judged by
//! what the API server, etcd and the hosts say, not by Ashlar's own store.

mod failover;
mod scene;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use scene::Scene;

/// What all of it may take.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// `cargo xtask test-ha`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Binary under test
    #[arg(long, default_value = "target/release/ashlar")]
    ashlar: PathBuf,
    /// Name of the lab and of the cluster
    #[arg(long, default_value = "ha")]
    name: String,
    /// Node image [default: the newest in the cache]
    #[arg(long)]
    image: Option<String>,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
    /// Work on the lab and cluster that an earlier run with --keep left
    #[arg(long)]
    reuse: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mut scene = Scene::new(&options.ashlar, &options.name)?;
    let outcome = play(&mut scene, options, begin);
    if let Err(error) = &outcome {
        println!("test-ha: FAILED after {}: {error:#}", seconds(begin.elapsed()));
        scene.context.keep_evidence("test-ha");
    }
    if !options.keep {
        scene.context.take_lab_down()?;
    }
    outcome?;
    let took = begin.elapsed();
    println!("test-ha: passed in {} (limit {})", seconds(took), seconds(LIMIT));
    ensure!(took <= LIMIT, "it took longer than {}", seconds(LIMIT));
    Ok(())
}

fn play(scene: &mut Scene, options: &Options, begin: Instant) -> Result<()> {
    if options.reuse {
        scene.find()?;
    } else {
        stage("lab", begin, || scene.lab(options.image.as_deref()))?;
        stage("cluster", begin, || scene.create())?;
    }
    stage("ready", begin, || scene.all_ready())?;
    let told = failover::kill_the_holder(scene)?;
    stage("shown", begin, || failover::shown_as_it_is(scene, &told.killed))?;
    stage("healed", begin, || scene.heal())?;
    stage("ready again", begin, || scene.all_ready())?;
    let cluster = scene.context.name.clone();
    told.writer.judge(&mut scene.context, &cluster)?;
    told.print();
    Ok(())
}

fn stage<T>(name: &str, begin: Instant, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = work()?;
    println!(
        "test-ha {name}: ok ({}, {} since the start)",
        seconds(start.elapsed()),
        seconds(begin.elapsed())
    );
    Ok(done)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
