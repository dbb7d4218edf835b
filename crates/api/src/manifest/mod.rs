//! Reading objects from files that people write: YAML documents or JSON.
//!
//! A file is read completely before anything of it counts: either all its objects are returned, or all that is
//! wrong with it, each with line and column. Input is bounded ([`Limits`]): a hostile file is an error, never a
//! hang or a crash.

mod check;
mod scalar;
mod yaml;

use std::collections::BTreeMap;

use crate::names::{did_you_mean, quoted, some_of};
use crate::schema::{USER_METADATA, schema};
use crate::validate::Violation;
use crate::{API_VERSION, Kind, Object, ObjectRef};
use check::{Checker, describe};
pub use yaml::Location;
use yaml::{Node, Problem, Tree};

/// How much of a file is read before it counts as hostile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub bytes: usize,
    /// Values, with aliases expanded.
    pub nodes: usize,
    /// Levels of nesting.
    pub depth: usize,
    /// Problems that are reported; beyond, reading stops.
    pub problems: usize,
}

impl Default for Limits {
    /// Enough for some 10 000 objects.
    fn default() -> Self {
        Limits { bytes: 8 << 20, nodes: 400_000, depth: 32, problems: 50 }
    }
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}:{line}:{column}: {}{message}", path_prefix(path))]
pub struct ManifestError {
    /// File name, or what stands for it.
    pub source_name: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Path in the object; empty where it concerns the whole.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

fn path_prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// An object and where in the file it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestObject {
    /// The object, with defaults.
    pub object: Object,
    /// File name, or what stands for it.
    pub source_name: String,
    /// Path → place of its key.
    pub locations: BTreeMap<String, Location>,
}

impl ManifestObject {
    /// The place of a path, or of the nearest one around it that is written in the file.
    pub fn locate(&self, path: &str) -> Location {
        locate_in(&self.locations, path)
    }
}

fn locate_in(locations: &BTreeMap<String, Location>, path: &str) -> Location {
    let mut path = path;
    loop {
        if let Some(location) = locations.get(path) {
            return *location;
        }
        match path.rfind(['.', '[']) {
            Some(end) => path = &path[..end],
            None => return locations.get("").copied().unwrap_or_default(),
        }
    }
}

/// A violation as an error of the file that the object came from; `None` if it came from none of them.
pub fn locate(violation: &Violation, objects: &[ManifestObject]) -> Option<ManifestError> {
    let found = objects.iter().find(|object| object.object.object_ref() == violation.object)?;
    let at = found.locate(&violation.path);
    Some(ManifestError {
        source_name: found.source_name.clone(),
        line: at.line,
        column: at.column,
        path: violation.path.clone(),
        message: violation.message.clone(),
    })
}

/// Reads all objects of a file.
///
/// # Errors
/// All that is wrong: syntax, unknown fields and kinds, wrong types, managed fields, objects written twice. What
/// the values mean is not judged here but by [`crate::validate`].
pub fn read(text: &str, source_name: &str) -> Result<Vec<Object>, Vec<ManifestError>> {
    Ok(read_located(text, source_name)?.into_iter().map(|object| object.object).collect())
}

/// As [`read`], from bytes that may not even be text.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], source_name: &str) -> Result<Vec<ManifestObject>, Vec<ManifestError>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => read_located(text, source_name),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let at = Location { line, column };
            let message = "not text: a byte that is not UTF-8 (is this the right file?)";
            Err(vec![to_error(source_name, Problem::new(at, "", message))])
        }
    }
}

/// As [`read`], with the place of every field, for messages of those who judge the values.
///
/// # Errors
/// As [`read`].
pub fn read_located(text: &str, source_name: &str) -> Result<Vec<ManifestObject>, Vec<ManifestError>> {
    read_limited(text, source_name, &Limits::default())
}

/// As [`read_located`], with limits of one's own.
///
/// # Errors
/// As [`read`].
pub fn read_limited(
    text: &str,
    source_name: &str,
    limits: &Limits,
) -> Result<Vec<ManifestObject>, Vec<ManifestError>> {
    let start = Location { line: 1, column: 1 };
    if text.len() > limits.bytes {
        let message = format!("{} bytes are more than the {} that are read", text.len(), limits.bytes);
        return Err(vec![to_error(source_name, Problem::new(start, "", message))]);
    }
    let (documents, mut problems) = yaml::documents(text, limits);
    let is_whole = problems.is_empty();
    let mut objects: Vec<ManifestObject> = Vec::new();
    let mut first: BTreeMap<ObjectRef, Location> = BTreeMap::new();
    // Documents without content (`---` at the end, comments only) are no objects, and no errors.
    for document in documents.iter().filter(|document| !matches!(document.tree, Tree::Null)) {
        match read_document(document, source_name) {
            Err(new) => problems.extend(new),
            Ok(object) => {
                let name = object.object.object_ref();
                match first.get(&name) {
                    Some(at) => {
                        let message = format!("{name} is written twice: first at line {}", at.line);
                        problems.push(Problem::new(document.at, "", message));
                    }
                    None => {
                        first.insert(name, document.at);
                    }
                }
                objects.push(object);
            }
        }
        if problems.len() > limits.problems {
            break;
        }
    }
    if objects.is_empty() && problems.is_empty() && is_whole {
        problems.push(Problem::new(start, "", "there is no object in it"));
    }
    if problems.is_empty() {
        return Ok(objects);
    }
    problems.sort_by_key(|problem| problem.at);
    if problems.len() > limits.problems {
        problems.truncate(limits.problems);
        let at = problems.last().map(|problem| problem.at).unwrap_or(start);
        problems.push(Problem::new(at, "", "too many problems: the rest is not shown"));
    }
    Err(problems.into_iter().map(|problem| to_error(source_name, problem)).collect())
}

fn to_error(source_name: &str, problem: Problem) -> ManifestError {
    ManifestError {
        source_name: source_name.to_owned(),
        line: problem.at.line,
        column: problem.at.column,
        path: problem.path,
        message: problem.message,
    }
}

fn read_document(node: &Node, source_name: &str) -> Result<ManifestObject, Vec<Problem>> {
    let kind = read_kind(node)?;
    let mut problems = managed_fields(node, kind);
    let managed: Vec<String> = problems.iter().map(|problem| problem.path.clone()).collect();
    let schema = schema(kind);
    let mut checker = Checker::new(schema);
    let value = checker.check(node, schema, "");
    // A managed field has its own message; that the schema does not know it is no news.
    problems.extend(checker.problems.into_iter().filter(|problem| !managed.contains(&problem.path)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut object = Object::from_value(kind, value).map_err(|error| {
        // The schema is looser than the types somewhere: the types have the last word.
        let at = locate_in(&checker.locations, error.path());
        vec![Problem::new(at, error.path(), error.message())]
    })?;
    object.apply_defaults();
    Ok(ManifestObject { object, source_name: source_name.to_owned(), locations: checker.locations })
}

/// Finds out what a document is: its `apiVersion` and `kind`.
fn read_kind(node: &Node) -> Result<Kind, Vec<Problem>> {
    let one = |at, path: &str, message: String| vec![Problem::new(at, path, message)];
    if !matches!(node.tree, Tree::Map(_)) {
        let message = format!(
            "wants an object (a map with apiVersion, kind, metadata, spec), not {}",
            describe(&node.tree)
        );
        return Err(one(node.at, "", message));
    }
    match node.get("apiVersion").map(|entry| &entry.value) {
        None => {
            let hint = near_key(node, "apiVersion");
            return Err(one(
                node.at,
                "apiVersion",
                format!("is missing: write `apiVersion: {API_VERSION}`{hint}"),
            ));
        }
        Some(Node { tree: Tree::Text(text), .. }) if text == API_VERSION => {}
        Some(Node { tree: Tree::Text(text), at }) => {
            let message = format!("{} is not known: this ashlar reads {API_VERSION}", quoted(text));
            return Err(one(*at, "apiVersion", message));
        }
        Some(other) => {
            let message = format!("wants the text `{API_VERSION}`, not {}", describe(&other.tree));
            return Err(one(other.at, "apiVersion", message));
        }
    }
    let writable = || Kind::ALL.into_iter().filter(|kind| kind.is_user_written()).map(Kind::name);
    let (text, at) = match node.get("kind").map(|entry| &entry.value) {
        Some(Node { tree: Tree::Text(text), at }) => (text, *at),
        None => {
            let hint = near_key(node, "kind");
            let message = format!("is missing: write one of {}{hint}", some_of(writable()));
            return Err(one(node.at, "kind", message));
        }
        Some(other) => {
            let message = format!("wants the name of a kind, not {}", describe(&other.tree));
            return Err(one(other.at, "kind", message));
        }
    };
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == text) else {
        let hint = match Kind::parse(text) {
            Some(kind) => format!(": did you mean `{kind}`?"),
            None => did_you_mean(text, writable()),
        };
        let hint = if hint.is_empty() {
            format!("; kinds are {}", writable().collect::<Vec<_>>().join(", "))
        } else {
            hint
        };
        return Err(one(at, "kind", format!("unknown kind {}{hint}", quoted(text))));
    };
    match not_user_written(kind) {
        Some(reason) => Err(one(at, "kind", reason.to_owned())),
        None => Ok(kind),
    }
}

/// Names a key that was probably meant to be the missing one.
fn near_key(node: &Node, wanted: &str) -> String {
    let Tree::Map(entries) = &node.tree else { return String::new() };
    match entries.iter().find(|entry| crate::names::nearest(&entry.key, [wanted]).is_some()) {
        Some(entry) => format!(" ({} is not it)", quoted(&entry.key)),
        None => String::new(),
    }
}

/// Why people do not write objects of a kind; `None` for those that they do write.
pub fn not_user_written(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Machine => Some(
            "a Machine is written by the planner, which chooses its host, addresses and disks: write or change its \
             Cluster or WorkerGroup",
        ),
        Kind::Volume => Some(
            "a Volume is written by the planner together with its Machine: disks follow from the MachineClass",
        ),
        Kind::Secret => Some("a Secret is sealed by Ashlar: its value would lie in plain text in this file"),
        Kind::Event => Some("an Event is a record of what happened: Ashlar writes it"),
        _ => None,
    }
}

/// Fields that Ashlar manages and people do not write.
fn managed_fields(node: &Node, kind: Kind) -> Vec<Problem> {
    let mut problems = Vec::new();
    for field in ["status", "record"] {
        if let Some(entry) = node.get(field) {
            let message = "is written by Ashlar, not by people: remove it";
            problems.push(Problem::new(entry.key_at, field, message));
        }
    }
    let stored = crate::schema::full_schema(kind);
    let known = stored.pointer("/$defs/ObjectMeta/properties").and_then(serde_json::Value::as_object);
    let Some(Tree::Map(entries)) = node.get("metadata").map(|entry| &entry.value.tree) else {
        return problems;
    };
    for entry in entries {
        let path = format!("metadata.{}", entry.key);
        if entry.key == "namespace" && !kind.is_namespaced() {
            let message = format!("a {kind} belongs to no namespace: remove it");
            problems.push(Problem::new(entry.key_at, path, message));
        } else if !USER_METADATA.contains(&entry.key.as_str())
            && known.is_some_and(|known| known.contains_key(&entry.key))
        {
            let message =
                format!("is managed by Ashlar: remove it (people write {})", USER_METADATA.join(", "));
            problems.push(Problem::new(entry.key_at, path, message));
        }
    }
    problems
}
