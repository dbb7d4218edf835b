//! `ashlar store`: copies of all that an installation has, but for its key.

mod check;
mod etcd;
mod migrate;

pub(crate) use migrate::lead;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use ashlar_engine::vault;
use ashlar_store::{Precondition, SqliteStore, Store as _, Transaction};
use futures::executor::block_on;
use jiff::Timestamp;

use crate::cli::{StoreCommand, StoreRestoreArgs};
use crate::confirm::confirm;
use crate::failure::{Context as _, Exit, Failure, Result};
use crate::output::plural;
use crate::settings::Settings;
use crate::wiring::place::Place;
use crate::wiring::{INSTALLATION_FILE, lock_alone, record_wish};

/// The store's name in a copy.
const STORE: &str = "store.db";
/// What a store is of no use without, but for the key.
const BESIDE: [&str; 2] = [INSTALLATION_FILE, vault::STATE_FILE];

/// Where a host's fencing token stands.
const TOKEN: &str = "/record/leaseToken";
/// One is given out by each command that changes a host: nobody gets so far in the life of a copy.
const TAKEN: u64 = 1 << 24;

/// Runs a store command.
pub(crate) fn store(settings: &Settings, command: StoreCommand) -> Result {
    match command {
        StoreCommand::Backup { directory } => backup(settings, &directory),
        StoreCommand::Restore(args) => restore(settings, &args),
        StoreCommand::Migrate(args) => migrate::migrate(settings, &args),
        StoreCommand::Use { file } => etcd::use_store(settings, &file),
        StoreCommand::Show => etcd::show(settings),
        StoreCommand::Check { directory } => check::check(settings, directory.as_deref()),
    }
}

fn backup(settings: &Settings, directory: &Path) -> Result {
    let place = Place::find(settings)?;
    let store = match &place {
        Place::Sqlite(path) => Some(SqliteStore::open_read_only(path)?),
        Place::Etcd(..) => None,
    };
    let doing = || format!("cannot make {}", directory.display());
    DirBuilder::new().mode(0o700).create(directory).context(doing())?;
    for name in BESIDE {
        if let Some(bytes) = read(&settings.state_dir.join(name))? {
            write(&directory.join(name), &bytes)?;
        }
    }
    // Last: a directory with a store in it is whole.
    let revision = match (&store, &place) {
        (Some(store), _) => block_on(store.backup(&directory.join(STORE)))?,
        (None, Place::Etcd(_, store)) => {
            let listing = block_on(store.list_raw(None, None))?;
            SqliteStore::create_from(&listing, &directory.join(STORE))?;
            listing.revision
        }
        (None, Place::Sqlite(_)) => return Err(Failure::internal("a store that is nowhere")),
    };
    settings.printer.note(format!("{}: the store at revision {revision}", directory.display()));
    settings.printer.note("the key that opens its secrets is not in it: keep a copy of that elsewhere");
    Ok(Exit::Success)
}

fn restore(settings: &Settings, args: &StoreRestoreArgs) -> Result {
    let path = match Place::find(settings)? {
        Place::Sqlite(path) => path,
        Place::Etcd(place, _) => {
            return Err(Failure::new(format!("the store is {}: a copy is put back in SQLite only", place.name()))
                .hint("`ashlar store migrate --to-sqlite` first, and back again afterwards")
                .hint("if that etcd is lost: remove store.yaml in the state directory, and restore with --take-hosts"));
        }
    };
    let from = |name: &str| args.directory.join(name);
    if !from(STORE).is_file() {
        return Err(Failure::new(format!("there is no {STORE} in {}", args.directory.display()))
            .hint("`ashlar store backup DIRECTORY` makes a copy"));
    }
    let _lock = lock_alone(settings)?;
    let mut missing = Vec::new();
    for name in BESIDE {
        let (there, copied) = (read(&settings.state_dir.join(name))?, read(&from(name))?);
        match (there, copied) {
            (Some(there), Some(copied)) if name == vault::STATE_FILE && there != copied => {
                return Err(Failure::new(format!(
                    "the secrets in {} are sealed with another key than this installation's: it was changed since \
                     (`ashlar secrets rotate`), or the copy is another installation's",
                    args.directory.display()
                ))
                .hint("--state-dir DIR names an empty directory to put it into, to be used with the key of then"));
            }
            (Some(there), Some(copied)) if there != copied => {
                return Err(Failure::new(format!(
                    "{} is a copy of another installation: {name} differs",
                    args.directory.display()
                ))
                .hint("--state-dir DIR names an empty directory to put it into"));
            }
            (None, Some(copied)) => missing.push((name, copied)),
            _ => {}
        }
    }
    let what =
        format!("what was recorded in {} since the copy was made (it is kept beside it)", path.display());
    confirm(settings, args.yes, &[what])?;
    for (name, bytes) in missing {
        write(&settings.state_dir.join(name), &bytes)?;
    }
    record_wish(settings, "store restore", [])?;
    let given_out = tokens(&path);
    let suffix = format!(".before-restore-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let restored = SqliteStore::restore(&from(STORE), &path, &suffix)?;
    settings.printer.note(format!("{}: restored, at revision {}", path.display(), restored.revision));
    if let Some(kept) = restored.kept {
        settings.printer.note(format!("what was there before: {}", kept.display()));
    }
    let behind = raise_tokens(&path, &given_out, args.take_hosts)?;
    if behind > 0 {
        settings.printer.warn(format!(
            "of {} it is not known how often they were taken over since the copy was made: they may refuse this Ashlar \
             until it is restored with --take-hosts",
            plural(behind, "host")
        ));
    }
    let prefix = settings.command_prefix();
    settings.printer.note(format!("before anything else: {prefix} plan shows what follows from it"));
    Ok(Exit::Success)
}

/// The fencing tokens that the store in place gave out last, by host; none if it cannot be read.
fn tokens(path: &Path) -> BTreeMap<String, u64> {
    let hosts = SqliteStore::open_read_only(path).and_then(|store| block_on(store.list(Some("Host"), None)));
    let hosts = hosts.map(|listing| listing.items).unwrap_or_default();
    hosts.into_iter().filter_map(|host| Some((host.key.name, host.value.pointer(TOKEN)?.as_u64()?))).collect()
}

/// Hosts obey the highest token that they have seen, and a copy has older ones: they become those that were given out
/// last. Where that is not known, hosts are taken only if somebody says so; of so many hosts it is not known, and nobody did.
fn raise_tokens(path: &Path, given_out: &BTreeMap<String, u64>, take: bool) -> Result<usize> {
    let store = SqliteStore::open(path)?;
    let mut behind = 0;
    for mut host in block_on(store.list(Some("Host"), None))?.items {
        let Some(token) = host.value.pointer_mut(TOKEN) else { continue };
        let copied = token.as_u64().unwrap_or_default();
        let raised = match given_out.get(&host.key.name) {
            Some(last) => copied.max(*last),
            None if take => copied.saturating_add(TAKEN),
            None => {
                behind += 1;
                continue;
            }
        };
        *token = raised.into();
        let expect = Precondition::Revision(host.revision);
        block_on(store.commit(Transaction::new().put(host.key, host.value, expect)))?;
    }
    Ok(behind)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = |mut file: File| file.write_all(bytes).and_then(|()| file.sync_all());
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.and_then(write).context(format!("cannot write {}", path.display()))
}
