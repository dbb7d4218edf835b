//! What an update changes, for people.

use serde_json::{Map, Value};

use crate::{Object, names::join_path, object::ConversionError, schema::USER_METADATA};

/// One field that changes.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// Path (`spec.controlPlane.replicas`, `spec.workers[wkr].class`).
    pub path: String,
    /// Before; `None` if it was not there.
    pub old: Option<Value>,
    /// After; `None` if it is not there any more.
    pub new: Option<Value>,
}

impl std::fmt::Display for FieldChange {
    /// `path: old → new`; a field that comes or goes has one side only.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{}: {} → {}", self.path, Plain(old), Plain(new)),
            (None, Some(new)) => write!(f, "{}: set to {}", self.path, Plain(new)),
            (Some(old), None) => write!(f, "{}: {} removed", self.path, Plain(old)),
            (None, None) => f.write_str(&self.path),
        }
    }
}

struct Plain<'a>(&'a Value);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Value::String(text) if !text.is_empty() && !text.contains(char::is_control) => f.write_str(text),
            other => write!(f, "{other}"),
        }
    }
}

/// The fields in which two values differ. Lists whose items have names are compared by name, others of the same
/// length item by item, and else as a whole.
pub fn diff(old: &Value, new: &Value) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare("", Some(old), Some(new), &mut changes);
    changes
}

/// The fields of what people write (labels, annotations, spec) in which two objects differ.
///
/// # Errors
/// As [`Object::to_value`].
pub fn diff_objects(old: &Object, new: &Object) -> Result<Vec<FieldChange>, ConversionError> {
    Ok(diff(&user_view(old)?, &user_view(new)?))
}

/// An object as people write it: without record, status and managed metadata.
///
/// # Errors
/// As [`Object::to_value`].
pub fn user_view(object: &Object) -> Result<Value, ConversionError> {
    let mut value = object.to_value()?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "record" | "status"));
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| USER_METADATA.contains(&name.as_str()));
    }
    Ok(value)
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, out: &mut Vec<FieldChange>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => fields(path, old, new, out),
        (Some(Value::Array(old)), Some(Value::Array(new))) => match (by_name(old), by_name(new)) {
            (Some(old_names), Some(new_names)) => {
                for (name, item) in &old_names {
                    let other = new_names.iter().find(|(other, _)| other == name).map(|(_, item)| *item);
                    compare(&format!("{path}[{name}]"), Some(item), other, out);
                }
                for (name, item) in &new_names {
                    if !old_names.iter().any(|(other, _)| other == name) {
                        compare(&format!("{path}[{name}]"), None, Some(item), out);
                    }
                }
            }
            _ if old.len() == new.len() => {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    compare(&format!("{path}[{index}]"), Some(old), Some(new), out);
                }
            }
            _ => push(path, Some(&Value::Array(old.clone())), Some(&Value::Array(new.clone())), out),
        },
        (old, new) => push(path, old, new, out),
    }
}

fn push(path: &str, old: Option<&Value>, new: Option<&Value>, out: &mut Vec<FieldChange>) {
    out.push(FieldChange { path: path.to_owned(), old: old.cloned(), new: new.cloned() });
}

fn fields(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, out: &mut Vec<FieldChange>) {
    for (name, value) in old {
        compare(&join_path(path, name), Some(value), new.get(name), out);
    }
    for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        compare(&join_path(path, name), None, Some(value), out);
    }
}

/// The items by their `name`, if every one has one of its own.
fn by_name(items: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let mut named: Vec<(&str, &Value)> = Vec::with_capacity(items.len());
    for item in items {
        let name = item.get("name")?.as_str()?;
        if named.iter().any(|(other, _)| *other == name) {
            return None;
        }
        named.push((name, item));
    }
    Some(named)
}
