//! JSON Schema of each kind, made from the types by schemars.
//!
//! [`schema`] is what people may write (no record, no status, four metadata fields); [`full_schema`] is what is
//! stored. The manifest reader checks files against the former, `explain` reads its docs from the latter.

mod explain;
mod text;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::*;

pub use explain::{ExplainError, FieldDoc, FieldValue, explain};
pub use text::{CidrText, Ipv4Text, TimeText, UuidText};

/// The metadata that people write; all else in it is managed.
pub const USER_METADATA: [&str; 4] = ["name", "namespace", "labels", "annotations"];

macro_rules! full_schemas {
    ($($kind:ident),*) => {
        fn make_full(kind: Kind) -> Value {
            let generator = SchemaSettings::draft2020_12().into_generator();
            let mut schema = match kind { $(Kind::$kind => generator.into_root_schema_for::<$kind>().to_value()),* };
            // One object's kind is no choice.
            schema["properties"]["kind"] = json!({"type": "string", "const": kind.name(), "description": "The kind's name."});
            schema["properties"]["apiVersion"] =
                json!({"type": "string", "const": API_VERSION, "description": "Always the same for now."});
            drop_unused_definitions(&mut schema);
            schema
        }
    };
}
full_schemas!(
    Host,
    StoragePool,
    Network,
    Image,
    MachineClass,
    Cluster,
    WorkerGroup,
    Machine,
    Volume,
    Secret,
    Event
);

static FULL: LazyLock<BTreeMap<Kind, Value>> =
    LazyLock::new(|| Kind::ALL.into_iter().map(|kind| (kind, make_full(kind))).collect());
static USER: LazyLock<BTreeMap<Kind, Value>> =
    LazyLock::new(|| Kind::ALL.into_iter().map(|kind| (kind, make_user(kind))).collect());

/// The schema of an object of this kind as people may write it. For a kind that people may not write it says
/// `readOnly`, and describes the spec for those who read it.
pub fn schema(kind: Kind) -> &'static Value {
    &USER[&kind]
}

/// The schema of an object of this kind as it is stored.
pub fn full_schema(kind: Kind) -> &'static Value {
    &FULL[&kind]
}

fn make_user(kind: Kind) -> Value {
    let mut schema = make_full(kind);
    let description = resolve(&schema, &schema["properties"]["spec"])["description"].clone();
    let Some(root) = schema.as_object_mut() else { return schema };
    root.insert("title".to_owned(), kind.name().into());
    root.insert("description".to_owned(), description);
    if !kind.is_user_written() {
        root.insert("readOnly".to_owned(), true.into());
    }
    root.insert("required".to_owned(), json!(["apiVersion", "kind", "metadata", "spec"]));
    if let Some(Value::Object(properties)) = root.get_mut("properties") {
        properties.retain(|name, _| !matches!(name.as_str(), "record" | "status"));
    }
    if let Some(Value::Object(metadata)) = schema.pointer_mut("/$defs/ObjectMeta/properties") {
        metadata.retain(|name, _| USER_METADATA.contains(&name.as_str()));
        if !kind.is_namespaced() {
            metadata.shift_remove("namespace");
        }
    }
    drop_unused_definitions(&mut schema);
    schema
}

/// Drops definitions that nothing refers to any more.
fn drop_unused_definitions(schema: &mut Value) {
    loop {
        let mut used = Vec::new();
        collect_refs(schema, &mut used);
        let Some(Value::Object(definitions)) = schema.get_mut("$defs") else { return };
        let before = definitions.len();
        definitions.retain(|name, _| used.iter().any(|reference| reference == name));
        if definitions.len() == before {
            if before == 0
                && let Some(root) = schema.as_object_mut()
            {
                root.shift_remove("$defs");
            }
            return;
        }
    }
}

fn collect_refs(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) =
                fields.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"))
            {
                out.push(name.to_owned());
            }
            fields.values().for_each(|field| collect_refs(field, out));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_refs(item, out)),
        _ => {}
    }
}

/// Follows `$ref`, and `anyOf` with null (an optional field), to what describes the value.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    // Bounded: our schemas nest references at most a few levels.
    for _ in 0..16 {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
            schema = target.unwrap_or(&Value::Null);
        } else if let Some(some) = schema.get("anyOf").and_then(Value::as_array).and_then(|any| {
            any.iter().find(|option| option.get("type").and_then(Value::as_str) != Some("null"))
        }) {
            schema = some;
        } else {
            break;
        }
    }
    schema
}

/// The names and descriptions of an enumeration's values; empty for what is none.
pub(crate) fn enumeration(schema: &Value) -> Vec<(&str, &str)> {
    let mut values = Vec::new();
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        values.extend(names.iter().filter_map(Value::as_str).map(|name| (name, "")));
    }
    for option in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        let description = option.get("description").and_then(Value::as_str).unwrap_or_default();
        if let Some(name) = option.get("const").and_then(Value::as_str) {
            values.push((name, description));
        }
        let names = option.get("enum").and_then(Value::as_array).into_iter().flatten();
        values.extend(names.filter_map(Value::as_str).map(|name| (name, description)));
    }
    values
}

/// The fields of an object's schema.
pub(crate) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// The schema of a map's values, or nothing for objects with fields of their own.
pub(crate) fn map_values(schema: &Value) -> Option<&Value> {
    let by_pattern =
        schema.get("patternProperties").and_then(Value::as_object).and_then(|all| all.values().next());
    schema.get("additionalProperties").filter(|values| values.is_object()).or(by_pattern)
}

/// Whether an object's field must be there.
pub(crate) fn is_required(schema: &Value, field: &str) -> bool {
    schema
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|names| names.iter().any(|name| name.as_str() == Some(field)))
}

/// A JSON Schema type, whether or not null is possible beside it.
pub(crate) fn type_name(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        _ if schema.get("properties").is_some() => "object",
        _ if !enumeration(schema).is_empty() => "string",
        _ => "",
    }
}
