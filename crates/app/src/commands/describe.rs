//! `ashlar describe`

use ashlar_api::{EventType, Kind, Object, ObjectRef};
use jiff::Timestamp;

use crate::cli::{DescribeArgs, OutputFormat};
use crate::commands::get::print_value;
use crate::failure::{Exit, Result};
use crate::objects::{Reader, object_ref, shown, typed, wanted};
use crate::output::{Table, age, describe as print_description};
use crate::settings::Settings;

/// Shows objects in full.
pub(crate) fn describe(settings: &Settings, args: &DescribeArgs) -> Result {
    let reader = Reader::open(settings)?;
    let mut refs = Vec::new();
    for one in wanted(&args.kind, &args.names)? {
        if one.names.is_empty() {
            let all = reader.list(one.kind, Some(&settings.namespace))?;
            refs.extend(
                all.iter().map(|stored| object_ref(one.kind, &stored.key.name, &stored.key.namespace)),
            );
        } else {
            refs.extend(one.names.iter().map(|name| object_ref(one.kind, name, &settings.namespace)));
        }
    }
    if refs.is_empty() {
        settings.printer.note("nothing to describe");
    }
    let now = Timestamp::now();
    for (index, object) in refs.iter().enumerate() {
        let value = shown(reader.get(object)?)?;
        if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
            print_value(settings, &value)?;
            continue;
        }
        let events = events_about(&reader, object, now)?;
        settings.printer.data(|out| {
            if index > 0 {
                writeln!(out)?;
            }
            print_description(out, &value, events, now)
        })?;
    }
    Ok(Exit::Success)
}

/// Events about an object, as rows, oldest first.
pub(crate) fn events_about(reader: &Reader, about: &ObjectRef, now: Timestamp) -> Result<Table> {
    let mut events = Vec::new();
    for stored in reader.list(Kind::Event, None)? {
        if let Object::Event(event) = typed(stored)?
            && event.spec.about == *about
        {
            events.push(event);
        }
    }
    events.sort_by_key(|event| event.spec.last_time);
    let mut table = Table::new(vec!["LAST", "TYPE", "REASON", "COUNT", "MESSAGE"]);
    for event in events {
        table.push(vec![
            age(now, Some(event.spec.last_time)),
            match event.spec.event_type {
                EventType::Normal => "Normal".to_owned(),
                EventType::Warning => "Warning".to_owned(),
            },
            event.spec.reason.clone(),
            event.spec.count.to_string(),
            event.spec.message.replace('\n', " "),
        ]);
    }
    Ok(table)
}
