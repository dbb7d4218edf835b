//! Clusters' etcd: every member is asked by itself, and one of them who belongs to it.

use std::collections::BTreeMap;

use ashlar_api::{Cluster, Machine, NamespacedName, Secret};
use ashlar_plan::{EtcdSeen, EtcdStatus, EtcdWorld, HostSeen, Objects, Snapshot, names};
use futures::{StreamExt, stream::FuturesUnordered};

use crate::{Engine, EngineError, Scope, deadline::within, effects::EtcdTarget};

/// etcd's port for clients, as kubeadm sets it up.
const CLIENT_PORT: u16 = 2379;

impl Engine {
    pub(super) async fn observe_etcd(
        &self,
        snapshot: &Snapshot,
        secrets: &Objects<NamespacedName, Secret>,
        scope: &Scope,
    ) -> BTreeMap<NamespacedName, EtcdSeen> {
        let clusters = snapshot
            .clusters
            .values()
            .filter(|cluster| scope.has_cluster(&cluster.key()) && is_worth_asking(snapshot, cluster));
        let mut asked: FuturesUnordered<_> =
            clusters.map(|cluster| self.observe_etcd_of(snapshot, secrets, cluster)).collect();
        let mut seen = BTreeMap::new();
        while let Some(answer) = asked.next().await {
            seen.extend(answer);
        }
        seen
    }

    async fn observe_etcd_of(
        &self,
        snapshot: &Snapshot,
        secrets: &Objects<NamespacedName, Secret>,
        cluster: &Cluster,
    ) -> Option<(NamespacedName, EtcdSeen)> {
        let key = cluster.key();
        let secret = secrets.get(&names::pki_secret(&key))?;
        let mut nodes: BTreeMap<String, Result<EtcdStatus, String>> = BTreeMap::new();
        let mut targets = BTreeMap::new();
        let mut asked = FuturesUnordered::new();
        for machine in snapshot.control_planes(&key) {
            let node = machine.spec.node.name.clone();
            match silence(snapshot, machine) {
                Silence::Unasked => continue,
                Silence::Known(why) => drop(nodes.insert(node, Err(why))),
                Silence::No => match self.etcd_target(snapshot, secret, machine) {
                    Ok(None) => continue,
                    Ok(Some(target)) => {
                        targets.insert(node.clone(), target.clone());
                        asked.push(async move { (node, self.ask_etcd(&target).await) });
                    }
                    Err(error) => {
                        let reason = crate::error::chain(&error);
                        return Some((key.clone(), EtcdSeen::Unreachable { reason }));
                    }
                },
            }
        }
        while let Some((node, answer)) = asked.next().await {
            nodes.insert(node, answer);
        }
        Some((key.clone(), self.etcd_members(&key, nodes, &targets).await))
    }

    async fn ask_etcd(&self, target: &EtcdTarget) -> Result<EtcdStatus, String> {
        let what = format!("asking the etcd of {}", target.node);
        let call = self.world.etcd.status(target);
        within(self.world.clock.as_ref(), self.settings.observe_deadline, &what, call)
            .await
            .map_err(|error| error.message)
    }

    /// Asks for the members: the leader first, then whoever follows one.
    async fn etcd_members(
        &self,
        cluster: &NamespacedName,
        nodes: BTreeMap<String, Result<EtcdStatus, String>>,
        targets: &BTreeMap<String, EtcdTarget>,
    ) -> EtcdSeen {
        let mut following: Vec<(&String, &EtcdStatus)> = nodes
            .iter()
            .filter_map(|(node, answer)| Some((node, answer.as_ref().ok()?)))
            .filter(|(_, status)| status.leader.is_some() && !status.is_learner)
            .collect();
        following.sort_by_key(|(_, status)| status.leader != Some(status.member_id));
        let mut reasons: Vec<String> =
            nodes.values().filter_map(|answer| answer.as_ref().err().cloned()).collect();
        if following.is_empty() && nodes.values().any(Result::is_ok) {
            reasons.push("those who answer know no leader".to_owned());
        }
        for (node, _) in following {
            let Some(target) = targets.get(node) else { continue };
            let what = format!("asking the etcd of {cluster} for its members");
            let call = self.world.etcd.members(target);
            match within(self.world.clock.as_ref(), self.settings.observe_deadline, &what, call).await {
                Ok(members) => {
                    let members = members.into_iter().map(|member| (member.id, member)).collect();
                    return EtcdSeen::Seen(EtcdWorld { members, nodes });
                }
                Err(error) => reasons.push(error.message),
            }
        }
        EtcdSeen::Unreachable { reason: reasons.join("; ") }
    }

    /// How to reach a control plane's etcd as the engine: through its own host, or another one of its network.
    pub(crate) fn etcd_target(
        &self,
        snapshot: &Snapshot,
        secret: &Secret,
        machine: &Machine,
    ) -> Result<Option<EtcdTarget>, EngineError> {
        let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
        let Some(object) = snapshot.clusters.get(&cluster) else { return Ok(None) };
        let Some(mut dial) = self.machine_port(snapshot, machine, CLIENT_PORT) else { return Ok(None) };
        let ways = self.way_to(snapshot, object);
        dial.via.extend(ways.into_iter().filter(|host| host.name != machine.spec.host));
        let access = self.access(&cluster, secret)?;
        Ok(Some(EtcdTarget {
            cluster,
            node: machine.spec.node.name.clone(),
            server_name: dial.address.to_string(),
            dial,
            ca_pem: access.etcd_ca_pem,
            client_certificate_pem: access.etcd_identity.certificate_pem,
            client_key_pem: access.etcd_identity.key_pem,
        }))
    }
}

/// Whether somebody has to know: one member alone that is as it should be has nobody to lose.
fn is_worth_asking(snapshot: &Snapshot, cluster: &Cluster) -> bool {
    let key = cluster.key();
    if cluster.metadata.is_deleting() || cluster.record.stopped || !cluster.record.initialized {
        return false;
    }
    let machines: Vec<&Machine> = snapshot.control_planes(&key).collect();
    let is_settled = |machine: &&Machine| {
        machine.record.joined_at.is_some()
            && machine.record.failure.is_none()
            && !machine.metadata.is_deleting()
    };
    machines.len() != 1 || cluster.spec.control_plane.replicas != 1 || !machines.iter().all(is_settled)
}

enum Silence {
    /// It is asked.
    No,
    /// It is not asked, because the answer is known.
    Known(String),
    /// It has no member yet, or one that is only coming.
    Unasked,
}

fn silence(snapshot: &Snapshot, machine: &Machine) -> Silence {
    let record = &machine.record;
    let is_joining =
        record.joined_at.is_none() && record.failure.is_none() && !machine.metadata.is_deleting();
    if record.first_started_at.is_none() || is_joining {
        return Silence::Unasked;
    }
    let host = &machine.spec.host;
    match snapshot.observed.hosts.get(host) {
        Some(HostSeen::Seen(world)) => match world.domains.get(&machine.spec.domain.uuid) {
            Some(domain) if domain.state.is_active() => Silence::No,
            Some(_) => Silence::Known("its machine is off".to_owned()),
            None => Silence::Known(format!("its machine is gone from host {host}")),
        },
        _ => Silence::Known(format!("its host {host} does not answer")),
    }
}
