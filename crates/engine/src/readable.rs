//! Whether this Ashlar can read all that a store holds.
//!
//! A newer Ashlar writes fields that an older one does not know; it writes them only while they say something. So an older
//! one that can read everything can go on from here, and one that cannot has nothing to do with this store.

use std::collections::BTreeMap;

use ashlar_store::{Revision, Store};

use crate::EngineError;
use crate::objects::{from_raw, kind_of};

/// What this Ashlar makes of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    /// The moment that was looked at.
    pub revision: Revision,
    /// Objects of kinds that are known.
    pub objects: usize,
    /// Those of them that cannot be read: name, and the field and cause.
    pub unreadable: Vec<(String, String)>,
    /// Kinds that are not known, and how many objects each has. They are left alone.
    pub unknown_kinds: BTreeMap<String, usize>,
}

/// Reads every object, and changes nothing.
pub async fn readable(store: &dyn Store) -> Result<Readable, EngineError> {
    let listing = store.list_raw(None, None).await?;
    let mut found = Readable {
        revision: listing.revision,
        objects: 0,
        unreadable: Vec::new(),
        unknown_kinds: BTreeMap::new(),
    };
    for raw in listing.items {
        let Some(kind) = kind_of(&raw.key) else {
            *found.unknown_kinds.entry(raw.key.kind).or_default() += 1;
            continue;
        };
        found.objects += 1;
        let name = raw.key.to_string();
        match from_raw(kind, raw) {
            Ok(_) => {}
            Err(EngineError::Unreadable { source, .. }) => {
                found.unreadable.push((name, source.to_string()));
            }
            Err(error) => found.unreadable.push((name, error.to_string())),
        }
    }
    Ok(found)
}
