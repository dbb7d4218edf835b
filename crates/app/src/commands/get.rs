//! `ashlar get`: opens the store for reading and nothing else; no engine, no libvirt, no async runtime.

use ashlar_api::Kind;
use ashlar_store::RawStored;
use jiff::Timestamp;
use serde::Deserialize;

use crate::cli::{GetArgs, OutputFormat};
use crate::failure::{Context, Exit, Result};
use crate::objects::{Reader, Wanted, object_ref, shown, slash_name, wanted};
use crate::output::{Table, headers, row, yaml};
use crate::selector::Selector;
use crate::settings::Settings;

/// Lists objects.
pub(crate) fn get(settings: &Settings, args: &GetArgs) -> Result {
    let selector = Selector::parse(args.selector.as_deref().unwrap_or_default())?;
    let wanted = wanted(&args.kinds, &args.names)?;
    let reader = Reader::open(settings)?;
    reader.note_if_missing(settings);
    let mut found = Vec::new();
    for one in &wanted {
        let mut objects = read(settings, &reader, one, args.all_namespaces)?;
        if one.kind == Kind::Event {
            sort_events(&mut objects)?;
        }
        for object in objects {
            if selector.matches(&object.value)? {
                found.push((one.kind, object));
            }
        }
    }
    let is_single = wanted.len() == 1 && wanted.iter().all(|one| one.names.len() == 1);
    match settings.output {
        OutputFormat::Table | OutputFormat::Wide => table(settings, args, &wanted, found),
        OutputFormat::Name => settings.printer.data(|out| {
            found.iter().try_for_each(|(kind, stored)| {
                let object = object_ref(*kind, &stored.key.name, &stored.key.namespace);
                writeln!(out, "{}", slash_name(&object))
            })
        }),
        OutputFormat::Json | OutputFormat::Yaml => {
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
    }
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

fn read(settings: &Settings, reader: &Reader, one: &Wanted, all: bool) -> Result<Vec<RawStored>> {
    if one.names.is_empty() {
        return reader.list(one.kind, if all { None } else { Some(&settings.namespace) });
    }
    one.names.iter().map(|name| reader.get(&object_ref(one.kind, name, &settings.namespace))).collect()
}

fn table(settings: &Settings, args: &GetArgs, wanted: &[Wanted], found: Vec<(Kind, RawStored)>) -> Result {
    let wide = settings.output == OutputFormat::Wide;
    let now = Timestamp::now();
    let mut tables = Vec::new();
    for one in wanted {
        let with_namespace = args.all_namespaces && one.kind.is_namespaced();
        let mut heads = if args.no_headers { Vec::new() } else { headers(one.kind, wide) };
        if with_namespace && !heads.is_empty() {
            heads.insert(0, "NAMESPACE");
        }
        let mut table = Table::new(heads);
        for (_, stored) in found.iter().filter(|(kind, _)| *kind == one.kind) {
            let mut cells = row(one.kind, &stored.value, wide, now)
                .context(format!("{} in the store cannot be read by this version of Ashlar", stored.key))?;
            if with_namespace {
                cells.insert(0, stored.key.namespace.clone());
            }
            table.push(cells);
        }
        if !table.is_empty() {
            tables.push((one.kind, table));
        }
    }
    if tables.is_empty() {
        let kinds: Vec<&str> = wanted.iter().map(|one| one.kind.plural()).collect();
        let place = match wanted.iter().any(|one| one.kind.is_namespaced()) && !args.all_namespaces {
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
fn sort_events(events: &mut [RawStored]) -> Result<()> {
    #[derive(Deserialize)]
    struct Timed {
        spec: Last,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Last {
        last_time: Timestamp,
    }
    let mut keyed = Vec::with_capacity(events.len());
    for event in events.iter() {
        keyed.push((event.value.decode::<Timed>()?.spec.last_time, event.clone()));
    }
    keyed.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.key.cmp(&b.1.key)));
    for (slot, (_, event)) in events.iter_mut().zip(keyed) {
        *slot = event;
    }
    Ok(())
}
