//! What is in the file, and how older files are brought up to it.
//!
//! - `objects`: the present. An ordinary table with an index, not one clustered by key: only so does an object
//!   of several kilobytes stay in one piece, and replacing one leaves the index alone.
//! - `changes`: the recent past, for watches. `position` is revision × 128 + place in the transaction, so that
//!   one integer orders all changes, and appending is the cheapest thing that SQLite does.
//! - `state`: one row: the newest revision, and up to which revision changes are forgotten.

use rusqlite::{
    Connection,
    types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef},
};

use crate::{MAX_OPERATIONS, Revision};

/// Marks a SQLite file as an Ashlar store ("ASHL").
pub(super) const APPLICATION_ID: i32 = 0x4153_484c;

/// Marks one whose objects went elsewhere ("ASHM"). Nobody takes it for a store any more, not even an older Ashlar.
pub(super) const MOVED_ID: i32 = 0x4153_484d;

/// Objects are 1 to 4 KB. Smaller pages spread more of them over overflow pages, which makes listing slower;
/// larger ones make every commit write more (measured with `bench_store`).
pub(super) const PAGE_BYTES: u32 = 8192;

const POSITIONS_PER_REVISION: u64 = 128;
const _: () = assert!((MAX_OPERATIONS as u64) <= POSITIONS_PER_REVISION);

/// Each entry brings a file from the format of its index to the next. Entries are never changed once released.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE objects (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        revision INTEGER NOT NULL,
        value TEXT NOT NULL,
        UNIQUE (kind, namespace, name)
    ) STRICT;
    CREATE TABLE changes (
        position INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT
    ) STRICT;
    CREATE TABLE state (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        head INTEGER NOT NULL,
        compacted INTEGER NOT NULL
    ) STRICT;
    INSERT INTO state (id, head, compacted) VALUES (0, 0, 0);
"];

/// The format that this program reads and writes.
pub(super) const FORMAT: u32 = MIGRATIONS.len() as u32;

// SQLite's integers are signed; 2^63 commits will not happen.
impl ToSql for Revision {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let number = i64::try_from(self.0);
        number.map(ToSqlOutput::from).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
    }
}

impl FromSql for Revision {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        u64::try_from(number).map(Self).map_err(|_| FromSqlError::OutOfRange(number))
    }
}

/// Where the changes of a revision begin.
pub(super) fn first_position(revision: Revision) -> i64 {
    // A revision beyond 2^56 cannot come from counting; saturating keeps a foreign one harmless.
    i64::try_from(revision.0.saturating_mul(POSITIONS_PER_REVISION)).unwrap_or(i64::MAX)
}

/// The revision to which a position belongs.
pub(super) fn revision_at(position: i64) -> Revision {
    Revision(position.unsigned_abs() / POSITIONS_PER_REVISION)
}

/// Brings a file of format `from` to [`FORMAT`], in one transaction.
pub(super) fn migrate(connection: &mut Connection, from: u32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Another process may have done it while this one waited for the lock.
    let now = read_format(&transaction)?.max(from);
    for sql in MIGRATIONS.iter().skip(now as usize) {
        transaction.execute_batch(sql)?;
    }
    transaction.pragma_update(None, "user_version", FORMAT.max(now))?;
    transaction.commit()
}

/// The format of the file; 0 has no tables yet.
pub(super) fn read_format(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The mark of the file's owner.
pub(super) fn read_application_id(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "application_id", |row| row.get(0))
}
