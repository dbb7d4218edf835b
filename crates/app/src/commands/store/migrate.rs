//! `ashlar store migrate`: all objects from SQLite to etcd, or back.
//!
//! Copy, verify, and then one transaction of the store that is left, in which it gives itself up: before it, that one is the
//! store, after it, the other. Both refuse it if anything was written since the copy.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ashlar_store::{
    Digest, EtcdElection, EtcdStore, EtcdTerm, RawListing, RecordState, Recorded, Role, SqliteStore,
    Store as _, StoreRecord, Tenure as _, copy_into,
};
use futures::executor::block_on;
use jiff::Timestamp;
use nix::unistd::gethostname;
use uuid::Uuid;

use super::BESIDE;
use crate::cli::StoreMigrateArgs;
use crate::failure::{Context as _, Exit, Failure, Result};
use crate::output::plural;
use crate::settings::Settings;
use crate::wiring::place::{EtcdPlace, NEXT_FILE, Place, belongs, candidate, draft};
use crate::wiring::{INSTALLATION_FILE, installation, lock_now, open_vault, record_wish};

/// Moves the store.
pub(crate) fn migrate(settings: &Settings, args: &StoreMigrateArgs) -> Result {
    let place = Place::find(settings)?;
    match (place, &args.to_etcd) {
        (Place::Sqlite(path), Some(file)) => to_etcd(settings, &path, &EtcdPlace::read(file)?),
        (Place::Etcd(place, _), None) => to_sqlite(settings, &place),
        (Place::Sqlite(path), None) => {
            Err(Failure::new(format!("the store is in SQLite already: {}", path.display())))
        }
        (Place::Etcd(place, _), Some(_)) => {
            Err(Failure::new(format!("the store is in etcd already: {}", place.name()))
                .hint("to another etcd it goes by way of SQLite: first --to-sqlite"))
        }
    }
}

fn to_etcd(settings: &Settings, path: &Path, place: &EtcdPlace) -> Result {
    let _lock = lock_now(settings)?;
    // Another machine needs what this one has beside its store.
    drop(open_vault(settings)?);
    let ours = installation(&settings.state_dir)?;
    let source = SqliteStore::open(path)?;
    let target = place.open()?;
    let before = block_on(target.record())?;
    let note = format!("from {}", here(path));
    accepts(settings, &target, before.as_ref(), ours, &note, place)?;
    let term = lead(&target, place)?;
    empty(&term.store, before.as_ref())?;
    record_wish(settings, "store migrate to etcd", [])?;
    let listing = block_on(source.list_raw(None, None))?;
    drop(source);
    let migration = Uuid::new_v4().to_string();
    let record = StoreRecord {
        installation: ours.to_string(),
        state: RecordState::Filling,
        migration: migration.clone(),
        // Its revisions go on from those of the old store: one that was read there fits no object here.
        base: listing.revision.0.saturating_sub(block_on(target.own_revision())?.0),
        note,
        files: files(settings)?,
    };
    let recorded = block_on(term.store.write_record(&record, before.as_ref()))?;
    let store = term.store.under(&recorded);
    block_on(copy_into(&store, &listing)).context(format!("the copy into {} broke off", place.name())).hint(
        format!("nothing else changed: {} is still the store; the same command begins anew", path.display()),
    )?;
    let copied = block_on(store.list_raw(None, None))?;
    let digest = verified(&listing, &copied, &place.name())?;
    let place = EtcdPlace { migration, ..place.clone() };
    place.write(&settings.state_dir.join(NEXT_FILE))?;
    // The switch.
    SqliteStore::give_up(path, listing.revision)
        .context("the switch was refused")
        .hint("nothing changed: the same command begins anew")?;
    let now = Place::find(settings)?;
    block_on(term.resign()).ok();
    let printer = &settings.printer;
    printer.note(format!("{}: {digest}", now.name()));
    printer.note(format!(
        "revisions go on from {} at {}: a resourceVersion that was read before is out of date now",
        listing.revision, copied.revision
    ));
    printer.note(format!("{} is left as it was, and marked: nothing works on it any more", path.display()));
    printer.note("other machines: `ashlar store use FILE`, and the key that opens the secrets");
    Ok(Exit::Success)
}

fn to_sqlite(settings: &Settings, place: &EtcdPlace) -> Result {
    let path = settings.store_path()?;
    let _lock = lock_now(settings)?;
    // Its commits depend on the record as this command writes it, not as it was.
    let term = lead(&place.open()?, place)?;
    let Some(before) =
        block_on(term.store.record())?.filter(|before| before.record.state == RecordState::Current)
    else {
        return Err(Failure::new(format!("{} is being moved already", place.name())));
    };
    record_wish(settings, "store migrate to sqlite", [])?;
    remove_drafts(settings)?;
    let migration = Uuid::new_v4().to_string();
    let leaving = StoreRecord {
        state: RecordState::Leaving,
        migration: migration.clone(),
        note: format!("since {}", Timestamp::now()),
        ..before.record.clone()
    };
    // From here on nobody else writes into it, and only for as long as this process leads.
    let leaving = block_on(term.store.write_record(&leaving, Some(&before)))?;
    let moved = copy_home(&path, &migration, &term, &leaving);
    if moved.is_err() {
        // Otherwise the next who opens it does it.
        block_on(term.store.write_record(&before.record, Some(&leaving))).ok();
    }
    let (listing, digest) = moved?;
    let now = Place::find(settings)?;
    block_on(term.resign()).ok();
    let printer = &settings.printer;
    printer.note(format!("{}: {digest}", now.name()));
    printer.note(format!(
        "at revision {}, as it was in etcd: resourceVersions stay as they are",
        listing.revision
    ));
    printer.note(format!("{} is left as it was, and marked: nothing works on it any more", place.name()));
    Ok(Exit::Success)
}

fn copy_home(
    path: &Path,
    migration: &str,
    term: &EtcdTerm,
    leaving: &Recorded,
) -> Result<(RawListing, Digest)> {
    let listing = block_on(term.store.list_raw(None, None))?;
    let draft = draft(path, migration);
    SqliteStore::create_from(&listing, &draft)?;
    let copied = block_on(SqliteStore::open_read_only(&draft)?.list_raw(None, None))?;
    let digest = verified(&listing, &copied, &draft.display().to_string())?;
    let revisions = |listing: &RawListing| listing.items.iter().map(|item| item.revision).collect::<Vec<_>>();
    if revisions(&copied) != revisions(&listing) || copied.revision != listing.revision {
        return Err(Failure::internal(format!("{} has other revisions than it should", draft.display())));
    }
    let left = StoreRecord {
        state: RecordState::Left,
        note: format!("it was moved to {} at {}", here(path), Timestamp::now().strftime("%F %T")),
        ..leaving.record.clone()
    };
    // The switch.
    block_on(term.store.write_record(&left, Some(leaving))).context("the switch was refused")?;
    Ok((listing, digest))
}

/// Whether the objects may go there.
fn accepts(
    settings: &Settings,
    target: &EtcdStore,
    before: Option<&Recorded>,
    ours: Uuid,
    note: &str,
    place: &EtcdPlace,
) -> Result<()> {
    let hint = "choose another prefix; nothing is deleted there";
    let Some(before) = before else {
        let there = block_on(target.list_raw(None, None))?.items.len();
        if there == 0 {
            return Ok(());
        }
        let what = plural(there, "object");
        return Err(
            Failure::new(format!("{} is not empty: it holds {what} of nobody", place.name())).hint(hint)
        );
    };
    belongs(&before.record, ours, place)?;
    if before.record.state != RecordState::Filling {
        let prefix = settings.command_prefix();
        return Err(Failure::new(format!(
            "{} is not empty: it holds this installation's objects",
            place.name()
        ))
        .hint(hint)
        .hint(format!(
            "to work on those, and not on {}: {prefix} store use FILE",
            note.trim_start_matches("from ")
        )));
    }
    if before.record.note != note {
        return Err(Failure::new(format!(
            "a migration into {} was begun ({}), and not finished",
            place.name(),
            before.record.note
        ))
        .hint("finish it there, or choose another prefix"));
    }
    Ok(())
}

/// Removes what a migration of ours had copied before it was broken off.
fn empty(store: &EtcdStore, before: Option<&Recorded>) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    let store = store.under(before);
    let copied = block_on(store.list_raw(None, None))?;
    for chunk in copied.items.chunks(ashlar_store::MAX_OPERATIONS) {
        let mut transaction = ashlar_store::Transaction::new();
        for item in chunk {
            transaction =
                transaction.delete(item.key.clone(), ashlar_store::Precondition::Revision(item.revision));
        }
        block_on(store.commit(transaction))?;
    }
    Ok(())
}

/// Leads, or says who does.
pub(crate) fn lead(store: &EtcdStore, place: &EtcdPlace) -> Result<EtcdTerm> {
    let election = EtcdElection::new(store, candidate(Role::Command, None));
    if let Some(term) = block_on(election.lead())? {
        return Ok(term);
    }
    let leader = block_on(store.leader())?.map_or_else(|| "somebody".to_owned(), |leader| leader.to_string());
    Err(Failure::new(format!("{leader} works on {}", place.name()))
        .hint("stop it first, and all daemons that stand by; start them again afterwards"))
}

fn verified(original: &RawListing, copy: &RawListing, place: &str) -> Result<Digest> {
    let (expected, found) = (Digest::of(original)?, Digest::of(copy)?);
    if expected == found {
        return Ok(found);
    }
    Err(Failure::new(format!("{place} does not hold what was copied there: {found}, and not {expected}"))
        .hint("nothing else changed: the same command begins anew"))
}

/// What another machine needs, by name; nothing secret.
fn files(settings: &Settings) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for name in BESIDE.into_iter().filter(|name| *name != INSTALLATION_FILE) {
        let path = settings.state_dir.join(name);
        files.insert(
            name.to_owned(),
            fs::read_to_string(&path).context(format!("cannot read {}", path.display()))?,
        );
    }
    Ok(files)
}

/// Copies that were broken off.
fn remove_drafts(settings: &Settings) -> Result<()> {
    for entry in fs::read_dir(&settings.state_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains("store.db.next-") {
            fs::remove_file(entry.path()).context(format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

fn here(path: &Path) -> String {
    format!("{}:{}", gethostname().unwrap_or_default().to_string_lossy(), path.display())
}
