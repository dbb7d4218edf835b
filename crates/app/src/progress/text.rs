//! Events as lines of text.

use std::collections::BTreeMap;
use std::time::Duration;

use ashlar_api::Kind;
use ashlar_engine::{CommittedWrite, EngineEvent, Transfer, WriteVerb};
use ashlar_plan::{Action, NoteKind};
use serde::{Deserialize, Serialize};

use crate::output::{elapsed, plural};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Weight {
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) weight: Weight,
    pub(crate) text: String,
}

/// Actions that take longer than this are worth a line when they are done.
const LONG: Duration = Duration::from_secs(3);

/// The planner's word for a machine whose first boot failed.
const FIRST_BOOT_FAILED: &str = "FirstBootFailed";

/// What to say about an event.
pub(crate) fn line(event: &EngineEvent) -> Option<Told> {
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
        // A terminal moves with every chunk; lines come at each quarter.
        EngineEvent::Transferred(transfer) => {
            let quarter = |bytes: u64| (u128::from(bytes) * 4).checked_div(u128::from(transfer.size_bytes));
            let before = transfer.done_bytes.saturating_sub(transfer.chunk_bytes);
            if quarter(before) == quarter(transfer.done_bytes) || transfer.chunk_bytes == transfer.size_bytes
            {
                return None;
            }
            told(Weight::Live, format!("{}: {}", transfer.volume, transferred(transfer)))
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
                NoteKind::Blocked | NoteKind::Warning => Weight::Warning,
                NoteKind::Notice | NoteKind::Waiting => Weight::Notice,
            };
            told(weight, format!("{}: {}", note.object, note.message))
        }
    }
}

/// `512 of 1843 MiB on h3, 448 MiB sent, 187 MiB/s`
pub(super) fn transferred(transfer: &Transfer) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let (done, size, sent) = (mib(transfer.done_bytes), mib(transfer.size_bytes), mib(transfer.sent_bytes));
    let mut text = format!("{done} of {size} MiB on {}", transfer.host);
    if transfer.sent_bytes < transfer.done_bytes {
        text += &format!(", {sent} MiB sent (the rest was there, or is empty)");
    }
    if let Some(rate) = transfer.bytes_per_s().filter(|rate| *rate > 0) {
        text += &format!(", {:.1} MiB/s", rate as f64 / f64::from(1 << 20));
    }
    text
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
    fn an_upload_is_told_at_each_quarter_with_its_rate() {
        let transfer = |done_mib: u64, sent_mib: u64, millis| {
            EngineEvent::Transferred(Transfer {
                volume: ObjectRef::new(Kind::Volume, "ashlar-system", "image-disk-h3"),
                host: "h3".to_owned(),
                chunk_bytes: 32 << 20,
                done_bytes: done_mib << 20,
                sent_bytes: sent_mib << 20,
                size_bytes: 512 << 20,
                elapsed: Duration::from_millis(millis),
            })
        };
        assert_eq!(line(&transfer(96, 96, 1000)), None);
        let told = |event| line(&event).map(|told| told.text);
        assert_eq!(
            told(transfer(128, 128, 1000)).as_deref(),
            Some("volume ashlar-system/image-disk-h3: 128 of 512 MiB on h3, 128.0 MiB/s")
        );
        assert_eq!(
            told(transfer(512, 96, 2500)).as_deref(),
            Some(
                "volume ashlar-system/image-disk-h3: 512 of 512 MiB on h3, 96 MiB sent (the rest was there, or is \
                 empty), 38.4 MiB/s"
            )
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
