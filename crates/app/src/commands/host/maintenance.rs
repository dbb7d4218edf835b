//! `ashlar host cordon`, `drain` and `uncordon`.

use ashlar_api::{DrainBy, Kind};
use ashlar_engine::{Goal, Scope, declare};
use ashlar_plan::render::{fates_text, plan_text};
use ashlar_plan::{MachineFate, Plan, Snapshot, fates};
use futures::executor::block_on;

use crate::cli::{HostDrainArgs, OutputFormat};
use crate::commands::apply::report;
use crate::commands::get::print_value;
use crate::confirm::ask;
use crate::failure::{Exit, Result};
use crate::objects::{Reader, object_ref};
use crate::output::plan_value;
use crate::settings::Settings;
use crate::wiring::{Session, Worker, open_store, record_wish};

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
    Reader::open(settings)?.get(&host)?;
    let by = if args.replace { DrainBy::Replacement } else { DrainBy::Migration };
    if !args.yes {
        let preview = Preview::of(settings, name, by)?;
        if args.dry_run {
            return preview.show(settings);
        }
        // With no machine there, nobody's would be lost.
        if !preview.fates.is_empty() {
            ask(settings, preview.text.trim_end())?;
        }
    }
    let worker = Worker::open(settings, &args.engine)?;
    record_wish(settings, "drain", [&host])?;
    block_on(declare::drain_host(worker.store(), name, by))?;
    let done = worker.run(settings, &Scope::All, &Goal::HostEmptied(name.clone()))?;
    report(settings, &done);
    settings.printer.note(format!(
        "host {name} is empty and stays cordoned; `{} host uncordon {name}` takes it back",
        settings.command_prefix()
    ));
    Ok(Exit::Success)
}

/// What a drain would do, as long as nothing else changes.
struct Preview {
    snapshot: Snapshot,
    plan: Plan,
    fates: Vec<MachineFate>,
    /// A line for each machine.
    text: String,
}

impl Preview {
    fn of(settings: &Settings, host: &str, by: DrainBy) -> Result<Self> {
        let session = Session::open_to_look(settings)?;
        block_on(declare::may_drain_host(&*session.store, host))?;
        let (snapshot, plan) = session.block_on(async { Ok(session.engine.plan_drain(host, by).await?) })?;
        session.progress.finish();
        let fates = fates(&snapshot, &plan, host);
        let text = fates_text(&snapshot, host, &fates);
        Ok(Preview { snapshot, plan, fates, text })
    }

    fn show(&self, settings: &Settings) -> Result {
        if let OutputFormat::Json | OutputFormat::Yaml = settings.output {
            let mut value = plan_value(&self.plan)?;
            value["fates"] = serde_json::to_value(&self.fates)?;
            return print_value(settings, &value);
        }
        let text = format!("{}\n{}", self.text, plan_text(&self.snapshot, &self.plan));
        settings.printer.data(|out| out.write_all(text.as_bytes()))
    }
}
