//! The default store: one SQLite file.
//!
//! Write-ahead log, so that readers in any process never wait for the writer; `synchronous = FULL`, so that
//! what was acknowledged survives a power cut. Commits that arrive while the disk is busy go to it together.

mod copy;
mod fault;
mod file;
mod moved;
mod read;
mod schema;
mod tail;
mod threads;
mod write;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

pub use self::{copy::Restored, read::Row};
use self::{
    tail::{Poller, SqliteSource},
    threads::{Readers, Writer},
    write::Order,
};
use crate::{
    DEFAULT_RETAINED_REVISIONS, Key, Listing, RawChanges, RawListing, RawStored, RawValue, Revision, Store,
    StoreError, Stored, Transaction, Watch,
};

/// What may be set when opening a [`SqliteStore`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// How long to wait for another process that is writing.
    pub busy_timeout: Duration,
    /// How many revisions of change history to keep for watches; the oldest go first.
    pub retained_revisions: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(10), retained_revisions: DEFAULT_RETAINED_REVISIONS }
    }
}

/// A store in one SQLite file.
///
/// Any number of processes may have it open. Dropping it waits for the commits that are under way.
pub struct SqliteStore {
    // Fields are dropped in this order: the writer's last commits still find everything in place.
    writer: Option<Writer>,
    readers: Arc<Readers>,
    poller: Arc<Poller>,
    changed: Arc<Notify>,
    options: SqliteOptions,
}

impl SqliteStore {
    /// Opens the store at `path` for reading and writing. Makes it (mode 0600) and its directory (mode 0700) if
    /// there is nothing; anything else that is not a store is refused, and left as it is.
    ///
    /// Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::NewerFormat`], [`StoreError::ReadOnly`],
    /// [`StoreError::Permission`], [`StoreError::Full`], [`StoreError::Unavailable`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, SqliteOptions::default())
    }

    /// [`SqliteStore::open`] with options.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let connection = file::open_writer(path, options.busy_timeout)?;
        let changed = Arc::new(Notify::new());
        let writer = Writer::start(path, connection, options.retained_revisions, Arc::clone(&changed))?;
        let readers = Arc::new(Readers::start(path, options.busy_timeout, None)?);
        Ok(Self { writer: Some(writer), readers, poller: Arc::default(), changed, options })
    }

    /// Opens the store at `path` for reading: nothing is made, migrated, or written. Meant for commands that
    /// only show something; opening and listing is all that they pay for.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Corrupt`], [`StoreError::NewerFormat`],
    /// [`StoreError::OlderFormat`], [`StoreError::Permission`], [`StoreError::Unavailable`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let (path, options) = (path.as_ref(), SqliteOptions::default());
        let connection = file::open_short_lived_reader(path, options.busy_timeout)?;
        let readers = Arc::new(Readers::start(path, options.busy_timeout, Some(connection))?);
        Ok(Self { writer: None, readers, poller: Arc::default(), changed: Arc::default(), options })
    }

    /// Lists objects without copying them: each is shown to `look`, in the order of keys, on a thread of the
    /// store. What `look` returns is collected. The fastest way to make a table of many objects.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn scan<T: Send + 'static>(
        &self,
        kind: Option<&str>,
        namespace: Option<&str>,
        mut look: impl FnMut(Row<'_>) -> T + Send + 'static,
    ) -> Result<(Revision, Vec<T>), StoreError> {
        let (kind, namespace) = (kind.map(str::to_owned), namespace.map(str::to_owned));
        let scan = move |connection: &_| {
            let mut seen = Vec::new();
            let each = |row: Row<'_>| seen.push(look(row));
            let revision = read::scan(connection, kind.as_deref(), namespace.as_deref(), each)?;
            Ok((revision, seen))
        };
        self.readers.run(scan).await
    }

    /// One object with its value unparsed.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn get_raw(&self, key: &Key) -> Result<Option<RawStored>, StoreError> {
        let wanted = key.clone();
        let found = self.readers.run(move |connection| read::get(connection, &wanted)).await?;
        let raw = |(revision, text)| RawStored { key: key.clone(), revision, value: RawValue::Text(text) };
        Ok(found.map(raw))
    }

    /// Reads the whole file and checks that its parts agree. Takes time in proportion to its size.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the first findings; the store cannot be read.
    pub async fn verify(&self) -> Result<(), StoreError> {
        let findings = self.readers.run(|connection| {
            let mut statement = connection.prepare("PRAGMA integrity_check(5)")?;
            statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()
        });
        let findings = findings.await?;
        if findings == ["ok"] {
            return Ok(());
        }
        Err(fault::corrupt(self.readers.path(), findings.join("; "), None))
    }

    async fn order(&self, order: Order) -> Result<Revision, StoreError> {
        let Some(writer) = &self.writer else {
            return Err(StoreError::ReadOnly { path: PathBuf::from(self.readers.path()), source: None });
        };
        writer.run(order).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let parse = |raw: RawStored| {
            raw.parse().map_err(|error| fault::corrupt_value(self.readers.path(), key, error))
        };
        self.get_raw(key).await?.map(parse).transpose()
    }

    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError> {
        let (kind, namespace) = (kind.map(str::to_owned), namespace.map(str::to_owned));
        let list = move |connection: &_| {
            let mut items = Vec::new();
            let each = |row: Row<'_>| items.push(row.to_raw());
            let revision = read::scan(connection, kind.as_deref(), namespace.as_deref(), each)?;
            Ok(RawListing { revision, items })
        };
        self.readers.run(list).await
    }

    async fn changes(&self, after: Revision) -> Result<Option<RawChanges>, StoreError> {
        self.readers.run(move |connection| read::changes(connection, after)).await
    }

    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError> {
        let raw = self.list_raw(kind, namespace).await?;
        raw.parse(|key, error| fault::corrupt_value(self.readers.path(), &key, error))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        transaction.validate()?;
        let order = write::prepare(transaction).map_err(|error| StoreError::Unavailable {
            reason: "a value cannot be written as JSON".to_owned(),
            source: Some(Arc::new(error)),
        })?;
        self.order(order).await
    }

    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        let state = self.readers.run(read::state).await?;
        tail::check_watchable(state, from)?;
        self.poller.ensure_running(self.readers.path(), self.options.busy_timeout, &self.changed)?;
        let source = SqliteSource {
            readers: Arc::clone(&self.readers),
            _poller: Arc::clone(&self.poller),
            changed: Arc::clone(&self.changed),
            kind: kind.map(str::to_owned),
        };
        Ok(Watch::new(Box::new(source), from))
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.order(Order::Compact { before }).await.map(drop)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.readers.path())
            .field("read_only", &self.writer.is_none())
            .finish_non_exhaustive()
    }
}
