//! From SQLite's and the operating system's errors to ours.

use std::{fs::OpenOptions, io, path::Path, sync::Arc};

use rusqlite::{Error, ErrorCode, ffi};

use crate::{Key, StoreError};

/// Says what an error of SQLite means for the store at `path`.
pub(super) fn from_sqlite(path: &Path, error: Error) -> StoreError {
    let (code, extended) = match &error {
        Error::SqliteFailure(failure, _) => (failure.code, failure.extended_code),
        // The tables are ours: a row of another shape, or none where there is always one, is damage.
        Error::QueryReturnedNoRows
        | Error::InvalidColumnType(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::FromSqlConversionFailure(..)
        | Error::Utf8Error(..) => return corrupt(path, "it holds what Ashlar never wrote", Some(error)),
        _ => (ErrorCode::Unknown, 0),
    };
    let path_buf = path.to_owned();
    match code {
        ErrorCode::DiskFull => StoreError::Full { path: path_buf, source: Arc::new(error) },
        ErrorCode::SystemIoFailure if extended == ffi::SQLITE_IOERR_SHMSIZE => {
            StoreError::Full { path: path_buf, source: Arc::new(error) }
        }
        ErrorCode::DatabaseCorrupt => corrupt(path, "its pages contradict each other", Some(error)),
        ErrorCode::NotADatabase => corrupt(path, "it is not a store file", Some(error)),
        ErrorCode::ReadOnly => StoreError::ReadOnly { path: path_buf, source: Some(Arc::new(error)) },
        ErrorCode::PermissionDenied => StoreError::Permission { path: path_buf, source: Arc::new(error) },
        ErrorCode::CannotOpen => cannot_open(path, error),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            let reason = format!("another process keeps {} locked; repeat when it is done", path.display());
            StoreError::Unavailable { reason, source: Some(Arc::new(error)) }
        }
        _ => {
            let reason = format!("{} failed", path.display());
            StoreError::Unavailable { reason, source: Some(Arc::new(error)) }
        }
    }
}

/// SQLite says only "unable to open": the operating system knows why.
fn cannot_open(path: &Path, error: Error) -> StoreError {
    match OpenOptions::new().read(true).open(path) {
        Err(cause) => from_io(path, cause),
        // The file itself opens, so it is what SQLite keeps beside it that cannot be made.
        Ok(_) => StoreError::Unavailable {
            reason: format!("{0}-wal and {0}-shm cannot be opened or created", path.display()),
            source: Some(Arc::new(error)),
        },
    }
}

/// Says what an error of the operating system means for the store at `path`.
pub(super) fn from_io(path: &Path, error: io::Error) -> StoreError {
    let path_buf = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path: path_buf },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full { path: path_buf, source: Arc::new(error) }
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly { path: path_buf, source: Some(Arc::new(error)) }
        }
        io::ErrorKind::PermissionDenied => StoreError::Permission { path: path_buf, source: Arc::new(error) },
        _ => StoreError::Unavailable {
            reason: format!("{} failed", path.display()),
            source: Some(Arc::new(error)),
        },
    }
}

/// The store is damaged.
pub(super) fn corrupt(path: &Path, detail: impl Into<String>, source: Option<Error>) -> StoreError {
    let source = source.map(|error| Arc::new(error) as crate::Cause);
    StoreError::Corrupt { path: path.to_owned(), detail: detail.into(), source }
}

/// `ashlar store migrate` took its objects elsewhere.
pub(super) fn moved(path: &Path) -> StoreError {
    StoreError::Moved {
        place: path.display().to_string(),
        detail: "its objects were moved to etcd, and it was left as it was then; `store.yaml` beside it says where they \
                 are: if that is lost, `ashlar store use FILE` writes it anew"
            .to_owned(),
    }
}

/// The value of an object is not JSON.
pub(super) fn corrupt_value(path: &Path, key: &Key, source: serde_json::Error) -> StoreError {
    let detail = format!("the value of {key} is not JSON");
    StoreError::Corrupt { path: path.to_owned(), detail, source: Some(Arc::new(source)) }
}

/// The threads that do the work are gone.
pub(super) fn closed() -> StoreError {
    StoreError::unavailable("it was closed")
}
