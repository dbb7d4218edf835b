//! libvirt's XML as pure functions: what is written is a function of what is wanted, and what is read is bounded.

mod arriving;
mod binding;
mod capabilities;
mod definition;
mod domain;
mod domain_seen;
mod filter;
mod pool;
mod tree;
mod volume;
mod write;

pub use arriving::arriving;
pub use capabilities::{Capabilities, capabilities};
pub use domain::{cdrom, console_log_path, domain, probe};
pub use domain_seen::{DomainDescription, domain_seen};
pub use filter::{FILTER_NAME, FILTER_UUID, filter};
pub use pool::pool_seen;
pub use tree::Element;
pub use volume::volume;

/// Namespace of our element in a domain's metadata.
pub const MARK_NAMESPACE: &str = "https://ashlar.dev/ns/domain/1";

/// XML that cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// A text holds a character that XML has no way to write, or that would not come back unchanged.
    #[error("{what} {text:?} holds the character U+{code:04X}, which cannot be written to libvirt")]
    Character {
        /// What the text is.
        what: &'static str,
        /// The text.
        text: String,
        /// The character.
        code: u32,
    },
    /// What libvirt sent is not what it should be.
    #[error("libvirt sent XML of a {kind} that Ashlar cannot read: {reason}")]
    Unreadable {
        /// Kind of document.
        kind: &'static str,
        /// Why.
        reason: String,
    },
}

impl XmlError {
    pub(crate) fn unreadable(kind: &'static str, reason: impl Into<String>) -> Self {
        XmlError::Unreadable { kind, reason: reason.into() }
    }
}
