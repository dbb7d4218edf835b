//! A scripted world for unit tests: one host in memory whose calls answer at once, and a clock that jumps.
//! Whole lives of clusters are played in `ashlar-sim`; here single steps are put into odd situations.

mod objects;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use ashlar_api::{Accelerator, DomainIdentity, NamespacedName};
use ashlar_plan::network::HostNetwork;
use ashlar_plan::{
    DeprecatedApi, DomainSeen, DomainSpec, DomainState, EtcdMember, EtcdStatus, HostWorld, NetworkSeen,
    NetworksSeen, PoolSeen, VolumeSeen,
};
use ashlar_store::{MemoryStore, Store};
use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{Engine, EngineEvent, EventSink, Settings, effects::*, vault::Vault};

pub(crate) use objects::*;

pub(crate) const INSTALLATION: Uuid = Uuid::from_u128(0x1457);

/// What there is, and what was called.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) now_ms: i64,
    pub(crate) entropy: u8,
    /// Where not zero, the state of a generator whose bytes do not repeat: for tests that need many ids.
    pub(crate) many_ids: u64,
    pub(crate) domains: BTreeMap<Uuid, DomainSeen>,
    /// Domains that one host alone has.
    pub(crate) domains_on: BTreeMap<(String, Uuid), DomainSeen>,
    /// Size and digest by file name.
    pub(crate) volumes: BTreeMap<String, (u64, String)>,
    /// Digest that the next upload has on the host.
    pub(crate) uploaded_digest: String,
    /// Hosts that never answer.
    pub(crate) hung: BTreeSet<String>,
    /// Mutating calls, in order.
    pub(crate) calls: Vec<String>,
    /// Every Node.
    pub(crate) node: NodeNow,
    /// etcd's members with what each says of itself; none if nobody answers.
    pub(crate) etcd: Option<Vec<(EtcdMember, Option<EtcdStatus>)>>,
    /// Bytes of the last seed.
    pub(crate) seed: Vec<u8>,
    pub(crate) events: Vec<String>,
    pub(crate) networks: BTreeMap<Uuid, NetworkSeen>,
    /// What is said of hosts' power, one answer after the other; then that it is on.
    pub(crate) powers: VecDeque<Result<PowerState, EffectError>>,
    /// Whether hosts answer when their sshd is dialled, one answer after the other; then not.
    pub(crate) answers: VecDeque<bool>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<State>>);

impl Fake {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn call(&self, name: &str, what: impl std::fmt::Display) {
        self.state().calls.push(format!("{name} {what}"));
    }

    /// A store and an engine on this world.
    pub(crate) fn engine(&self) -> (Arc<MemoryStore>, Engine) {
        let store = Arc::new(MemoryStore::new());
        let shared: Arc<dyn Store> = store.clone();
        (store, self.engine_on(shared))
    }

    /// An engine on this world and that store.
    pub(crate) fn engine_on(&self, store: Arc<dyn Store>) -> Engine {
        let world = World {
            hypervisor: Arc::new(self.clone()),
            shell: Arc::new(self.clone()),
            files: Arc::new(ThisMachine),
            networks: Arc::new(self.clone()),
            kube: Arc::new(self.clone()),
            etcd: Arc::new(self.clone()),
            fencer: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
            entropy: Arc::new(self.clone()),
        };
        let vault = Arc::new(Vault::from_key(Zeroizing::new([3; 32])));
        Engine::new(store, world, vault, Settings::new(INSTALLATION), Arc::new(self.clone()))
    }
}

impl EventSink for Fake {
    fn event(&self, event: &EngineEvent) {
        self.state().events.push(format!("{event:?}"));
    }
}

#[async_trait]
impl Clock for Fake {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(1_767_225_600_000 + self.state().now_ms).unwrap_or_default()
    }
    async fn sleep(&self, duration: Duration) {
        self.state().now_ms += i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    }
}

impl Entropy for Fake {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.state();
        for byte in buffer {
            if state.many_ids != 0 {
                state.many_ids = state
                    .many_ids
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                *byte = state.many_ids.to_be_bytes()[0];
                continue;
            }
            state.entropy = state.entropy.wrapping_mul(5).wrapping_add(7);
            *byte = state.entropy;
        }
    }
}

fn absent<T>(what: impl std::fmt::Display) -> Result<T, EffectError> {
    Err(EffectError::new(EffectErrorKind::NotFound, format!("there is no {what}")))
}

#[async_trait]
impl Hypervisor for Fake {
    async fn probe(&self, host: &HostTarget) -> Result<HostProbe, EffectError> {
        absent(&host.name)
    }
    async fn start_probe(
        &self,
        _: &HostTarget,
        domain: Uuid,
        _: Accelerator,
        _: &str,
        _: &str,
    ) -> Result<(), EffectError> {
        absent(domain)
    }
    async fn read_probe(&self, _: &HostTarget, domain: Uuid) -> Result<ProbeSeen, EffectError> {
        absent(domain)
    }
    async fn observe(&self, host: &HostTarget) -> Result<HostWorld, EffectError> {
        if self.state().hung.contains(&host.name) {
            return std::future::pending().await;
        }
        Ok(HostWorld { domains: self.state().domains.clone(), ..HostWorld::default() })
    }
    async fn pool(&self, _: &HostTarget, _: Uuid) -> Result<Option<PoolSeen>, EffectError> {
        Ok(None)
    }
    async fn pool_by_name(&self, _: &HostTarget, _: &str) -> Result<Option<(Uuid, PoolSeen)>, EffectError> {
        Ok(None)
    }
    async fn domain(&self, host: &HostTarget, domain: Uuid) -> Result<Option<DomainSeen>, EffectError> {
        let state = self.state();
        let here = state.domains_on.get(&(host.name.clone(), domain));
        Ok(here.or_else(|| state.domains.get(&domain)).cloned())
    }
    async fn domain_by_name(&self, _: &HostTarget, name: &str) -> Result<Option<DomainSeen>, EffectError> {
        Ok(self.state().domains.values().find(|domain| domain.name == name).cloned())
    }
    async fn define_domain(&self, host: &HostTarget, spec: &DomainSpec) -> Result<(), EffectError> {
        self.call("define", format!("{} lease {}", spec.name, host.lease_token.unwrap_or_default()));
        let seen = DomainSeen {
            uuid: spec.uuid,
            name: spec.name.clone(),
            state: DomainState::ShutOff,
            mark: Some(spec.mark.clone()),
            disk_paths: spec.disks.iter().map(|disk| disk.path.clone()).collect(),
            medium_path: spec.seed_path.clone(),
            persistent: true,
            paused_by_migration: false,
            left_by_migration: false,
            definition: None,
            running: None,
        };
        self.state().domains.insert(spec.uuid, seen);
        Ok(())
    }
    async fn start_domain(&self, _: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.call("start", domain);
        Ok(())
    }
    async fn shutdown_domain(&self, _: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.call("shutdown", domain);
        Ok(())
    }
    async fn destroy_domain(&self, _: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.call("destroy", domain);
        Ok(())
    }
    async fn migrate_domain(
        &self,
        from: &HostTarget,
        to: &HostTarget,
        domain: &DomainSpec,
        _: &MigrationRoute,
    ) -> Result<(), EffectError> {
        self.call("migrate", format!("{} from {} to {}", domain.name, from.name, to.name));
        Ok(())
    }
    async fn resume_domain(&self, _: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.call("resume", domain);
        Ok(())
    }
    async fn undefine_domain(&self, _: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.call("undefine", domain);
        Ok(())
    }
    async fn eject_medium(&self, _: &HostTarget, domain: Uuid) -> Result<(), EffectError> {
        self.call("eject", domain);
        Ok(())
    }
    async fn create_volume(&self, host: &HostTarget, volume: &VolumeCreate) -> Result<(), EffectError> {
        self.call("create", format!("{} lease {}", volume.file_name, host.lease_token.unwrap_or_default()));
        self.state().volumes.insert(volume.file_name.clone(), (volume.capacity_bytes, String::new()));
        Ok(())
    }
    async fn upload_volume(
        &self,
        _: &HostTarget,
        _: Uuid,
        file_name: &str,
        source: VolumeSource,
    ) -> Result<(), EffectError> {
        self.call("upload", file_name);
        let mut state = self.state();
        match source {
            VolumeSource::Bytes { bytes, .. } => state.seed = bytes.to_vec(),
            VolumeSource::File { path, .. } if !path.is_file() => return absent(path.display()),
            VolumeSource::File { .. } => {}
        }
        let digest = state.uploaded_digest.clone();
        match state.volumes.get_mut(file_name) {
            Some(volume) => volume.1 = digest,
            None => return absent(file_name),
        }
        Ok(())
    }
    async fn wipe_volume(&self, _: &HostTarget, _: Uuid, file_name: &str) -> Result<(), EffectError> {
        self.call("wipe", file_name);
        Ok(())
    }
    async fn delete_volume(&self, _: &HostTarget, _: Uuid, file_name: &str) -> Result<(), EffectError> {
        self.call("delete", file_name);
        self.state().volumes.remove(file_name).map_or_else(|| absent(file_name), |_| Ok(()))
    }
    async fn volume(
        &self,
        _: &HostTarget,
        _: Uuid,
        file_name: &str,
    ) -> Result<Option<VolumeSeen>, EffectError> {
        let seen = |(size, digest): &(u64, String)| VolumeSeen {
            capacity_bytes: *size,
            allocation_bytes: if digest.is_empty() { 0 } else { *size },
        };
        Ok(self.state().volumes.get(file_name).map(seen))
    }
    async fn read_console(
        &self,
        _: &HostTarget,
        _: &DomainIdentity,
        offset: u64,
    ) -> Result<ConsoleChunk, EffectError> {
        Ok(ConsoleChunk { bytes: Vec::new(), next_offset: offset })
    }
}

#[async_trait]
impl HostNetworks for Fake {
    async fn observe_networks(&self, _: &HostTarget) -> Result<NetworksSeen, EffectError> {
        let networks = self.state().networks.clone();
        Ok(NetworksSeen::Seen { networks, foreign: Default::default(), hostname: String::new() })
    }
    async fn apply_network(&self, _: &HostTarget, network: &HostNetwork) -> Result<(), EffectError> {
        let seen = NetworkSeen { applied: Some(Box::new(network.clone())), intact: true, bridge_gone: false };
        self.state().networks.insert(network.uid, seen);
        Ok(())
    }
    async fn remove_network(&self, _: &HostTarget, _: Uuid, network: Uuid) -> Result<(), EffectError> {
        self.state().networks.remove(&network);
        Ok(())
    }
}

#[async_trait]
impl HostShell for Fake {
    async fn file_sha256(&self, _: &HostTarget, path: &str) -> Result<String, EffectError> {
        let name = path.rsplit('/').next().unwrap_or_default();
        self.state().volumes.get(name).map_or_else(|| absent(path), |(_, digest)| Ok(digest.clone()))
    }
    async fn file_chunks(&self, _: &HostTarget, path: &str, _: u64) -> Result<FileChunks, EffectError> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let state = self.state();
        let Some((size_bytes, digest)) = state.volumes.get(name) else { return absent(path) };
        Ok(FileChunks { size_bytes: *size_bytes, sha256: vec![digest.clone()] })
    }
    async fn zero_file(
        &self,
        _: &HostTarget,
        _: &str,
        _: std::time::Duration,
    ) -> Result<Option<String>, EffectError> {
        Ok(None)
    }
    async fn check_facts(&self, _: &HostTarget, _: &str) -> Result<BTreeMap<String, String>, EffectError> {
        Ok(BTreeMap::new())
    }
    async fn release_lease(&self, _: &HostTarget) -> Result<(), EffectError> {
        Ok(())
    }
    async fn addresses_answer(
        &self,
        _: &HostTarget,
        _: &str,
        _: &[Ipv4Addr],
    ) -> Result<BTreeSet<Ipv4Addr>, EffectError> {
        Ok(BTreeSet::new())
    }
}

#[async_trait]
impl Fencer for Fake {
    async fn power_status(&self, target: &FenceTarget) -> Result<PowerState, EffectError> {
        self.call("power_status", &target.host);
        self.state().powers.pop_front().unwrap_or(Ok(PowerState::On))
    }
    async fn power_off(&self, target: &FenceTarget) -> Result<(), EffectError> {
        self.call("power_off", &target.host);
        Ok(())
    }
    async fn answers(&self, host: &str, _: &str) -> bool {
        self.call("answers", host);
        self.state().answers.pop_front().unwrap_or(false)
    }
}

#[async_trait]
impl KubeApi for Fake {
    async fn observe(
        &self,
        target: &KubeTarget,
        _: &[(String, String, String, String, String)],
        _: &[String],
    ) -> Result<KubeSeen, EffectError> {
        absent(&target.cluster)
    }
    async fn deprecated_apis(&self, target: &KubeTarget) -> Result<BTreeSet<DeprecatedApi>, EffectError> {
        absent(&target.cluster)
    }
    async fn put_bootstrap_token(
        &self,
        _: &KubeTarget,
        id: &str,
        _: &Zeroizing<String>,
        _: Timestamp,
        _: &str,
    ) -> Result<(), EffectError> {
        self.call("publish", id);
        Ok(())
    }
    async fn delete_bootstrap_token(&self, _: &KubeTarget, id: &str) -> Result<(), EffectError> {
        self.call("revoke", id);
        Ok(())
    }
    async fn exists(&self, target: &KubeTarget, _: &serde_json::Value) -> Result<bool, EffectError> {
        absent(&target.cluster)
    }
    async fn apply(&self, target: &KubeTarget, _: &serde_json::Value) -> Result<(), EffectError> {
        self.call("apply", &target.cluster);
        Ok(())
    }
    async fn node(&self, _: &KubeTarget, _: &str) -> Result<Option<NodeNow>, EffectError> {
        Ok(Some(self.state().node.clone()))
    }
    async fn patch_node(&self, _: &KubeTarget, node: &str, patch: &NodePatch) -> Result<(), EffectError> {
        self.call("patch node", format!("{node} {:?} {:?}", patch.labels, patch.taints));
        Ok(())
    }
    async fn cordon(&self, _: &KubeTarget, node: &str) -> Result<(), EffectError> {
        self.call("cordon", node);
        Ok(())
    }
    async fn evict(&self, _: &KubeTarget, pod: &NamespacedName) -> Result<(), EffectError> {
        self.call("evict", pod);
        Ok(())
    }
    async fn serving_request(
        &self,
        _: &KubeTarget,
        _: &str,
    ) -> Result<Option<ServingRequestNow>, EffectError> {
        Ok(None)
    }
    async fn decide_serving_request(
        &self,
        _: &KubeTarget,
        csr: &str,
        version: &str,
        decision: &ServingDecision,
    ) -> Result<(), EffectError> {
        self.call("decide", format!("{csr} at {version}: {} {}", decision.approve, decision.message));
        Ok(())
    }
    async fn delete_node(&self, _: &KubeTarget, node: &str) -> Result<(), EffectError> {
        self.call("delete node", node);
        Ok(())
    }
}

#[async_trait]
impl EtcdApi for Fake {
    async fn members(&self, target: &EtcdTarget) -> Result<Vec<EtcdMember>, EffectError> {
        match self.state().etcd.as_ref() {
            Some(members) => Ok(members.iter().map(|(member, _)| member.clone()).collect()),
            None => absent(format!("etcd on {}", target.node)),
        }
    }
    async fn status(&self, target: &EtcdTarget) -> Result<EtcdStatus, EffectError> {
        let state = self.state();
        let mut members = state.etcd.iter().flatten();
        match members.find(|(member, _)| member.name == target.node) {
            Some((_, Some(status))) => Ok(status.clone()),
            _ => Err(EffectError::new(EffectErrorKind::Unreachable, format!("{} is silent", target.node))),
        }
    }
    async fn promote_member(&self, _: &EtcdTarget, member: u64) -> Result<(), EffectError> {
        self.call("promote", member);
        Ok(())
    }
    async fn remove_member(&self, target: &EtcdTarget, member: u64) -> Result<(), EffectError> {
        self.call("remove", format!("{member} through {}", target.node));
        Ok(())
    }
    async fn move_leader(&self, target: &EtcdTarget, to: u64) -> Result<(), EffectError> {
        self.call("move leader", format!("{to} from {}", target.node));
        Ok(())
    }
    async fn snapshot(
        &self,
        target: &EtcdTarget,
        _: &mut (dyn std::io::Write + Send),
    ) -> Result<(), EffectError> {
        absent(format!("a database of {}", target.node))
    }
    async fn defragment(&self, target: &EtcdTarget) -> Result<(), EffectError> {
        self.call("defragment", &target.node);
        Ok(())
    }
}

/// A name in the default namespace.
pub(crate) fn name(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}
