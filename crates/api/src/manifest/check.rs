//! Checks a located tree against a kind's schema: every problem, each at its place and named by its path.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::yaml::{Entry, Location, Node, Problem, Tree};
use crate::{
    Mebibytes,
    names::{did_you_mean, join_path, nearest, quoted, some_of},
    schema::{enumeration, is_required, map_values, properties, resolve, type_name},
};

/// Collects problems, and the place of each path for those who find problems later.
pub(crate) struct Checker<'a> {
    pub(crate) root: &'a Value,
    pub(crate) problems: Vec<Problem>,
    pub(crate) locations: BTreeMap<String, Location>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(root: &'a Value) -> Self {
        Checker { root, problems: Vec::new(), locations: BTreeMap::new() }
    }

    fn problem(&mut self, at: Location, path: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(at, path, message));
    }

    /// Checks a node; returns it as JSON (without fields that are null where null means absent).
    pub(crate) fn check(&mut self, node: &Node, schema: &'a Value, path: &str) -> Value {
        self.locations.insert(path.to_owned(), node.at);
        let target = resolve(self.root, schema);
        let wanted = type_name(target);
        match (&node.tree, wanted) {
            (Tree::Map(entries), "object") => self.object(node, entries, target, path),
            (Tree::List(items), "array") => {
                let schema = target.get("items").unwrap_or(&Value::Null);
                let check = |(index, item)| self.check(item, schema, &format!("{path}[{index}]"));
                Value::Array(items.iter().enumerate().map(check).collect())
            }
            (Tree::Text(text), "string") => {
                if let Some(message) = text_problem(text, target) {
                    self.problem(node.at, path, message);
                }
                Value::String(text.clone())
            }
            (Tree::Bool(value), "boolean") => Value::Bool(*value),
            (Tree::Number(number), "integer" | "number") => {
                if let Some(message) = number_problem(number, target) {
                    self.problem(node.at, path, message);
                }
                Value::Number(number.clone())
            }
            (_, "") => plain(node),
            (found, _) => {
                let message = wrong_type(found, wanted, target);
                self.problem(node.at, path, message);
                Value::Null
            }
        }
    }

    fn object(&mut self, node: &Node, entries: &[Entry], schema: &'a Value, path: &str) -> Value {
        let mut out = Map::new();
        let fields = properties(schema);
        let mut misspelt = Vec::new();
        for entry in entries {
            let field_path = join_path(path, &entry.key);
            let field = match fields {
                Some(fields) => fields.get(&entry.key),
                None => map_values(schema),
            };
            let Some(field) = field else {
                let known = fields.into_iter().flat_map(|fields| fields.keys()).map(String::as_str);
                misspelt.extend(nearest(&entry.key, known.clone()));
                let message = unknown_field(&entry.key, path, known);
                self.problem(entry.key_at, &field_path, message);
                continue;
            };
            // An empty value is an absent one (as for kubectl), unless the field is needed.
            if matches!(entry.value.tree, Tree::Null) && fields.is_some() {
                if is_required(schema, &entry.key) {
                    self.problem(entry.value.at, &field_path, "has no value");
                }
                continue;
            }
            let value = self.check(&entry.value, field, &field_path);
            self.locations.insert(field_path, entry.key_at);
            out.insert(entry.key.clone(), value);
        }
        for (name, _) in fields.into_iter().flatten() {
            // One that is there under a misspelt name was reported already.
            if is_required(schema, name) && node.get(name).is_none() && !misspelt.contains(&name.as_str()) {
                self.problem(node.at, &join_path(path, name), "is missing");
            }
        }
        Value::Object(out)
    }
}

fn unknown_field<'a>(key: &str, path: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let place = if path.is_empty() { String::new() } else { format!(" in {path}") };
    let hint = match did_you_mean(key, known.clone()) {
        hint if hint.is_empty() => format!("; it has {}", some_of(known)),
        hint => hint,
    };
    format!("unknown field {}{place}{hint}", quoted(key))
}

/// What a person would call a value.
pub(crate) fn describe(tree: &Tree) -> String {
    match tree {
        Tree::Null => "nothing".to_owned(),
        Tree::Bool(value) => format!("`{value}` (true or false)"),
        Tree::Number(number) => format!("the number {number}"),
        Tree::Text(text) => format!("the text {}", quoted(text)),
        Tree::List(_) => "a list".to_owned(),
        Tree::Map(_) => "a map".to_owned(),
    }
}

fn wrong_type(found: &Tree, wanted: &str, schema: &Value) -> String {
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    let wanted_text = match (wanted, format) {
        ("object", _) => "a map",
        ("array", _) => "a list",
        ("integer", _) => "a whole number",
        ("number", _) => "a number",
        ("boolean", _) => "true or false",
        ("string", "mebibytes") => "an amount with its unit",
        ("string", "ipv4") => "an IPv4 address",
        ("string", "ipv4-cidr") => "an IPv4 network",
        _ => "text",
    };
    let hint = match (found, wanted, format) {
        (Tree::Number(number), "string", "mebibytes") => format!(": write {number}Mi or {number}Gi"),
        (Tree::Number(_) | Tree::Bool(_), "string", _) => ": put it in quotes if it is meant".to_owned(),
        (Tree::Text(text), "integer", _) if text.parse::<u64>().is_ok() => ": remove the quotes".to_owned(),
        (Tree::Text(text), "boolean", _) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => ": write true".to_owned(),
            "no" | "off" | "n" | "false" => ": write false".to_owned(),
            _ => String::new(),
        },
        (Tree::Text(_), "array", _) => ": write each entry on a line of its own, after `- `".to_owned(),
        _ => String::new(),
    };
    format!("wants {wanted_text}, not {}{hint}", describe(found))
}

fn text_problem(text: &str, schema: &Value) -> Option<String> {
    if let Some(constant) = schema.get("const").and_then(Value::as_str) {
        return (text != constant).then(|| format!("is {}, not {}", quoted(constant), quoted(text)));
    }
    let values = enumeration(schema);
    if !values.is_empty() {
        let names = || values.iter().map(|(name, _)| *name);
        let unknown = !names().any(|name| name == text);
        return unknown.then(|| {
            let list = some_of(names());
            format!("{} is not possible; it is one of {list}{}", quoted(text), did_you_mean(text, names()))
        });
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("ipv4") => text.parse::<std::net::Ipv4Addr>().is_err().then(|| {
            format!("{} is not an IPv4 address: write four numbers, as in 192.168.1.10", quoted(text))
        }),
        Some("ipv4-cidr") => text.parse::<ipnet::Ipv4Net>().is_err().then(|| {
            format!(
                "{} is not an IPv4 network: write an address and a prefix length, as in 10.0.0.0/16",
                quoted(text)
            )
        }),
        Some("uuid") => {
            text.parse::<uuid::Uuid>().is_err().then(|| format!("{} is not a UUID", quoted(text)))
        }
        Some("date-time") => text
            .parse::<jiff::Timestamp>()
            .is_err()
            .then(|| format!("{} is not a time (RFC 3339, as 2026-01-31T12:00:00Z)", quoted(text))),
        Some("mebibytes") => text.parse::<Mebibytes>().err().map(|error| error.to_string()),
        _ => None,
    }
}

fn number_problem(number: &serde_json::Number, schema: &Value) -> Option<String> {
    if schema.get("type").is_some() && type_name(schema) == "number" {
        return None;
    }
    let (lowest, highest) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, u64::from(u8::MAX)),
        Some("uint16") => (0, u64::from(u16::MAX)),
        Some("uint32") => (0, u64::from(u32::MAX)),
        _ => (0, u64::MAX),
    };
    match number.as_u64() {
        Some(value) if (lowest..=highest).contains(&value) => None,
        _ if number.as_i64().is_some_and(|value| value < 0) => Some(format!("{number} is negative")),
        _ if number.as_u64().is_some() => Some(format!("{number} is outside of {lowest} to {highest}")),
        _ => Some(format!("wants a whole number, not {number}")),
    }
}

/// A node as JSON, unchecked.
pub(crate) fn plain(node: &Node) -> Value {
    match &node.tree {
        Tree::Null => Value::Null,
        Tree::Bool(value) => Value::Bool(*value),
        Tree::Number(number) => Value::Number(number.clone()),
        Tree::Text(text) => Value::String(text.clone()),
        Tree::List(items) => Value::Array(items.iter().map(plain).collect()),
        Tree::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), plain(&entry.value))).collect())
        }
    }
}
