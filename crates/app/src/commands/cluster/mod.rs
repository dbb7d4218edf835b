//! `ashlar cluster`

mod create;
mod rotate;
mod status;

use ashlar_api::expand::object_map;
use ashlar_api::{Kind, Object, diff::diff_objects, validate::validate_apply};
use ashlar_engine::{Goal, Scope, declare as engine_declare};
use futures::executor::block_on;

use crate::cli::{ClusterCommand, ClusterCreateArgs, ClusterStopArgs, EngineArgs, GetArgs};
use crate::commands::apply::{declare, existing, report, show_plan};
use crate::commands::delete::delete_refs;
use crate::failure::{Exit, Failure, Result};
use crate::input::{check, read_objects, refused};
use crate::objects::{Reader, cluster_name, object_ref};
use crate::settings::Settings;
use crate::wiring::{Session, Worker, node_login_key, open_store, record_wish};

/// Runs a cluster command.
pub(crate) fn cluster(settings: &Settings, command: ClusterCommand) -> Result {
    match command {
        ClusterCommand::Create(args) => create(settings, &args),
        ClusterCommand::Status(args) => status::status(settings, &args),
        ClusterCommand::List => {
            let args = GetArgs {
                kinds: "clusters".to_owned(),
                names: Vec::new(),
                selector: None,
                all_namespaces: false,
                no_headers: false,
            };
            crate::commands::get::get(settings, &args)
        }
        ClusterCommand::Delete(args) => {
            let object = object_ref(Kind::Cluster, &args.name, &settings.namespace);
            delete_refs(settings, vec![object], args.yes, false, &args.engine, true)
        }
        ClusterCommand::Start(args) => power(settings, &args.name, Power::Start, &args.engine),
        ClusterCommand::Stop(args) => stop(settings, &args),
        ClusterCommand::RotateKubeconfig(args) => rotate::rotate(settings, &args),
        ClusterCommand::Pause(args) => pause(settings, &args.name),
        ClusterCommand::Resume(args) => resume(settings, &args.name, &args.engine),
    }
}

/// Only a wish: whoever works on the cluster sees it in the next pass.
fn pause(settings: &Settings, name: &str) -> Result {
    let object = object_ref(Kind::Cluster, name, &settings.namespace);
    Reader::open(settings)?.get(&object)?;
    let store = open_store(settings)?;
    let cluster = cluster_name(settings, name);
    record_wish(settings, "pause", [&object])?;
    block_on(engine_declare::set_paused(store.as_ref(), &cluster, true))?;
    let prefix = settings.command_prefix();
    settings.printer.note(format!(
        "cluster {cluster}: no further machine is replaced; `{prefix} cluster resume {name}` goes on"
    ));
    Ok(Exit::Success)
}

fn resume(settings: &Settings, name: &str, engine: &EngineArgs) -> Result {
    let object = object_ref(Kind::Cluster, name, &settings.namespace);
    Reader::open(settings)?.get(&object)?;
    let cluster = cluster_name(settings, name);
    let worker = Worker::open(settings, engine)?;
    record_wish(settings, "resume", [&object])?;
    block_on(engine_declare::set_paused(worker.store(), &cluster, false))?;
    let done =
        worker.run(settings, &Scope::Cluster(cluster.clone()), &Goal::ClusterReady(cluster.clone()))?;
    report(settings, &done);
    settings.printer.note(format!("cluster {cluster} is as it should be"));
    Ok(Exit::Success)
}

fn create(settings: &Settings, args: &ClusterCreateArgs) -> Result {
    let reader = Reader::open(settings)?;
    let there = existing(&reader)?;
    let objects = match &args.filename {
        Some(file) => {
            let objects = read_objects(std::slice::from_ref(file), false, &settings.namespace)?;
            check(&objects, &there)?;
            let objects: Vec<Object> = objects.into_iter().map(|object| object.object).collect();
            let wanted = object_ref(Kind::Cluster, &args.name, &settings.namespace);
            if !objects.iter().any(|object| object.object_ref() == wanted) {
                return Err(Failure::new(format!("there is no {wanted} in {}", file.display())));
            }
            objects
        }
        None => {
            let (_, public_key) = node_login_key(settings)?;
            let cluster = create::from_flags(settings, &reader, args, &public_key)?;
            let objects = vec![Object::from(cluster)];
            let violations = validate_apply(&objects, &there);
            if !violations.is_empty() {
                return Err(refused(&violations, &[]));
            }
            objects
        }
    };
    refuse_changes(&objects, &there)?;
    if args.dry_run {
        let session = Session::open_to_look(settings)?;
        return show_plan(settings, &session, objects, &Scope::Cluster(cluster_name(settings, &args.name)));
    }
    let worker = Worker::open(settings, &args.engine)?;
    declare(settings, worker.store(), objects, false)?;
    run_create(settings, &worker, &args.name)
}

/// Works until the cluster is ready, and says how to use it.
pub(crate) fn run_create(settings: &Settings, worker: &Worker, name: &str) -> Result {
    let cluster = cluster_name(settings, name);
    let done =
        worker.run(settings, &Scope::Cluster(cluster.clone()), &Goal::ClusterReady(cluster.clone()))?;
    report(settings, &done);
    let prefix = settings.command_prefix();
    settings.printer.note(format!("cluster {cluster} is ready: {prefix} kubectl {name} -- get nodes"));
    Ok(Exit::Success)
}

/// `create` never changes a cluster that is there.
fn refuse_changes(objects: &[Object], there: &ashlar_api::expand::ObjectMap) -> Result<()> {
    let existing = object_map(there.values().cloned());
    for object in objects.iter().filter(|object| object.kind() == Kind::Cluster) {
        let Some(old) = existing.get(&object.object_ref()) else { continue };
        if old.metadata().is_deleting() {
            return Err(Failure::new(format!("{} is being deleted", object.object_ref()))
                .hint(format!("`ashlar cluster delete {}` waits for it", object.metadata().name)));
        }
        let changes = diff_objects(old, object)?;
        if !changes.is_empty() {
            let lines: Vec<String> = changes.iter().map(|change| format!("  {change}")).collect();
            return Err(Failure::new(format!(
                "{} exists, and is different:\n{}",
                object.object_ref(),
                lines.join("\n")
            ))
            .hint("to change it, edit its file and use `ashlar apply -f`; `ashlar get cluster NAME -o yaml` prints it"));
        }
    }
    Ok(())
}

fn stop(settings: &Settings, args: &ClusterStopArgs) -> Result {
    power(settings, &args.name, if args.force { Power::ForceStop } else { Power::Stop }, &args.engine)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    Start,
    Stop,
    ForceStop,
}

fn power(settings: &Settings, name: &str, power: Power, engine: &EngineArgs) -> Result {
    Reader::open(settings)?.get(&object_ref(Kind::Cluster, name, &settings.namespace))?;
    let cluster = cluster_name(settings, name);
    let worker = Worker::open(settings, engine)?;
    let (goal, word) = match power {
        Power::Start => (Goal::ClusterStarted(cluster.clone()), "started"),
        Power::Stop | Power::ForceStop => (Goal::ClusterStopped(cluster.clone()), "stopped"),
    };
    let verb = match power {
        Power::Start => "start",
        Power::Stop => "stop",
        Power::ForceStop => "stop by force",
    };
    record_wish(settings, verb, [&object_ref(Kind::Cluster, name, &settings.namespace)])?;
    block_on(async {
        let store = worker.store();
        Ok::<_, Failure>(match power {
            Power::Start => engine_declare::start_cluster(store, &cluster).await?,
            Power::Stop => engine_declare::stop_cluster(store, &cluster, false).await?,
            Power::ForceStop => engine_declare::stop_cluster(store, &cluster, true).await?,
        })
    })?;
    let done = worker.run(settings, &Scope::Cluster(cluster.clone()), &goal)?;
    report(settings, &done);
    settings.printer.note(format!("cluster {cluster} is {word}"));
    Ok(Exit::Success)
}
