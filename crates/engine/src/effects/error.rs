//! How an outside call can fail.

/// What the engine does next depends on this only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EffectErrorKind {
    /// No answer in time, connection lost: it may have taken effect or not. Observe again.
    Unreachable,
    /// The host answered, but is not the one that was enrolled, belongs to another installation, or its SSH host
    /// key changed. A person has to look.
    NotOurs,
    /// A newer Ashlar holds this host (its fencing token is higher): stop.
    Fenced,
    /// What was named does not exist.
    NotFound,
    /// It exists already.
    AlreadyExists,
    /// Out of space or memory.
    Exhausted,
    /// Busy (state lock, pool job): try again.
    Busy,
    /// Refused for good: bad XML, unsupported, forbidden.
    Refused,
    /// Content is not what it should be (digest mismatch).
    Corrupt,
}

impl EffectErrorKind {
    /// Whether the same call may work later without anybody doing something.
    pub fn is_transient(self) -> bool {
        matches!(self, EffectErrorKind::Unreachable | EffectErrorKind::Busy)
    }
}

/// A failed outside call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EffectError {
    /// What to do about it.
    pub kind: EffectErrorKind,
    /// Object, cause and next step. Never a secret.
    pub message: String,
}

impl EffectError {
    /// Makes one.
    pub fn new(kind: EffectErrorKind, message: impl Into<String>) -> Self {
        EffectError { kind, message: message.into() }
    }
}
