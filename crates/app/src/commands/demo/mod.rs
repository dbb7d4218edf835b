//! `ashlar demo`: what `make cluster` and `make down` run.

mod objects;
mod up;

pub(crate) use up::cluster;

use ashlar_lab::Lab;

use crate::cli::{DemoCommand, DemoDownArgs};
use crate::commands::lab;
use crate::failure::Result;
use crate::settings::Settings;

/// Runs a demo command.
pub(crate) fn demo(settings: &Settings, command: DemoCommand) -> Result {
    match command {
        DemoCommand::Up(args) => up::up(settings, &args),
        DemoCommand::Down(args) => down(settings, &args),
    }
}

/// The lab goes with all that is in it; images stay in the cache.
fn down(settings: &Settings, args: &DemoDownArgs) -> Result {
    let done = lab::down(settings, &Lab::new(&args.name)?)?;
    settings.printer.note(format!(
        "images and build stages stay in {}; `ashlar image remove` removes them",
        settings.cache_dir.display()
    ));
    Ok(done)
}
