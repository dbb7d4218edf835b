//! How many machines there should be, and the new ones.

use std::collections::BTreeMap;

use ashlar_api::*;

use super::cluster::{self, Parts};
use super::create::{NewMachine, create};
use super::{PoolTier, ensure_finalizer};
use crate::draft::{Draft, Pending};
use crate::place::{self, Fleet, Request};
use crate::{Ids, NoteKind, names};

/// Control planes that are missing. A new control plane is placed as a whole or not at all.
pub(super) fn control_plane(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    ids: &mut dyn Ids,
    key: &NamespacedName,
    parts: Parts<'_>,
) -> Option<()> {
    let cluster = draft.clusters.get(key)?.clone();
    let about = cluster.object_ref();
    let wanted = cluster.spec.control_plane.replicas;
    // A member of a living etcd is replaced only after it was removed there, which a person has to see to.
    let counts = |machine: &Machine| cluster.record.initialized || !machine.metadata.is_deleting();
    let present: Vec<Machine> = draft
        .machines_of(key)
        .into_iter()
        .filter(|machine| machine.spec.role == MachineRole::ControlPlane && counts(machine))
        .cloned()
        .collect();
    let have = u32::try_from(present.len()).unwrap_or(u32::MAX);
    if have > wanted {
        draft.note(
            about.clone(),
            NoteKind::Notice,
            "ControlPlaneScaleDown",
            format!(
                "{have} control planes are there and {wanted} are asked for: this version of Ashlar removes no etcd members, all stay"
            ),
        );
    }
    if have >= wanted {
        return Some(());
    }
    let class = cluster::class(draft, about.clone(), &cluster.spec.control_plane.class, parts.image)?;
    let pool = pool(draft, about.clone(), class)?;
    let hosts = present.iter().map(|machine| machine.spec.host.clone()).collect();
    let mut request = Request {
        machine: key.clone(),
        domain_name: String::new(),
        cluster: &cluster,
        role: MachineRole::ControlPlane,
        group: "",
        class,
        image: parts.image,
        network: parts.network,
        pool,
        control_plane_hosts: hosts,
        own_domain: None,
    };
    let prefix = format!("{}-{}", key.name, ashlar_api::names::CONTROL_PLANE_GROUP);
    let numbers = numbers(draft, key, &prefix, cluster.record.last_control_plane_number, wanted - have);
    if have == 0 && !fits_as_a_whole(draft, tier, &request, &prefix, &numbers) {
        return None;
    }
    let endpoint = match cluster::endpoint(tier, &cluster, parts.network) {
        Ok(endpoint) => endpoint,
        Err(message) => {
            draft.block(about, "NoEndpoint", message);
            return None;
        }
    };
    let mut init_is_there =
        cluster.record.initialized || present.iter().any(|machine| machine.spec.bootstrap == Bootstrap::Init);
    for number in numbers {
        name(&mut request, key, &prefix, number);
        let Some(host) = place_one(draft, tier, &request) else { continue };
        let new = NewMachine {
            request: request.clone(),
            bootstrap: if init_is_there { Bootstrap::Join } else { Bootstrap::Init },
            endpoint: endpoint.clone(),
            labels: BTreeMap::new(),
            taints: vec![Taint {
                key: "node-role.kubernetes.io/control-plane".to_owned(),
                value: String::new(),
                effect: TaintEffect::NoSchedule,
            }],
        };
        let Some(mut unit) = create(draft, tier, ids, &new, &host) else {
            no_address(draft, &request);
            continue;
        };
        init_is_there = true;
        request.control_plane_hosts.push(host);
        let mut changed = draft.clusters.get(key)?.clone();
        changed.record.endpoint = Some(endpoint.clone());
        changed.record.image = parts.image.metadata.name.clone();
        changed.record.last_control_plane_number = number;
        ensure_finalizer(&mut changed.metadata);
        unit.update(changed.clone());
        draft.clusters.insert(key.clone(), changed);
        draft.commit(unit);
    }
    Some(())
}

/// Workers of a group: missing ones are made, the newest of too many go.
pub(super) fn workers(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    ids: &mut dyn Ids,
    key: &NamespacedName,
    cluster_key: &NamespacedName,
    parts: Parts<'_>,
) -> Option<()> {
    let group = draft.groups.get(key)?.clone();
    let cluster = draft.clusters.get(cluster_key)?.clone();
    let present: Vec<Machine> = draft
        .machines_of(cluster_key)
        .into_iter()
        .filter(|machine| machine.spec.group == key.name && !machine.metadata.is_deleting())
        .cloned()
        .collect();
    let have = u32::try_from(present.len()).unwrap_or(u32::MAX);
    // Without a number, one at first, then whatever there is.
    let wanted = group.spec.replicas.unwrap_or(if group.record.last_number == 0 { 1 } else { have });
    if have > wanted {
        for machine in present.iter().rev().take((have - wanted) as usize) {
            super::removal::delete_machine(draft, machine);
        }
        draft.note(
            group.object_ref(),
            NoteKind::Notice,
            "ScaleDown",
            format!(
                "{have} machines are there and {wanted} are asked for: the newest go; their pods are not evicted first by this version of Ashlar"
            ),
        );
    }
    if have >= wanted {
        return Some(());
    }
    let class = cluster::class(draft, group.object_ref(), &group.spec.class, parts.image)?;
    let pool = pool(draft, group.object_ref(), class)?;
    let numbers = numbers(draft, key, &key.name, group.record.last_number, wanted - have);
    let mut request = Request {
        machine: key.clone(),
        domain_name: String::new(),
        cluster: &cluster,
        role: MachineRole::Worker,
        group: &key.name,
        class,
        image: parts.image,
        network: parts.network,
        pool,
        control_plane_hosts: Vec::new(),
        own_domain: None,
    };
    let Some(endpoint) = cluster.record.endpoint.clone() else {
        for number in numbers {
            name(&mut request, key, &key.name, number);
            draft.pending.push(Pending {
                machine: request.machine.clone(),
                cluster: cluster_key.clone(),
                reason: "ControlPlanePending".to_owned(),
                message: format!("the control plane of {cluster_key} has no place yet"),
            });
        }
        return None;
    };
    for number in numbers {
        name(&mut request, key, &key.name, number);
        let Some(host) = place_one(draft, tier, &request) else { continue };
        let new = NewMachine {
            request: request.clone(),
            bootstrap: Bootstrap::Join,
            endpoint: endpoint.clone(),
            labels: group.spec.labels.clone(),
            taints: group.spec.taints.clone(),
        };
        let Some(mut unit) = create(draft, tier, ids, &new, &host) else {
            no_address(draft, &request);
            continue;
        };
        let mut changed = draft.groups.get(key)?.clone();
        changed.record.last_number = number;
        ensure_finalizer(&mut changed.metadata);
        unit.update(changed.clone());
        draft.groups.insert(key.clone(), changed);
        // A cluster that is deleted at the same time conflicts.
        let cluster = draft.clusters.get(cluster_key)?;
        unit.check(cluster.object_ref(), &cluster.metadata.resource_version);
        draft.commit(unit);
    }
    Some(())
}

/// The next numbers after the last one used; taken names are skipped.
fn numbers(draft: &Draft<'_>, key: &NamespacedName, prefix: &str, last: u32, count: u32) -> Vec<u32> {
    (last + 1..)
        .filter(|number| {
            !draft.machines.contains(&NamespacedName::new(&key.namespace, format!("{prefix}-{number}")))
        })
        .take(count as usize)
        .collect()
}

fn name(request: &mut Request<'_>, key: &NamespacedName, prefix: &str, number: u32) {
    request.machine = NamespacedName::new(&key.namespace, format!("{prefix}-{number}"));
    request.domain_name = names::domain(&request.machine);
}

fn pool<'s>(draft: &mut Draft<'s>, about: ObjectRef, class: &MachineClass) -> Option<&'s StoragePool> {
    match place::pool_of(draft.snapshot, class) {
        Ok(pool) => Some(pool),
        Err(message) => {
            draft.block(about, "NoStoragePool", message);
            None
        }
    }
}

fn place_one(draft: &mut Draft<'_>, tier: &mut PoolTier, request: &Request<'_>) -> Option<String> {
    let fleet = tier.fleet(draft);
    let placement = place::place(draft, fleet, request);
    let host = placement.host.clone();
    if host.is_none() {
        let message = place::what_would_help(fleet, request, &placement.verdicts);
        draft.pending.push(Pending {
            machine: request.machine.clone(),
            cluster: request.cluster.key(),
            reason: "Unschedulable".to_owned(),
            message,
        });
    }
    draft.report.placements.push(placement);
    host
}

/// Tries all members of a new control plane; if one fits nowhere, none is made, and each says why.
fn fits_as_a_whole(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    request: &Request<'_>,
    prefix: &str,
    numbers: &[u32],
) -> bool {
    let fleet = tier.fleet(draft);
    let saved = fleet.save();
    let fits = try_all(draft, fleet, request, prefix, numbers);
    fleet.undo(saved);
    fits
}

fn try_all(
    draft: &mut Draft<'_>,
    fleet: &mut Fleet,
    request: &Request<'_>,
    prefix: &str,
    numbers: &[u32],
) -> bool {
    let mut request = request.clone();
    let key = request.machine.clone();
    let mut tried = Vec::new();
    for number in numbers {
        name(&mut request, &key, prefix, *number);
        let placement = place::place(draft, fleet, &request);
        let Some(host) = placement.host.clone() else {
            let message = place::what_would_help(fleet, &request, &placement.verdicts);
            let without = request.machine.clone();
            tried.push(placement);
            draft.report.placements.append(&mut tried);
            for number in numbers {
                name(&mut request, &key, prefix, *number);
                draft.pending.push(Pending {
                    machine: request.machine.clone(),
                    cluster: request.cluster.key(),
                    reason: "Unschedulable".to_owned(),
                    message: if request.machine == without {
                        message.clone()
                    } else {
                        format!(
                            "a new control plane is placed as a whole, and {without} has no place: {message}"
                        )
                    },
                });
            }
            return false;
        };
        fleet.claim(draft, &request, &host);
        request.control_plane_hosts.push(host);
        tried.push(placement);
    }
    true
}

fn no_address(draft: &mut Draft<'_>, request: &Request<'_>) {
    draft.report.placements.pop();
    draft.pending.push(Pending {
        machine: request.machine.clone(),
        cluster: request.cluster.key(),
        reason: "NoAddress".to_owned(),
        message: format!(
            "network {} has no free address left: add a range to it or delete machines",
            request.network.metadata.name
        ),
    });
}
