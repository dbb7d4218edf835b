//! `ashlar machine`

use ashlar_api::{Kind, NamespacedName, Object, ObjectRef};
use ashlar_engine::effects::Clock as _;
use ashlar_engine::{Goal, Scope, declare};
use futures::executor::block_on;

use crate::cli::{MachineCommand, MachineReplaceArgs};
use crate::commands::apply::report;
use crate::confirm::confirm;
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;
use crate::wiring::{SystemClock, Worker, record_wish};

/// Runs a machine command.
pub(crate) fn machine(settings: &Settings, command: MachineCommand) -> Result {
    match command {
        MachineCommand::Replace(args) => replace(settings, &args),
    }
}

fn replace(settings: &Settings, args: &MachineReplaceArgs) -> Result {
    let name = object_ref(Kind::Machine, &args.name, &settings.namespace);
    let Object::Machine(machine) = Reader::open(settings)?.object(&name)? else {
        return Err(Failure::internal(format!("{name} is no machine")));
    };
    let cluster = NamespacedName::new(&name.namespace, &machine.spec.cluster);
    if args.cancel {
        return keep(settings, args, &name, cluster);
    }
    let lines = vec![format!(
        "{name}: VM {} on host {} with its disks; another machine takes its place",
        machine.spec.domain.name, machine.spec.host
    )];
    confirm(settings, args.yes, &lines)?;
    let worker = Worker::open(settings, &args.engine)?;
    if !settings.trust_clock {
        block_on(ashlar_engine::check_clock(worker.store(), SystemClock.now()))?;
    }
    record_wish(settings, "replace", [&name])?;
    block_on(declare::replace_machine(worker.store(), &SystemClock, &name.key()))?;
    let done = worker.run(settings, &Scope::Cluster(cluster.clone()), &Goal::ClusterReady(cluster))?;
    report(settings, &done);
    settings.printer.note(format!("machine {} is replaced", args.name));
    Ok(Exit::Success)
}

/// Takes the wish back. A successor that came meanwhile goes.
fn keep(settings: &Settings, args: &MachineReplaceArgs, name: &ObjectRef, cluster: NamespacedName) -> Result {
    let worker = Worker::open(settings, &args.engine)?;
    record_wish(settings, "replace --cancel", [name])?;
    if !block_on(declare::keep_machine(worker.store(), &name.key()))? {
        settings.printer.note(format!("nobody asked to replace machine {}: nothing changes", args.name));
        return Ok(Exit::Success);
    }
    let done = worker.run(settings, &Scope::Cluster(cluster.clone()), &Goal::ClusterReady(cluster))?;
    report(settings, &done);
    settings.printer.note(format!("machine {} stays", args.name));
    Ok(Exit::Success)
}
