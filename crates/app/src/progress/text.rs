//! Events as lines of text.

use std::collections::BTreeMap;
use std::time::Duration;

use ashlar_api::Kind;
use ashlar_engine::{CommittedWrite, EngineEvent, WriteVerb};
use ashlar_plan::{Action, NoteKind};

use crate::output::{elapsed, plural};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// Only for those who want to know more.
    Detail,
    /// A step of a machine: a live line where there is one, else a line.
    Live,
    /// What holds of every cluster of the kind: said when something is decided, not every time.
    Notice,
    /// Everybody.
    Normal,
    /// Somebody should look.
    Warning,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) weight: Weight,
    pub(super) text: String,
}

/// Actions that take longer than this are worth a line when they are done.
const LONG: Duration = Duration::from_secs(3);

/// The planner's word for a machine whose first boot failed.
const FIRST_BOOT_FAILED: &str = "FirstBootFailed";

/// What to say about an event.
pub(super) fn line(event: &EngineEvent) -> Option<Told> {
    let told = |weight, text: String| Some(Told { weight, text });
    match event {
        EngineEvent::Committed { writes } => told(Weight::Normal, committed(writes)),
        EngineEvent::ActionStarted { step } => {
            let is_long =
                matches!(step.action, Some(Action::FillVolume { .. } | Action::VerifyVolume { .. }));
            let weight = if is_long { Weight::Live } else { Weight::Detail };
            told(weight, format!("{}: {}", step.object, step.why))
        }
        EngineEvent::ActionDone { step, elapsed: took } => {
            let weight = if *took >= LONG { Weight::Live } else { Weight::Detail };
            told(weight, format!("{}: {}: done ({})", step.object, step.why, elapsed(*took)))
        }
        EngineEvent::ActionFailed { step, error, will_retry } => {
            let next = if *will_retry { " (it is tried again)" } else { "" };
            let weight = if *will_retry { Weight::Normal } else { Weight::Warning };
            told(weight, format!("{}: {}: {error}{next}", step.object, step.why))
        }
        EngineEvent::MachinePhase { machine, phase } => {
            told(Weight::Live, format!("machine {machine}: {phase}"))
        }
        EngineEvent::Waiting { object, message, .. } => told(Weight::Live, format!("{object}: {message}")),
        // The command ends with the same words, with the log and the bundle.
        EngineEvent::Blocked { object, message, reason } if reason == FIRST_BOOT_FAILED => {
            told(Weight::Live, format!("{object}: {message}"))
        }
        EngineEvent::Blocked { object, message, reason } => {
            told(Weight::Warning, format!("{object}: {message} ({reason})"))
        }
        EngineEvent::HostUnreachable { host, reason } => {
            told(Weight::Warning, format!("host {host}: {reason}"))
        }
        EngineEvent::HostReachable { host } => told(Weight::Normal, format!("host {host} answers again")),
        EngineEvent::Notice(note) => {
            let weight = match note.kind {
                NoteKind::Blocked => Weight::Warning,
                NoteKind::Notice | NoteKind::Waiting => Weight::Notice,
            };
            told(weight, format!("{}: {}", note.object, note.message))
        }
    }
}

/// `decided: 2 machines, 7 volumes; removed: 1 secret`
fn committed(writes: &[CommittedWrite]) -> String {
    let mut parts = Vec::new();
    for (verb, word) in
        [(WriteVerb::Created, "decided"), (WriteVerb::Updated, "recorded"), (WriteVerb::Removed, "removed")]
    {
        let mut kinds: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
        for write in writes.iter().filter(|write| write.verb == verb) {
            kinds.entry(write.object.kind).or_default().push(write.object.key().to_string());
        }
        if kinds.is_empty() {
            continue;
        }
        let counts: Vec<String> = kinds
            .iter()
            .map(|(kind, names)| match names.as_slice() {
                [one] => format!("{} {one}", kind.name().to_ascii_lowercase()),
                names => plural(names.len(), &kind.name().to_ascii_lowercase()),
            })
            .collect();
        parts.push(format!("{word}: {}", counts.join(", ")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_api::{NamespacedName, ObjectRef};

    #[test]
    fn commits_are_counted_by_kind() {
        let write =
            |kind, name: &str, verb| CommittedWrite { object: ObjectRef::new(kind, "default", name), verb };
        let event = EngineEvent::Committed {
            writes: vec![
                write(Kind::Machine, "demo-ctrl-1", WriteVerb::Created),
                write(Kind::Volume, "a", WriteVerb::Created),
                write(Kind::Volume, "b", WriteVerb::Created),
                write(Kind::Secret, "demo-ctrl-1-join", WriteVerb::Removed),
            ],
        };
        let told = line(&event).map(|told| told.text);
        assert_eq!(
            told.as_deref(),
            Some("decided: machine demo-ctrl-1, 2 volumes; removed: secret demo-ctrl-1-join")
        );
    }

    #[test]
    fn phases_are_live_and_blocks_are_warnings() {
        let phase = EngineEvent::MachinePhase {
            machine: NamespacedName::new("default", "demo-ctrl-1"),
            phase: "kubeadm init: certs".to_owned(),
        };
        assert_eq!(line(&phase).map(|told| told.weight), Some(Weight::Live));
        let blocked = EngineEvent::Blocked {
            object: ObjectRef::new(Kind::Machine, "default", "demo-ctrl-1"),
            reason: "NameTaken".to_owned(),
            message: "a domain of this name is not ours".to_owned(),
        };
        let told = line(&blocked).map(|told| (told.weight, told.text));
        let text = "machine demo-ctrl-1: a domain of this name is not ours (NameTaken)".to_owned();
        assert_eq!(told, Some((Weight::Warning, text)));
    }
}
