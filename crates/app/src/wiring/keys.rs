//! Keys of this installation: the one that seals secrets, and the one that logs in to nodes.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ashlar_engine::vault::{KeyProvider, Prepared, Vault, VaultError, VaultState};
use zeroize::Zeroizing;

use super::world::OsEntropy;
use crate::failure::{Context, Failure, Result};
use crate::settings::{Settings, home_dir};

/// The vault, opened at first use: a passphrase is asked for once. Makes the default key file, and says so.
pub(crate) fn open_vault(settings: &Settings) -> Result<Arc<Vault>> {
    if let Some(vault) = settings.opened.vault.get() {
        return Ok(Arc::clone(vault));
    }
    let vault = Arc::new(open(settings)?);
    Ok(Arc::clone(settings.opened.vault.get_or_init(|| vault)))
}

/// This process works with a vault that was opened otherwise.
pub(crate) fn use_vault(settings: &Settings, vault: Arc<Vault>) {
    // One that is open already stays.
    let _ = settings.opened.vault.set(vault);
}

fn open(settings: &Settings) -> Result<Vault> {
    let provider = provider(settings)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&settings.state_dir)
        .context(format!("cannot make {}", settings.state_dir.display()))?;
    Vault::open(&provider, &settings.state_dir, &OsEntropy).map_err(|error| {
        let is_wrong = matches!(error, VaultError::WrongKey { .. });
        let failure = Failure::from(error);
        match (is_wrong, settings.key.is_none() && DefaultKey::find().is_ok_and(|key| key.is_due())) {
            (true, true) => failure.hint("a rotation was cut off: `ashlar secrets rotate` finishes it"),
            (true, false) => failure.hint(
                "--key names the right one; where `ashlar secrets rotate` changed it, that is the new one",
            ),
            (false, _) => failure,
        }
    })
}

/// The vault that a copy was sealed by, whatever the installation's key is by now. Where the default key file was changed
/// since, that is the one that `secrets rotate` kept. No key is made here.
pub(crate) fn open_vault_as(settings: &Settings, state: &VaultState) -> Result<Vault> {
    let provider = match &settings.key {
        Some(text) => named(settings, text, "--key")?,
        None => {
            let default = DefaultKey::find()?;
            let kept = default.kept(&state.key_id).filter(|path| path.exists());
            KeyProvider::File(kept.unwrap_or(default.path))
        }
    };
    Vault::open_as(&provider, state, &settings.state_dir).map_err(|error| {
        let is_wrong = matches!(error, VaultError::WrongKey { .. });
        let failure = Failure::from(error);
        if is_wrong {
            failure.hint(
                "--key names the right one: where `ashlar secrets rotate` changed it since, the one of then",
            )
        } else {
            failure
        }
    })
}

/// Where the present key comes from, for people.
pub(crate) fn key_origin(settings: &Settings) -> Result<String> {
    match settings.key.as_deref() {
        // It is not asked for a second time.
        Some("passphrase") => Ok("the passphrase".to_owned()),
        _ => Ok(provider(settings)?.origin()),
    }
}

/// The default key file while it is changed: the new one lies beside it until it is the key.
pub(crate) struct DefaultKey {
    path: PathBuf,
    new: PathBuf,
}

impl DefaultKey {
    fn find() -> Result<DefaultKey> {
        let path = config_dir()?.join("key");
        Ok(DefaultKey { new: path.with_extension("new"), path })
    }

    /// Where the key of that id is kept, once another one took its place. None: that is no id of a key.
    fn kept(&self, key_id: &str) -> Option<PathBuf> {
        let is_id = !key_id.is_empty() && key_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| self.path.with_extension(format!("was-{key_id}")))
    }

    /// Whether there is a new one.
    pub(crate) fn is_due(&self) -> bool {
        self.new.exists()
    }

    /// Puts the new one in the old one's place, which is kept. Says where.
    pub(crate) fn install(&self, settings: &Settings) -> Result<Option<PathBuf>> {
        if !self.is_due() {
            return Ok(None);
        }
        let doing = || format!("cannot put {} in the place of {}", self.new.display(), self.path.display());
        let old = Prepared::new(&KeyProvider::File(self.path.clone()), &settings.state_dir, &OsEntropy)?;
        let kept = self
            .kept(old.vault.key_id())
            .ok_or_else(|| Failure::internal("the id of a key is no number in hex"))?;
        // A second name first: between the two steps there is a key in its place, and the old one is not lost.
        match fs::hard_link(&self.path, &kept) {
            // By a command that was cut off then.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            linked => linked.context(doing())?,
        }
        fs::rename(&self.new, &self.path).context(doing())?;
        Ok(Some(kept))
    }
}

/// Where the new key of a rotation comes from; for the default key file, with what is to become of it.
pub(crate) fn new_provider(
    settings: &Settings,
    text: Option<&str>,
) -> Result<(KeyProvider, Option<DefaultKey>)> {
    match text {
        Some("passphrase") => {
            let first = ask_passphrase(settings, "New passphrase for this installation's secrets:")?;
            let again = ask_passphrase(settings, "The same again:")?;
            if *first != *again {
                return Err(Failure::new("the two passphrases differ: nothing was changed"));
            }
            Ok((KeyProvider::Passphrase(first), None))
        }
        Some(text) => Ok((named(settings, text, "--new-key")?, None)),
        None => {
            let default = DefaultKey::find()?;
            KeyProvider::create_file(&default.new, &settings.state_dir, &OsEntropy)?;
            Ok((KeyProvider::File(default.new.clone()), Some(default)))
        }
    }
}

fn provider(settings: &Settings) -> Result<KeyProvider> {
    let Some(text) = &settings.key else {
        let path = DefaultKey::find()?.path;
        if KeyProvider::create_file(&path, &settings.state_dir, &OsEntropy)? {
            settings.printer.note(format!(
                "note: made {}, the key that seals this installation's secrets: keep a copy in a safe place, and \
                 never beside copies of {}",
                path.display(),
                settings.state_dir.display()
            ));
        }
        return Ok(KeyProvider::File(path));
    };
    named(settings, text, "--key")
}

/// The provider that an option's text names.
fn named(settings: &Settings, text: &str, option: &str) -> Result<KeyProvider> {
    let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
    match (scheme, rest) {
        ("file", path) if !path.is_empty() => Ok(KeyProvider::File(PathBuf::from(path))),
        ("command", line) if !line.is_empty() => {
            let argv = shlex::split(line).ok_or_else(|| {
                Failure::new(format!("{option} command: the quotes in the command do not match"))
            })?;
            Ok(KeyProvider::Command(argv))
        }
        ("credential", name) if !name.is_empty() => Ok(KeyProvider::Credential(name.to_owned())),
        ("passphrase", "") => Ok(KeyProvider::Passphrase(ask_passphrase(
            settings,
            "Passphrase of this installation's secrets:",
        )?)),
        // The text is not repeated: somebody may have written the passphrase itself there.
        _ => Err(Failure::new(format!("{option} names no key provider"))
            .hint("write file:PATH, command:PROGRAM ARG…, credential:NAME or passphrase")),
    }
}

/// Asks on the terminal, without showing what is typed.
fn ask_passphrase(settings: &Settings, question: &str) -> Result<Zeroizing<String>> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::new("the passphrase can only be typed on a terminal")
            .hint("for scripts use --key file:PATH, command:… or credential:NAME"));
    }
    settings.printer.stderr(question);
    let shown = tcgetattr(&input)?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&input, SetArg::TCSANOW, &hidden)?;
    let mut line = Zeroizing::new(String::new());
    let read = input.read_line(&mut line);
    tcsetattr(&input, SetArg::TCSANOW, &shown)?;
    read?;
    let passphrase = Zeroizing::new(line.trim_end_matches(['\n', '\r']).to_owned());
    if passphrase.is_empty() {
        return Err(Failure::new("the passphrase is empty"));
    }
    Ok(passphrase)
}

/// Where keys of the user lie: never in the state directory.
fn config_dir() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home_dir().map(|home| home.join(".config")))
        .ok_or_else(|| {
            Failure::new("neither $HOME nor $XDG_CONFIG_HOME is set").hint("name a key with --key")
        })?;
    Ok(base.join("ashlar"))
}

/// The key that logs in to nodes: private key's path and public key. Made at first use.
pub(crate) fn node_login_key(settings: &Settings) -> Result<(PathBuf, String)> {
    let private = config_dir()?.join("id_ed25519");
    let public = private.with_extension("pub");
    if !private.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(config_dir()?)?;
        let output = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "ashlar", "-f"])
            .arg(&private)
            .output()
            .context("cannot run ssh-keygen")
            .hint("`ashlar setup` installs openssh-client")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("ssh-keygen failed: {}", said.trim())));
        }
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600))?;
        settings
            .printer
            .note(format!("note: made {}, the key that `ashlar ssh` logs in with", private.display()));
    }
    let text = read_public(&public)?;
    Ok((private, text))
}

fn read_public(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).context(format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}
