//! How many workers there should be, and the new ones.

use std::sync::Arc;

use ashlar_api::*;

use super::cluster::{self, Parts};
use super::create::{NewMachine, create};
use super::{PoolTier, control_plane, ensure_finalizer, rolling, wiping};
use crate::draft::{Draft, Pending};
use crate::place::{self, Fleet, Request};
use crate::{Ids, NoteKind, names};

/// Workers of a group: missing ones are made, the newest of too many go.
pub(super) fn workers(
    draft: &mut Draft<'_>,
    tier: &mut PoolTier,
    ids: &mut dyn Ids,
    key: &NamespacedName,
    cluster_key: &NamespacedName,
    parts: Parts<'_>,
) -> Option<()> {
    let group = Arc::clone(draft.groups.get_shared(key)?);
    let cluster = Arc::clone(draft.clusters.get_shared(cluster_key)?);
    let (going, present): (Vec<Arc<Machine>>, Vec<Arc<Machine>>) = draft
        .machines_of(cluster_key)
        .into_iter()
        .filter(|machine| machine.spec.group == key.name && !wiping::is_past(draft, machine))
        .cloned()
        .partition(|machine| machine.metadata.is_deleting());
    let mut have = u32::try_from(present.len()).unwrap_or(u32::MAX);
    // Without a number, one at first, then whatever there is: a group that was lost and came back takes its machines.
    let is_new = group.record.last_number == 0 && have == 0;
    let mut wanted = group.spec.replicas.unwrap_or(if is_new { 1 } else { have });
    let lags = control_plane::lags_behind(draft, cluster_key, parts.image);
    if lags {
        wait_for_control_plane(draft, &group, &cluster, &present, parts.image);
    } else {
        let target =
            rolling::Wanted { class: &group.spec.class, image: parts.image, snapshot: draft.snapshot };
        rolling::announce(draft, &present, target);
        let next = rolling::next(draft, (&group, &cluster), (&present, &going), wanted, target);
        wanted = next.wanted;
        go(draft, &group, have, &next.go);
        have -= u32::try_from(next.go.len()).unwrap_or(u32::MAX);
    }
    if lags && have > wanted {
        let surplus: Vec<Arc<Machine>> =
            present.iter().rev().take((have - wanted) as usize).cloned().collect();
        go(draft, &group, have, &surplus);
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
        moves: None,
    };
    if lags {
        for number in numbers {
            name(&mut request, key, &key.name, number);
            draft.pending.push(Pending {
                machine: request.machine.clone(),
                cluster: cluster_key.clone(),
                reason: "ControlPlaneFirst".to_owned(),
                message: format!(
                    "the control plane of {cluster_key} is being upgraded, and no worker joins meanwhile"
                ),
            });
        }
        return None;
    }
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

/// Those go that are too many, or whose place another has taken.
fn go(draft: &mut Draft<'_>, group: &WorkerGroup, have: u32, machines: &[Arc<Machine>]) {
    if machines.is_empty() {
        return;
    }
    for machine in machines {
        super::removal::delete_machine(draft, machine);
    }
    let names: Vec<&str> = machines.iter().map(|machine| machine.metadata.name.as_str()).collect();
    let message = format!(
        "of {have} machines {} {}: drained first, as far as PodDisruptionBudgets let their pods go",
        names.join(", "),
        if names.len() == 1 { "goes" } else { "go" }
    );
    draft.note(group.object_ref(), NoteKind::Notice, "ScaleDown", message);
}

/// Workers stay as they are until every control plane is of the new version.
fn wait_for_control_plane(
    draft: &mut Draft<'_>,
    group: &WorkerGroup,
    cluster: &Cluster,
    present: &[Arc<Machine>],
    image: &Image,
) {
    let target = rolling::Wanted { class: &group.spec.class, image, snapshot: draft.snapshot };
    rolling::announce(draft, present, target);
    if !cluster.spec.paused && present.iter().any(|machine| !target.is_met_by(machine)) {
        let version = &image.spec.kubernetes_version;
        let message = format!("its machines are replaced once all control planes run {version}");
        draft.note(group.object_ref(), NoteKind::Waiting, "ControlPlaneFirst", message);
    }
}

/// The next numbers after the last one used; taken names are skipped.
pub(super) fn numbers(
    draft: &Draft<'_>,
    key: &NamespacedName,
    prefix: &str,
    last: u32,
    count: u32,
) -> Vec<u32> {
    (last + 1..)
        .filter(|number| {
            !draft.machines.contains(&NamespacedName::new(&key.namespace, format!("{prefix}-{number}")))
        })
        .take(count as usize)
        .collect()
}

pub(super) fn name(request: &mut Request<'_>, key: &NamespacedName, prefix: &str, number: u32) {
    request.machine = NamespacedName::new(&key.namespace, format!("{prefix}-{number}"));
    request.domain_name = names::domain(&request.machine);
}

pub(super) fn pool<'s>(
    draft: &mut Draft<'s>,
    about: ObjectRef,
    class: &MachineClass,
) -> Option<&'s StoragePool> {
    match place::pool_of(draft.snapshot, class) {
        Ok(pool) => Some(pool),
        Err(message) => {
            draft.block(about, "NoStoragePool", message);
            None
        }
    }
}

pub(super) fn place_one(draft: &mut Draft<'_>, tier: &mut PoolTier, request: &Request<'_>) -> Option<String> {
    let fleet = tier.fleet(draft);
    let placement = place::place(draft, fleet, request);
    let host = placement.host.clone();
    if host.is_none() {
        let message = place::what_would_help(fleet, request, &placement.verdicts);
        let (reason, message) = lacks(draft, request, "Unschedulable", message);
        draft.pending.push(Pending {
            machine: request.machine.clone(),
            cluster: request.cluster.key(),
            reason,
            message,
        });
    }
    draft.report.placements.push(placement);
    host
}

/// Why a machine has no place: for want of a person, unless what it lacks may come free by itself.
fn lacks(draft: &Draft<'_>, request: &Request<'_>, reason: &str, message: String) -> (String, String) {
    match wiping::in_the_way(draft, &request.cluster.key()) {
        Some(other) => {
            let first =
                format!("it waits for the disks of {other}, which are overwritten and give their room back");
            ("DisksFirst".to_owned(), format!("{first}: {message}"))
        }
        None => (reason.to_owned(), message),
    }
}

/// Tries all members of a new control plane; if one fits nowhere, none is made, and each says why.
pub(super) fn fits_as_a_whole(
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

pub(super) fn no_address(draft: &mut Draft<'_>, request: &Request<'_>) {
    draft.report.placements.pop();
    let message = format!(
        "network {} has no free address left: add a range to it or delete machines",
        request.network.metadata.name
    );
    let (reason, message) = lacks(draft, request, "NoAddress", message);
    draft.pending.push(Pending {
        machine: request.machine.clone(),
        cluster: request.cluster.key(),
        reason,
        message,
    });
}
