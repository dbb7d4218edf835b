//! The record as a file: JSON lines, appended under a lock, so that several processes may write one.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::line::{Line, NOTHING, read, write};
use super::{AuditError, AuditLog, Deed};
use crate::effects::Entropy;
use crate::vault::Vault;

/// What a sealed head is bound to.
const HEAD_PLACE: &str = "ashlar.dev/audit/head";
/// A line is shorter than this: a step's reason and a host's error are sentences.
const TAIL_BYTES: u64 = 1 << 20;

/// Who writes: user and machine, and the process.
#[derive(Clone, Debug)]
pub struct Author(pub String);

/// The record of one state directory, as one process writes it.
pub struct AuditFile {
    path: PathBuf,
    author: Author,
    /// Each of them can open the note of how long the record is.
    vaults: Mutex<Vec<Arc<Vault>>>,
    entropy: Arc<dyn Entropy>,
    open: Mutex<Open>,
}

/// The note of how long a record was.
pub(super) struct Noted {
    pub(super) head: Head,
    /// Id of the key that it was sealed by, if that was the installation's before.
    pub(super) before: Option<String>,
}

struct Open {
    file: File,
    /// Where the file ended when we wrote last, and what stood there.
    end: u64,
    last: Head,
    /// Whether the note of how long it is was ours. One that is gone, or is another's, is not written anew: that would hide it.
    is_noted: bool,
}

/// The last line: its number and digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) sequence: u64,
    pub(super) digest: String,
}

impl std::fmt::Debug for AuditFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl AuditFile {
    /// Opens the record, or begins it. One that is shorter than it was is not gone on with: that would hide it.
    ///
    /// # Errors
    /// It cannot be read or written; lines of it are missing.
    pub fn open(
        path: &Path,
        author: Author,
        vault: Arc<Vault>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, AuditError> {
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed("write", path))?;
        let last = Head { sequence: 0, digest: NOTHING.to_owned() };
        let log = AuditFile {
            path: path.to_owned(),
            author,
            vaults: Mutex::new(vec![Arc::clone(&vault)]),
            entropy,
            open: Mutex::new(Open { file, end: 0, last, is_noted: false }),
        };
        log.locked(|log, open| match Head::read(path, &vault).map_err(io::Error::other)? {
            Ok(Some(Noted { head, .. })) if head.sequence > open.last.sequence => {
                let (was, is) = (head.sequence, open.last.sequence);
                Err(io::Error::other(format!(
                    "it had {was} lines once and has {is}; keep it elsewhere, and a new one begins"
                )))
            }
            Ok(Some(_)) => {
                open.is_noted = true;
                Ok(())
            }
            // From its first line on it can be told whether lines are missing.
            Ok(None) if open.last.sequence == 0 => {
                open.is_noted = true;
                log.seal(&open.last)
            }
            // That the note is gone, or is another's, `ashlar audit verify` says, until a person has looked.
            Ok(None) | Err(_) => Ok(()),
        })?;
        Ok(log)
    }

    /// Puts it on the disk, and notes sealed how long it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn close(&self) -> Result<(), AuditError> {
        self.locked(|log, open| {
            open.file.sync_data()?;
            if open.is_noted { log.seal(&open.last) } else { Ok(()) }
        })
    }

    /// Notes how long it is sealed for these vaults from now on, and does so now: while the key is being changed, the old one and
    /// the new one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note_for(&self, vaults: Vec<Arc<Vault>>) -> Result<(), AuditError> {
        *self.vaults.lock().unwrap_or_else(PoisonError::into_inner) = vaults;
        self.close()
    }

    /// Does something while no other process writes, knowing the last line.
    fn locked(&self, work: impl FnOnce(&Self, &mut Open) -> io::Result<()>) -> Result<(), AuditError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut *open;
        open.file.lock().map_err(failed("lock", &self.path))?;
        let done = open.catch_up().and_then(|()| work(self, open));
        let unlocked = open.file.unlock();
        done.and(unlocked).map_err(failed("write", &self.path))
    }

    fn append(&self, open: &mut Open, time: Timestamp, deed: &Deed) -> io::Result<()> {
        let line = Line {
            sequence: open.last.sequence + 1,
            time,
            who: self.author.0.clone(),
            deed: deed.clone(),
            previous: open.last.digest.clone(),
        };
        let (mut text, digest) = write(&line)?;
        text.push('\n');
        open.file.write_all(text.as_bytes())?;
        open.end += text.len() as u64;
        open.last = Head { sequence: line.sequence, digest };
        if deed.is_durable() { open.file.sync_data() } else { Ok(()) }
    }

    /// Written elsewhere and moved into place, so that a crash leaves the old one or the new one.
    fn seal(&self, head: &Head) -> io::Result<()> {
        let plain = serde_json::to_vec(head)?;
        let vaults = self.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        let sealed = vaults.iter().map(|vault| vault.seal_lasting(HEAD_PLACE, &plain, self.entropy.as_ref()));
        let sealed: Option<Vec<String>> = sealed.collect();
        let sealed = sealed.ok_or_else(|| io::Error::other("it cannot be sealed"))?.join("\n");
        drop(vaults);
        let path = head_path(&self.path);
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(sealed.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    }
}

impl AuditLog for AuditFile {
    fn record(&self, time: Timestamp, deed: &Deed) -> Result<(), AuditError> {
        self.locked(|log, open| log.append(open, time, deed))
    }
}

impl Drop for AuditFile {
    /// A process that is killed leaves an older note: the record is then longer than it says, which is no loss.
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(error = %error, "the audit log's end could not be noted");
        }
    }
}

impl Open {
    /// Reads what others wrote since we did. A line that a crash tore goes: what it said was not done.
    fn catch_up(&mut self) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        if end == self.end {
            return Ok(());
        }
        if end < self.end {
            let message =
                "lines were removed since this process wrote last; keep it elsewhere, and a new one begins";
            return Err(io::Error::other(message));
        }
        let mut tail = Vec::new();
        self.file.seek(SeekFrom::Start(end.saturating_sub(TAIL_BYTES)))?;
        self.file.read_to_end(&mut tail)?;
        let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = (tail.len() - whole) as u64;
        if torn > 0 {
            self.file.set_len(end - torn)?;
        }
        let last = tail[..whole]
            .strip_suffix(b"\n")
            .map(|lines| lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default());
        if let Some(last) = last {
            let text = std::str::from_utf8(last).map_err(io::Error::other)?;
            let (line, digest) = read(text).map_err(|why| {
                io::Error::other(format!(
                    "its last line is not whole: {why}; `ashlar audit verify` tells more"
                ))
            })?;
            self.last = Head { sequence: line.sequence, digest };
        } else if end > torn {
            return Err(io::Error::other("its last line has no end"));
        }
        self.end = end - torn;
        Ok(())
    }
}

impl Head {
    /// The note of how long the record was; a sentence if it is not ours.
    pub(super) fn read(path: &Path, vault: &Vault) -> Result<Result<Option<Noted>, String>, AuditError> {
        let path = head_path(path);
        let sealed = match std::fs::read_to_string(&path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ok(None)),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let mut notes: Vec<_> =
            sealed.lines().filter_map(|note| vault.open_lasting(HEAD_PLACE, note)).collect();
        // Between the two seals of a rotation, that of the present key.
        notes.sort_by_key(|note| note.before.is_some());
        let noted = notes.into_iter().next().and_then(|note| {
            let head = serde_json::from_slice(&note.plain).ok()?;
            Some(Noted { head, before: note.before })
        });
        let foreign = || "it was not written by Ashlar with this key, or one before it".to_owned();
        Ok(noted.map(Some).ok_or_else(foreign))
    }
}

pub(super) fn head_path(path: &Path) -> PathBuf {
    path.with_extension("head")
}

pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AuditError {
    let path = path.display().to_string();
    move |source| AuditError { doing, path, source }
}
