//! Where the key-encryption key comes from.

use std::{
    io::Read,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

use super::VaultError;
use crate::effects::Entropy;

/// Least length of key material that is not a passphrase.
const MINIMUM_BYTES: usize = 32;
/// Most bytes that are read as key material: more is a slip (a wrong path).
const MAXIMUM_BYTES: u64 = 64 * 1024;
/// How long a key command may take. A TPM or a remote key service answers within seconds.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// Where the key-encryption key comes from.
#[derive(Clone)]
pub enum KeyProvider {
    /// A file of at least 32 random bytes, outside the state directory, readable by its owner only.
    File(PathBuf),
    /// A program whose standard output is the key (a TPM tool, a key service's client).
    Command(Vec<String>),
    /// A systemd credential of this name (`LoadCredentialEncrypted=`), found in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A passphrase that somebody typed; argon2id makes a key of it.
    Passphrase(Zeroizing<String>),
}

impl std::fmt::Debug for KeyProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.origin())
    }
}

impl KeyProvider {
    /// Where the key comes from, for people.
    pub fn origin(&self) -> String {
        match self {
            KeyProvider::File(path) => format!("the key file {}", path.display()),
            // Arguments may be anything; the program's name is enough to know which is meant.
            KeyProvider::Command(argv) => {
                format!("the key command {}", argv.first().map_or("(empty)", String::as_str))
            }
            KeyProvider::Credential(name) => format!("the systemd credential {name}"),
            KeyProvider::Passphrase(_) => "the passphrase".to_owned(),
        }
    }

    /// Makes a key file with fresh random bytes, readable by its owner only; an existing one is left alone.
    /// Says whether it was made.
    ///
    /// # Errors
    /// It lies in the state directory, or cannot be written.
    pub fn create_file(path: &Path, state_dir: &Path, entropy: &dyn Entropy) -> Result<bool, VaultError> {
        if path.exists() {
            return Ok(false);
        }
        let file_error = |doing| move |source| VaultError::File { doing, path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(file_error("cannot make the directory of"))?;
        }
        refuse_beside_store(path, state_dir)?;
        let mut key = Zeroizing::new([0u8; MINIMUM_BYTES]);
        entropy.fill(key.as_mut());
        // Written elsewhere and linked into place, so that a crash leaves a whole key or none, and two processes
        // that start at once agree on one.
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(file_error("cannot write"))?;
        std::io::Write::write_all(&mut file, key.as_ref())
            .and_then(|()| file.sync_all())
            .map_err(file_error("cannot write"))?;
        let linked = std::fs::hard_link(&fresh, path);
        std::fs::remove_file(&fresh).map_err(file_error("cannot remove the temporary copy of"))?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(file_error("cannot write")(source)),
        }
    }

    /// The raw key material.
    pub(super) fn material(&self, state_dir: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let material = match self {
            KeyProvider::File(path) => {
                refuse_beside_store(path, state_dir)?;
                read_private(path)?
            }
            KeyProvider::Command(argv) => run(argv)?,
            KeyProvider::Credential(name) => read_credential(name)?,
            KeyProvider::Passphrase(passphrase) => {
                return Ok(Zeroizing::new(passphrase.as_bytes().to_vec()));
            }
        };
        if material.len() < MINIMUM_BYTES {
            return Err(VaultError::TooShort {
                origin: self.origin(),
                length: material.len(),
                minimum: MINIMUM_BYTES,
            });
        }
        Ok(material)
    }
}

/// Refuses a path inside the state directory, links followed.
fn refuse_beside_store(path: &Path, state_dir: &Path) -> Result<(), VaultError> {
    let resolve = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    let file_error = |source| VaultError::File { doing: "cannot resolve", path: path.to_owned(), source };
    // The file itself may not exist yet; its directory does.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = resolve(parent.unwrap_or(Path::new("."))).map_err(file_error)?;
    let target = resolve(path).map_err(file_error)?;
    let state = resolve(state_dir).map_err(file_error)?;
    if directory.starts_with(&state) || target.starts_with(&state) {
        return Err(VaultError::BesideStore { path: path.to_owned(), state_dir: state_dir.to_owned() });
    }
    Ok(())
}

fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let file_error =
        |source| VaultError::File { doing: "cannot read the key file", path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(file_error)?;
    let mode = file.metadata().map_err(file_error)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(VaultError::TooOpen { path: path.to_owned(), mode });
    }
    read_bounded(file).map_err(file_error)
}

fn read_bounded(source: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // The capacity is there from the start: growing would leave copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAXIMUM_BYTES as usize + 1));
    source.take(MAXIMUM_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAXIMUM_BYTES {
        return Err(std::io::Error::other("it is far too long for a key"));
    }
    Ok(bytes)
}

fn read_credential(name: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let origin = format!("the systemd credential {name}");
    if name.is_empty() || name.contains('/') {
        return Err(VaultError::Provider { origin, reason: "that is not a credential's name".to_owned() });
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| VaultError::Provider {
        origin: origin.clone(),
        reason: "$CREDENTIALS_DIRECTORY is not set: the unit needs LoadCredentialEncrypted=".to_owned(),
    })?;
    let file = std::fs::File::open(Path::new(&directory).join(name));
    file.and_then(read_bounded).map_err(|error| VaultError::Provider { origin, reason: error.to_string() })
}

/// Runs the key command with a deadline. Its standard output is the key; its standard error goes to ours, since a key
/// tool may have to say something (and says it there), and nothing of its output is ever put into an error.
fn run(argv: &[String]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let origin = KeyProvider::Command(argv.to_vec()).origin();
    let failed = |reason: String| VaultError::Provider { origin: origin.clone(), reason };
    let (program, arguments) = argv.split_first().ok_or_else(|| failed("no program is named".to_owned()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stdout = child.stdout.take().ok_or_else(|| failed("it has no output".to_owned()))?;
    let reader = std::thread::spawn(move || read_bounded(stdout));
    let deadline = Instant::now() + COMMAND_DEADLINE;
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if Instant::now() >= deadline => {
                // Both fail only if it ended in this moment.
                child.kill().ok();
                child.wait().ok();
                return Err(failed(format!("it took longer than {} s", COMMAND_DEADLINE.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if !status.success() {
        return Err(failed(format!("it ended with {status}")));
    }
    reader
        .join()
        .map_err(|_| failed("its output could not be read".to_owned()))?
        .map_err(|error| failed(error.to_string()))
}
