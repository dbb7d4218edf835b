//! Event objects: what happened, why, to which object. Told once a run (by the daemon: once for each time that it comes
//! up), counted over runs, bounded in number.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ashlar_api::{DEFAULT_NAMESPACE, Event, EventSpec, EventType, Kind, NamespacedName, Object, ObjectRef};
use ashlar_plan::Objects;
use ashlar_store::{Key, Precondition, RawStored, Transaction, Write};
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{Engine, EngineError, objects};

/// Longest message that is kept.
const MESSAGE_LIMIT: usize = 1024;
/// Events that one prune removes beyond the limit, so that not every new event prunes.
const PRUNE_SLACK: usize = 50;

/// What was told in this run already.
#[derive(Default)]
pub(crate) struct Told {
    /// By name, when.
    events: Mutex<BTreeMap<String, Timestamp>>,
}

impl Told {
    /// Whether nothing was told yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether it is the first time.
    fn is_news(&self, name: &str, now: Timestamp) -> bool {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), now).is_none()
    }

    /// Forgets what was not told for so long: when it happens again, it is news again.
    pub(crate) fn forget_older(&self, age: Duration, now: Timestamp) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.retain(|_, told| now.duration_since(*told).unsigned_abs() < age);
    }
}

impl Engine {
    /// Records an event, unless this run did already. The same event of an earlier run counts up. It is never worth an
    /// error: what cannot be recorded now is left out.
    pub(crate) async fn record_event(
        &self,
        told: &Told,
        about: &ObjectRef,
        event_type: EventType,
        reason: &str,
        message: &str,
    ) {
        let name = event_name(about, reason, message);
        if told.is_news(&name, self.world.clock.now())
            && let Err(error) = self.write_event(&name, about, event_type, reason, message).await
        {
            tracing::debug!(%about, reason, %error, "an event could not be recorded");
        }
    }

    async fn write_event(
        &self,
        name: &str,
        about: &ObjectRef,
        event_type: EventType,
        reason: &str,
        message: &str,
    ) -> Result<(), EngineError> {
        let now = self.world.clock.now();
        let namespace = if about.namespace.is_empty() { DEFAULT_NAMESPACE } else { &about.namespace };
        let key = ObjectRef::new(Kind::Event, namespace, name);
        let (event, expect) = match objects::read::<EventSpec>(self.store.as_ref(), &key).await? {
            Some(mut event) => {
                event.spec.count = event.spec.count.saturating_add(1);
                event.spec.last_time = now;
                let expect = objects::unchanged_since(&event.metadata.resource_version)?;
                (event, expect)
            }
            None => {
                let mut message = message.to_owned();
                message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
                let mut event = Event::new(
                    name,
                    EventSpec {
                        about: about.clone(),
                        event_type,
                        reason: reason.to_owned(),
                        message,
                        count: 1,
                        first_time: now,
                        last_time: now,
                    },
                );
                namespace.clone_into(&mut event.metadata.namespace);
                event.metadata.creation_timestamp = Some(now);
                (event, Precondition::Absent)
            }
        };
        let value = objects::to_stored(Object::from(event))?;
        self.store.commit(Transaction::new().put(objects::key_of(&key), value, expect)).await?;
        Ok(())
    }

    /// Removes the oldest events beyond the limit.
    pub(crate) async fn prune_events(
        &self,
        events: &Objects<NamespacedName, RawStored>,
    ) -> Result<(), EngineError> {
        let limit = self.settings.events_kept;
        if events.len() <= limit + PRUNE_SLACK {
            return Ok(());
        }
        let mut by_age: Vec<(Option<Timestamp>, &Key)> =
            events.values().map(|event| (last_time(event), &event.key)).collect();
        by_age.sort();
        let surplus = by_age.len() - limit;
        for keys in by_age[..surplus].chunks(ashlar_store::MAX_OPERATIONS) {
            let writes = keys
                .iter()
                .map(|(_, key)| Write::Delete { key: (*key).clone(), expect: Precondition::Any })
                .collect();
            self.store.commit(Transaction { writes }).await?;
        }
        Ok(())
    }
}

/// When an event happened last; what cannot be read goes first.
fn last_time(event: &RawStored) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Partial {
        spec: PartialSpec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PartialSpec {
        last_time: Timestamp,
    }
    event.value.decode::<Partial>().ok().map(|partial| partial.spec.last_time)
}

/// The same event has the same name, so that it counts up instead of piling up.
fn event_name(about: &ObjectRef, reason: &str, message: &str) -> String {
    let digest = Sha256::new()
        .chain_update(about.to_string())
        .chain_update([0])
        .chain_update(reason)
        .chain_update([0])
        .chain_update(message)
        .finalize();
    // Short enough for a name even where the object's is as long as it may be.
    let about = &about.name[..about.name.floor_char_boundary(40)];
    format!("{}.{}", about.trim_end_matches(['.', '-']), &crate::hex::encode(&digest)[..16])
}
