//! The store's file: making it, opening it, refusing what is not it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

use super::{fault, schema};
use crate::StoreError;

/// For a process that lives for one command.
const CACHE_KIB: i32 = 32 * 1024;
/// For one that stays: what it reads once is not kept.
const LASTING_CACHE_KIB: i32 = 4 * 1024;
const MAPPED_BYTES: i64 = 256 << 20;

/// Opens for reading and writing. Makes the file, mode 0600, if there is none.
pub(super) fn open_writer(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    if !path.try_exists().map_err(|error| fault::from_io(path, error))? {
        create(path, busy_timeout)?;
    }
    let sqlite = |error| fault::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(busy_timeout).map_err(sqlite)?;
    // SQLite falls back to reading where it may not write, and would say so only at the first commit.
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(sqlite)? {
        let denied = OpenOptions::new().write(true).open(path).err();
        return Err(denied.map_or(StoreError::ReadOnly { path: path.to_owned(), source: None }, |error| {
            fault::from_io(path, error)
        }));
    }
    let format = check_format(&connection, path)?;
    // FULL: a commit is on disk before it is acknowledged. cell_size_check finds damage before it spreads.
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 67108864;")
        .map_err(sqlite)?;
    if format < schema::FORMAT {
        schema::migrate(&mut connection, format).map_err(sqlite)?;
    }
    keep_private(path);
    Ok(connection)
}

/// [`open_reader`] for a process that lives for one command: the file is mapped, which saves copying it, at the
/// price that a disk failing in the middle ends the process instead of the call.
pub(super) fn open_short_lived_reader(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    let connection = open(path, busy_timeout, CACHE_KIB)?;
    let mapped = connection.pragma_update(None, "mmap_size", MAPPED_BYTES);
    mapped.map_err(|error| fault::from_sqlite(path, error))?;
    Ok(connection)
}

/// Opens for reading only; never makes anything but the files that SQLite needs beside the store.
pub(super) fn open_reader(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    open(path, busy_timeout, LASTING_CACHE_KIB)
}

fn open(path: &Path, busy_timeout: Duration, cache_kib: i32) -> Result<Connection, StoreError> {
    let sqlite = |error| fault::from_sqlite(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    connection.busy_timeout(busy_timeout).map_err(sqlite)?;
    // A listing goes through the table in the order of its index: with SQLite's usual 2 MB every page would be
    // read again for each of its rows. The memory is taken only as far as there is something to read.
    connection.pragma_update(None, "cache_size", -cache_kib).map_err(sqlite)?;
    let found = check_format(&connection, path)?;
    if found < schema::FORMAT {
        return Err(StoreError::OlderFormat { path: path.to_owned(), found, supported: schema::FORMAT });
    }
    Ok(connection)
}

/// Refuses what is not a store, and what only a newer program can read.
fn check_format(connection: &Connection, path: &Path) -> Result<u32, StoreError> {
    let sqlite = |error| fault::from_sqlite(path, error);
    match schema::read_application_id(connection).map_err(sqlite)? {
        schema::APPLICATION_ID => {}
        schema::MOVED_ID => return Err(fault::moved(path)),
        _ => return Err(fault::corrupt(path, "it is not an Ashlar store", None)),
    }
    let found = schema::read_format(connection).map_err(sqlite)?;
    if found > schema::FORMAT {
        return Err(StoreError::NewerFormat { path: path.to_owned(), found, supported: schema::FORMAT });
    }
    Ok(found)
}

/// Makes a new store. It appears under its name only when it is whole: a file that is empty or half written
/// is therefore always damage, never a beginning.
fn create(path: &Path, timeout: Duration) -> Result<(), StoreError> {
    let io = |error| fault::from_io(path, error);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    let lock = lock_directory(path, directory, timeout)?;
    if path.try_exists().map_err(io)? {
        return Ok(());
    }
    // A write-ahead log without its store means that somebody removed the store; SQLite would throw away the
    // log, or worse, play it into the new file.
    let log = beside(path, "-wal");
    if log.try_exists().map_err(io)? {
        let detail = format!("the file is gone, but its log {} is still there", log.display());
        return Err(fault::corrupt(path, detail, None));
    }
    let draft = beside(path, ".new");
    for stale in [draft.clone(), beside(&draft, "-journal"), beside(&draft, "-wal"), beside(&draft, "-shm")] {
        match fs::remove_file(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io)?;
    if let Err(error) = fill(&draft) {
        // Best effort: the draft is in nobody's way, and the error that matters is the first.
        let _ = fs::remove_file(&draft);
        return Err(fault::from_sqlite(path, error));
    }
    fs::rename(&draft, path).map_err(io)?;
    lock.sync_all().map_err(io)
}

pub(super) fn fill(draft: &Path) -> rusqlite::Result<()> {
    let mut connection = Connection::open_with_flags(draft, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "page_size", schema::PAGE_BYTES)?;
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    schema::migrate(&mut connection, 0)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    debug_assert_eq!(mode, "wal");
    connection.close().map_err(|(_, error)| error)
}

/// Keeps two processes from making the store at once. The lock goes with the returned handle.
fn lock_directory(path: &Path, directory: &Path, timeout: Duration) -> Result<File, StoreError> {
    let handle = File::open(directory).map_err(|error| fault::from_io(path, error))?;
    let deadline = Instant::now() + timeout;
    loop {
        match handle.try_lock() {
            Ok(()) => return Ok(handle),
            Err(TryLockError::Error(error)) => return Err(fault::from_io(path, error)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                let reason = format!("another process keeps {} locked", directory.display());
                return Err(StoreError::unavailable(reason));
            }
        }
    }
}

/// A copy put back by hand often has the usual mode 0644. Failing to tighten it is no reason not to work.
fn keep_private(path: &Path) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
