//! No machine is made while hosts show that the store is an old copy: what it would make is there already.

use std::collections::BTreeSet;

use ashlar_api::*;
use uuid::Uuid;

use super::Findings;
use crate::{Decision, Guard, HostSeen, Plan, Snapshot};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, findings: &mut Findings) {
    let made = plan.decisions.iter().flatten().filter_map(|decision| match decision {
        Decision::Create(Object::Machine(machine)) => Some(machine),
        _ => None,
    });
    let mut made = made.peekable();
    if made.peek().is_none() || !Guard::NewestStore.stands() {
        return;
    }
    let newer = snapshot.observed.hosts.iter().find_map(|(host, seen)| match seen {
        HostSeen::Fenced { store_is_behind: true, .. } => Some(host),
        _ => None,
    });
    let doubted = doubted(snapshot);
    for machine in made {
        if let Some(host) = newer {
            let message =
                format!("it is made while host {host} obeys a lease that this store never gave out");
            findings.add("StoreInDoubt", &machine.object_ref(), message);
        }
        if doubted.contains(&(machine.metadata.namespace.as_str(), machine.spec.cluster.as_str())) {
            let message = "it is made beside machines of its cluster that the store does not know";
            findings.add("StoreInDoubt", &machine.object_ref(), message);
        }
    }
}

/// Namespace and name of each cluster of which a host shows a machine that the store neither has nor let go of.
fn doubted(snapshot: &Snapshot) -> BTreeSet<(&str, &str)> {
    let known: BTreeSet<Uuid> =
        snapshot.machines.values().filter_map(|machine| machine.metadata.uid).collect();
    let mut doubted = BTreeSet::new();
    for (name, seen) in &snapshot.observed.hosts {
        let HostSeen::Seen(world) = seen else { continue };
        let host = snapshot.hosts.get(name);
        for domain in world.domains.values() {
            let was_left =
                host.is_some_and(|host| host.record.left_domains.iter().any(|left| left.uuid == domain.uuid));
            let Some(mark) = &domain.mark else { continue };
            let is_ours = mark.installation == snapshot.installation;
            let Some(machine) = &mark.machine else { continue };
            if is_ours && !was_left && !known.contains(&mark.machine_uid) {
                doubted.insert((machine.metadata.namespace.as_str(), machine.spec.cluster.as_str()));
            }
        }
    }
    doubted
}
