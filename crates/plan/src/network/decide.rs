//! What is recorded about networks: a host leaves the record once it was seen without, a network the store once no host
//! is left in its record.

use ashlar_api::own_network::is_network_of;
use ashlar_api::*;

use crate::draft::{Draft, Unit};
use crate::lifecycle::LEFTOVERS_REMEMBERED;
use crate::{HostSeen, NetworksSeen};

/// Takes hosts out of records, and networks that are to go and are gone out of the store.
pub(crate) fn decide(draft: &mut Draft<'_>) {
    let kept: Vec<Network> = draft
        .networks
        .values()
        .filter(|network| !network.record.hosts.is_empty() || network.metadata.is_deleting())
        .cloned()
        .collect();
    if kept.is_empty() {
        return;
    }
    let population = super::population(draft);
    let mut changed = Vec::new();
    for mut network in kept {
        let name = network.metadata.name.clone();
        let uid = network.metadata.uid.unwrap_or_default();
        let before = (network.record.hosts.len(), network.record.unanswered.len());
        let (now, is_deleting) = (draft.snapshot.now, network.metadata.is_deleting());
        network.record.unanswered.retain(|host, since| {
            draft.hosts.contains(host) && now.duration_since(*since) < LEFTOVERS_REMEMBERED
        });
        let is_unanswered = |host: &String| !is_deleting && network.record.unanswered.contains_key(host);
        network.record.hosts.retain(|host| {
            population.is_used(&name, host)
                || is_unanswered(host)
                || !(draft.hosts.get(host).is_none() || is_seen_without(draft, host, uid))
        });
        let in_use = population.hosts_of(&name).next().is_some()
            || draft.clusters.values().any(|cluster| {
                // A cluster that goes takes its own network with it.
                let goes_too = cluster.metadata.is_deleting() && is_network_of(&network, &cluster.key());
                cluster.spec.network == name && !goes_too
            });
        // The intent is on record before its object goes: not decided in this very plan.
        let is_intended = draft.snapshot.networks.get(&name).is_some_and(|one| one.metadata.is_deleting());
        let goes = is_intended && network.record.hosts.is_empty() && !in_use;
        if goes || (network.record.hosts.len(), network.record.unanswered.len()) != before {
            changed.push((network, goes));
        }
    }
    for (network, goes) in changed {
        let mut unit = Unit::default();
        if goes {
            unit.remove(network.object_ref(), &network.metadata.resource_version);
            draft.networks.remove(&network.metadata.name);
        } else {
            unit.update(network.clone());
            draft.networks.insert(network.metadata.name.clone(), network);
        }
        draft.commit(unit);
    }
}

fn is_seen_without(draft: &Draft<'_>, host: &str, network: uuid::Uuid) -> bool {
    match draft.snapshot.observed.hosts.get(host) {
        Some(HostSeen::Seen(world)) => match &world.networks {
            NetworksSeen::Seen { networks, .. } => !networks.contains_key(&network),
            NetworksSeen::NotAsked | NetworksSeen::Unknown { .. } => false,
        },
        _ => false,
    }
}

/// Whether something of a cluster's network may still be on a host that no machine needs it on: the cluster's object
/// stays until it is gone, so that whoever deletes the cluster is told of it.
pub(crate) fn is_left_behind(draft: &Draft<'_>, cluster: &Cluster) -> bool {
    let Some(network) = draft.networks.get(&cluster.spec.network) else { return false };
    if network.record.hosts.is_empty() {
        return false;
    }
    let population = super::population(draft);
    let (uid, key) = (network.metadata.uid.unwrap_or_default(), cluster.key().to_string());
    network.record.hosts.iter().any(|host| {
        let is_unused = !population.is_used(&network.metadata.name, host);
        // One that is only looked at for what a late call may do holds nobody up.
        let is_only_looked_at =
            network.record.unanswered.contains_key(host) && is_seen_without(draft, host, uid);
        is_unused && !is_only_looked_at || still_has_filters(draft, host, uid, &key)
    })
}

/// Whether a host that others of the network need, too, was seen with filters for the cluster's machines.
fn still_has_filters(draft: &Draft<'_>, host: &str, network: uuid::Uuid, cluster: &str) -> bool {
    let Some(HostSeen::Seen(world)) = draft.snapshot.observed.hosts.get(host) else { return false };
    let NetworksSeen::Seen { networks, .. } = &world.networks else { return false };
    let applied = networks.get(&network).and_then(|seen| seen.applied.as_ref());
    applied.is_some_and(|applied| applied.taps.values().any(|tap| tap.cluster == cluster))
}
