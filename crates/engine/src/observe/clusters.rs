//! Clusters through their API servers.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ashlar_api::{Bootstrap, Cluster, Machine, NamespacedName, Secret};
use ashlar_plan::{ClusterSeen, HostSeen, Objects, Snapshot, names};
use futures::{StreamExt, stream::FuturesUnordered};
use jiff::SignedDuration;

use crate::{
    Engine, EngineError, Scope, addon,
    deadline::within,
    effects::{EffectErrorKind, KubeSeen, KubeTarget},
    pki::{self, ClientIdentity, Identity},
};

/// Hosts that are tried on the way to one address: more only makes a failure slower.
const VIA_LIMIT: usize = 3;

/// Client certificates of the engine, in memory only.
#[derive(Default)]
pub(crate) struct ClusterAccess {
    kept: Mutex<BTreeMap<NamespacedName, Access>>,
}

#[derive(Clone)]
pub(super) struct Access {
    /// The PKI secret that it was made from.
    secret_version: String,
    ca_pem: String,
    identity: ClientIdentity,
    pub(super) etcd_ca_pem: String,
    pub(super) etcd_identity: ClientIdentity,
}

impl Engine {
    pub(super) async fn observe_clusters(
        &self,
        snapshot: &Snapshot,
        secrets: &Objects<NamespacedName, Secret>,
        scope: &Scope,
    ) -> BTreeMap<NamespacedName, ClusterSeen> {
        let clusters = snapshot.clusters.values().filter(|cluster| scope.has_cluster(&cluster.key()));
        self.kubelets.keep(|cluster| snapshot.clusters.contains_key(cluster));
        let drained = ashlar_plan::drained_nodes(snapshot);
        let drained_of = |cluster: &Cluster| drained.get(&cluster.key()).map_or(&[][..], Vec::as_slice);
        let mut asked: FuturesUnordered<_> = clusters
            .map(|cluster| self.observe_cluster(snapshot, secrets, cluster, drained_of(cluster)))
            .collect();
        let mut seen = BTreeMap::new();
        while let Some(answer) = asked.next().await {
            seen.extend(answer);
        }
        seen
    }

    async fn observe_cluster(
        &self,
        snapshot: &Snapshot,
        secrets: &Objects<NamespacedName, Secret>,
        cluster: &Cluster,
        drained: &[String],
    ) -> Option<(NamespacedName, ClusterSeen)> {
        let key = cluster.key();
        // Nobody can answer before a control plane runs, and while kubeadm still starts the first one every question,
        // and whatever would be done on its answer, slows that down: under emulation until kubeadm gives up.
        running_control_planes(snapshot, &key).find(|machine| !is_initializing(snapshot, machine))?;
        let secret = secrets.get(&names::pki_secret(&key))?;
        let unreachable = |reason: String| Some((key.clone(), ClusterSeen::Unreachable { reason }));
        let target = match self.kube_target(snapshot, secret, &key) {
            Ok(target) => target?,
            Err(error) => return unreachable(crate::error::chain(&error)),
        };
        let references: Vec<_> =
            addon::of_cluster(snapshot, &key).iter().filter_map(addon::digest_reference).collect();
        let what = format!("observing cluster {key}");
        let call = self.world.kube.observe(&target, &references, drained);
        match within(self.world.clock.as_ref(), self.settings.observe_deadline, &what, call).await {
            Ok(KubeSeen { mut world, leases }) => {
                self.kubelets.judge(&key, leases, &mut world, self.world.clock.now());
                Some((key, ClusterSeen::Seen(world)))
            }
            Err(error) => {
                self.kubelets.forget(&key);
                match error.kind {
                    EffectErrorKind::NotOurs => Some((key, ClusterSeen::NotOurs { reason: error.message })),
                    _ => unreachable(error.message),
                }
            }
        }
    }

    /// How to reach a cluster's API server as the engine; none while it has no endpoint.
    pub(crate) fn kube_target(
        &self,
        snapshot: &Snapshot,
        secret: &Secret,
        cluster: &NamespacedName,
    ) -> Result<Option<KubeTarget>, EngineError> {
        let Some(object) = snapshot.clusters.get(cluster) else { return Ok(None) };
        let Some(dial) = self.api_server(snapshot, object) else { return Ok(None) };
        let access = self.access(cluster, secret)?;
        Ok(Some(KubeTarget {
            cluster: cluster.clone(),
            server_name: dial.address.to_string(),
            dial,
            ca_pem: access.ca_pem,
            client_certificate_pem: access.identity.certificate_pem,
            client_key_pem: access.identity.key_pem,
        }))
    }

    /// Own addresses of the control planes that joined and run: the virtual address may be on its way from one to another,
    /// or on a node whose keepalived hangs.
    pub(crate) fn control_plane_addresses(
        &self,
        snapshot: &Snapshot,
        cluster: &Cluster,
    ) -> Vec<std::net::Ipv4Addr> {
        running_control_planes(snapshot, &cluster.key())
            .filter(|machine| machine.record.joined_at.is_some())
            .filter_map(|machine| machine.spec.node_address())
            .collect()
    }

    /// Hosts that carry the cluster's network and answered: those that run its control planes first.
    pub(crate) fn way_to(&self, snapshot: &Snapshot, cluster: &Cluster) -> Vec<crate::effects::HostTarget> {
        let network = snapshot.networks.get(&cluster.spec.network);
        let key = cluster.key();
        let running = running_control_planes(snapshot, &key).map(|machine| machine.spec.host.as_str());
        let others = snapshot
            .hosts
            .keys()
            .map(String::as_str)
            // A network that Ashlar makes is only where a machine of it is.
            .filter(|host| {
                network.is_some_and(|network| {
                    if network.spec.is_made_by_us() {
                        network.record.hosts.contains(*host)
                    } else {
                        network.spec.is_on(host)
                    }
                })
            })
            .filter(|host| matches!(snapshot.observed.hosts.get(*host), Some(HostSeen::Seen(_))));
        let mut via: Vec<&ashlar_api::Host> = Vec::new();
        // A pool may have hundreds of hosts, and this is asked for each cluster.
        for host in running.chain(others).filter_map(|host| snapshot.hosts.get(host)) {
            if via.iter().all(|before| before.metadata.name != host.metadata.name) {
                via.push(host);
            }
            if via.len() == VIA_LIMIT {
                break;
            }
        }
        via.into_iter().map(|host| self.leases.target(host, &self.settings)).collect()
    }

    /// The engine's certificates for a cluster: made anew when the PKI is another one, or a quarter of its life is left.
    pub(super) fn access(&self, cluster: &NamespacedName, secret: &Secret) -> Result<Access, EngineError> {
        let now = self.world.clock.now();
        let mut kept = self.cluster_access.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(access) = kept.get(cluster)
            && access.secret_version == secret.metadata.resource_version
            && access.identity.expires.duration_since(now) > Identity::Engine.lifetime() / 4
        {
            return Ok(access.clone());
        }
        let values = self.vault.open_secret(secret)?;
        let access = Access {
            secret_version: secret.metadata.resource_version.clone(),
            ca_pem: pki::ca_pem(&values)?,
            identity: pki::client_identity(&values, Identity::Engine, now)?,
            etcd_ca_pem: pki::etcd_ca_pem(&values)?,
            etcd_identity: pki::client_identity(&values, Identity::EngineAtEtcd, now)?,
        };
        kept.insert(cluster.clone(), access.clone());
        Ok(access)
    }
}

/// Whether `kubeadm init` is at work on a machine, as far as its console tells. Past the deadline the console has
/// had its time, and the API is asked all the same.
fn is_initializing(snapshot: &Snapshot, machine: &Machine) -> bool {
    let limit = SignedDuration::from_secs(machine.spec.node.startup_timeout_s.into());
    machine.spec.bootstrap == Bootstrap::Init
        && machine.record.joined_at.is_none()
        && machine.record.first_started_at.is_some_and(|at| snapshot.now.duration_since(at) < limit)
        && snapshot
            .observed
            .consoles
            .get(&machine.key())
            .is_some_and(|console| !console.finished && console.failure.is_none())
}

/// Control planes whose domains were seen running.
pub(super) fn running_control_planes<'a>(
    snapshot: &'a Snapshot,
    cluster: &'a NamespacedName,
) -> impl Iterator<Item = &'a Machine> {
    snapshot.control_planes(cluster).filter(move |machine| {
        match snapshot.observed.hosts.get(&machine.spec.host) {
            Some(HostSeen::Seen(world)) => {
                world.domains.get(&machine.spec.domain.uuid).is_some_and(|domain| domain.state.is_active())
            }
            _ => false,
        }
    })
}
