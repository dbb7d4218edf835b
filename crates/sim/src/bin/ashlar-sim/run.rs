//! `run`: one seed.

use anyhow::bail;
use ashlar_sim::adversary::{run_seed, shrink};
use clap::Args;

use crate::{SizeName, ThemeName, options, tell_broken};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The seed
    #[arg(long)]
    seed: u64,
    /// Size of the world, instead of the one that the seed draws
    #[arg(long)]
    size: Option<SizeName>,
    /// Print the story as a scenario, not what happens in it; a broken one as short as it can be
    #[arg(long)]
    scenario: bool,
    /// Leave a broken story as long as it is
    #[arg(long)]
    whole: bool,
    /// What all stories are about, besides what their seeds draw
    #[arg(long)]
    about: Vec<ThemeName>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = options(arguments.size, &arguments.about);
    match run_seed(arguments.seed, &options) {
        Ok(story) => {
            let lines = if arguments.scenario { &story.script } else { &story.trace };
            for line in lines {
                println!("{line}");
            }
            if !arguments.scenario {
                println!(
                    "seed {}: {} hosts, up to {} machines, {} effects, {} kills, {} virtual s, {} idle ticks; digest {}",
                    story.seed,
                    story.hosts,
                    story.machines,
                    story.effects,
                    story.crashes,
                    story.virtual_s,
                    story.idle_ticks,
                    story.digest
                );
            }
            Ok(())
        }
        Err(broken) => {
            let broken = if arguments.whole { *broken } else { shrink(&broken, &options) };
            if arguments.scenario {
                print!("{}", broken.scenario());
            } else {
                tell_broken(&broken);
            }
            bail!("seed {}: {}", broken.seed, broken.what)
        }
    }
}
