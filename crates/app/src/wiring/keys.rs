//! Keys of this installation: the one that seals secrets, and the one that logs in to nodes.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ashlar_engine::vault::{KeyProvider, Vault};
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

fn open(settings: &Settings) -> Result<Vault> {
    let provider = provider(settings)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&settings.state_dir)
        .context(format!("cannot make {}", settings.state_dir.display()))?;
    Ok(Vault::open(&provider, &settings.state_dir, &OsEntropy)?)
}

fn provider(settings: &Settings) -> Result<KeyProvider> {
    let Some(text) = &settings.key else {
        let path = config_dir()?.join("key");
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
    let (scheme, rest) = text.split_once(':').unwrap_or((text, ""));
    match (scheme, rest) {
        ("file", path) if !path.is_empty() => Ok(KeyProvider::File(PathBuf::from(path))),
        ("command", line) if !line.is_empty() => {
            let argv = shlex::split(line)
                .ok_or_else(|| Failure::new("--key command: the quotes in the command do not match"))?;
            Ok(KeyProvider::Command(argv))
        }
        ("credential", name) if !name.is_empty() => Ok(KeyProvider::Credential(name.to_owned())),
        ("passphrase", "") => Ok(KeyProvider::Passphrase(ask_passphrase(settings)?)),
        // The text is not repeated: somebody may have written the passphrase itself there.
        _ => Err(Failure::new("--key names no key provider")
            .hint("write file:PATH, command:PROGRAM ARG…, credential:NAME or passphrase")),
    }
}

/// Asks on the terminal, without showing what is typed.
fn ask_passphrase(settings: &Settings) -> Result<Zeroizing<String>> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::new("the passphrase can only be typed on a terminal")
            .hint("for scripts use --key file:PATH, command:… or credential:NAME"));
    }
    settings.printer.stderr("Passphrase of this installation's secrets:");
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
