//! Stores that come from elsewhere, and stores that go elsewhere.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::{
    SqliteStore,
    copy::{BUSY, beside, remove, sync_directory},
    fault, file, read, schema,
};
use crate::{RawListing, Revision, StoreError};

impl SqliteStore {
    /// Makes a new store with these objects at their revisions, at the listing's revision. It has its name only when it is
    /// whole and on disk.
    ///
    /// # Errors
    /// There is already a file of that name; no space left.
    pub fn create_from(listing: &RawListing, path: &Path) -> Result<(), StoreError> {
        let io = |error| fault::from_io(path, error);
        let sqlite = |error| fault::from_sqlite(path, error);
        if path.try_exists().map_err(io)? {
            return Err(StoreError::unavailable(format!("there is already a {}", path.display())));
        }
        let draft = beside(path, ".part");
        remove(&draft)?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io)?;
        file::fill(&draft).map_err(sqlite)?;
        write_all(&draft, listing).map_err(sqlite)?;
        File::open(&draft).and_then(|file| file.sync_all()).map_err(io)?;
        fs::rename(&draft, path).map_err(io)?;
        sync_directory(path)
    }

    /// Marks a store as moved, if it still is at this revision: from then on nobody reads it or works on it. Its objects
    /// are left as they are.
    ///
    /// # Errors
    /// [`StoreError::Moved`] if it is marked already; somebody wrote into it meanwhile; the store cannot be written.
    pub fn give_up(path: &Path, at: Revision) -> Result<(), StoreError> {
        let sqlite = |error| fault::from_sqlite(path, error);
        let mut connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
        connection.busy_timeout(BUSY).map_err(sqlite)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(sqlite)?;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
        match schema::read_application_id(&transaction).map_err(sqlite)? {
            schema::APPLICATION_ID => {}
            schema::MOVED_ID => return Err(fault::moved(path)),
            _ => return Err(fault::corrupt(path, "it is not an Ashlar store", None)),
        }
        let head = read::state(&transaction).map_err(sqlite)?.head;
        if head != at {
            return Err(StoreError::unavailable(format!(
                "somebody wrote into {} while it was copied (it was at revision {at}, and is at {head})",
                path.display()
            )));
        }
        transaction.pragma_update(None, "application_id", schema::MOVED_ID).map_err(sqlite)?;
        transaction.commit().map_err(sqlite)
    }
}

fn write_all(draft: &Path, listing: &RawListing) -> rusqlite::Result<()> {
    let mut connection = Connection::open_with_flags(draft, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    {
        let sql = "INSERT INTO objects (kind, namespace, name, revision, value) VALUES (?, ?, ?, ?, ?)";
        let mut insert = transaction.prepare(sql)?;
        for item in &listing.items {
            let key = &item.key;
            insert.execute(params![key.kind, key.namespace, key.name, item.revision, item.value.json()])?;
        }
    }
    // What changed before is not known here.
    let (head, compacted) = (listing.revision, listing.revision);
    transaction.execute("UPDATE state SET head = ?, compacted = ?", params![head, compacted])?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)
}
