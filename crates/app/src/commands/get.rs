//! `ashlar get`: opens the store for reading and nothing else; no engine, no libvirt, no async runtime.

use ashlar_api::Kind;
use ashlar_store::{RawStored, Row};
use jiff::Timestamp;
use serde::Deserialize;

use crate::cli::{GetArgs, OutputFormat};
use crate::failure::{Exit, Failure, Result};
use crate::objects::{Reader, Wanted, object_ref, shown, slash_name, wanted};
use crate::output::{Cells, Table, headers, row, yaml};
use crate::selector::Selector;
use crate::settings::Settings;

/// What is asked for.
struct Query {
    wanted: Vec<Wanted>,
    selector: Selector,
    all_namespaces: bool,
    no_headers: bool,
}

/// Lists objects.
pub(crate) fn get(settings: &Settings, args: &GetArgs) -> Result {
    let query = Query {
        wanted: wanted(&args.kinds, &args.names)?,
        selector: Selector::parse(args.selector.as_deref().unwrap_or_default())?,
        all_namespaces: args.all_namespaces,
        no_headers: args.no_headers,
    };
    let reader = Reader::open(settings)?;
    reader.note_if_missing(settings);
    match settings.output {
        OutputFormat::Table | OutputFormat::Wide => table(settings, &reader, &query),
        OutputFormat::Name | OutputFormat::Json | OutputFormat::Yaml => whole(settings, &reader, &query),
    }
}

/// Objects as they are, or their names.
fn whole(settings: &Settings, reader: &Reader, query: &Query) -> Result {
    let mut found = Vec::new();
    for one in &query.wanted {
        let mut objects = match one.names.as_slice() {
            [] => reader.list(one.kind, query.namespace(settings))?,
            names => named(settings, reader, one.kind, names)?,
        };
        if one.kind == Kind::Event {
            sort_events(&mut objects)?;
        }
        for object in objects {
            if query.selector.matches(&object.value.json())? {
                found.push((one.kind, object));
            }
        }
    }
    if settings.output == OutputFormat::Name {
        return settings.printer.data(|out| {
            found.iter().try_for_each(|(kind, stored)| {
                let object = object_ref(*kind, &stored.key.name, &stored.key.namespace);
                writeln!(out, "{}", slash_name(&object))
            })
        });
    }
    let is_single = query.wanted.len() == 1 && query.wanted.iter().all(|one| one.names.len() == 1);
    let mut items = found.into_iter().map(|(_, stored)| shown(stored)).collect::<Result<Vec<_>>>()?;
    let value = match items.pop() {
        Some(one) if is_single => one,
        last => {
            items.extend(last);
            serde_json::json!({"apiVersion": ashlar_api::API_VERSION, "kind": "List", "items": items})
        }
    };
    print_value(settings, &value)
}

/// Prints a value as JSON, or as YAML for every other format.
pub(crate) fn print_value(settings: &Settings, value: &serde_json::Value) -> Result {
    if settings.output == OutputFormat::Json {
        let text = serde_json::to_string_pretty(value)?;
        settings.printer.line(text)
    } else {
        let text = yaml(value)?;
        settings.printer.data(|out| out.write_all(text.as_bytes()))
    }
}

impl Query {
    fn namespace<'a>(&self, settings: &'a Settings) -> Option<&'a str> {
        if self.all_namespaces { None } else { Some(&settings.namespace) }
    }
}

fn named(settings: &Settings, reader: &Reader, kind: Kind, names: &[String]) -> Result<Vec<RawStored>> {
    names.iter().map(|name| reader.get(&object_ref(kind, name, &settings.namespace))).collect()
}

/// One line of a table; events have a time to be sorted by.
type Line = (Option<Timestamp>, Cells);

/// Reads only what the table shows, where the store has it: ten thousand objects are not copied for it.
fn lines(settings: &Settings, reader: &Reader, query: &Query, one: &Wanted) -> Result<Vec<Line>> {
    let (kind, selector) = (one.kind, query.selector.clone());
    let wide = settings.output == OutputFormat::Wide;
    let with_namespace = query.all_namespaces && kind.is_namespaced();
    let now = Timestamp::now();
    let cells = move |object: Row<'_>| -> Result<Option<Line>, serde_json::Error> {
        if !selector.matches(object.json)? {
            return Ok(None);
        }
        let mut cells = Cells::default();
        if with_namespace {
            cells.push(object.namespace);
        }
        row(kind, object.json, wide, now, &mut cells)?;
        let time = if kind == Kind::Event { Some(event_time(object.json)?) } else { None };
        Ok(Some((time, cells)))
    };
    let look = move |object: Row<'_>| {
        let Row { kind, namespace, name, .. } = object;
        let unreadable = || {
            let key = ashlar_store::Key::new(kind, namespace, name);
            format!("{key} in the store cannot be read by this version of Ashlar")
        };
        cells(object).map_err(|error| Failure::from(error).because_of(unreadable()))
    };
    let found: Vec<_> = match one.names.as_slice() {
        [] => reader.scan(kind, query.namespace(settings), look)?,
        names => {
            let objects = named(settings, reader, kind, names)?;
            let line = |stored: &RawStored| {
                let RawStored { key, revision, value } = stored;
                let json = &value.json();
                let (kind, namespace, name) = (&*key.kind, &*key.namespace, &*key.name);
                look(Row { kind, namespace, name, revision: *revision, json })
            };
            objects.iter().map(line).collect()
        }
    };
    let mut lines = found.into_iter().filter_map(Result::transpose).collect::<Result<Vec<Line>>>()?;
    if kind == Kind::Event {
        // Oldest first: the last line is the news.
        lines.sort_by_key(|(time, _)| *time);
    }
    Ok(lines)
}

fn table(settings: &Settings, reader: &Reader, query: &Query) -> Result {
    let wide = settings.output == OutputFormat::Wide;
    let mut tables = Vec::new();
    for one in &query.wanted {
        let mut heads = if query.no_headers { Vec::new() } else { headers(one.kind, wide) };
        if query.all_namespaces && one.kind.is_namespaced() && !heads.is_empty() {
            heads.insert(0, "NAMESPACE");
        }
        let mut table = Table::new(heads);
        for (_, cells) in lines(settings, reader, query, one)? {
            table.push(cells);
        }
        if !table.is_empty() {
            tables.push((one.kind, table));
        }
    }
    if tables.is_empty() {
        let kinds: Vec<&str> = query.wanted.iter().map(|one| one.kind.plural()).collect();
        let place = match query.wanted.iter().any(|one| one.kind.is_namespaced()) && !query.all_namespaces {
            true => format!(" in namespace {}", settings.namespace),
            false => String::new(),
        };
        let kinds = if kinds.len() > 4 { "objects".to_owned() } else { kinds.join(", ") };
        settings.printer.note(format!("no {kinds}{place}"));
        return Ok(Exit::Success);
    }
    settings.printer.data(|out| {
        let titled = tables.len() > 1;
        for (index, (kind, table)) in tables.iter().enumerate() {
            if titled {
                writeln!(out, "{}{}:", if index == 0 { "" } else { "\n" }, kind.plural())?;
            }
            table.write(out, 0)?;
        }
        Ok(())
    })
}

/// Oldest first: the last line is the news.
fn sort_events(events: &mut Vec<RawStored>) -> Result<()> {
    let mut keyed = Vec::with_capacity(events.len());
    for event in events.drain(..) {
        keyed.push((event_time(&event.value.json())?, event));
    }
    keyed.sort_by_key(|(time, _)| *time);
    events.extend(keyed.into_iter().map(|(_, event)| event));
    Ok(())
}

fn event_time(json: &str) -> Result<Timestamp, serde_json::Error> {
    #[derive(Deserialize)]
    struct Timed {
        spec: Last,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Last {
        last_time: Timestamp,
    }
    Ok(serde_json::from_str::<Timed>(json)?.spec.last_time)
}
