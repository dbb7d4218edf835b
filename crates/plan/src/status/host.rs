//! A host's conditions.

use std::collections::BTreeSet;

use ashlar_api::*;
use uuid::Uuid;

use super::{Judgement, hold_text, warn};
use crate::lost::{self, Lost};
use crate::{Action, HostSeen, NetworksSeen, Plan, Snapshot};

/// The status of a host; none if it was not asked.
pub(super) fn status(
    snapshot: &Snapshot,
    recorded: &BTreeSet<Uuid>,
    plan: &Plan,
    host: &Host,
) -> Option<HostStatus> {
    let name = &host.metadata.name;
    let seen = snapshot.observed.hosts.get(name)?;
    let mut status = host.status.clone();
    let mut set = |judgement: Judgement| {
        judgement.set(&mut status.conditions, snapshot.now, host.metadata.generation);
    };
    let (reachable, ready) = match seen {
        HostSeen::Unreachable { reason } => (
            Judgement::new("Reachable", ConditionStatus::False, "NoAnswer", reason.clone()),
            match &host.record.fence {
                Some(fence) => Judgement::new(
                    "Ready",
                    ConditionStatus::False,
                    "Fenced",
                    format!("it is off, as {} confirmed at {}", fence.confirmed_by, fence.at),
                ),
                None => Judgement::new("Ready", ConditionStatus::Unknown, "Unreachable", reason.clone()),
            },
        ),
        HostSeen::NotOurs { reason } => (
            Judgement::new("Reachable", ConditionStatus::True, "Answers", ""),
            Judgement::new("Ready", ConditionStatus::False, "NotOurs", reason.clone()),
        ),
        HostSeen::Fenced { reason, .. } => (
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
    set(if host.spec.draining {
        let left = snapshot.machines.values().filter(|machine| machine.spec.host == *name).count();
        let message =
            format!("it is being emptied, {left} machines are left; `ashlar host uncordon {name}` ends that");
        Judgement::new("Schedulable", ConditionStatus::False, "Draining", message)
    } else if host.spec.cordoned {
        Judgement::new("Schedulable", ConditionStatus::False, "Cordoned", "no new machine is placed here")
    } else {
        Judgement::new("Schedulable", ConditionStatus::True, "NotCordoned", "")
    });
    let fenced = Judgement::fenced(plan, host);
    match fenced {
        Some(fenced) => set(fenced),
        None => status.conditions.retain(|condition| condition.kind != FENCED),
    }
    if let HostSeen::Seen(world) = seen {
        let (now, generation, conditions) = (snapshot.now, host.metadata.generation, &mut status.conditions);
        warn("DomainsRecorded", lost::of_host(snapshot, recorded, name), conditions, now, generation);
        warn("BridgesThere", lost::bridges(snapshot, name), conditions, now, generation);
        warn("HostnameAsEnrolled", renamed(host, &world.networks), conditions, now, generation);
    }
    Some(status)
}

/// The condition of a host that is to be turned off because it gives no answer: there only while it is not.
const FENCED: &str = "Fenced";

impl Judgement {
    /// What keeps a host from being turned off that gives no answer, or that it is being so now.
    fn fenced(plan: &Plan, host: &Host) -> Option<Self> {
        let is_it =
            |action: &Action| matches!(action, Action::FenceHost { host: it } if *it == host.metadata.name);
        // Few hosts have any: looked for only where it may be.
        host.record.silence.as_ref()?;
        let step = plan.steps.iter().find(|step| step.action.as_ref().is_some_and(is_it))?;
        let (reason, message) = hold_text(step);
        Some(Judgement::new(FENCED, ConditionStatus::False, reason, message))
    }
}

/// Names are nothing that Ashlar goes by. People do, so that one that changed is told.
fn renamed(host: &Host, seen: &NetworksSeen) -> Option<Lost> {
    let NetworksSeen::Seen { hostname, .. } = seen else { return None };
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let (was, is) = (short(&host.record.hostname), short(hostname));
    (!was.is_empty() && !is.is_empty() && was != is).then(|| Lost {
        reason: "HostnameChanged",
        message: format!(
            "it calls itself {is}, and called itself {was} when it was enrolled. Its SSH key and libvirt's UUID of it are \
             as they were, and Ashlar goes by those, so nothing changes; if that name is right, \
             `ashlar host add {}` records it",
            host.metadata.name
        ),
    })
}
