//! Reading, each function one consistent snapshot. Runs on the readers' threads.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::schema;
use crate::{Key, RawChange, RawChanges, RawStored, RawValue, Revision, watch::BATCH_CHANGES};

/// The one row of `state`.
#[derive(Clone, Copy)]
pub(super) struct State {
    /// The newest revision.
    pub(super) head: Revision,
    /// Changes up to here are forgotten.
    pub(super) compacted: Revision,
}

/// A change as it is in the file, its value unparsed.
pub(super) struct Logged {
    pub(super) revision: Revision,
    pub(super) key: Key,
    pub(super) value: Option<Box<str>>,
}

/// What a watch reads at once.
pub(super) struct RawBatch {
    pub(super) state: State,
    pub(super) changes: Vec<Logged>,
    pub(super) complete_to: Revision,
}

pub(super) fn state(connection: &Connection) -> rusqlite::Result<State> {
    let mut statement = connection.prepare_cached("SELECT head, compacted FROM state")?;
    statement.query_row([], |row| Ok(State { head: row.get(0)?, compacted: row.get(1)? }))
}

pub(super) fn get(connection: &Connection, key: &Key) -> rusqlite::Result<Option<(Revision, Box<str>)>> {
    let sql = "SELECT revision, value FROM objects WHERE kind = ? AND namespace = ? AND name = ?";
    let mut statement = connection.prepare_cached(sql)?;
    let parameters = params![key.kind, key.namespace, key.name];
    statement.query_row(parameters, |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// One object in the reader's own memory: valid only while it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The revision of its last change.
    pub revision: Revision,
    /// Its value as JSON text.
    pub json: &'a str,
}

impl Row<'_> {
    pub(super) fn to_raw(self) -> RawStored {
        let key = Key::new(self.kind, self.namespace, self.name);
        RawStored { key, revision: self.revision, value: RawValue::Text(self.json.into()) }
    }
}

/// Shows each object, in the order of keys, to `each`. Returns the snapshot's revision.
pub(super) fn scan(
    connection: &Connection,
    kind: Option<&str>,
    namespace: Option<&str>,
    each: impl FnMut(Row<'_>),
) -> rusqlite::Result<Revision> {
    let head = show(connection, kind, namespace, each);
    // A daemon reads all of it once, and from then on what changed: the pages would be kept for nobody.
    connection.release_memory()?;
    head
}

fn show(
    connection: &Connection,
    kind: Option<&str>,
    namespace: Option<&str>,
    mut each: impl FnMut(Row<'_>),
) -> rusqlite::Result<Revision> {
    let snapshot = connection.unchecked_transaction()?;
    let head = state(&snapshot)?.head;
    let (filter, parameters): (_, &[&dyn ToSql]) = match (&kind, &namespace) {
        (None, None) => ("", &[]),
        (Some(kind), None) => ("WHERE kind = ?", &[kind]),
        (None, Some(namespace)) => ("WHERE namespace = ?", &[namespace]),
        (Some(kind), Some(namespace)) => ("WHERE kind = ? AND namespace = ?", &[kind, namespace]),
    };
    let sql = format!(
        "SELECT kind, namespace, name, revision, value FROM objects {filter} ORDER BY kind, namespace, name"
    );
    let mut statement = snapshot.prepare_cached(&sql)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        let text = |column: usize| Ok::<_, rusqlite::Error>(row.get_ref(column)?.as_str()?);
        let (kind, namespace, name) = (text(0)?, text(1)?, text(2)?);
        each(Row { kind, namespace, name, revision: row.get(3)?, json: text(4)? });
    }
    Ok(head)
}

/// All changes after `after` with the newest revision, none if some of them are forgotten or it is none of this store's.
pub(super) fn changes(connection: &Connection, after: Revision) -> rusqlite::Result<Option<RawChanges>> {
    let snapshot = connection.unchecked_transaction()?;
    let state = state(&snapshot)?;
    if after < state.compacted || after > state.head {
        return Ok(None);
    }
    let mut last: BTreeMap<Key, (Revision, Option<Box<str>>)> = BTreeMap::new();
    if after < state.head {
        let sql = "SELECT position, kind, namespace, name, value FROM changes WHERE position >= ? ORDER BY position";
        let mut statement = snapshot.prepare_cached(sql)?;
        let mut rows = statement.query([schema::first_position(Revision(after.0 + 1))])?;
        while let Some(row) = rows.next()? {
            let key = Key { kind: row.get(1)?, namespace: row.get(2)?, name: row.get(3)? };
            last.insert(key, (schema::revision_at(row.get(0)?), row.get(4)?));
        }
    }
    let change = |(key, (revision, value)): (_, (_, Option<Box<str>>))| RawChange {
        key,
        revision,
        value: value.map(RawValue::Text),
    };
    Ok(Some(RawChanges { revision: state.head, items: last.into_iter().map(change).collect() }))
}

/// Changes after `after`, whole transactions only. Empty, with the state alone, if `after` is not watchable.
pub(super) fn batch(
    connection: &Connection,
    kind: Option<&str>,
    after: Revision,
) -> rusqlite::Result<RawBatch> {
    // One transaction more than what is wanted, so that the last one can be left out if it may be cut short.
    const LIMIT: usize = BATCH_CHANGES + crate::MAX_OPERATIONS;
    let snapshot = connection.unchecked_transaction()?;
    let state = state(&snapshot)?;
    let mut batch = RawBatch { state, changes: Vec::new(), complete_to: state.head };
    if after < state.compacted || after >= state.head {
        return Ok(batch);
    }
    let sql = "SELECT position, kind, namespace, name, value FROM changes
               WHERE position >= ?1 AND (?2 IS NULL OR kind = ?2) ORDER BY position LIMIT ?3";
    let mut statement = snapshot.prepare_cached(sql)?;
    let from = schema::first_position(Revision(after.0 + 1));
    let mut rows = statement.query(params![from, kind, LIMIT as i64])?;
    while let Some(row) = rows.next()? {
        let key = Key { kind: row.get(1)?, namespace: row.get(2)?, name: row.get(3)? };
        let revision = schema::revision_at(row.get(0)?);
        batch.changes.push(Logged { revision, key, value: row.get(4)? });
    }
    if let (LIMIT, Some(last)) = (batch.changes.len(), batch.changes.last().map(|change| change.revision)) {
        batch.changes.retain(|change| change.revision < last);
        batch.complete_to = Revision(last.0 - 1);
    }
    Ok(batch)
}
