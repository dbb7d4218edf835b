//! Copies of the clusters' etcd: which files one is made of, and where they lie.
//!
//! `INSTALLATION/NAMESPACE/CLUSTER/UID/TIME.db.sealed`, `TIME.contents.sealed` and, with which it counts, `TIME.json`
//! (`ashlar_engine::etcd_copy` says what is in them). So installations may share a place, and a cluster that is made anew has one
//! of its own. What is not below the cluster's own directory is never taken for its own or for unfinished, with one exception:
//!
//! Once all of them lay in `NAMESPACE/CLUSTER`. Copies there are shown to people as ever, and go with the cluster's others if their
//! manifests say whose they are. The first ones were `TIME.db`, etcd's snapshot in the clear, and `TIME.json` with objects: those
//! say nothing of the kind, and stay until a person deletes them.

mod directory;
mod shelf;

pub(super) use directory::{CopiesDirectory, digest, not_all_there, not_written};
pub(crate) use shelf::{KeptCopy, Shelf};

use std::collections::BTreeMap;

use ashlar_api::NamespacedName;
use ashlar_engine::effects::CopyOwner;
use ashlar_engine::etcd_copy::Manifest;
use ashlar_engine::vault::plain_length;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Times in file names: sorted as text they are sorted by time.
const STAMP: &str = "%Y%m%dT%H%M%SZ";
/// Of the digest at the end of etcd's snapshot.
const DIGEST: u64 = 32;

/// Of a manifest, at most; those that there are have two thousand.
pub(super) const MANIFEST_BYTES: u64 = 1 << 20;

/// Where a cluster's copies lie.
pub(super) fn own_directory(owner: &CopyOwner) -> String {
    format!("{}/{}/{}", owner.installation, former_directory(&owner.cluster), owner.uid)
}

/// Where those of all clusters of the name lay once.
pub(super) fn former_directory(cluster: &NamespacedName) -> String {
    format!("{}/{}", cluster.namespace, cluster.name)
}

/// Whether a manifest says that its copy is the owner's, and of that time.
pub(super) fn is_of(manifest: &[u8], owner: &CopyOwner, taken_at: Timestamp) -> bool {
    Manifest::parse(manifest).is_ok_and(|told| told.copy.is_of(owner) && told.copy.taken_at == taken_at)
}

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
    /// All.
    const ALL: [Part; 4] = [Part::Manifest, Part::Clear, Part::Database, Part::Contents];
    /// Those of a sealed copy, in the order in which they are put: the last one makes it count, and goes first.
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

    /// Bytes of the database, if it is sealed and all files are there.
    pub(super) fn sealed_bytes(&self) -> Option<u64> {
        self.database_bytes().filter(|_| self.is_sealed())
    }

    /// Whether it is what was begun, or is what a deletion left. What is in the clear is never.
    pub(super) fn is_left_over(&self) -> bool {
        self.sealed_bytes().is_none() && !self.has(Part::Clear)
    }

    fn has(&self, part: Part) -> bool {
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
