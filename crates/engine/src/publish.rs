//! Telling: events to whoever listens, and Event objects into the store.

use std::collections::BTreeMap;

use ashlar_api::{EventType, Kind, ObjectRef};
use ashlar_plan::{NoteKind, Plan, StepState};

use crate::{Engine, EngineEvent, Goal, belongs::Belongings, lanes::RunMemory, read::StoreView};

/// What was told of each object last, so that the same is told once.
#[derive(Default)]
pub(crate) struct LastTold {
    told: std::sync::Mutex<BTreeMap<String, String>>,
}

impl LastTold {
    /// Whether this is news about the subject.
    fn is_news(&self, subject: String, text: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match told.get(&subject) {
            Some(last) if last == text => false,
            _ => {
                told.insert(subject, text.to_owned());
                true
            }
        }
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
            if self.last_told.is_news(format!("{object} {is_blocked}"), &format!("{reason} {message}")) {
                self.sink.event(&if is_blocked {
                    EngineEvent::Blocked { object, reason, message }
                } else {
                    EngineEvent::Waiting { object, reason, message }
                });
            }
        }
        for note in plan.report.notes.iter().filter(|note| note.kind == NoteKind::Notice) {
            if self.last_told.is_news(format!("{} {}", note.object, note.reason), &note.message) {
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

    /// Tells what a goal lacks that no step of the plan says.
    pub(crate) fn tell_lack(&self, goal: &Goal, lack: Option<&str>) {
        let (Some(cluster), Some(lack)) = (goal.cluster(), lack) else { return };
        let object = ObjectRef::new(Kind::Cluster, &cluster.namespace, &cluster.name);
        if self.last_told.is_news(format!("{object} lack"), lack) {
            let (reason, message) = ("NotUp".to_owned(), lack.to_owned());
            self.sink.event(&EngineEvent::Waiting { object, reason, message });
        }
    }
}
