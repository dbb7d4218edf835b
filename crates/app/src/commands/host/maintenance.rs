//! `ashlar host cordon`, `drain` and `uncordon`.

use ashlar_api::{DrainBy, Kind};
use ashlar_engine::{Goal, Scope, declare};
use futures::executor::block_on;

use crate::cli::HostDrainArgs;
use crate::commands::apply::report;
use crate::confirm::confirm;
use crate::failure::{Exit, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;
use crate::wiring::{Worker, open_store, record_wish};

/// Only a wish: whoever places machines sees it in the next pass.
pub(super) fn cordon(settings: &Settings, name: &str) -> Result {
    let host = object_ref(Kind::Host, name, "");
    Reader::open(settings)?.get(&host)?;
    let store = open_store(settings)?;
    record_wish(settings, "cordon", [&host])?;
    block_on(declare::cordon_host(store.as_ref(), name))?;
    settings.printer.note(format!(
        "host {name}: no new machine is placed there; `{} host uncordon {name}` ends that",
        settings.command_prefix()
    ));
    Ok(Exit::Success)
}

pub(super) fn uncordon(settings: &Settings, name: &str) -> Result {
    let host = object_ref(Kind::Host, name, "");
    Reader::open(settings)?.get(&host)?;
    let store = open_store(settings)?;
    record_wish(settings, "uncordon", [&host])?;
    block_on(declare::uncordon_host(store.as_ref(), name))?;
    settings.printer.note(format!("host {name}: machines may be placed there again"));
    Ok(Exit::Success)
}

pub(super) fn drain(settings: &Settings, args: &HostDrainArgs) -> Result {
    let name = &args.name;
    let host = object_ref(Kind::Host, name, "");
    let reader = Reader::open(settings)?;
    reader.get(&host)?;
    confirm(
        settings,
        args.yes,
        &[if args.replace {
            format!(
                "host {name}: each machine on it with its disks, once another one elsewhere has its place"
            )
        } else {
            format!(
                "host {name}: each machine on it that cannot be moved alive, with its disks, once another one elsewhere has its place; \
                 of others the disks here, once they are elsewhere"
            )
        }],
    )?;
    let worker = Worker::open(settings, &args.engine)?;
    record_wish(settings, "drain", [&host])?;
    let by = if args.replace { DrainBy::Replacement } else { DrainBy::Migration };
    block_on(declare::drain_host(worker.store(), name, by))?;
    let done = worker.run(settings, &Scope::All, &Goal::HostEmptied(name.clone()))?;
    report(settings, &done);
    settings.printer.note(format!(
        "host {name} is empty and stays cordoned; `{} host uncordon {name}` takes it back",
        settings.command_prefix()
    ));
    Ok(Exit::Success)
}
