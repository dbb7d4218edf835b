//! Whole copies of a store: made while it is used, and put back in its place.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{SqliteStore, fault, file, read};
use crate::{Revision, StoreError};

/// How long another process's write may keep us waiting.
pub(super) const BUSY: Duration = Duration::from_secs(10);

impl SqliteStore {
    /// Copies the store as it is at this moment into a new file, checks the copy, and says at which revision it is.
    /// Whoever works in the store goes on meanwhile.
    ///
    /// # Errors
    /// There is already a file of that name; no space left; the store is damaged.
    pub async fn backup(&self, to: &Path) -> Result<Revision, StoreError> {
        let target = to.to_owned();
        let copied = self.readers.run(move |connection| Ok(copy(connection, &target)));
        copied.await?
    }

    /// Puts a copy in a store's place, or makes the store from it where there is none. What was there is kept beside it,
    /// under the name that is returned. Nobody may work in the store meanwhile: the engine lock is held.
    ///
    /// # Errors
    /// The copy is no store, is damaged, or is of a newer Ashlar; then nothing was changed.
    pub fn restore(copy_path: &Path, path: &Path, kept_suffix: &str) -> Result<Restored, StoreError> {
        let draft = beside(path, ".restored");
        remove(&draft)?;
        let source = file::open_reader(copy_path, BUSY)?;
        // Not the file itself: it may have been copied together with a log that belongs to it.
        let revision = copy(&source, &draft)?;
        drop(source);
        let kept = beside(path, kept_suffix);
        let mut had_one = false;
        // The store first: without it nobody takes its log for that of another.
        for suffix in ["", "-wal", "-shm"] {
            match fs::rename(beside(path, suffix), beside(&kept, suffix)) {
                Ok(()) => had_one |= suffix.is_empty(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fault::from_io(path, error)),
            }
        }
        fs::rename(&draft, path).map_err(|error| fault::from_io(path, error))?;
        sync_directory(path)?;
        Ok(Restored { revision, kept: had_one.then_some(kept) })
    }
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What the store is at now.
    pub revision: Revision,
    /// Where the store lies that was there before.
    pub kept: Option<PathBuf>,
}

/// Copies what the connection sees into a new file; it has its name only when it is whole.
fn copy(connection: &Connection, to: &Path) -> Result<Revision, StoreError> {
    let io = |error| fault::from_io(to, error);
    let sqlite = |error| fault::from_sqlite(to, error);
    if to.try_exists().map_err(io)? {
        let error = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(StoreError::Unavailable {
            reason: format!("there is already a {}", to.display()),
            source: Some(Arc::new(error)),
        });
    }
    let draft = beside(to, ".part");
    remove(&draft)?;
    // SQLite writes into an empty file that is there; made here, nobody else can read it for a moment.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io)?;
    connection.execute("VACUUM INTO ?", [draft.display().to_string()]).map_err(sqlite)?;
    let revision = {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let copied = Connection::open_with_flags(&draft, flags).map_err(sqlite)?;
        let mode: String =
            copied.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(sqlite)?;
        let found: String =
            copied.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
        if mode != "wal" || found != "ok" {
            return Err(fault::corrupt(&draft, format!("the copy is not whole: {found}"), None));
        }
        let revision = read::state(&copied).map_err(sqlite)?.head;
        copied.close().map_err(|(_, error)| sqlite(error))?;
        revision
    };
    fs::set_permissions(&draft, Permissions::from_mode(0o600)).map_err(io)?;
    File::open(&draft).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&draft, to).map_err(io)?;
    sync_directory(to)?;
    Ok(revision)
}

/// Removes what an attempt that was cut off left.
pub(super) fn remove(draft: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        match fs::remove_file(beside(draft, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fault::from_io(draft, error));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| fault::from_io(path, error))
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
