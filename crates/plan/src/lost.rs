//! Rows that the store should have and has not: somebody edited it, or an old copy came back.
//!
//! Objects that exist go on as they are. What they lack is told, on the object that needs it and before it is needed:
//! nobody should find out on the day on which a machine has to be replaced.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use uuid::Uuid;

use crate::network::HostNetwork;
use crate::{ClusterSeen, DomainSeen, Guard, HostSeen, HostWorld, NetworksSeen, Note, NoteKind, Snapshot};

/// What an object lacks, or has too much of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// One CamelCase word.
    pub(crate) reason: &'static str,
    /// Object, cause and next step.
    pub(crate) message: String,
}

/// Domains that are named one by one.
const SHOWN: usize = 8;

const HOW: &str = "was an old copy of the store restored, or were rows lost?";

/// What a machine refers to and the store has not. Only hosts and pools are needed by what runs; groups by who counts.
/// `has_all_pools` says that no volume's pool is missing, as [`has_all_pools`] found once for all machines.
pub(crate) fn of_machine(snapshot: &Snapshot, has_all_pools: bool, machine: &Machine) -> Option<Lost> {
    if machine.metadata.is_deleting() {
        return None;
    }
    let (spec, name) = (&machine.spec, &machine.metadata.name);
    if !snapshot.hosts.contains_key(&spec.host) {
        return Some(host(&spec.host));
    }
    let volumes = if has_all_pools { &[] } else { spec.volumes.as_slice() };
    let pool = volumes
        .iter()
        .filter_map(|volume| {
            let key = NamespacedName::new(&machine.metadata.namespace, &volume.name);
            Some(&snapshot.volumes.get(&key)?.spec.pool)
        })
        .find(|pool| !snapshot.pools.contains_key(*pool));
    if let Some(pool) = pool {
        let host = &spec.host;
        return Some(Lost {
            reason: "StoragePoolMissing",
            message: format!(
                "storage pool {pool}, in which its disks lie on {host}, is not in the store: {HOW} It runs on; no disk \
                 is made in that pool. Bring it back with `ashlar host add {host} --pool {pool}`, or restore the store"
            ),
        });
    }
    let group = NamespacedName::new(&machine.metadata.namespace, &spec.group);
    if spec.role == MachineRole::Worker && !snapshot.groups.contains_key(&group) {
        return Some(Lost {
            reason: "WorkerGroupMissing",
            message: format!(
                "worker group {}, whose machine it is, is not in the store: {HOW} It runs on, and nobody scales or \
                 replaces it. Bring the group back with `ashlar apply`: it takes its machines back; or \
                 `ashlar delete machine {name}`",
                group.name
            ),
        });
    }
    None
}

/// Whether the store has the pools of all volumes.
pub(crate) fn has_all_pools(snapshot: &Snapshot) -> bool {
    let mut known = "";
    snapshot.volumes.values().all(|volume| {
        let pool = volume.spec.pool.as_str();
        let is_there = pool == known || snapshot.pools.contains_key(pool);
        known = if is_there { pool } else { known };
        is_there
    })
}

/// A host that machines are on and nobody knows how to ask.
pub(crate) fn host(host: &str) -> Lost {
    Lost {
        reason: "HostMissing",
        message: format!(
            "host {host} is not in the store: {HOW} Nobody can ask what runs there, and nothing is concluded about it. \
             Bring it back with `ashlar host add {host}`, or restore the store"
        ),
    }
}

/// A machine class that some of the machines are made of. Where there are none, the class is wanted and was never there.
fn class(snapshot: &Snapshot, name: &str, is_of: impl Fn(&Machine) -> bool) -> Option<Lost> {
    let is_lost = !snapshot.classes.contains_key(name)
        && snapshot.machines.values().any(|machine| machine.spec.class == name && is_of(machine));
    is_lost.then(|| Lost {
        reason: "NoSuchClass",
        message: format!(
            "machine class {name} is not in the store: {HOW} Machines of it run on, and no other is made. Bring it back \
             with `ashlar apply`, or name another one"
        ),
    })
}

pub(crate) fn of_group(snapshot: &Snapshot, group: &WorkerGroup) -> Option<Lost> {
    let is_of = |machine: &Machine| {
        machine.metadata.namespace == group.metadata.namespace && machine.spec.group == group.metadata.name
    };
    if group.metadata.is_deleting() { None } else { class(snapshot, &group.spec.class, is_of) }
}

pub(crate) fn of_cluster(snapshot: &Snapshot, cluster: &Cluster) -> Option<Lost> {
    let is_of = |machine: &Machine| {
        machine.metadata.namespace == cluster.metadata.namespace
            && machine.spec.cluster == cluster.metadata.name
            && machine.spec.role == MachineRole::ControlPlane
    };
    if cluster.metadata.is_deleting() {
        None
    } else {
        class(snapshot, &cluster.spec.control_plane.class, is_of)
    }
}

/// Something else answers at the address of a cluster's API. Once its own holds the address again all goes on by itself.
pub(crate) fn api_of_another(cluster: &Cluster, why: &str) -> Lost {
    let endpoint = cluster.record.endpoint.as_ref();
    let address =
        endpoint.map_or_else(String::new, |endpoint| format!(" {}:{}", endpoint.address, endpoint.port));
    Lost {
        reason: "ApiOfAnother",
        message: format!(
            "what answers at the API's address{address} is not the API of cluster {}: {why}. Nothing that it says is \
             believed, and no key or token goes there; find out who has that address (`arping`, the network's leases) and \
             take it away from them",
            cluster.key()
        ),
    }
}

/// What answers in the place of a cluster's API.
pub(crate) fn of_api(snapshot: &Snapshot, cluster: &Cluster) -> Option<Lost> {
    match snapshot.observed.clusters.get(&cluster.key())? {
        ClusterSeen::NotOurs { reason } => Some(api_of_another(cluster, reason)),
        ClusterSeen::Unreachable { .. } | ClusterSeen::Seen(_) => None,
    }
}

/// A bridge that people made, and removed under the machines that are attached to it. Ashlar makes no bridge in its place: it
/// does not know what else it was a bridge of.
pub(crate) fn bridge(network: &Network, host: &str, wanted: &HostNetwork) -> Lost {
    let (name, bridge) = (&network.metadata.name, &wanted.bridge);
    let machines: Vec<&str> = wanted.taps.values().map(|tap| tap.machine.as_str()).take(SHOWN).collect();
    let more = wanted.taps.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Lost {
        reason: "BridgeGone",
        message: format!(
            "bridge {bridge} of network {name} is gone from host {host}: machines {}{more} are attached to nothing there. It is \
             yours, so make it again as it was; then bring the taps of those that run back (`ip link set TAP master {bridge}`, \
             `virsh domiflist` names them), or restart them",
            machines.join(", ")
        ),
    }
}

/// Bridges of people's that are gone from a host, with the networks that they were of.
pub(crate) fn bridges(snapshot: &Snapshot, host: &str) -> Option<Lost> {
    let Some(HostSeen::Seen(HostWorld { networks: NetworksSeen::Seen { networks, .. }, .. })) =
        snapshot.observed.hosts.get(host)
    else {
        return None;
    };
    let gone = networks.values().find(|network| network.bridge_gone)?;
    let applied = gone.applied.as_deref()?;
    Some(bridge(snapshot.networks.get(&applied.name)?, host, applied))
}

/// Domains' UUIDs that the store knows.
pub(crate) fn recorded_domains(snapshot: &Snapshot) -> BTreeSet<Uuid> {
    snapshot.machines.values().map(|machine| machine.spec.domain.uuid).collect()
}

/// Domains of ours on the host that the store knows nothing of.
pub(crate) fn of_host(snapshot: &Snapshot, recorded: &BTreeSet<Uuid>, host: &str) -> Option<Lost> {
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(host) else { return None };
    let left: BTreeSet<Uuid> = left_on(snapshot, host).map(|domain| domain.uuid).collect();
    let mut names: Vec<&str> = world
        .domains
        .values()
        .filter(|domain| domain.mark.as_ref().is_some_and(|mark| mark.installation == snapshot.installation))
        .filter(|domain| !recorded.contains(&domain.uuid) && !left.contains(&domain.uuid))
        .map(|domain| domain.name.as_str())
        .collect();
    names.sort_unstable();
    let domains = match names.as_slice() {
        [] => return None,
        [one] => format!("domain {one} carries"),
        more if more.len() > SHOWN => {
            format!("domains {} and {} more carry", more[..SHOWN].join(", "), more.len() - SHOWN)
        }
        more => format!("domains {} carry", more.join(", ")),
    };
    Some(Lost {
        reason: "UnrecordedDomain",
        message: format!(
            "{domains} the mark of this installation on host {host}, and no machine in the store is it: {HOW} Or \
             somebody cloned a machine. Ashlar leaves it alone; undefine it if nobody needs it"
        ),
    })
}

/// Domains on the host that calls or moves left there, and that go.
pub(crate) fn left_on<'s>(snapshot: &'s Snapshot, host: &str) -> impl Iterator<Item = &'s DomainSeen> {
    let seen = snapshot.observed.hosts.get(host);
    let left = snapshot.hosts.get(host).map_or(&[][..], |host| &host.record.left_domains);
    left.iter().filter_map(move |left| {
        let Some(HostSeen::Seen(world)) = seen else { return None };
        let domain = world.domains.get(&left.uuid)?;
        let goes = !domain.state.is_active() || domain.stands_still_since_a_move(left);
        (goes && domain.is_left(snapshot.installation, left)).then_some(domain)
    })
}

/// A host that obeys a token which this store never gave out: what was made since, on any host, is not known here, and
/// whatever is made anew may take its addresses.
pub(crate) fn store_is_behind(snapshot: &Snapshot) -> Option<Lost> {
    if !Guard::NewestStore.stands() {
        return None;
    }
    snapshot.observed.hosts.iter().find_map(|(host, seen)| match seen {
        HostSeen::Fenced { reason, store_is_behind: true } => Some(Lost {
            reason: "StoreInDoubt",
            message: format!(
                "host {host} obeys a lease that this store never gave out ({reason}): was an old copy of the store restored, or \
                 does another one work with a copy? No machine is made until that host is reached with the newest store \
                 (`ashlar store restore`, with `--take-hosts` if that is lost)"
            ),
        }),
        _ => None,
    })
}

/// Domains with the mark of this installation of machines that the store does not know, and did not let go of, with their hosts.
/// A clone of a known machine is none, nor is what a call or a move is known to have left.
pub(crate) fn unknown_machines(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &Machine)> {
    let known: BTreeSet<Option<Uuid>> =
        snapshot.machines.values().map(|machine| machine.metadata.uid).collect();
    snapshot.observed.hosts.iter().flat_map(move |(host, seen)| {
        let domains = match seen {
            HostSeen::Seen(world) => Some(world.domains.values()),
            _ => None,
        };
        let left = snapshot.hosts.get(host).map_or(&[][..], |host| &host.record.left_domains);
        let marks =
            domains.into_iter().flatten().filter(|domain| left.iter().all(|left| left.uuid != domain.uuid));
        let marks = marks.filter_map(|domain| domain.mark.as_ref());
        let unknown: Vec<&Machine> = marks
            .filter(|mark| {
                mark.installation == snapshot.installation && !known.contains(&Some(mark.machine_uid))
            })
            .filter_map(|mark| mark.machine.as_deref())
            .collect();
        unknown.into_iter().map(move |machine| (host.as_str(), machine))
    })
}

/// Clusters that have machines on hosts which the store does not know: what it would make in their place is there already.
pub(crate) fn doubted_clusters(snapshot: &Snapshot) -> BTreeMap<NamespacedName, Lost> {
    let mut doubted = BTreeMap::new();
    if !Guard::NewestStore.stands() {
        return doubted;
    }
    for (host, machine) in unknown_machines(snapshot) {
        let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
        doubted.entry(cluster).or_insert_with_key(|cluster| Lost {
            reason: "StoreInDoubt",
            message: format!(
                "domain {} on host {host} is {} of cluster {cluster} by its mark, and the store does not know that machine: {HOW} \
                 No machine of {cluster} is made as long as it is there. Restore the newest store, or undefine it if nobody needs it",
                machine.spec.domain.name,
                machine.object_ref()
            ),
        });
    }
    doubted
}

/// All of it, for people.
pub(crate) fn notes(snapshot: &Snapshot) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut warn = |object: ObjectRef, lost: Option<Lost>| {
        let note = |Lost { reason, message }| Note {
            object,
            kind: NoteKind::Warning,
            reason: reason.to_owned(),
            message,
        };
        notes.extend(lost.map(note));
    };
    let recorded = recorded_domains(snapshot);
    for host in snapshot.hosts.values() {
        warn(host.object_ref(), of_host(snapshot, &recorded, &host.metadata.name));
    }
    for cluster in snapshot.clusters.values() {
        warn(cluster.object_ref(), of_cluster(snapshot, cluster));
        warn(cluster.object_ref(), of_api(snapshot, cluster));
    }
    for group in snapshot.groups.values() {
        warn(group.object_ref(), of_group(snapshot, group));
    }
    let has_all_pools = has_all_pools(snapshot);
    for machine in snapshot.machines.values() {
        // That its host is lost stands at its step.
        let lost = of_machine(snapshot, has_all_pools, machine);
        if lost.as_ref().is_some_and(|lost| lost.reason != "HostMissing") {
            warn(machine.object_ref(), lost);
        }
    }
    notes
}
