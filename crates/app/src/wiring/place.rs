//! Where an installation's objects are: in a file of its state directory, or in etcd if `store.yaml` there says so.
//!
//! `ashlar store migrate` changes that in one step of the store that is left: a transaction in which it gives itself up. What
//! has to follow on this side (names of files) is made up for by whoever opens the store next, if it was cut off.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ashlar_engine::vault;
use ashlar_store::{
    Candidate, EtcdOptions, EtcdStore, RecordState, Recorded, Role, SqliteStore, Store, StoreError,
    StoreRecord,
};
use futures::executor::block_on;
use nix::unistd::gethostname;
use serde::{Deserialize, Serialize};

use super::installation;
use crate::failure::{Context as _, Failure, Result};
use crate::settings::Settings;

/// The file that says that the store is in etcd.
pub(crate) const FILE: &str = "store.yaml";
/// The same, before the store in SQLite was given up.
pub(crate) const NEXT_FILE: &str = "store.yaml.next";
/// The same, after the store in etcd was given up.
const LEFT_FILE: &str = "store.yaml.left";
/// Under which keys lie unless a file says otherwise.
const PREFIX: &str = "/ashlar";

/// How to reach the store in etcd: `store.yaml`, and the file that `store migrate` and `store use` take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EtcdPlace {
    /// `https://HOST:PORT` of each member.
    pub(crate) endpoints: Vec<String>,
    /// Under which all keys lie.
    #[serde(default = "prefix")]
    pub(crate) prefix: String,
    /// File with the CA of the members.
    pub(crate) ca: PathBuf,
    /// File with the certificate that this machine shows.
    pub(crate) certificate: PathBuf,
    /// File with its key.
    pub(crate) key: PathBuf,
    /// The migration that brought the objects there, where it was made here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) migration: String,
}

fn prefix() -> String {
    PREFIX.to_owned()
}

impl EtcdPlace {
    /// Reads and checks a file. Paths in it are relative to it.
    pub(crate) fn read(path: &Path) -> Result<EtcdPlace> {
        let doing = || format!("cannot use {}", path.display());
        let text = fs::read_to_string(path).context(doing())?;
        let mut place: EtcdPlace = serde_saphyr::from_str(&text)
            .map_err(|error| Failure::new(error.to_string().trim_end()).because_of(doing()))
            .hint(
                "it needs endpoints, ca, certificate and key; prefix is /ashlar unless it says otherwise",
            )?;
        let base = std::path::absolute(path)?;
        for file in [&mut place.ca, &mut place.certificate, &mut place.key] {
            *file = base.parent().unwrap_or(Path::new("/")).join(&*file);
        }
        if !place.prefix.starts_with('/') || place.prefix.trim_end_matches('/').is_empty() {
            return Err(Failure::new(format!(
                "prefix: `{}` does not begin a key: write /NAME",
                place.prefix
            ))
            .because_of(doing()));
        }
        Ok(place)
    }

    /// Opens it, whatever is there. Nothing is asked yet.
    pub(crate) fn open(&self) -> Result<EtcdStore> {
        let pem = |what: &str, path: &Path| {
            fs::read_to_string(path).context(format!("cannot read the {what} for etcd, {}", path.display()))
        };
        Ok(EtcdStore::open(&EtcdOptions {
            endpoints: self.endpoints.clone(),
            prefix: self.prefix.clone(),
            ca_pem: pem("CA", &self.ca)?,
            certificate_pem: pem("certificate", &self.certificate)?,
            key_pem: pem("key", &self.key)?,
        })?)
    }

    /// Writes it, so that it is there whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let doing = || format!("cannot write {}", path.display());
        let text = serde_saphyr::to_string(self).map_err(|error| Failure::internal(error.to_string()))?;
        let draft = path.with_extension(format!("part-{}", std::process::id()));
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).context(doing())?;
        fs::rename(&draft, path).context(doing())?;
        sync_directory(path)
    }

    /// For people.
    pub(crate) fn name(&self) -> String {
        format!("{} in etcd at {}", self.prefix, self.endpoints.join(", "))
    }
}

/// Where the objects are.
#[derive(Debug)]
pub(crate) enum Place {
    /// In this file, if there is one yet.
    Sqlite(PathBuf),
    /// In etcd. What is committed through the handle depends on it that the store is still in use.
    Etcd(EtcdPlace, EtcdStore),
}

impl Place {
    /// Finds it, and finishes what a migration had left to do.
    pub(crate) fn find(settings: &Settings) -> Result<Place> {
        let sqlite = settings.store_path()?;
        let (file, next) = (settings.state_dir.join(FILE), settings.state_dir.join(NEXT_FILE));
        if next.try_exists()? && is_moved(&sqlite) {
            rename(&next, &file)?;
        }
        // Each round finishes one thing.
        for _ in 0..3 {
            if !file.try_exists()? {
                return Ok(Place::Sqlite(sqlite));
            }
            let place = EtcdPlace::read(&file)?;
            let store = place.open()?;
            let recorded = block_on(store.record())?.ok_or_else(|| {
                Failure::new(format!("there is no store of Ashlar under {}", place.name())).hint(format!(
                    "{} names the place: is it the right etcd, and the right prefix?",
                    file.display()
                ))
            })?;
            belongs(&recorded.record, installation(&settings.state_dir)?, &place)?;
            match recorded.record.state {
                RecordState::Current => {
                    // Another machine may have changed the key that seals the secrets.
                    if let Some(state) = recorded.record.files.get(vault::STATE_FILE) {
                        vault::follow_state(&settings.state_dir, state)?;
                    }
                    let store = store.under(&recorded);
                    return Ok(Place::Etcd(place, store));
                }
                RecordState::Filling if recorded.record.migration == place.migration => {
                    come_into_use(&store, &recorded)?;
                }
                RecordState::Filling => {
                    let note = &recorded.record.note;
                    return Err(Failure::new(format!(
                        "a migration into {} was not finished ({note}): its objects are still where they were",
                        place.name()
                    )));
                }
                RecordState::Leaving => match block_on(store.leader())? {
                    Some(leader) if leader.candidate.role == Role::Command => {
                        let store = store.to_look();
                        return Ok(Place::Etcd(place, store));
                    }
                    // Whoever copied it has died before it was given up.
                    _ => come_into_use(&store, &recorded)?,
                },
                RecordState::Left => come_home(settings, &sqlite, &place, &recorded.record)?,
            }
        }
        Err(Failure::new(format!("{} changes all the time; run the command again", file.display())))
    }

    /// Opens it for reading and writing; makes the file where there is nothing.
    pub(crate) fn open(self) -> Result<Arc<dyn Store>> {
        Ok(match self {
            Place::Sqlite(path) => Arc::new(SqliteStore::open(path)?),
            Place::Etcd(_, store) => Arc::new(store),
        })
    }

    /// For people.
    pub(crate) fn name(&self) -> String {
        match self {
            Place::Sqlite(path) => path.display().to_string(),
            Place::Etcd(place, _) => place.name(),
        }
    }
}

/// The store, for reading and writing.
pub(crate) fn open_store(settings: &Settings) -> Result<Arc<dyn Store>> {
    Place::find(settings)?.open()
}

/// This process, as it stands for the leadership.
pub(crate) fn candidate(role: Role, name: Option<&str>) -> Candidate {
    let host = gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let doing = match role {
        Role::Daemon => format!("on {host}, process {}", std::process::id()),
        Role::Command => std::env::args().collect::<Vec<_>>().join(" "),
    };
    let own = || match role {
        Role::Daemon => host.clone(),
        Role::Command => format!("on {host}, process {}", std::process::id()),
    };
    Candidate { name: name.map_or_else(own, str::to_owned), role, doing }
}

/// Refuses the store of another installation.
pub(crate) fn belongs(record: &StoreRecord, ours: uuid::Uuid, place: &EtcdPlace) -> Result<()> {
    if record.installation == ours.to_string() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the store under {} is of another installation ({}; this one is {ours})",
        place.name(),
        record.installation
    ))
    .hint("each installation has a prefix of its own; to work on that one from here, `ashlar store use` in an empty --state-dir"))
}

/// The draft of the store that a migration from etcd makes.
pub(crate) fn draft(sqlite: &Path, migration: &str) -> PathBuf {
    suffixed(sqlite, &format!(".next-{migration}"))
}

pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn is_moved(sqlite: &Path) -> bool {
    matches!(SqliteStore::open_read_only(sqlite), Err(StoreError::Moved { .. }))
}

fn come_into_use(store: &EtcdStore, recorded: &Recorded) -> Result<()> {
    let record = StoreRecord { state: RecordState::Current, ..recorded.record.clone() };
    match block_on(store.write_record(&record, Some(recorded))) {
        // Somebody else did it.
        Ok(_) | Err(StoreError::Moved { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The objects went from etcd into a file, here or on another machine.
fn come_home(settings: &Settings, sqlite: &Path, place: &EtcdPlace, record: &StoreRecord) -> Result<()> {
    let draft = draft(sqlite, &record.migration);
    if draft.try_exists()? {
        // What lies there was given up when its objects went to etcd.
        if is_moved(sqlite) {
            let kept = suffixed(sqlite, &format!(".moved-{}", record.migration));
            for part in ["", "-wal", "-shm"] {
                rename(&suffixed(sqlite, part), &suffixed(&kept, part))?;
            }
        }
        rename(&draft, sqlite)?;
        sync_directory(sqlite)?;
    } else if !sqlite.try_exists()? || is_moved(sqlite) {
        return Err(Failure::from(StoreError::Moved { place: place.name(), detail: record.note.clone() })
            .hint("work where it is now; or, to work from here too, move it to etcd again, and `ashlar store use`"));
    }
    rename(&settings.state_dir.join(FILE), &settings.state_dir.join(LEFT_FILE))
}

/// Renames; that somebody else did it is fine.
fn rename(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).context(format!("cannot rename {}", from.display()))
        }
        _ => sync_directory(to),
    }
}

fn sync_directory(path: &Path) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .context(format!("cannot write {}", directory.display()))
}
