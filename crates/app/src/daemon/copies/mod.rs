//! Copies of the clusters' etcd: which files one is made of, and where they lie.
//!
//! `NAMESPACE/CLUSTER/TIME.db.sealed`, `TIME.contents.sealed` and, with which it counts, `TIME.json`
//! (`ashlar_engine::etcd_copy` says what is in them). Before there were such, a copy was `TIME.db`, etcd's snapshot in the clear,
//! and `TIME.json` with objects: those are listed and deleted with the others.

mod directory;
mod shelf;

pub(super) use directory::{CopiesDirectory, digest, not_written};
pub(crate) use shelf::{KeptCopy, Shelf};

use std::collections::BTreeMap;

use ashlar_engine::vault::plain_length;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Times in file names: sorted as text they are sorted by time.
const STAMP: &str = "%Y%m%dT%H%M%SZ";
/// Of the digest at the end of etcd's snapshot.
const DIGEST: u64 = 32;

/// A file of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// What makes a sealed copy count; of a copy in the clear, the objects.
    Manifest,
    /// etcd's snapshot, in the clear.
    Clear,
    /// etcd's snapshot, sealed.
    Database,
    /// Objects, sealed.
    Contents,
}

impl Part {
    /// All, in the order in which they are deleted: without the first, a sealed copy counts for nothing.
    pub(super) const ALL: [Part; 4] = [Part::Manifest, Part::Clear, Part::Database, Part::Contents];
    /// Those of a sealed copy, in the order in which they are put: the last one makes it count.
    pub(super) const SEALED: [Part; 3] = [Part::Database, Part::Contents, Part::Manifest];

    /// What its file's name ends with, after the time and a dot.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Part::Manifest => "json",
            Part::Clear => "db",
            Part::Database => "db.sealed",
            Part::Contents => "contents.sealed",
        }
    }
}

pub(super) fn stamp(time: Timestamp) -> String {
    time.strftime(STAMP).to_string()
}

/// What a file's name says.
fn of_name(name: &str) -> Option<(Timestamp, Part)> {
    let (time, ending) = name.split_once('.')?;
    let part = Part::ALL.into_iter().find(|part| part.ending() == ending)?;
    let time = DateTime::strptime(STAMP, time).ok()?;
    Some((time.to_zoned(TimeZone::UTC).ok()?.timestamp(), part))
}

/// The files that there are of one copy, with their lengths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts(BTreeMap<Part, u64>);

impl Parts {
    /// Files by the time in their names. Others are not looked at.
    pub(super) fn by_time<'n>(files: impl IntoIterator<Item = (&'n str, u64)>) -> BTreeMap<Timestamp, Parts> {
        let mut found: BTreeMap<Timestamp, Parts> = BTreeMap::new();
        for (name, length) in files {
            if let Some((taken_at, part)) = of_name(name) {
                found.entry(taken_at).or_default().0.insert(part, length);
            }
        }
        found
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.0.contains_key(&part)
    }

    /// Length of a file.
    pub(crate) fn length(&self, part: Part) -> Option<u64> {
        self.0.get(&part).copied()
    }

    /// Whether it is one that was sealed, or begun to be.
    pub(crate) fn is_sealed(&self) -> bool {
        self.has(Part::Database) || self.has(Part::Contents)
    }

    /// Bytes of the database, if all files are there.
    pub(crate) fn database_bytes(&self) -> Option<u64> {
        let snapshot = match self.length(Part::Clear) {
            Some(length) if !self.is_sealed() => length,
            _ if Part::SEALED.into_iter().all(|part| self.has(part)) => {
                plain_length(self.length(Part::Database)?)?
            }
            _ => return None,
        };
        Some(snapshot.saturating_sub(DIGEST))
    }
}
