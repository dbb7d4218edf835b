//! `ashlar secrets rotate`.

use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::vault::{Prepared, STATE_FILE, Vault, renew_data_keys, seal_only, seal_too, standing};
use ashlar_store::{
    EngineLock, EtcdTerm, RecordState, Recorded, SqliteStore, Store, StoreRecord, Tenure as _,
};
use futures::executor::block_on;
use jiff::Timestamp;

use crate::cli::SecretsRotateArgs;
use crate::commands::store::lead;
use crate::failure::{Context as _, Exit, Failure, Result};
use crate::output::plural;
use crate::settings::Settings;
use crate::wiring::place::Place;
use crate::wiring::{
    DefaultKey, OsEntropy, lock_alone, new_provider, open_audit, open_vault, own_command, record_wish,
    use_vault,
};

/// The store, with the right to be the only one who works on it.
struct Alone {
    store: Arc<dyn Store>,
    etcd: Option<(EtcdTerm, Recorded)>,
    _lock: EngineLock,
}

impl Alone {
    fn take(settings: &Settings) -> Result<Alone> {
        let place = Place::find(settings)?;
        let lock = lock_alone(settings)?;
        match place {
            Place::Sqlite(path) => {
                let store = Arc::new(SqliteStore::open(path)?);
                Ok(Alone { store, etcd: None, _lock: lock })
            }
            Place::Etcd(place, _) => {
                let term = lead(&place.open()?, &place)?;
                let recorded = block_on(term.store.record())?;
                let Some(recorded) = recorded.filter(|r| r.record.state == RecordState::Current) else {
                    return Err(Failure::new(format!("{} is being moved", place.name())));
                };
                let store = Arc::new(term.store.under(&recorded));
                Ok(Alone { store, etcd: Some((term, recorded)), _lock: lock })
            }
        }
    }

    /// The step after which the new key is the installation's. A store that several machines share says so itself, and
    /// their files follow it.
    fn install(&mut self, settings: &Settings, prepared: &Prepared) -> Result<()> {
        if let Some((term, before)) = &mut self.etcd {
            let mut record: StoreRecord = before.record.clone();
            record.files.insert(STATE_FILE.to_owned(), prepared.state_text()?);
            let recorded = block_on(term.store.write_record(&record, Some(before)))
                .context("the step to the new key was refused")
                .hint("the key is still the old one: the same command begins anew")?;
            self.store = Arc::new(term.store.under(&recorded));
            *before = recorded;
        }
        Ok(prepared.install(&settings.state_dir)?)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if let Some((term, _)) = &self.etcd {
            // Where etcd does not answer, the term ends by itself.
            let _ = block_on(term.resign());
        }
    }
}

/// Rotates.
pub(super) fn rotate(settings: &Settings, args: &SecretsRotateArgs) -> Result {
    if args.new_key.is_none() && settings.key.is_some() && !args.data_keys {
        return Err(Failure::new("there is no new key")
            .hint("--new-key PROVIDER says where it comes from; --data-keys alone makes data keys anew"));
    }
    let mut alone = Alone::take(settings)?;
    if args.new_key.is_none() && settings.key.is_some() {
        return data_keys(settings, &alone);
    }
    let (provider, default) = new_provider(settings, args.new_key.as_deref())?;
    // The step to it may have been made already, by a command that was cut off then.
    if let Ok(vault) = Vault::open(&provider, &settings.state_dir, &OsEntropy) {
        return finish(settings, &alone, Arc::new(vault), args, default, true);
    }
    let old = open_vault(settings)?;
    let prepared = Prepared::new(&provider, &settings.state_dir, &OsEntropy)?.after(&old, &OsEntropy);
    let prepared = prepared.ok_or_else(|| Failure::internal("what the old key hands on cannot be sealed"))?;
    record_wish(settings, "secrets rotate", [])?;
    let sealed = block_on(seal_too(alone.store.as_ref(), &old, &prepared.vault, &OsEntropy))
        .context("not all secrets could be sealed with the new key")
        .hint("the key is still the old one, and opens all that it did: the same command begins anew")?;
    let new = Arc::clone(&prepared.vault);
    // Whoever is asked in between, by either key, finds the audit log whole.
    let audit = open_audit(settings)?;
    audit.note_for(vec![Arc::clone(&old), Arc::clone(&new)])?;
    settings.printer.note(format!("{} sealed with key {} too", plural(sealed, "secret"), new.key_id()));
    alone.install(settings, &prepared)?;
    settings.printer.note(format!("the key is {} now, and was {}", new.key_id(), old.key_id()));
    audit.note_for(vec![Arc::clone(&new)])?;
    finish(settings, &alone, new, args, default, false)
}

/// Takes the old seals off, and the old key file out of the way.
fn finish(
    settings: &Settings,
    alone: &Alone,
    vault: Arc<Vault>,
    args: &SecretsRotateArgs,
    default: Option<DefaultKey>,
    again: bool,
) -> Result {
    let store = alone.store.as_ref();
    let before = block_on(standing(store, &vault))?;
    if again && before.unfinished == 0 && default.as_ref().is_none_or(|default| !default.is_due()) {
        return Err(Failure::new(
            "that is the key already: its secrets are sealed with it, and with no other",
        )
        .hint("--new-key PROVIDER names another; --data-keys alone makes data keys anew"));
    }
    if again {
        // The key that --key names opens nothing any more.
        use_vault(settings, Arc::clone(&vault));
        record_wish(settings, "secrets rotate, to its end", [])?;
    }
    let changed = block_on(seal_only(store, &vault, args.data_keys, &OsEntropy, Timestamp::now()))
        .context("not all old seals could be taken off")
        .hint(format!(
            "the new key opens all secrets; to go on, the same command again: {}",
            own_command()
        ))?;
    let kept = default.as_ref().map(|default| default.install(settings)).transpose()?.flatten();
    if again {
        settings.printer.note("a rotation that was cut off is finished");
    }
    tell(settings, args, changed, kept);
    Ok(Exit::Success)
}

fn tell(settings: &Settings, args: &SecretsRotateArgs, changed: usize, kept: Option<PathBuf>) {
    let printer = &settings.printer;
    let data_keys = if args.data_keys { ", each with a new data key" } else { "" };
    printer.note(format!("{}{data_keys}; no seal of the old key is left", plural(changed, "secret")));
    match (&args.new_key, kept) {
        (None, Some(kept)) => printer.note(format!(
            "the old key is in {}: copies of the store that were made before need it",
            kept.display()
        )),
        (None, None) => {}
        // A passphrase has no name, and whoever typed one knows.
        (Some(provider), _) => printer.note(format!(
            "from now on --key {} (or ASHLAR_KEY); copies of the store that were made before need the old key",
            shlex::try_quote(provider).unwrap_or(provider.as_str().into())
        )),
    }
}

/// Data keys only.
fn data_keys(settings: &Settings, alone: &Alone) -> Result {
    let vault = open_vault(settings)?;
    record_wish(settings, "secrets rotate --data-keys", [])?;
    let changed = block_on(renew_data_keys(alone.store.as_ref(), &vault, &OsEntropy, Timestamp::now()))?;
    settings.printer.note(format!(
        "{}, each with a new data key; the key that seals them is the same",
        plural(changed, "secret")
    ));
    Ok(Exit::Success)
}
