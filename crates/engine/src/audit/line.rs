//! One line: JSON whose last field is the SHA-256 of everything before that field, the previous line's digest included.

use ashlar_plan::{Action, Step};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{CommittedWrite, WriteVerb};

/// What the first line follows.
pub(super) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What was done. Objects are named, never shown: a secret's name is here, its values are nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "deed", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Deed {
    /// A process of Ashlar begins to work.
    Began {
        /// Its command line, and its version.
        command: String,
        /// Version of Ashlar.
        version: String,
    },
    /// A person goes on from what is there of a record whose end was in doubt.
    Accepted {
        /// What was wrong.
        doubt: String,
    },
    /// A person's wish goes into the store.
    Declared {
        /// What is wished: apply, delete, stop, start.
        verb: String,
        /// For which objects.
        objects: Vec<String>,
    },
    /// A plan's decision is about to be committed.
    Decided {
        /// What is written: verb and object.
        writes: Vec<String>,
        /// The plan: when the process looked at the world for it.
        plan: Timestamp,
    },
    /// The decision was not committed: somebody else had changed what it was made from.
    Conflicted {
        /// The plan.
        plan: Timestamp,
    },
    /// An action is about to be taken.
    Started {
        /// Which, as plans name it (`startDomain`).
        action: String,
        /// For what object.
        object: String,
        /// On which host; empty for the store and a cluster's API.
        host: String,
        /// Why, as the plan said.
        why: String,
        /// The plan: when the process looked at the world for it.
        plan: Timestamp,
    },
    /// It ended well.
    Done {
        /// Which.
        action: String,
        /// For what object.
        object: String,
    },
    /// It failed, or may have.
    Failed {
        /// Which.
        action: String,
        /// For what object.
        object: String,
        /// Object, cause and next step.
        error: String,
    },
}

impl Deed {
    /// A step is about to be taken. None for a step that only waits.
    pub(crate) fn started(step: &Step, plan: Timestamp) -> Option<Deed> {
        Some(Deed::Started {
            action: name(step.action.as_ref()?),
            object: step.object.to_string(),
            host: step.host.clone(),
            why: step.why.clone(),
            plan,
        })
    }

    /// How it ended. None for a step that only waits.
    pub(crate) fn ended(step: &Step, error: Option<String>) -> Option<Deed> {
        let (action, object) = (name(step.action.as_ref()?), step.object.to_string());
        Some(match error {
            None => Deed::Done { action, object },
            Some(error) => Deed::Failed { action, object, error },
        })
    }

    pub(crate) fn decided(writes: &[CommittedWrite], plan: Timestamp) -> Deed {
        let word = |verb| match verb {
            WriteVerb::Created => "create",
            WriteVerb::Updated => "update",
            WriteVerb::Removed => "remove",
        };
        let writes = writes.iter().map(|write| format!("{} {}", word(write.verb), write.object)).collect();
        Deed::Decided { writes, plan }
    }

    /// Objects that it names.
    pub fn objects(&self) -> Vec<&str> {
        match self {
            Deed::Began { .. } | Deed::Accepted { .. } | Deed::Conflicted { .. } => Vec::new(),
            Deed::Declared { objects, .. } => objects.iter().map(String::as_str).collect(),
            Deed::Decided { writes, .. } => {
                writes.iter().filter_map(|write| Some(write.split_once(' ')?.1)).collect()
            }
            Deed::Started { object, .. } | Deed::Done { object, .. } | Deed::Failed { object, .. } => {
                vec![object]
            }
        }
    }

    /// Whether it must be on the disk before what it says is done.
    pub(super) fn is_durable(&self) -> bool {
        matches!(self, Deed::Accepted { .. } | Deed::Declared { .. } | Deed::Decided { .. })
    }
}

/// The word that plans and their JSON have for an action.
fn name(action: &Action) -> String {
    let value = serde_json::to_value(action).unwrap_or_default();
    value.get("action").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

/// A line of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its number, from 1.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// Who: user and machine, and the process.
    pub who: String,
    /// What.
    #[serde(flatten)]
    pub deed: Deed,
    /// Digest of the line before it.
    pub previous: String,
}

/// Between what a digest is of, and the digest.
const SEAM: &str = ",\"digest\":\"";

/// The line as it stands in the file, without its end, and its digest.
pub(super) fn write(line: &Line) -> Result<(String, String), serde_json::Error> {
    let mut text = serde_json::to_string(line)?;
    text.pop();
    let digest = digest(&text);
    text.push_str(SEAM);
    text.push_str(&digest);
    text.push_str("\"}");
    Ok((text, digest))
}

/// A line of the file, and its digest, if that is the digest of what stands there.
pub(super) fn read(text: &str) -> Result<(Line, String), String> {
    let (signed, rest) = text.rsplit_once(SEAM).ok_or("it has no digest")?;
    let told = rest.strip_suffix("\"}").ok_or("it does not end as lines do")?;
    let real = digest(signed);
    if real != told {
        return Err("its content is not what its digest is of".to_owned());
    }
    let line = serde_json::from_str(&format!("{signed}}}"))
        .map_err(|error| format!("it is no line of ours: {error}"))?;
    Ok((line, real))
}

fn digest(text: &str) -> String {
    crate::hex::encode(&Sha256::digest(text))
}
