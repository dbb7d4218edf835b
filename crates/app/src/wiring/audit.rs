//! Who keeps the record of this state directory, and who writes into it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use ashlar_api::ObjectRef;
use ashlar_engine::audit::{AuditFile, AuditLog as _, Author, Deed};
use ashlar_engine::effects::Clock as _;
use ashlar_engine::vault::Vault;
use nix::unistd::{Uid, User, gethostname};

use super::{OsEntropy, SystemClock, open_vault};
use crate::failure::Result;
use crate::settings::Settings;

pub(crate) fn audit_path(settings: &Settings) -> PathBuf {
    settings.state_dir.join("audit.jsonl")
}

/// What a process opens once, for all of its parts.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(super) vault: OnceLock<Arc<Vault>>,
    audit: OnceLock<Arc<AuditFile>>,
}

/// The record; opened at first use, which notes that this process begins to work.
pub(crate) fn open_audit(settings: &Settings) -> Result<Arc<AuditFile>> {
    if let Some(log) = settings.opened.audit.get() {
        return Ok(Arc::clone(log));
    }
    let vault = open_vault(settings)?;
    let log = AuditFile::open(&audit_path(settings), author(), vault, Arc::new(OsEntropy))?;
    let command: Vec<String> = std::env::args().collect();
    let command = shlex::try_join(command.iter().map(String::as_str)).unwrap_or_else(|_| command.join(" "));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    log.record(SystemClock.now(), &Deed::Began { command, version })?;
    Ok(Arc::clone(settings.opened.audit.get_or_init(|| Arc::new(log))))
}

/// Records what a person wishes, before it goes into the store.
pub(crate) fn record_wish<'a>(
    settings: &Settings,
    verb: &str,
    objects: impl IntoIterator<Item = &'a ObjectRef>,
) -> Result<()> {
    let objects = objects.into_iter().map(ToString::to_string).collect();
    let deed = Deed::Declared { verb: verb.to_owned(), objects };
    Ok(open_audit(settings)?.record(SystemClock.now(), &deed)?)
}

/// `root (alice) on bastion, process 4711`.
pub(crate) fn author() -> Author {
    Author(format!("{}, process {}", person(), std::process::id()))
}

/// `root (alice) on bastion`: whoever used sudo is named too, as sudo says.
pub(crate) fn person() -> String {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name);
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| *name != user);
    let sudo = sudo.map(|name| format!(" ({name})")).unwrap_or_default();
    let host = gethostname().unwrap_or_default();
    format!("{user}{sudo} on {}", host.to_string_lossy())
}
