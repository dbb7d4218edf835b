//! Turning hosts off, by somebody other than themselves.

use ashlar_api::HostFencing;
use async_trait::async_trait;

use super::EffectError;

/// A host, and how it is turned off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceTarget {
    /// Host object.
    pub host: String,
    /// Libvirt URI, whose address and port are those of its sshd.
    pub uri: String,
    /// Who turns it off.
    pub fencing: HostFencing,
}

/// Whether a host has power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerState {
    /// It has.
    On,
    /// It has none, as far as whoever was asked knows at this moment.
    Off,
    /// Who was asked answered, and does not know.
    Unknown,
}

/// What a host's BMC, or a command, knows and can do. Nothing here goes over the host itself.
#[async_trait]
pub trait Fencer: Send + Sync {
    /// Whether the host has power. Changes nothing. An error says that nobody knows.
    async fn power_status(&self, target: &FenceTarget) -> Result<PowerState, EffectError>;
    /// Asks for the host's power to be cut at once. An answer says that it was asked for, and proves nothing.
    async fn power_off(&self, target: &FenceTarget) -> Result<(), EffectError>;
    /// Whether anything comes back from the host's address when its sshd's port is dialled, a refusal too: then it runs,
    /// whatever of it is broken.
    async fn answers(&self, host: &str, uri: &str) -> bool;
}
