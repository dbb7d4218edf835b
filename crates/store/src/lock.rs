//! One engine for each state directory.
//!
//! The lock is the kernel's (`flock` on `engine.lock`), so it ends with the process that holds it, however that
//! ends; what the file says is only for people. Readers of the store need no lock.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why the engine lock was not acquired.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process is the engine of this state directory.
    #[error("`{command}` (process {pid}, since {since}) is already working here; wait for it, or stop it")]
    Held {
        /// Its process id.
        pid: u32,
        /// The command it runs.
        command: String,
        /// When it acquired the lock.
        since: Timestamp,
        /// Where it takes requests, if it is a daemon: it holds the lock for as long as it runs.
        socket: Option<PathBuf>,
    },
    /// Another process holds the lock, but does not say who it is.
    #[error("another process is already working here: it holds {}; `fuser -v {0}` names it", path.display())]
    HeldByUnknown {
        /// The lock file.
        path: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("the lock file {} cannot be used", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The underlying error.
        #[source]
        source: io::Error,
    },
}

/// What the holder writes into the file.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    command: String,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    socket: Option<PathBuf>,
}

/// The right to be the one engine of a state directory; given back on drop, or when the process ends.
#[derive(Debug)]
pub struct EngineLock {
    file: File,
    path: PathBuf,
    holder: Holder,
}

impl EngineLock {
    /// The lock's file in a state directory.
    pub const FILE_NAME: &str = "engine.lock";

    /// Acquires the lock of `state_directory` (made with mode 0700 if there is none), or says who holds it.
    /// `command` is what others are told that this process does, for example `ashlar apply -f demo.yaml`.
    ///
    /// # Errors
    /// [`LockError::Held`], [`LockError::HeldByUnknown`], [`LockError::Io`].
    pub fn try_acquire(state_directory: impl AsRef<Path>, command: &str) -> Result<Self, LockError> {
        let directory = state_directory.as_ref();
        let path = directory.join(Self::FILE_NAME);
        let failed = |source| LockError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        loop {
            // Never truncated on opening: the file may be another's.
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut file = file.open(&path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(holder(&path)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Somebody may have removed the file between opening and locking: then this lock guards nothing.
            if !is_at(&file, &path).map_err(failed)? {
                continue;
            }
            let (pid, command, since) = (std::process::id(), command.to_owned(), Timestamp::now());
            let holder = Holder { pid, command, since, socket: None };
            write(&mut file, &holder).map_err(failed)?;
            return Ok(Self { file, path, holder });
        }
    }

    /// Tells others that this process is a daemon, and where it takes requests.
    ///
    /// # Errors
    /// [`LockError::Io`].
    pub fn announce(&mut self, socket: &Path) -> Result<(), LockError> {
        self.holder.socket = Some(socket.to_owned());
        let failed = |source| LockError::Io { path: self.path.clone(), source };
        write(&mut self.file, &self.holder).map_err(failed)
    }

    /// The lock's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for EngineLock {
    fn drop(&mut self) {
        // Emptied first, so that the file never names a process that no longer holds it. The file stays:
        // removing it would let two processes lock two files of this name. Closing it releases the lock.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn write(file: &mut File, holder: &Holder) -> io::Result<()> {
    let mut text = serde_json::to_string(holder)?;
    text.push('\n');
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Who holds the lock. Between locking and writing its name the holder is unknown for a moment, and the file
/// may still name one that was killed: ask again for a while.
fn holder(path: &Path) -> LockError {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..TRIES {
        let mut text = String::new();
        let read = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
        if read.is_ok()
            && let Ok(Holder { pid, command, since, socket }) = serde_json::from_str(&text)
            && is_alive(pid)
        {
            return LockError::Held { pid, command, since, socket };
        }
        thread::sleep(PAUSE);
    }
    LockError::HeldByUnknown { path: path.to_owned() }
}

fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_engine_is_told_who_works() {
        let directory = tempfile::tempdir().expect("directory");
        let state = directory.path().join("made/on/demand");
        let before = Timestamp::now();
        let mut lock = EngineLock::try_acquire(&state, "ashlar apply -f demo.yaml").expect("free");
        let error = EngineLock::try_acquire(&state, "ashlar delete cluster demo").expect_err("held");
        let LockError::Held { pid, command, since, socket: None } = &error else { panic!("{error:?}") };
        assert_eq!((*pid, command.as_str()), (std::process::id(), "ashlar apply -f demo.yaml"));
        assert!(before <= *since && *since <= Timestamp::now());
        lock.announce(Path::new("/run/ashlar.sock")).expect("announced");
        let error = EngineLock::try_acquire(&state, "next").expect_err("held");
        let LockError::Held { socket, command, .. } = &error else { panic!("{error:?}") };
        assert_eq!(socket.as_deref(), Some(Path::new("/run/ashlar.sock")));
        assert_eq!(command, "ashlar apply -f demo.yaml");
        let mode = fs::metadata(lock.path()).expect("file").mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(lock);
        drop(EngineLock::try_acquire(&state, "next").expect("free again"));
    }

    #[test]
    fn a_lock_on_a_removed_file_does_not_count() {
        let directory = tempfile::tempdir().expect("directory");
        let first = EngineLock::try_acquire(directory.path(), "first").expect("free");
        fs::remove_file(first.path()).expect("removed by somebody");
        // Whoever comes now cannot see the first; but it must hold the file that all later ones see.
        let second = EngineLock::try_acquire(directory.path(), "second").expect("the new file is free");
        let error = EngineLock::try_acquire(directory.path(), "third").expect_err("held");
        assert!(matches!(&error, LockError::Held { command, .. } if command == "second"), "{error:?}");
        drop((first, second));
    }

    #[test]
    fn an_unusable_directory_is_an_error() {
        let directory = tempfile::tempdir().expect("directory");
        let file = directory.path().join("file");
        fs::write(&file, "").expect("written");
        let error = EngineLock::try_acquire(&file, "x").expect_err("not a directory");
        assert!(matches!(error, LockError::Io { .. }), "{error:?}");
    }
}
