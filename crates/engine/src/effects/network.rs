//! Networks on the hosts.

use ashlar_plan::NetworksSeen;
use ashlar_plan::network::HostNetwork;
use async_trait::async_trait;
use uuid::Uuid;

use super::{EffectError, HostTarget};

/// Networks on the hosts: devices, namespaces and packet filters. Every method is one command on the host.
#[async_trait]
pub trait HostNetworks: Send + Sync {
    /// What is there of our networks: which were applied, whether they are still as they were then, and what has a name
    /// like ours without being ours. Changes nothing.
    async fn observe_networks(&self, host: &HostTarget) -> Result<NetworksSeen, EffectError>;
    /// Makes a network what it should be there. Rules are exchanged at once, without a moment in which none hold.
    /// `NotOurs` if something else has a name that is needed, `Refused` if the host cannot do it (no VXLAN, an underlay
    /// whose MTU is too small, an existing bridge that is not there).
    async fn apply_network(&self, host: &HostTarget, network: &HostNetwork) -> Result<(), EffectError>;
    /// Removes everything of a network that carries our mark; fine if nothing is there.
    async fn remove_network(
        &self,
        host: &HostTarget,
        installation: Uuid,
        network: Uuid,
    ) -> Result<(), EffectError>;
}
