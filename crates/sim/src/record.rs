//! Copies of a world and its store at every crash point.
//!
//! Nothing of a dropped engine is left but what it did to the world and the store. So a run need not be repeated up
//! to each crash point: it runs once, and is copied at each.

use std::sync::Arc;

use ashlar_store::{Key, Store};
use futures::FutureExt as _;
use serde_json::Value;

use crate::{CrashPoint, Moment, State};

/// A world and a store, as a crash leaves them.
#[derive(Clone)]
pub struct Record {
    /// Where.
    pub point: CrashPoint,
    pub(crate) state: State,
    pub(crate) stored: Vec<(Key, Value)>,
    /// Store revision, mutating calls and time: what tells this copy from the one before it.
    fingerprint: (u64, u64, jiff::Timestamp),
}

impl Record {
    /// The stored objects of a kind at that moment.
    pub fn objects(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let prefix = format!("{kind}/");
        self.stored
            .iter()
            .filter(move |(key, _)| key.to_string().starts_with(&prefix))
            .map(|(_, value)| value)
    }

    /// The stored object's uid at that moment: kind, namespace and name, uid.
    pub fn uids(&self) -> impl Iterator<Item = (String, &str)> {
        self.stored
            .iter()
            .filter_map(|(key, value)| Some((key.to_string(), value.pointer("/metadata/uid")?.as_str()?)))
    }
}

/// The copies made so far.
#[derive(Clone)]
pub(crate) struct Records {
    store: Arc<dyn Store>,
    made: Vec<Record>,
}

impl Records {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Records { store, made: Vec::new() }
    }

    pub(crate) fn into_vec(self) -> Vec<Record> {
        self.made
    }
}

impl State {
    /// Copies the world, if that is asked for and it differs from the last copy.
    pub(crate) fn record(&mut self, effect: u64, moment: Moment) {
        let Some(mut records) = self.records.take() else { return };
        let listing = records.store.list(None, None).now_or_never().and_then(Result::ok);
        if let Some(listing) = listing {
            let mutations = self.mutating_calls.values().sum();
            let fingerprint = (listing.revision.0, mutations, self.now);
            let same = records.made.last().is_some_and(|last| last.fingerprint == fingerprint);
            if !same {
                let mut state = self.clone();
                state.processes = Default::default();
                state.sleepers.clear();
                state.overwriting.clear();
                let stored = listing.items.into_iter().map(|stored| (stored.key, stored.value)).collect();
                let point = CrashPoint { effect, moment };
                records.made.push(Record { point, state, stored, fingerprint });
            }
        }
        self.records = Some(records);
    }
}
