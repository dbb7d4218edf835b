//! One object in full, for people: its fields as indented text, conditions and events as tables.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::Value;

use super::{Table, age};

/// Fields of the metadata that are shown first, in this order.
const METADATA: [(&str, &str); 5] = [
    ("name", "Name"),
    ("namespace", "Namespace"),
    ("uid", "Uid"),
    ("generation", "Generation"),
    ("creationTimestamp", "Created"),
];

/// Prints an object; `events` are rows of the event table.
pub(crate) fn describe(out: &mut dyn Write, object: &Value, events: Table, now: Timestamp) -> io::Result<()> {
    let metadata = &object["metadata"];
    for (field, title) in METADATA {
        if let Some(value) = metadata.get(field) {
            writeln!(out, "{title:<13}{}", scalar(value))?;
        }
    }
    writeln!(out, "{:<13}{}", "Kind", scalar(&object["kind"]))?;
    for (field, title) in [("labels", "Labels"), ("annotations", "Annotations")] {
        for (index, (key, value)) in metadata[field].as_object().into_iter().flatten().enumerate() {
            writeln!(out, "{:<13}{key}={}", if index == 0 { title } else { "" }, scalar(value))?;
        }
    }
    for owner in metadata["ownerReferences"].as_array().into_iter().flatten() {
        let kind = scalar(&owner["kind"]).to_ascii_lowercase();
        writeln!(out, "{:<13}{kind}/{}", "Belongs to", scalar(&owner["name"]))?;
    }
    if let Some(since) = metadata.get("deletionTimestamp") {
        writeln!(out, "{:<13}since {}", "Deleting", scalar(since))?;
    }
    for (field, title) in [("spec", "Spec"), ("record", "Record"), ("status", "Status")] {
        let Some(part) = object.get(field).and_then(Value::as_object).filter(|part| !part.is_empty()) else {
            continue;
        };
        let shown: Vec<_> = part.iter().filter(|(name, _)| *name != "conditions").collect();
        if !shown.is_empty() {
            writeln!(out, "{title}:")?;
        }
        for (name, value) in shown {
            tree(out, name, value, 2)?;
        }
    }
    conditions(out, &object["status"]["conditions"], now)?;
    if events.is_empty() {
        writeln!(out, "Events:      none")
    } else {
        writeln!(out, "Events:")?;
        events.write(out, 2)
    }
}

fn conditions(out: &mut dyn Write, conditions: &Value, now: Timestamp) -> io::Result<()> {
    let Some(conditions) = conditions.as_array().filter(|list| !list.is_empty()) else { return Ok(()) };
    let mut table = Table::new(vec!["TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"]);
    for condition in conditions {
        let since = condition["lastTransitionTime"].as_str().and_then(|text| text.parse().ok());
        table.push(vec![
            scalar(&condition["type"]),
            scalar(&condition["status"]),
            age(now, since),
            scalar(&condition["reason"]),
            condition["message"].as_str().unwrap_or_default().replace('\n', " "),
        ]);
    }
    writeln!(out, "Conditions:")?;
    table.write(out, 2)
}

/// One field and what is below it.
fn tree(out: &mut dyn Write, name: &str, value: &Value, indent: usize) -> io::Result<()> {
    let title = title(name);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            writeln!(out, "{:indent$}{title}:", "")?;
            fields.iter().try_for_each(|(name, value)| tree(out, name, value, indent + 2))
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            writeln!(out, "{:indent$}{title}:", "")?;
            items.iter().try_for_each(|item| list_item(out, item, indent + 2))
        }
        // Log lines and the like: one a line.
        Value::Array(items) if items.len() > 3 || items.iter().any(|item| scalar(item).contains(' ')) => {
            writeln!(out, "{:indent$}{title}:", "")?;
            items.iter().try_for_each(|item| writeln!(out, "{:1$}{2}", "", indent + 2, scalar(item)))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            writeln!(out, "{:indent$}{title}: {}", "", items.join(", "))
        }
        _ => {
            let text = scalar(value).replace('\n', &format!("\n{:1$}", "", indent + 2));
            writeln!(out, "{:indent$}{title}: {text}", "")
        }
    }
}

fn list_item(out: &mut dyn Write, item: &Value, indent: usize) -> io::Result<()> {
    match item.as_object() {
        None => writeln!(out, "{:indent$}- {}", "", scalar(item)),
        Some(fields) => {
            let flat = fields.values().all(|value| !value.is_object() && !value.is_array());
            if flat {
                let fields: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{name} {}", scalar(value))).collect();
                return writeln!(out, "{:indent$}- {}", "", fields.join(", "));
            }
            for (index, (name, value)) in fields.iter().enumerate() {
                if index == 0 {
                    write!(out, "{:indent$}- ", "")?;
                    match value {
                        Value::Object(_) | Value::Array(_) => {
                            writeln!(out)?;
                            tree(out, name, value, indent + 4)?;
                        }
                        _ => writeln!(out, "{}: {}", title(name), scalar(value))?,
                    }
                } else {
                    tree(out, name, value, indent + 2)?;
                }
            }
            Ok(())
        }
    }
}

/// `firstStartedAt` → `First started at`; keys that are not field names stay as they are.
fn title(name: &str) -> String {
    if !name.chars().all(|c| c.is_ascii_alphanumeric()) || !name.starts_with(|c: char| c.is_ascii_lowercase())
    {
        return name.to_owned();
    }
    let mut out = String::with_capacity(name.len() + 4);
    for (index, c) in name.chars().enumerate() {
        match c {
            _ if index == 0 => out.push(c.to_ascii_uppercase()),
            c if c.is_ascii_uppercase() => {
                out.push(' ');
                out.push(c.to_ascii_lowercase());
            }
            c => out.push(c),
        }
    }
    out
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Object(fields) if fields.is_empty() => "-".to_owned(),
        other => other.to_string(),
    }
}
