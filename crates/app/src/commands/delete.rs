//! `ashlar delete`

use ashlar_api::{Kind, Object, ObjectRef, VolumeContent};
use ashlar_engine::effects::Clock as _;
use ashlar_engine::{Goal, Scope, declare};
use ashlar_store::Store;
use futures::executor::block_on;

use crate::cli::{DeleteArgs, EngineArgs};
use crate::commands::apply::report;
use crate::confirm::confirm;
use crate::failure::{Exit, Failure, Result};
use crate::input::read_objects;
use crate::objects::{Reader, slash_name, wanted_refs};
use crate::settings::Settings;
use crate::wiring::{SystemClock, Worker, open_store, record_wish};

/// Deletes objects.
pub(crate) fn delete(settings: &Settings, args: &DeleteArgs) -> Result {
    let refs = match &args.kind {
        Some(kind) => wanted_refs(kind, &args.names, &settings.namespace)?,
        None => {
            let objects = read_objects(&args.filename, args.recursive, &settings.namespace)?;
            let mut refs: Vec<ObjectRef> = objects.iter().map(|object| object.object.object_ref()).collect();
            // What others refer to goes last.
            refs.sort_by_key(|object| {
                std::cmp::Reverse(Kind::ALL.iter().position(|kind| *kind == object.kind))
            });
            refs
        }
    };
    delete_refs(settings, refs, args.yes, args.store_only, &args.engine, args.kind.is_some())
}

/// Confirms, records the intent, and works until the objects are gone.
pub(crate) fn delete_refs(
    settings: &Settings,
    refs: Vec<ObjectRef>,
    yes: bool,
    store_only: bool,
    engine: &EngineArgs,
    must_exist: bool,
) -> Result {
    let reader = Reader::open(settings)?;
    let mut present = Vec::new();
    for object in refs {
        match (reader.find(&object)?, must_exist) {
            (Some(_), _) => present.push(object),
            // Says what is there instead.
            (None, true) => drop(reader.get(&object)?),
            (None, false) => settings.printer.note(format!("{} is not there", slash_name(&object))),
        }
    }
    if present.is_empty() {
        settings.printer.note("nothing to delete");
        return Ok(Exit::Success);
    }
    confirm(settings, yes, &destroyed(&reader, &present)?)?;
    let right_time = |store: &dyn Store| match settings.trust_clock {
        true => Ok(()),
        false => block_on(ashlar_engine::check_clock(store, SystemClock.now())),
    };
    if store_only {
        let store = open_store(settings)?;
        right_time(store.as_ref())?;
        record_wish(settings, "delete", &present)?;
        block_on(declare::delete(store.as_ref(), &SystemClock, &present))?;
        settings.printer.note("recorded; the next `ashlar apply` does it, or the daemon where one runs");
        return Ok(Exit::Success);
    }
    let worker = Worker::open(settings, engine)?;
    right_time(worker.store())?;
    record_wish(settings, "delete", &present)?;
    let deleted = block_on(declare::delete(worker.store(), &SystemClock, &present))?;
    if deleted.iter().all(|one| one.at_once) {
        worker.finish();
        for object in &present {
            settings.printer.note(format!("{} deleted", slash_name(object)));
        }
        return Ok(Exit::Success);
    }
    let scope = match present.as_slice() {
        [one] if one.kind == Kind::Cluster => Scope::Cluster(one.key()),
        _ => Scope::All,
    };
    let goal = match present.as_slice() {
        [one] if one.kind == Kind::Cluster => Goal::ClusterGone(one.key()),
        _ => Goal::ObjectsGone(present.clone()),
    };
    let done = worker.run(settings, &scope, &goal)?;
    for object in &present {
        settings.printer.note(format!("{} deleted", slash_name(object)));
    }
    report(settings, &done);
    Ok(Exit::Success)
}

/// What will be destroyed, line by line.
fn destroyed(reader: &Reader, refs: &[ObjectRef]) -> Result<Vec<String>> {
    let machines = reader.objects(Kind::Machine, None)?;
    let volumes = reader.objects(Kind::Volume, None)?;
    let mut lines = Vec::new();
    for object in refs {
        lines.push(object.to_string());
        for machine in &machines {
            let Object::Machine(machine) = machine else { continue };
            let name = machine.object_ref();
            let goes = match object.kind {
                Kind::Machine => name == *object,
                Kind::Cluster => machine.spec.cluster == object.name && name.namespace == object.namespace,
                Kind::WorkerGroup => machine.spec.group == object.name && name.namespace == object.namespace,
                _ => false,
            };
            if !goes {
                continue;
            }
            let disks = volumes.iter().filter(|volume| match volume {
                Object::Volume(volume) => {
                    matches!(&volume.spec.content,
                    VolumeContent::MachineDisk { machine, .. } if *machine == name.name)
                        && volume.metadata.namespace == name.namespace
                }
                _ => false,
            });
            lines.push(format!(
                "  {name}: VM {} on host {}, {} disks",
                machine.spec.domain.name,
                machine.spec.host,
                disks.count()
            ));
        }
    }
    if lines.is_empty() {
        return Err(Failure::internal("nothing to destroy was found"));
    }
    Ok(lines)
}
