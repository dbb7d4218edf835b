//! `ashlar store use` and `ashlar store show`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use ashlar_store::{EtcdStore, RecordState, Store as _};
use futures::executor::block_on;

use super::{BESIDE, read, write};
use crate::failure::{Context as _, Exit, Failure, Result};
use crate::objects::Reader;
use crate::settings::Settings;
use crate::wiring::INSTALLATION_FILE;
use crate::wiring::place::{EtcdPlace, FILE, Place};

/// Works from this machine on a store that is in etcd already.
pub(crate) fn use_store(settings: &Settings, file: &Path) -> Result {
    let place = EtcdPlace::read(file)?;
    let path = settings.store_path()?;
    if matches!(Reader::open(settings), Ok(reader) if reader.store().is_some()) {
        return Err(Failure::new(format!("there is a store already: {}", Place::find(settings)?.name()))
            .hint("--state-dir DIR names an empty directory; `ashlar store migrate` moves a store"));
    }
    let store = place.open()?;
    let recorded = block_on(store.record())?.ok_or_else(|| {
        Failure::new(format!("there is no store of Ashlar under {}", place.name()))
            .hint("`ashlar store migrate --to-etcd FILE`, where the store is now, puts it there")
    })?;
    let record = recorded.record;
    if !matches!(record.state, RecordState::Current | RecordState::Leaving) {
        return Err(Failure::new(format!("the store under {} is not in use: {}", place.name(), record.note)));
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&settings.state_dir);
    made.context(format!("cannot make {}", settings.state_dir.display()))?;
    let mut files = record.files;
    files.insert(INSTALLATION_FILE.to_owned(), format!("{}\n", record.installation));
    for (name, text) in files.iter().filter(|(name, _)| BESIDE.contains(&name.as_str())) {
        let there = settings.state_dir.join(name);
        match read(&there)? {
            Some(found) if found != text.as_bytes() => {
                return Err(Failure::new(format!(
                    "{} is of another installation than the store under {}",
                    there.display(),
                    place.name()
                ))
                .hint("--state-dir DIR names an empty directory"));
            }
            Some(_) => {}
            None => write(&there, text.as_bytes())?,
        }
    }
    place.write(&settings.state_dir.join(FILE))?;
    let revision = block_on(store.list_raw(Some("-"), None))?.revision;
    settings.printer.note(format!("{}: used from here, at revision {revision}", place.name()));
    if path.exists() {
        settings.printer.note(format!("{} is left as it is", path.display()));
    }
    settings
        .printer
        .note("its secrets are opened by the installation's own key: --key, or ~/.config/ashlar/key");
    Ok(Exit::Success)
}

/// Says where the store is, and who works on it.
pub(crate) fn show(settings: &Settings) -> Result {
    let place = Place::find(settings)?;
    let printer = &settings.printer;
    printer.line(format!("store:    {}", place.name()))?;
    if let Place::Etcd(_, store) = &place {
        show_etcd(settings, store)?;
    }
    Ok(Exit::Success)
}

fn show_etcd(settings: &Settings, store: &EtcdStore) -> Result<()> {
    let printer = &settings.printer;
    let leader = block_on(store.leader())?;
    let text = leader.as_ref().map_or_else(
        || "nobody".to_owned(),
        |leader| format!("{leader}, since {}", leader.since.strftime("%F %T")),
    );
    printer.line(format!("leads:    {text}"))?;
    for daemon in block_on(store.daemons())? {
        if leader.as_ref().is_none_or(|leader| leader.candidate != daemon) {
            printer.line(format!("stands by: daemon {} ({})", daemon.name, daemon.doing))?;
        }
    }
    Ok(())
}
