//! Telling: events to whoever listens, and Event objects into the store.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ashlar_api::{EventType, Kind, ObjectRef};
use ashlar_plan::{Note, NoteKind, Plan, StepState};
use jiff::Timestamp;

use crate::{Engine, EngineEvent, Goal, belongs::Belongings, lanes::RunMemory, read::StoreView};

/// What was told of each object last, so that the same is told once.
#[derive(Default)]
pub(crate) struct LastTold {
    told: Mutex<BTreeMap<String, Saying>>,
}

struct Saying {
    text: String,
    /// When it was so last.
    seen: Timestamp,
}

impl LastTold {
    /// Whether this is news about the subject.
    fn is_news(&self, subject: String, text: &str, now: Timestamp) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.insert(subject, Saying { text: text.to_owned(), seen: now });
        before.is_none_or(|before| before.text != text)
    }

    /// Forgets what has not been so for a while: when it is so again, it is news again.
    pub(crate) fn forget_older(&self, age: Duration, now: Timestamp) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, saying| now.duration_since(saying.seen).unsigned_abs() < age);
    }
}

impl Engine {
    /// Tells what this pass found. None of it is worth an error: the next pass tells again.
    pub(crate) async fn publish(
        &self,
        memory: &RunMemory,
        view: &StoreView,
        plan: &Plan,
        belongings: &Belongings<'_>,
    ) {
        let now = self.world.clock.now();
        for step in belongings.steps(plan) {
            let object = step.object.clone();
            let (reason, message) = match &step.state {
                StepState::Waiting(wait) if wait.reason == "EarlierStep" => continue,
                StepState::Waiting(wait) => (wait.reason.clone(), wait.message.clone()),
                StepState::Blocked(block) => (block.reason.clone(), block.message.clone()),
                StepState::Ready => continue,
            };
            let is_blocked = matches!(step.state, StepState::Blocked(_));
            if is_blocked {
                self.record_event(&memory.told, &object, EventType::Warning, &reason, &message).await;
            }
            // An object may be blocked by two things at once; what it waits for is one thing after the other.
            let about = if is_blocked { reason.as_str() } else { "" };
            let subject = format!("{object} {is_blocked} {about}");
            if self.last_told.is_news(subject, &format!("{reason} {message}"), now) {
                self.sink.event(&if is_blocked {
                    EngineEvent::Blocked { object, reason, message }
                } else {
                    EngineEvent::Waiting { object, reason, message }
                });
            }
        }
        let is_told = |note: &&ashlar_plan::Note| matches!(note.kind, NoteKind::Notice | NoteKind::Warning);
        for note in plan.report.notes.iter().filter(is_told) {
            if self.last_told.is_news(format!("{} {}", note.object, note.reason), &note.message, now) {
                self.sink.event(&EngineEvent::Notice(note.clone()));
            }
        }
        if memory.told.is_empty() {
            return;
        }
        if let Err(error) = self.prune_events(&view.events).await {
            tracing::debug!(%error, "old events could not be removed");
        }
    }

    /// Records what others than Ashlar changed.
    pub(crate) async fn record_news(&self, memory: &RunMemory, news: &[Note]) {
        for Note { object, reason, message, .. } in news {
            self.record_event(&memory.told, object, EventType::Warning, reason, message).await;
        }
    }

    /// Tells what a goal lacks that no step of the plan says.
    pub(crate) fn tell_lack(&self, goal: &Goal, lack: Option<&str>) {
        let (Some(cluster), Some(lack)) = (goal.cluster(), lack) else { return };
        let object = ObjectRef::new(Kind::Cluster, &cluster.namespace, &cluster.name);
        if self.last_told.is_news(format!("{object} lack"), lack, self.world.clock.now()) {
            let (reason, message) = ("NotUp".to_owned(), lack.to_owned());
            self.sink.event(&EngineEvent::Waiting { object, reason, message });
        }
    }
}
