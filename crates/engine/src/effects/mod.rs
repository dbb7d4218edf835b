//! What the engine needs from the world.

mod clock;
mod copies;
mod error;
mod etcd;
mod fencer;
mod files;
mod host;
mod hypervisor;
mod kube;
mod network;

pub use clock::{Clock, Entropy};
pub use copies::{CopyOwner, EtcdCopies, EtcdCopy, EtcdCopyParts, EtcdCopyWriter};
pub use error::{EffectError, EffectErrorKind};
pub use etcd::{EtcdApi, EtcdTarget};
pub use fencer::{FenceTarget, Fencer, PowerState};
pub use files::{LocalFiles, ThisMachine};
pub use host::{Dial, DialTarget, FileChunks, HostShell, HostTarget, MAX_ADDRESSES, Stream};
pub use hypervisor::{
    ConsoleChunk, HostProbe, Hypervisor, MigrationRoute, PROBE_MARK, ProbeSeen, VolumeCreate, VolumeSource,
    probe_name,
};
pub use kube::{
    KubeApi, KubeSeen, KubeTarget, Manifest, NodeNow, NodePatch, ServingDecision, ServingRequestNow,
};
pub use network::HostNetworks;

use std::sync::Arc;

/// All of the world, as the engine gets it from whoever wires it.
#[derive(Clone)]
pub struct World {
    /// libvirt on the hosts.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Commands on the hosts.
    pub shell: Arc<dyn HostShell>,
    /// Files here.
    pub files: Arc<dyn LocalFiles>,
    /// Networks on the hosts.
    pub networks: Arc<dyn HostNetworks>,
    /// The clusters' API servers.
    pub kube: Arc<dyn KubeApi>,
    /// The clusters' etcd.
    pub etcd: Arc<dyn EtcdApi>,
    /// Who turns hosts off.
    pub fencer: Arc<dyn Fencer>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and secrets.
    pub entropy: Arc<dyn Entropy>,
}
