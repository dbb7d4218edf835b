//! A host's conditions.

use ashlar_api::*;

use super::Judgement;
use crate::{HostSeen, Snapshot};

/// The status of a host; none if it was not asked.
pub(super) fn status(snapshot: &Snapshot, host: &Host) -> Option<HostStatus> {
    let name = &host.metadata.name;
    let seen = snapshot.observed.hosts.get(name)?;
    let mut status = host.status.clone();
    let mut set = |judgement: Judgement| {
        judgement.set(&mut status.conditions, snapshot.now, host.metadata.generation);
    };
    let (reachable, ready) = match seen {
        HostSeen::Unreachable { reason } => (
            Judgement::new("Reachable", ConditionStatus::False, "NoAnswer", reason.clone()),
            Judgement::new("Ready", ConditionStatus::Unknown, "Unreachable", reason.clone()),
        ),
        HostSeen::NotOurs { reason } => (
            Judgement::new("Reachable", ConditionStatus::True, "Answers", ""),
            Judgement::new("Ready", ConditionStatus::False, "NotOurs", reason.clone()),
        ),
        HostSeen::Fenced { reason } => (
            Judgement::new("Reachable", ConditionStatus::True, "Answers", ""),
            Judgement::new("Ready", ConditionStatus::Unknown, "TakenOver", reason.clone()),
        ),
        HostSeen::Seen(world) => {
            let inactive: Vec<&str> = snapshot
                .pools
                .iter()
                .filter(|(_, pool)| {
                    pool.record
                        .hosts
                        .get(name)
                        .is_some_and(|on_host| !world.pools.contains_key(&on_host.uuid))
                })
                .map(|(pool, _)| pool.as_str())
                .collect();
            let ready = if host.record.capacity.is_none() || host.record.accelerator.is_none() {
                Judgement::new(
                    "Ready",
                    ConditionStatus::False,
                    "NotEnrolled",
                    format!("run `ashlar host add {name}`"),
                )
            } else if let Some(reason) = world.distrusted_pools.values().next() {
                Judgement::new("Ready", ConditionStatus::False, "PoolNotMounted", reason.clone())
            } else if !inactive.is_empty() {
                Judgement::new(
                    "Ready",
                    ConditionStatus::False,
                    "PoolNotActive",
                    format!("not active there: storage pool {}", inactive.join(", ")),
                )
            } else {
                Judgement::new("Ready", ConditionStatus::True, "Answers", "")
            };
            (Judgement::new("Reachable", ConditionStatus::True, "Answers", ""), ready)
        }
    };
    set(reachable);
    set(ready);
    set(if host.spec.cordoned {
        Judgement::new("Schedulable", ConditionStatus::False, "Cordoned", "no new machine is placed here")
    } else {
        Judgement::new("Schedulable", ConditionStatus::True, "NotCordoned", "")
    });
    Some(status)
}
