//! `ashlar host`

mod add;
mod add_lab;
mod check;
mod fence;
mod list;
mod maintenance;

pub(crate) use add_lab::enrol_lab;

use ashlar_api::Kind;

use crate::cli::{DescribeArgs, HostCommand, HostRemoveArgs};
use crate::commands::describe;
use crate::confirm::confirm;
use crate::failure::{Exit, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;
use crate::wiring::Worker;

/// Runs a host command.
pub(crate) fn host(settings: &Settings, command: HostCommand) -> Result {
    match command {
        HostCommand::Add(args) => add::add(settings, &args),
        HostCommand::AddLab(args) => add_lab::add_lab(settings, &args),
        HostCommand::Check(args) => check::check(settings, &args),
        HostCommand::Remove(args) => remove(settings, &args),
        HostCommand::List => list::list(settings),
        HostCommand::Cordon(args) => maintenance::cordon(settings, &args.name),
        HostCommand::Uncordon(args) => maintenance::uncordon(settings, &args.name),
        HostCommand::Drain(args) => maintenance::drain(settings, &args),
        HostCommand::Fence(args) => fence::fence(settings, &args),
        HostCommand::Show(args) => {
            let args = DescribeArgs { kind: "host".to_owned(), names: vec![args.name] };
            describe::describe(settings, &args)
        }
    }
}

fn remove(settings: &Settings, args: &HostRemoveArgs) -> Result {
    Reader::open(settings)?.get(&object_ref(Kind::Host, &args.name, ""))?;
    confirm(settings, args.yes, &[format!("host {}: the image files on it, and its enrolment", args.name)])?;
    Worker::open(settings, &args.engine)?.remove_host(&args.name)?;
    settings.printer.note(format!("host/{} removed", args.name));
    Ok(Exit::Success)
}
