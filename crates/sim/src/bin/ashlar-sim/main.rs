//! Runs seeds of the simulated world: `cargo xtask sim`.

mod measure;
mod run;
mod search;
mod seeds;

use std::process::ExitCode;

use ashlar_sim::adversary::{Broken, Options, Size, Theme};
use clap::{Parser, Subcommand, ValueEnum};

/// The adversary.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One seed, told line by line; the same seed gives the same digest
    Run(run::Arguments),
    /// Many seeds: goes on where an earlier search ended
    Search(search::Arguments),
    /// What it costs, as JSON: see `cargo xtask bench fleet`
    #[command(subcommand)]
    Measure(measure::Measure),
}

/// Size of all worlds.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SizeName {
    Tiny,
    Small,
    Medium,
    Large,
}

impl From<SizeName> for Size {
    fn from(name: SizeName) -> Self {
        match name {
            SizeName::Tiny => Size::Tiny,
            SizeName::Small => Size::Small,
            SizeName::Medium => Size::Medium,
            SizeName::Large => Size::Large,
        }
    }
}

/// What all stories are about, besides what their seeds draw.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ThemeName {
    HostLoss,
    TwoDaemons,
}

impl From<ThemeName> for Theme {
    fn from(name: ThemeName) -> Self {
        match name {
            ThemeName::HostLoss => Theme::HostLoss,
            ThemeName::TwoDaemons => Theme::TwoDaemons,
        }
    }
}

fn options(size: Option<SizeName>, about: &[ThemeName]) -> Options {
    let themes = about.iter().copied().map(Theme::from).collect();
    Options { size: size.map(Size::from), themes, ..Options::default() }
}

/// The commit that this was built from, as `cargo xtask sim` knows it.
fn commit() -> String {
    std::env::var("ASHLAR_COMMIT").unwrap_or_else(|_| "unknown".to_owned())
}

/// Everything that is needed to see it again.
fn tell_broken(broken: &Broken) {
    println!("seed {} breaks a promise (commit {})", broken.seed, commit());
    println!("{}\n", broken.what);
    println!("--- the story as a scenario");
    print!("{}", broken.scenario());
    println!("--- what happens in it");
    for line in &broken.trace {
        println!("{line}");
    }
    println!("--- {}", broken.what);
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Search(arguments) => search::search(&arguments),
        Command::Measure(measure) => measure::measure(&measure),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Not by `Debug`: a backtrace of this program says nothing about the seed.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
