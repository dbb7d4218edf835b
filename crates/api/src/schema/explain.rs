//! Field docs, as `kubectl explain` has them, derived from the schema.

use serde_json::Value;

use super::{enumeration, full_schema, is_required, map_values, properties, resolve, type_name};
use crate::{
    Kind,
    names::{did_you_mean, join_path, some_of},
};

/// What is known about one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDoc {
    /// Path from the object's root (`spec.controlPlane.replicas`); empty for the object itself.
    pub path: String,
    /// Last part of the path, or the kind.
    pub name: String,
    /// Type for people: `text`, `whole number`, `list of objects`, …
    pub type_name: String,
    /// Default, where there is one.
    pub default: Option<Value>,
    /// Whether it must be written.
    pub required: bool,
    /// Whether Ashlar writes it, and people do not.
    pub read_only: bool,
    /// What it means.
    pub description: String,
    /// The values that are possible, where they are few.
    pub values: Vec<FieldValue>,
    /// Its fields (without theirs).
    pub children: Vec<FieldDoc>,
}

/// One value of an enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue {
    /// As it is written.
    pub value: String,
    /// What it means.
    pub description: String,
}

/// Why a field cannot be explained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// No such field.
    #[error("{kind} has no field `{path}`{hint}")]
    UnknownField {
        /// Kind.
        kind: Kind,
        /// Path up to the unknown name.
        path: String,
        /// The nearest name or those that exist.
        hint: String,
    },
    /// The field before has no fields.
    #[error("{kind}: `{path}` has no fields of its own: its type is {type_name}")]
    NoFields {
        /// Kind.
        kind: Kind,
        /// Path of the field that was gone into.
        path: String,
        /// Its type.
        type_name: String,
    },
}

/// Explains a field by its path (`spec.controlPlane.replicas`; list indices may be written or left out). An empty
/// path explains the kind.
pub fn explain(kind: Kind, path: &str) -> Result<FieldDoc, ExplainError> {
    let root = full_schema(kind);
    let mut schema = root;
    let mut walked = String::new();
    let mut doc = field_doc(kind, root, root, kind.name(), "", false);
    doc.description = text(resolve(root, &root["properties"]["spec"]), "description");
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let name = part.split('[').next().unwrap_or_default();
        let object = innermost(root, schema);
        let here = join_path(&walked, name);
        let (field, required) = match (properties(object), map_values(object)) {
            (Some(fields), _) => match fields.get(name) {
                Some(field) => (field, is_required(object, name)),
                None => {
                    let known = || fields.keys().map(String::as_str);
                    let hint = match did_you_mean(name, known()) {
                        hint if hint.is_empty() => format!("; it has {}", some_of(known())),
                        hint => hint,
                    };
                    return Err(ExplainError::UnknownField { kind, path: here, hint });
                }
            },
            // A map's keys are the user's: any is as good as another.
            (None, Some(values)) => (values, false),
            (None, None) => {
                return Err(ExplainError::NoFields { kind, path: walked, type_name: doc.type_name });
            }
        };
        schema = field;
        walked = here;
        let map = properties(object).is_none().then_some(doc.description);
        doc = field_doc(kind, root, field, name, &walked, required);
        if let Some(map) = map.filter(|_| doc.description.is_empty()) {
            doc.description = map;
        }
    }
    let object = innermost(root, schema);
    for (name, field) in properties(object).into_iter().flatten() {
        let path = join_path(&walked, name);
        doc.children.push(field_doc(kind, root, field, name, &path, is_required(object, name)));
    }
    Ok(doc)
}

/// What a list's items, or else the value itself, look like.
fn innermost<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = resolve(root, schema);
    while let Some(items) = schema.get("items") {
        schema = resolve(root, items);
    }
    schema
}

fn field_doc(kind: Kind, root: &Value, field: &Value, name: &str, path: &str, required: bool) -> FieldDoc {
    let target = resolve(root, field);
    let inner = innermost(root, field);
    // What a kind's spec is, its own type says; of other fields, the field.
    let own = if path == "spec" { String::new() } else { text(field, "description") };
    let description = if own.is_empty() { text(target, "description") } else { own };
    let default = field.get("default").or_else(|| target.get("default"));
    let managed_metadata = path
        .strip_prefix("metadata.")
        .is_some_and(|rest| !super::USER_METADATA.contains(&rest.split('.').next().unwrap_or_default()));
    FieldDoc {
        path: path.to_owned(),
        name: name.to_owned(),
        type_name: describe_type(root, field),
        // An empty list, map or object as default says nothing.
        default: default.filter(|value| !is_empty(value)).cloned(),
        required,
        read_only: !kind.is_user_written()
            || managed_metadata
            || path.starts_with("status")
            || path.starts_with("record"),
        description,
        values: enumeration(inner)
            .into_iter()
            .map(|(value, description)| FieldValue {
                value: value.to_owned(),
                description: one_line(description),
            })
            .collect(),
        children: Vec::new(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// A type as people call it.
fn describe_type(root: &Value, field: &Value) -> String {
    let schema = resolve(root, field);
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    match (type_name(schema), format) {
        ("array", _) => format!("list of {}", plural(&describe_type(root, &schema["items"]))),
        ("integer", _) => "whole number".to_owned(),
        ("number", _) => "number".to_owned(),
        ("boolean", _) => "true or false".to_owned(),
        ("string", "ipv4") => "IPv4 address".to_owned(),
        ("string", "ipv4-cidr") => "IPv4 network".to_owned(),
        ("string", "uuid") => "UUID".to_owned(),
        ("string", "date-time") => "time".to_owned(),
        ("string", "mebibytes") => "amount (as 512Mi or 16Gi)".to_owned(),
        ("string", _) if !enumeration(schema).is_empty() => "one of the values below".to_owned(),
        ("string", _) => "text".to_owned(),
        ("object", _) => match map_values(schema) {
            Some(values) => format!("map of {}", plural(&describe_type(root, values))),
            None => "object".to_owned(),
        },
        _ => "one of several objects".to_owned(),
    }
}

fn plural(name: &str) -> String {
    match name {
        "text" => "texts".to_owned(),
        "object" => "objects".to_owned(),
        "whole number" => "whole numbers".to_owned(),
        "IPv4 address" => "IPv4 addresses".to_owned(),
        "IPv4 network" => "IPv4 networks".to_owned(),
        other => other.to_owned(),
    }
}

fn text(schema: &Value, key: &str) -> String {
    one_line(schema.get(key).and_then(Value::as_str).unwrap_or_default())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
