//! One module per noun: settings and arguments in, an exit code out.

mod cluster;
mod describe;
mod explain;
mod get;
mod image;
mod lab;
mod setup;
mod wait;

pub(crate) use lab::no_such_lab;

use std::panic;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};
use crate::failure::{Exit, Failure, Result};
use crate::settings::Settings;

/// Runs the program.
pub(crate) fn main() -> Exit {
    panic::set_hook(Box::new(|_| {}));
    panic::catch_unwind(run).unwrap_or(Exit::Internal)
}

fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_answer = !error.use_stderr();
            // Nobody is left to be told when the terminal is gone.
            let _ = error.print();
            return if is_answer { Exit::Success } else { Exit::Failure };
        }
    };
    let settings = match Settings::resolve(cli.global) {
        Ok(settings) => settings,
        Err(failure) => {
            let printer = crate::output::Printer::new(crate::output::Verbosity::Normal, false);
            printer.failure(&failure);
            return failure.exit;
        }
    };
    let printer = settings.printer.clone();
    let bug = printer.clone();
    panic::set_hook(Box::new(move |info| {
        bug.failure(&Failure::internal(format!("Ashlar met a state that it thought impossible: {info}")));
    }));
    match command(&settings, cli.command) {
        Ok(exit) => exit,
        Err(failure) => {
            printer.failure(&failure);
            failure.exit
        }
    }
}

fn command(settings: &Settings, command: Command) -> Result {
    match command {
        Command::Get(args) => get::get(settings, &args),
        Command::Describe(args) => describe::describe(settings, &args),
        Command::Explain(args) => explain::explain(settings, &args),
        Command::Wait(args) => wait::wait(settings, &args),
        Command::Events(args) => wait::events(settings, &args),
        Command::Lab(command) => lab::lab(settings, command),
        Command::Image(command) => image::image(settings, command),
        Command::Setup(args) => setup::setup(settings, &args),
        Command::Version => settings.printer.line(format!("ashlar {}", env!("CARGO_PKG_VERSION"))),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "ashlar", &mut script);
            settings.printer.data(|out| out.write_all(&script))
        }
    }
}
