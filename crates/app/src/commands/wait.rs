//! `ashlar wait` and `ashlar events --follow`: they read and watch the store, and never work themselves.

use std::time::{Duration, Instant};

use ashlar_api::{ConditionStatus, Event, EventType, Kind, Object, ObjectRef, condition::find_condition};
use ashlar_store::{Revision, Store};
use futures::executor::block_on;
use jiff::Timestamp;

use crate::cli::{EventsArgs, OutputFormat, WaitArgs};
use crate::commands::get::print_value;
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, shown, slash_name, typed, wanted_refs};
use crate::output::{Table, elapsed};
use crate::settings::Settings;

/// How often the store is looked at; one read takes well under a millisecond.
const INTERVAL: Duration = Duration::from_millis(250);
/// How long is waited unless `--timeout` says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// What an object is waited for.
#[derive(Debug, PartialEq, Eq)]
enum Until {
    Gone,
    Condition { kind: String, status: ConditionStatus },
}

impl Until {
    fn parse(text: &str) -> Result<Until> {
        let wrong = || {
            Failure::new(format!("`{text}` is nothing that can be waited for"))
                .hint("write ready, gone, or condition=TYPE or condition=TYPE=False")
        };
        match text {
            "ready" => Ok(Until::Condition { kind: "Ready".to_owned(), status: ConditionStatus::True }),
            "gone" | "delete" | "deleted" => Ok(Until::Gone),
            _ => {
                let rest = text.strip_prefix("condition=").ok_or_else(wrong)?;
                let (kind, status) = rest.split_once('=').unwrap_or((rest, "True"));
                let status = match status.to_ascii_lowercase().as_str() {
                    "true" => ConditionStatus::True,
                    "false" => ConditionStatus::False,
                    "unknown" => ConditionStatus::Unknown,
                    _ => return Err(wrong()),
                };
                Ok(Until::Condition { kind: kind.to_owned(), status })
            }
        }
    }

    /// `None` if it has come; otherwise how it stands.
    fn missing(&self, object: Option<&Object>) -> Option<String> {
        match (self, object) {
            (Until::Gone, None) => None,
            (Until::Gone, Some(object)) if object.metadata().is_deleting() => {
                Some("being deleted".to_owned())
            }
            (Until::Gone, Some(_)) => Some("it exists, and nobody asked for its deletion".to_owned()),
            (Until::Condition { .. }, None) => Some("it does not exist".to_owned()),
            (Until::Condition { kind, status }, Some(object)) => {
                match find_condition(conditions(object), kind) {
                    None => Some(format!("it has no condition {kind} yet")),
                    Some(found) if found.status == *status => None,
                    Some(found) if found.message.is_empty() => Some(found.reason.clone()),
                    Some(found) => Some(format!("{}: {}", found.reason, found.message)),
                }
            }
        }
    }
}

/// Conditions of an object; empty for kinds without.
pub(crate) fn conditions(object: &Object) -> &[ashlar_api::Condition] {
    match object {
        Object::Host(object) => &object.status.conditions,
        Object::Cluster(object) => &object.status.conditions,
        Object::WorkerGroup(object) => &object.status.conditions,
        Object::Machine(object) => &object.status.conditions,
        Object::Volume(object) => &object.status.conditions,
        _ => &[],
    }
}

/// Waits.
pub(crate) fn wait(settings: &Settings, args: &WaitArgs) -> Result {
    let until = Until::parse(&args.until)?;
    let refs = wanted_refs(&args.kind, &args.names, &settings.namespace)?;
    let reader = Reader::open(settings)?;
    let began = Instant::now();
    let timeout = settings.timeout.unwrap_or(DEFAULT_TIMEOUT);
    let mut told: Option<String> = None;
    loop {
        let mut missing = None;
        for object in &refs {
            let found = reader.find(object)?.map(typed).transpose()?;
            if let Some(state) = until.missing(found.as_ref()) {
                missing = Some((object, state));
                break;
            }
        }
        let Some((object, state)) = missing else {
            for object in &refs {
                let text =
                    format!("{} {} after {}", slash_name(object), args.until, elapsed(began.elapsed()));
                settings.printer.note(text);
            }
            return Ok(Exit::Success);
        };
        let text = format!("{}: {state}", slash_name(object));
        if began.elapsed() >= timeout {
            return Err(Failure::timeout(format!("not {} within {}: {text}", args.until, elapsed(timeout)))
                .hint(format!("{} describe {}", settings.command_prefix(), slash_name(object)))
                .hint("`wait` only watches: is an `ashlar apply` at work?"));
        }
        if told.as_ref() != Some(&text) {
            settings.printer.note(&text);
            told = Some(text);
        }
        std::thread::sleep(INTERVAL.min(timeout.saturating_sub(began.elapsed())));
    }
}

/// Shows events.
pub(crate) fn events(settings: &Settings, args: &EventsArgs) -> Result {
    let about = match &args.about {
        Some(name) => wanted_refs(name, &[], &settings.namespace)?,
        None => Vec::new(),
    };
    let fits = |event: &Event| {
        (about.is_empty() || about.contains(&event.spec.about))
            && (!args.warnings || event.spec.event_type == EventType::Warning)
    };
    let reader = Reader::open(settings)?;
    reader.note_if_missing(settings);
    let namespace = (!args.all_namespaces && about.is_empty()).then_some(settings.namespace.as_str());
    let revision = match reader.store() {
        Some(store) => block_on(store.list_raw(Some(Kind::Event.name()), Some("-")))?.revision,
        None => Revision::default(),
    };
    let stored = reader.list(Kind::Event, namespace)?;
    if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
        let items = stored.into_iter().map(shown).collect::<Result<Vec<_>>>()?;
        let list = serde_json::json!({"apiVersion": ashlar_api::API_VERSION, "kind": "List", "items": items});
        return print_value(settings, &list);
    }
    let mut events = Vec::new();
    for one in stored {
        if let Object::Event(event) = typed(one)?
            && fits(&event)
        {
            events.push(event);
        }
    }
    events.sort_by(|a, b| a.spec.last_time.cmp(&b.spec.last_time).then_with(|| a.key().cmp(&b.key())));
    let mut table = Table::new(vec!["TIME", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    events.iter().for_each(|event| table.push(event_row(event)));
    if table.is_empty() {
        settings.printer.note("no events");
    } else {
        settings.printer.data(|out| table.write(out, 0))?;
    }
    match reader.store() {
        Some(store) if args.follow => follow(settings, store, revision, namespace, fits),
        _ => Ok(Exit::Success),
    }
}

fn follow(
    settings: &Settings,
    store: &dyn Store,
    from: Revision,
    namespace: Option<&str>,
    fits: impl Fn(&Event) -> bool,
) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut watch = store.watch(Some(Kind::Event.name()), from).await?;
        loop {
            let change = watch.next().await?;
            let Some(value) = change.value else { continue };
            if namespace.is_some_and(|namespace| namespace != change.key.namespace) {
                continue;
            }
            if let Ok(Object::Event(event)) = Object::from_value(Kind::Event, value)
                && fits(&event)
            {
                settings.printer.line(event_row(&event).join("   "))?;
            }
        }
    })
}

fn event_row(event: &Event) -> Vec<String> {
    let spec = &event.spec;
    let about: &ObjectRef = &spec.about;
    let again = if spec.count > 1 { format!(" ({} times)", spec.count) } else { String::new() };
    vec![
        local_time(spec.last_time),
        match spec.event_type {
            EventType::Normal => "Normal".to_owned(),
            EventType::Warning => "Warning".to_owned(),
        },
        spec.reason.clone(),
        slash_name(about),
        format!("{}{again}", spec.message.replace('\n', " ")),
    ]
}

fn local_time(time: Timestamp) -> String {
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_read() {
        let ready = Until::parse("ready").map_err(|f| f.chain);
        assert_eq!(ready, Ok(Until::Condition { kind: "Ready".into(), status: ConditionStatus::True }));
        let not = Until::parse("condition=Reachable=false").map_err(|f| f.chain);
        assert_eq!(not, Ok(Until::Condition { kind: "Reachable".into(), status: ConditionStatus::False }));
        assert_eq!(Until::parse("gone").map_err(|f| f.chain), Ok(Until::Gone));
        assert!(Until::parse("soon").is_err());
        assert!(Until::parse("condition=Ready=maybe").is_err());
    }
}
