//! `ashlar host`

mod add;
mod check;
mod list;

pub(crate) use add::{enrol, test_image};

use ashlar_api::Kind;
use ashlar_engine::enrol as engine_enrol;

use crate::cli::{DescribeArgs, HostCommand, HostRemoveArgs};
use crate::commands::describe;
use crate::confirm::confirm;
use crate::failure::{Exit, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;
use crate::wiring::Session;

/// Runs a host command.
pub(crate) fn host(settings: &Settings, command: HostCommand) -> Result {
    match command {
        HostCommand::Add(args) => add::add(settings, &args),
        HostCommand::Check(args) => check::check(settings, &args),
        HostCommand::Remove(args) => remove(settings, &args),
        HostCommand::List => list::list(settings),
        HostCommand::Show(args) => {
            let args = DescribeArgs { kind: "host".to_owned(), names: vec![args.name] };
            describe::describe(settings, &args)
        }
    }
}

fn remove(settings: &Settings, args: &HostRemoveArgs) -> Result {
    Reader::open(settings)?.get(&object_ref(Kind::Host, &args.name, ""))?;
    confirm(settings, args.yes, &[format!("host {}: the image files on it, and its enrolment", args.name)])?;
    let session = Session::open(settings, &args.engine)?;
    session.block_on(async { Ok(engine_enrol::remove(&session.engine, &args.name).await?) })?;
    session.progress.finish();
    settings.printer.note(format!("host/{} removed", args.name));
    Ok(Exit::Success)
}
