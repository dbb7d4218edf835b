//! Objects of the store, as commands name and read them.

use std::path::Path;

use ashlar_api::names::nearest;
use ashlar_api::{Kind, NamespacedName, Object, ObjectRef};
use ashlar_store::{EtcdStore, Key, RawStored, Row, SqliteStore, Store, StoreError};
use futures::executor::block_on;
use serde_json::Value;

use crate::failure::{Context, Failure, Result};
use crate::settings::Settings;
use crate::wiring::place::Place;

/// A kind, and the names asked for; none means all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    pub(crate) names: Vec<String>,
}

/// Reads `machines`, `hosts,pools`, `machine demo-1`, `machine/demo-1`, `all`.
pub(crate) fn wanted(kinds: &str, names: &[String]) -> Result<Vec<Wanted>> {
    let mut out: Vec<Wanted> = Vec::new();
    for part in kinds.split(',').filter(|part| !part.is_empty()) {
        if part == "all" {
            let all = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Event);
            out.extend(all.map(|kind| Wanted { kind, names: Vec::new() }));
        } else if let Some((kind, name)) = part.split_once('/') {
            if !names.is_empty() {
                return Err(Failure::new(format!("`{part}` already names its object"))
                    .hint("write either KIND/NAME or KIND NAME"));
            }
            out.push(Wanted { kind: parse_kind(kind)?, names: vec![name.to_owned()] });
        } else {
            out.push(Wanted { kind: parse_kind(part)?, names: names.to_vec() });
        }
    }
    if out.is_empty() {
        return Err(Failure::new("no kind is named").hint("for example: ashlar get machines"));
    }
    Ok(out)
}

/// The objects that are named one by one; `all of a kind` is not accepted.
pub(crate) fn wanted_refs(kind: &str, names: &[String], namespace: &str) -> Result<Vec<ObjectRef>> {
    let mut out = Vec::new();
    for wanted in wanted(kind, names)? {
        if wanted.names.is_empty() {
            return Err(Failure::new(format!("no name of a {} is given", wanted.kind))
                .hint(format!("`ashlar get {}` lists them", wanted.kind.plural())));
        }
        out.extend(wanted.names.iter().map(|name| object_ref(wanted.kind, name, namespace)));
    }
    Ok(out)
}

/// Reads the name of a kind.
pub(crate) fn parse_kind(text: &str) -> Result<Kind> {
    Kind::parse(text).ok_or_else(|| {
        let known = || Kind::ALL.into_iter().map(Kind::plural);
        let hint = did_you_mean(text, known());
        Failure::new(format!("there is no kind `{text}`{hint}"))
            .hint(format!("kinds are {}", known().collect::<Vec<_>>().join(", ")))
    })
}

/// Names an object in the given namespace, or in none if its kind has none.
pub(crate) fn object_ref(kind: Kind, name: &str, namespace: &str) -> ObjectRef {
    ObjectRef::new(kind, if kind.is_namespaced() { namespace } else { "" }, name)
}

/// The store's name of an object.
pub(crate) fn key(object: &ObjectRef) -> Key {
    Key::new(object.kind.name(), &object.namespace, &object.name)
}

/// `machine/demo-ctrl-1`, as `-o name` prints it.
pub(crate) fn slash_name(object: &ObjectRef) -> String {
    format!("{}/{}", object.kind.name().to_ascii_lowercase(), object.key())
}

/// The store, for reading only. A directory without a store reads as an empty one.
pub(crate) struct Reader {
    source: Source,
    hint: String,
}

enum Source {
    Nothing,
    Sqlite(SqliteStore),
    Etcd(EtcdStore),
}

impl Reader {
    /// Opens the store.
    pub(crate) fn open(settings: &Settings) -> Result<Reader> {
        let path = match Place::find(settings)? {
            Place::Sqlite(path) => path,
            Place::Etcd(_, store) => {
                return Ok(Reader { source: Source::Etcd(store), hint: String::new() });
            }
        };
        match SqliteStore::open_read_only(&path) {
            Ok(store) => Ok(Reader { source: Source::Sqlite(store), hint: String::new() }),
            Err(StoreError::Missing { .. }) => {
                let dir = settings.state_dir.display();
                let hint = format!("{dir} holds no store yet; --state-dir or --lab names another one");
                Ok(Reader { source: Source::Nothing, hint })
            }
            Err(error @ StoreError::OlderFormat { .. }) => migrate(&path, error),
            Err(error) => Err(error.into()),
        }
    }

    /// Says why nothing is there, where there is no store at all.
    pub(crate) fn note_if_missing(&self, settings: &Settings) {
        if self.store().is_none() {
            settings.printer.note(format!("note: {}", self.hint));
        }
    }

    /// One object.
    pub(crate) fn find(&self, object: &ObjectRef) -> Result<Option<RawStored>> {
        Ok(match &self.source {
            Source::Nothing => None,
            Source::Sqlite(store) => block_on(store.get_raw(&key(object)))?,
            Source::Etcd(store) => block_on(store.get_raw(&key(object)))?,
        })
    }

    /// One object, which must be there.
    pub(crate) fn get(&self, object: &ObjectRef) -> Result<RawStored> {
        if let Some(found) = self.find(object)? {
            return Ok(found);
        }
        let all = self.list(object.kind, None)?;
        let others = all.iter().map(|stored| stored.key.name.as_str()).filter(|name| *name != object.name);
        let near = did_you_mean(&object.name, others);
        let mut failure = Failure::new(format!("there is no {object}{near}"));
        let elsewhere: Vec<&str> = all
            .iter()
            .filter(|stored| stored.key.name == object.name)
            .map(|stored| stored.key.namespace.as_str())
            .collect();
        if !elsewhere.is_empty() {
            failure = failure.hint(format!("it is in namespace {}: add -n {0}", elsewhere.join(", ")));
        } else if !self.hint.is_empty() {
            failure = failure.hint(&self.hint);
        } else {
            failure = failure.hint(format!("`ashlar get {}` lists those there are", object.kind.plural()));
        }
        Err(failure)
    }

    /// One typed object, which must be there.
    pub(crate) fn object(&self, object: &ObjectRef) -> Result<Object> {
        typed(self.get(object)?)
    }

    /// All objects of a kind, ordered by namespace and name.
    pub(crate) fn list(&self, kind: Kind, namespace: Option<&str>) -> Result<Vec<RawStored>> {
        let Some(store) = self.store() else { return Ok(Vec::new()) };
        let namespace = if kind.is_namespaced() { namespace } else { None };
        Ok(block_on(store.list_raw(Some(kind.name()), namespace))?.items)
    }

    /// Shows all objects of a kind to `look`, ordered by namespace and name, without copying them: copying ten
    /// thousand takes longer than looking at them.
    pub(crate) fn scan<T: Send + 'static>(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        mut look: impl FnMut(Row<'_>) -> T + Send + 'static,
    ) -> Result<Vec<T>> {
        if let Source::Sqlite(store) = &self.source {
            let namespace = if kind.is_namespaced() { namespace } else { None };
            return Ok(block_on(store.scan(Some(kind.name()), namespace, look))?.1);
        }
        let show = |stored: RawStored| {
            let (Key { kind, namespace, name }, revision) = (&stored.key, stored.revision);
            look(Row { kind, namespace, name, revision, json: &stored.value.json() })
        };
        Ok(self.list(kind, namespace)?.into_iter().map(show).collect())
    }

    /// All objects of a kind, typed.
    pub(crate) fn objects(&self, kind: Kind, namespace: Option<&str>) -> Result<Vec<Object>> {
        self.list(kind, namespace)?.into_iter().map(typed).collect()
    }

    /// The store itself, if there is one.
    pub(crate) fn store(&self) -> Option<&dyn Store> {
        match &self.source {
            Source::Nothing => None,
            Source::Sqlite(store) => Some(store),
            Source::Etcd(store) => Some(store),
        }
    }
}

/// A store of an older version is brought up to date by opening it for writing; a reader does that only when it must.
fn migrate(path: &Path, reason: StoreError) -> Result<Reader> {
    drop(SqliteStore::open(path).context(reason)?);
    let source = Source::Sqlite(SqliteStore::open_read_only(path)?);
    Ok(Reader { source, hint: String::new() })
}

/// A stored object, typed, with its resourceVersion.
pub(crate) fn typed(stored: RawStored) -> Result<Object> {
    let key = stored.key.clone();
    let corrupt = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{key} in the store is not an object of this version of Ashlar: {error}"))
            .hint("was it written by a newer ashlar? `ashlar version` says which one this is")
    };
    let kind = Kind::parse(&key.kind).ok_or_else(|| corrupt(&"its kind is unknown"))?;
    let revision = stored.revision;
    let value = stored.value.into_value().map_err(|error| corrupt(&error))?;
    let mut object = Object::from_value(kind, value).map_err(|error| corrupt(&error))?;
    object.metadata_mut().resource_version = revision.to_string();
    Ok(object)
}

/// A stored object as JSON for people: with its resourceVersion, and without sealed bytes.
pub(crate) fn shown(stored: RawStored) -> Result<Value> {
    let (kind, revision) = (stored.key.kind.clone(), stored.revision);
    let mut value = stored.value.into_value()?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    }
    if kind == Kind::Secret.name() {
        hide_sealed(&mut value);
    }
    Ok(value)
}

/// Even sealed bytes have no business on a screen or in a bug report.
fn hide_sealed(secret: &mut Value) {
    for value in secret["spec"]["sealed"].as_object_mut().into_iter().flat_map(|values| values.values_mut()) {
        *value = "(sealed)".into();
    }
    for seal in ["/spec/sealedDataKey", "/spec/nextSeal/sealedDataKey"] {
        if let Some(key) = secret.pointer_mut(seal) {
            *key = "(sealed)".into();
        }
    }
}

fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The cluster of the given name.
pub(crate) fn cluster_name(settings: &Settings, name: &str) -> NamespacedName {
    NamespacedName::new(&settings.namespace, name)
}
