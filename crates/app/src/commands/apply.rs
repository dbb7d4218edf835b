//! `ashlar apply` and `ashlar plan`.

use ashlar_api::expand::{ObjectMap, object_map};
use ashlar_api::{Kind, Object};
use ashlar_engine::declare::{self, Declared, Outcome};
use ashlar_engine::effects::Clock as _;
use ashlar_engine::{Goal, Scope};
use ashlar_plan::in_place::not_in_place;
use ashlar_plan::render::plan_text;
use ashlar_store::Store;
use futures::executor::block_on;

use crate::cli::{ApplyArgs, Only, OutputFormat, PlanArgs};
use crate::commands::get::print_value;
use crate::daemon::Done;
use crate::failure::{Exit, Failure, Result};
use crate::input::{check, read_objects};
use crate::objects::{Reader, slash_name};
use crate::output::{elapsed, plan_value, plural};
use crate::settings::Settings;
use crate::wiring::{OsEntropy, Session, SystemClock, Worker, open_store, record_wish};

/// Applies files.
pub(crate) fn apply(settings: &Settings, args: &ApplyArgs) -> Result {
    let objects = read_objects(&args.files.filename, args.files.recursive, &settings.namespace)?;
    check(&objects, &existing(&Reader::open(settings)?)?)?;
    let objects: Vec<Object> = objects.into_iter().map(|object| object.object).collect();
    if args.dry_run {
        let session = Session::open_to_look(settings)?;
        declare(settings, &*session.store, objects.clone(), true)?;
        return show_plan(settings, &session, objects, &Scope::All);
    }
    if args.store_only {
        let store = open_store(settings)?;
        declare(settings, store.as_ref(), objects, false)?;
        return Ok(Exit::Success);
    }
    let worker = Worker::open(settings, &args.engine)?;
    if args.only == Some(Only::InPlace) {
        match &worker {
            Worker::Own(session) => refuse_more_than_in_place(settings, session, objects.clone())?,
            Worker::Daemon(_) => {
                refuse_more_than_in_place(settings, &Session::open_to_look(settings)?, objects.clone())?;
            }
        }
    }
    declare(settings, worker.store(), objects, false)?;
    let done = worker.run(settings, &Scope::All, &Goal::Settled)?;
    report(settings, &done);
    Ok(Exit::Success)
}

/// Plans as if the objects had been applied; whatever is not certain to happen in place is a reason to refuse them.
fn refuse_more_than_in_place(settings: &Settings, session: &Session, objects: Vec<Object>) -> Result<()> {
    let scope = Scope::All;
    let (_, plan) = session.block_on(async { Ok(session.engine.plan_with(objects, &scope).await?) })?;
    session.progress.finish();
    let found = not_in_place(&plan);
    if found.is_empty() {
        return Ok(());
    }
    for line in &found {
        settings.printer.note(format!("  {line}"));
    }
    Err(Failure::new(format!(
        "{} would not happen in place (--only in-place): nothing was written",
        plural(found.len(), "thing")
    ))
    .hint("`ashlar apply --dry-run` shows the whole plan; without --only it is carried out"))
}

/// Says what a run did.
pub(crate) fn report(settings: &Settings, done: &Done) {
    let text = if done.is_unchanged() {
        format!("nothing to do: the world is as the store says ({})", elapsed(done.elapsed))
    } else {
        format!("done: {} in {}", plural(done.actions as usize, "action"), elapsed(done.elapsed))
    };
    settings.printer.note(text);
}

/// Writes objects into the store (or only says what would be written), one line for each.
pub(crate) fn declare(
    settings: &Settings,
    store: &dyn Store,
    objects: Vec<Object>,
    dry_run: bool,
) -> Result<Declared> {
    if !settings.trust_clock {
        block_on(ashlar_engine::check_clock(store, SystemClock.now()))?;
    }
    if !dry_run {
        record_wish(settings, "apply", &objects.iter().map(Object::object_ref).collect::<Vec<_>>())?;
    }
    let declared = block_on(declare::apply(store, &SystemClock, &OsEntropy, objects, dry_run))?;
    let suffix = if dry_run { " (dry run)" } else { "" };
    for one in &declared.applied {
        let word = match one.outcome {
            Outcome::Created => "created",
            Outcome::Configured => "configured",
            Outcome::Unchanged => "unchanged",
        };
        settings.printer.note(format!("{} {word}{suffix}", slash_name(&one.object.object_ref())));
        for change in &one.changes {
            settings.printer.note(format!("  {change}"));
        }
    }
    for group in &declared.no_longer_inline {
        let name = slash_name(group);
        settings.printer.warn(format!(
            "{name} is no longer in the file and stays as it is; `{} delete {name}` removes it",
            settings.command_prefix()
        ));
    }
    Ok(declared)
}

/// All objects that people write, for checks against them.
pub(crate) fn existing(reader: &Reader) -> Result<ObjectMap> {
    let mut objects = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Event | Kind::Secret)) {
        objects.extend(reader.objects(kind, None)?);
    }
    Ok(object_map(objects))
}

/// Shows what would happen.
pub(crate) fn plan(settings: &Settings, args: &PlanArgs) -> Result {
    let mut objects = Vec::new();
    if !args.filename.is_empty() {
        let read = read_objects(&args.filename, args.recursive, &settings.namespace)?;
        check(&read, &existing(&Reader::open(settings)?)?)?;
        objects.extend(read.into_iter().map(|object| object.object));
    }
    if args.offline {
        return show_plan(settings, &Session::open_offline(settings)?, objects, &Scope::StoreOnly);
    }
    show_plan(settings, &Session::open_to_look(settings)?, objects, &Scope::All)
}

/// Plans with the objects as if they had been applied, and prints it.
pub(crate) fn show_plan(
    settings: &Settings,
    session: &Session,
    objects: Vec<Object>,
    scope: &Scope,
) -> Result {
    let (snapshot, plan) = session.block_on(async {
        Ok(if objects.is_empty() {
            session.engine.plan(scope).await?
        } else {
            session.engine.plan_with(objects, scope).await?
        })
    })?;
    session.progress.finish();
    match settings.output {
        OutputFormat::Json | OutputFormat::Yaml => print_value(settings, &plan_value(&plan)?),
        _ => {
            let text = plan_text(&snapshot, &plan);
            settings.printer.data(|out| out.write_all(text.as_bytes()))
        }
    }
}
