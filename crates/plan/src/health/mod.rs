//! Whether a machine is well, by what was seen of it.
//!
//! Only answers count: a host or an API that says nothing, an empty listing, a domain that is not ours make nobody sick.
//! A domain that is off is brought back first: it is no ailment yet, and that its node is not Ready again is one of its own.

mod node;

use ashlar_api::*;

pub(crate) use node::{no_controllers, silence};

use crate::{
    ClusterSeen, ClusterWorld, DomainState, EtcdSeen, HostSeen, HostWorld, NodeSeen, Snapshot, elsewhere,
    fence,
};

/// What was seen of a machine's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It works.
    Well,
    /// Its VM is off: it is started first, and what its node says counts from then on.
    Off,
    /// Nobody can tell, or something else comes first.
    Unknown,
    /// It does not work, and why.
    Sick(AilmentKind, String),
}

/// Judges a machine of a cluster that was initialized and is not stopped.
pub(crate) fn judge(snapshot: &Snapshot, machine: &Machine) -> Health {
    let record = &machine.record;
    // It has left that host; whether it is well is seen where it is, once that is recorded.
    if record.migration.as_ref().is_some_and(|migration| migration.arrived_at.is_some()) {
        return Health::Unknown;
    }
    if let Some(fence) = fence::proof(snapshot, &machine.spec.host) {
        let message = format!(
            "its host {} is off since before {}, as {} confirmed",
            machine.spec.host, fence.at, fence.confirmed_by
        );
        return Health::Sick(AilmentKind::HostOff, message);
    }
    if record.joined_at.is_none() {
        // A control plane that failed has rules of its own; and where nobody has joined, the fault may be the cluster's.
        return match &record.failure {
            Some(failure) if machine.spec.role == MachineRole::Worker && others_joined(snapshot, machine) => {
                Health::Sick(
                    AilmentKind::FirstBootFailed,
                    format!("its first boot failed in phase {}", failure.phase),
                )
            }
            _ => Health::Unknown,
        };
    }
    let Some(HostSeen::Seen(host)) = snapshot.observed.hosts.get(&machine.spec.host) else {
        return Health::Unknown;
    };
    let domain = host.domains.get(&machine.spec.domain.uuid);
    let is_ours = domain.is_none_or(|domain| {
        domain.name == machine.spec.domain.name
            && domain.mark.as_ref().is_some_and(|mark| {
                mark.installation == snapshot.installation && Some(mark.machine_uid) == machine.metadata.uid
            })
    });
    if !is_ours || elsewhere::may_be(snapshot, machine, domain) {
        return Health::Unknown;
    }
    if let Some(path) = lost_disk(snapshot, host, machine) {
        return Health::Sick(AilmentKind::DiskLost, format!("its disk {path} is gone"));
    }
    match domain.map(|domain| domain.state) {
        Some(DomainState::Running) => {}
        // Where it is going it may run.
        None | Some(DomainState::ShutOff | DomainState::Crashed) if record.migration.is_some() => {
            return Health::Unknown;
        }
        None | Some(DomainState::ShutOff | DomainState::Crashed) => return Health::Off,
        Some(DomainState::Paused | DomainState::ShuttingDown) => return Health::Unknown,
    }
    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    let Some(ClusterSeen::Seen(api)) = snapshot.observed.clusters.get(&cluster) else {
        return Health::Unknown;
    };
    let config = &machine.spec.node;
    match api.nodes.get(&config.name) {
        None if shows_others(snapshot, api) => Health::Sick(
            AilmentKind::NodeMissing,
            format!("its VM runs, and node {} is gone from the API", config.name),
        ),
        None => Health::Unknown,
        Some(node) if node.provider_id != config.provider_id => Health::Unknown,
        Some(node) => match node::kubelet(snapshot, api, machine, node) {
            Health::Well => components(snapshot, &cluster, machine, node),
            other => other,
        },
    }
}

/// What its node's being Ready says nothing of.
fn components(snapshot: &Snapshot, cluster: &NamespacedName, machine: &Machine, node: &NodeSeen) -> Health {
    match (etcd(snapshot, cluster, machine), node::static_pods(machine, node)) {
        (sick @ Health::Sick(..), _) => sick,
        (_, Some(message)) => Health::Sick(AilmentKind::StaticPodNotReady, message),
        (etcd, None) => etcd,
    }
}

/// Whether another worker of its cluster has joined, so that workers can.
fn others_joined(snapshot: &Snapshot, machine: &Machine) -> bool {
    snapshot.machines.values().any(|other| {
        other.metadata.namespace == machine.metadata.namespace
            && other.spec.cluster == machine.spec.cluster
            && other.spec.role == MachineRole::Worker
            && other.record.joined_at.is_some()
            && !other.metadata.is_deleting()
    })
}

/// Whether it is too sick to be moved alive. One that was off and boots again is not, unless that takes too long.
pub(crate) fn is_sick(machine: &Machine) -> bool {
    let ailment = machine.record.ailment.as_ref();
    ailment.is_some_and(|ailment| ailment.kind != AilmentKind::GuestNotUp || ailment.is_due())
}

/// Whether its cluster has health to speak of.
pub(crate) fn is_judged(cluster: &Cluster) -> bool {
    cluster.record.initialized && !cluster.record.stopped && !cluster.metadata.is_deleting()
}

/// Whether the API shows a Ready node of ours: one that shows none is not believed.
fn shows_others(snapshot: &Snapshot, api: &ClusterWorld) -> bool {
    let prefix = format!("ashlar://{}/", snapshot.installation);
    api.nodes.values().any(|node| node.ready && node.provider_id.starts_with(&prefix))
}

/// The path of a disk that it used and that a pool which is believed does not show.
fn lost_disk(snapshot: &Snapshot, host: &HostWorld, machine: &Machine) -> Option<String> {
    [MachineVolumeRole::Root, MachineVolumeRole::Etcd].into_iter().find_map(|role| {
        let name = machine.spec.volume(role)?;
        let volume = snapshot.volumes.get(&NamespacedName::new(&machine.metadata.namespace, name))?;
        // Over another directory it says nothing of this one's files.
        let pool =
            host.pools.get(&volume.spec.pool_uuid).filter(|pool| pool.is_at(&volume.spec.pool_path))?;
        (!pool.volumes.contains_key(&volume.spec.file_name)).then(|| volume.spec.path())
    })
}

fn etcd(snapshot: &Snapshot, cluster: &NamespacedName, machine: &Machine) -> Health {
    if machine.spec.role != MachineRole::ControlPlane {
        return Health::Well;
    }
    let etcd = match snapshot.observed.etcd.get(cluster) {
        Some(EtcdSeen::Seen(etcd)) => etcd,
        // One member alone is not asked, and lives as long as the API answers.
        None if snapshot.clusters.get(cluster).is_some_and(|one| one.spec.control_plane.replicas == 1) => {
            return Health::Well;
        }
        Some(EtcdSeen::Unreachable { .. }) | None => return Health::Unknown,
    };
    let sick = |message: String| Health::Sick(AilmentKind::EtcdNotHealthy, message);
    let Some(member) = etcd.members.values().find(|member| member.is_of(machine)) else {
        return sick("it is no member of etcd any more".to_owned());
    };
    match etcd.nodes.get(&member.name) {
        _ if member.is_learner => Health::Unknown,
        None => Health::Unknown,
        Some(Err(reason)) => sick(format!("its etcd does not answer, and those of others do: {reason}")),
        // Another disk would be as full.
        Some(Ok(status)) if status.errors.iter().any(|error| error.contains("NOSPACE")) => Health::Unknown,
        Some(Ok(status)) => match status.ailment_as(member) {
            None => Health::Well,
            Some(ailment) => sick(format!("its etcd: {ailment}")),
        },
    }
}
