//! Developer tasks: `cargo xtask COMMAND`.

mod app;
mod bench;
mod cargo;
mod ci;
mod day_two;
mod e2e;
mod example;
mod ha;
mod hosts;
mod nodes;
mod pool;
mod sim;
mod upgrade;
mod writer;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a developer of Ashlar runs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ashlar beside what a person would use in its place, in one run
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Every check there is, stage by stage: what `make test` runs
    Ci(ci::Options),
    /// One real cluster in a lab of its own: made with kills in the middle, used, rebooted, deleted
    E2e(e2e::Options),
    /// The adversary: random worlds in which everything goes wrong that can
    Sim(sim::Options),
    /// What breaks under a running cluster on two lab hosts, and what the daemon makes of it
    TestDayTwo(day_two::Options),
    /// The README's pool example, applied to a lab of three hosts
    TestExample(example::Options),
    /// Three control planes on three lab hosts; the one that holds the API's address is killed
    TestHa(ha::Options),
    /// Two clusters of two Kubernetes versions on three lab hosts; one is lost and deleted while the other is written to
    TestPool(pool::Options),
    /// A cluster goes to the next minor version while its API is written to
    TestUpgrade(upgrade::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(bench) => bench::run(&bench),
        Command::Ci(options) => ci::run(&options),
        Command::E2e(options) => e2e::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::TestDayTwo(options) => day_two::run(&options),
        Command::TestExample(options) => example::run(&options),
        Command::TestHa(options) => ha::run(&options),
        Command::TestPool(options) => pool::run(&options),
        Command::TestUpgrade(options) => upgrade::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Not by `Debug`: a backtrace of this program would hide what the program it ran had to say.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
