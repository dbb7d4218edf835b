//! One module per noun: settings and arguments in, an exit code out.

mod adopt;
mod apply;
mod audit;
mod cluster;
mod delete;
mod demo;
mod describe;
mod etcd_snapshot;
mod explain;
mod get;
mod host;
mod image;
mod lab;
mod machine;
mod network;
mod reach;
mod secrets;
mod setup;
mod store;
mod support_bundle;
mod wait;

pub(crate) use lab::no_such_lab;

use std::panic;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, InternalCommand};
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
    if let (Some(lab), true) = (&settings.lab, command.needs_hosts()) {
        lab::enter_control(lab)?;
    }
    match command {
        Command::Host(command) => host::host(settings, command),
        Command::Apply(args) => apply::apply(settings, &args),
        Command::Serve(args) => crate::daemon::serve(settings, &args),
        Command::Store(command) => store::store(settings, command),
        Command::Plan(args) => apply::plan(settings, &args),
        Command::Delete(args) => delete::delete(settings, &args),
        Command::Cluster(command) => cluster::cluster(settings, command),
        Command::Machine(command) => machine::machine(settings, command),
        Command::Adopt(args) => adopt::adopt(&args),
        Command::Kubeconfig(args) => reach::kubeconfig(settings, &args),
        Command::Kubectl(args) => reach::kubectl(settings, &args),
        Command::Proxy(args) => reach::proxy(settings, &args),
        Command::Console(args) => reach::console(settings, &args),
        Command::Ssh(args) => reach::ssh(settings, &args),
        Command::Demo(command) => demo::demo(settings, command),
        Command::Internal(InternalCommand::Dial { machine, port }) => reach::dial(settings, &machine, port),
        Command::Internal(InternalCommand::Smoke { cluster }) => reach::smoke(settings, &cluster),
        Command::Internal(InternalCommand::DemoCluster(args)) => demo::cluster(settings, &args),
        Command::Get(args) => get::get(settings, &args),
        Command::Describe(args) => describe::describe(settings, &args),
        Command::Explain(args) => explain::explain(settings, &args),
        Command::Wait(args) => wait::wait(settings, &args),
        Command::Events(args) => wait::events(settings, &args),
        Command::SupportBundle(args) => support_bundle::support_bundle(settings, &args),
        Command::Secrets(command) => secrets::secrets(settings, &command),
        Command::Audit(command) => audit::audit(settings, &command),
        Command::EtcdSnapshot(command) => etcd_snapshot::etcd_snapshot(settings, &command),
        Command::Network(command) => network::network(settings, command),
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
