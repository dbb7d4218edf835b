//! The record as a file: JSON lines, appended under a lock, so that several processes may write one.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::doubt::Doubt;
use super::end::End;
use super::line::{Line, write};
use super::{AuditError, AuditLog, Deed};
use crate::effects::Entropy;
use crate::vault::Vault;

/// What a sealed head is bound to.
const HEAD_PLACE: &str = "ashlar.dev/audit/head";
/// How long deeds go on before the note follows: what was done in so much time can be cut off unseen if this process is killed.
/// A note waits for the disk once more than the line (13 ms beside 8 ms on a disk that others use too), so that it is not written with
/// each line.
const NOTED_WITHIN: SignedDuration = SignedDuration::from_secs(1);

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

/// The file, and what is known of it.
pub(super) struct Open {
    pub(super) file: File,
    pub(super) end: End,
    /// It was opened, and is gone on with: its end is noted when the process ends.
    is_sound: bool,
    /// Time of the last deed that was noted.
    noted_at: Option<Timestamp>,
    /// What was found wrong was noted, so that others find it too.
    is_told: bool,
}

/// The note of how long a record was.
pub(super) struct Noted {
    pub(super) head: Head,
    /// Id of the key that it was sealed by, if that was the installation's before.
    pub(super) before: Option<String>,
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
        let log = Self::unchecked(path, author, vault, entropy)?;
        log.alone(|log, open| {
            let noted = log.noted()?;
            open.end.find(&open.file)?;
            if let Some(doubt) = log.doubt_of(open, &noted)? {
                return Err(doubt.into());
            }
            if matches!(noted, Ok(None)) {
                // From its first line on it can be told whether lines are missing.
                log.seal(open.end.last())?;
            }
            open.is_sound = true;
            Ok(())
        })?;
        Ok(log)
    }

    /// The file, of which nothing is known yet.
    pub(super) fn unchecked(
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
        let open = Open { file, end: End::default(), is_sound: false, noted_at: None, is_told: false };
        let (path, vaults, open) = (path.to_owned(), Mutex::new(vec![vault]), Mutex::new(open));
        Ok(AuditFile { path, author, vaults, entropy, open })
    }

    /// The note of how long the record was, as the first of the vaults that can open it does.
    pub(super) fn noted(&self) -> io::Result<Result<Option<Head>, String>> {
        let vaults = self.vaults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut noted = Ok(Ok(None));
        for vault in vaults.iter() {
            let read = Head::read(&self.path, vault).map_err(|error| error.source);
            noted = read.map(|read| read.map(|note| note.map(|note| note.head)));
            if matches!(noted, Ok(Ok(_))) {
                break;
            }
        }
        noted
    }

    /// What is wrong with the end of the record, as its note has it.
    pub(super) fn doubt_of(
        &self,
        open: &Open,
        noted: &Result<Option<Head>, String>,
    ) -> io::Result<Option<Doubt>> {
        let note = || head_path(&self.path).display().to_string();
        let lines = open.end.last().sequence;
        Ok(match noted {
            Ok(Some(noted)) if noted.sequence > lines => {
                Some(Doubt::Shorter { was: noted.sequence, is: lines })
            }
            Ok(Some(noted)) if !open.end.has(&open.file, noted)? => {
                Some(Doubt::Exchanged { line: noted.sequence })
            }
            Ok(Some(_)) => None,
            Ok(None) if lines == 0 => None,
            Ok(None) => Some(Doubt::NoNote { note: note() }),
            Err(why) => Some(Doubt::ForeignNote { note: note(), why: why.clone() }),
        })
    }

    /// Puts it on the disk, and notes sealed how long it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn close(&self) -> Result<(), AuditError> {
        self.locked(|log, open| {
            open.file.sync_data()?;
            log.seal(open.end.last())
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
        self.alone(|log, open| {
            match open.end.catch_up(&open.file, &log.path)? {
                None => {}
                Some(doubt) if log.is_accepted(open)? => {
                    tracing::info!(%doubt, "the audit log is gone on with, as a person has said");
                    open.end.find(&open.file)?;
                    open.is_told = false;
                }
                Some(doubt) => {
                    log.tell(open, &doubt)?;
                    return Err(doubt.into());
                }
            }
            work(log, open)
        })
    }

    /// Does something while no other process writes.
    pub(super) fn alone(
        &self,
        work: impl FnOnce(&Self, &mut Open) -> io::Result<()>,
    ) -> Result<(), AuditError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = &mut *open;
        open.file.lock().map_err(failed("lock", &self.path))?;
        let done = work(self, open);
        let unlocked = open.file.unlock();
        done.and(unlocked).map_err(failed("write", &self.path))
    }

    /// Whether a person has looked at what is there since this process wrote its last line, and said so.
    fn is_accepted(&self, open: &Open) -> io::Result<bool> {
        let Ok(Some(noted)) = self.noted()? else { return Ok(false) };
        let mut there = End::default();
        if there.find(&open.file).is_err() {
            return Ok(false);
        }
        Ok(there.has(&open.file, &noted)? && there.is_accepted_since(&open.file, &noted, open.end.time())?)
    }

    /// What only this process knows is noted once: else it would be forgotten with it.
    fn tell(&self, open: &mut Open, doubt: &Doubt) -> io::Result<()> {
        if std::mem::replace(&mut open.is_told, true) || *doubt == Doubt::Moved {
            return Ok(());
        }
        match self.noted()? {
            Ok(Some(noted)) if noted.sequence < open.end.last().sequence => self.seal(open.end.last()),
            _ => Ok(()),
        }
    }

    pub(super) fn append(&self, open: &mut Open, time: Timestamp, deed: &Deed) -> io::Result<()> {
        let last = open.end.last();
        let line = Line {
            sequence: last.sequence + 1,
            time,
            who: self.author.0.clone(),
            deed: deed.clone(),
            previous: last.digest.clone(),
        };
        let (mut text, digest) = write(&line)?;
        text.push('\n');
        open.end.cut_torn(&open.file)?;
        open.file.write_all(text.as_bytes())?;
        open.end.grow(text.len() as u64, Head { sequence: line.sequence, digest }, time);
        let is_due = open.noted_at.is_none_or(|at| time.duration_since(at).abs() >= NOTED_WITHIN);
        if is_due || deed.is_durable() {
            open.file.sync_data()?;
        }
        if is_due {
            // Of what is on the disk: a note of more would say after a loss of power that lines were removed.
            self.seal(open.end.last())?;
            open.noted_at = Some(time);
        }
        Ok(())
    }

    /// Written elsewhere and moved into place, so that a crash leaves the old one or the new one.
    pub(super) fn seal(&self, head: &Head) -> io::Result<()> {
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
    /// A process that is killed leaves a note that is a little older: the record is then longer than it says, which is no loss.
    fn drop(&mut self) {
        let is_sound =
            self.open.get_mut().map_or_else(|poisoned| poisoned.get_ref().is_sound, |open| open.is_sound);
        if !is_sound {
            return;
        }
        if let Err(error) = self.close() {
            tracing::warn!(error = %error, "the audit log's end could not be noted");
        }
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
