//! `ashlar cluster create` beside `bench/create.sh`, which does the same with virsh and kubeadm: in turn, on the same lab
//! host, with the same image, sizes and settings; how long each takes until both nodes are Ready, and where the time goes.

mod marks;
mod report;
mod scene;
mod settings;
mod sides;
mod watch;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::facts;
use super::program::Program;
use report::Round;
use scene::Scene;

/// `cargo xtask bench create`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds; each is Ashlar, then the script
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Binary under test [default: the release build of this tree]
    #[arg(long)]
    ashlar: Option<PathBuf>,
    /// Node image of the cache [default: the newest one]
    #[arg(long)]
    image: Option<String>,
    /// When the script boots the worker's VM: with the control plane's, or when the API answers
    #[arg(long, value_enum, default_value_t = WorkerStart::Now)]
    worker_start: WorkerStart,
    /// kubectl for the script [default: that of the PATH, else the one built with the node image]
    #[arg(long)]
    kubectl: Option<PathBuf>,
    /// Name of the lab; one of that name is taken away first
    #[arg(long, default_value = "bench-create")]
    lab: String,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
    /// How long each side may take, in minutes
    #[arg(long, default_value_t = 40)]
    timeout_min: u32,
}

/// When the script boots the worker's VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkerStart {
    /// With the control plane's
    Now,
    /// When the API answers
    Api,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let ashlar = Program::find(options.ashlar.as_deref())?;
    facts::print(&ashlar);
    let scene = Scene::set(&ashlar, options)?;
    let measured = rounds(&scene, options);
    if options.keep || measured.is_err() {
        println!("lab {} stays up; `ashlar lab down {0}` takes it away", scene.lab.name);
    } else {
        scene.lab.down()?;
    }
    report::print(&measured?);
    Ok(())
}

fn rounds(scene: &Scene, options: &Options) -> Result<Vec<Round>> {
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        println!("round {number} of {}: ashlar", options.rounds);
        scene.read_image()?;
        let ashlar = sides::create_with_ashlar(scene)?;
        let ashlar_settings = settings::of_ashlar(scene)?;
        let ashlar_deleted = sides::delete_with_ashlar(scene)?;
        println!("round {number} of {}: script", options.rounds);
        scene.read_image()?;
        let script = sides::create_with_script(scene)?;
        let script_settings = settings::of_script(scene)?;
        let script_deleted = sides::delete_with_script(scene)?;
        if number == 1 {
            settings::print_difference(&ashlar_settings, &script_settings);
        }
        let round = Round { ashlar, script, ashlar_deleted, script_deleted };
        report::print_round(number, &round);
        rounds.push(round);
    }
    Ok(rounds)
}
