//! `ashlar store check`: whether this Ashlar can read all that the store holds.

use std::path::Path;

use ashlar_engine::readable::{Readable, readable};
use ashlar_store::{SqliteStore, Store};
use futures::executor::block_on;

use super::STORE;
use crate::failure::{Exit, Failure, Result};
use crate::output::plural;
use crate::settings::Settings;
use crate::wiring::place::Place;

const SHOWN: usize = 20;

/// Of the store in place, or of a copy. Nothing is changed, not even its format.
pub(super) fn check(settings: &Settings, copy: Option<&Path>) -> Result {
    let open = |path: &Path| SqliteStore::open_read_only(path);
    let store: Box<dyn Store> = match (copy, Place::find(settings)?) {
        (Some(copy), _) => Box::new(open(&copy.join(STORE))?),
        (None, Place::Sqlite(path)) => Box::new(open(&path)?),
        (None, Place::Etcd(_, store)) => Box::new(store),
    };
    let Readable { revision, objects, unreadable, unknown_kinds } = block_on(readable(&*store))?;
    let printer = &settings.printer;
    for (kind, count) in unknown_kinds {
        printer.note(format!("kind {kind} is not known here: {} left alone", plural(count, "object")));
    }
    if unreadable.is_empty() {
        printer.line(format!("all {objects} objects at revision {revision} can be read by this Ashlar"))?;
        return Ok(Exit::Success);
    }
    for (object, why) in unreadable.iter().take(SHOWN) {
        printer.line(format!("{object}: {why}"))?;
    }
    if unreadable.len() > SHOWN {
        printer.line(format!("… and {} more", unreadable.len() - SHOWN))?;
    }
    Err(Failure::new(format!("{} of {objects} objects cannot be read by this Ashlar; nothing was changed", unreadable.len()))
        .hint(
            "a newer Ashlar wrote them. Such fields are there only while they say something: have the newer one bring to rest what \
             is under way (`ashlar plan` names it) and take back settings that are new, or put back the copy of before the upgrade \
             (`ashlar store restore`)",
        ))
}
