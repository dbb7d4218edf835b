//! What becomes of each machine of a host that is emptied, told before anybody is asked.

use std::collections::BTreeMap;

use ashlar_api::*;
use serde::{Deserialize, Serialize};

use crate::draft::{cluster_of, machine_order};
use crate::etcd::is_living;
use crate::forecast::{self, Forecast};
use crate::lifecycle::{MOVE_ALIVE, ROLLOUT_GOES_ON};
use crate::machine::drain;
use crate::{ClusterSeen, Plan, Snapshot, StepState, migration};

/// One machine of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineFate {
    /// The machine.
    pub machine: ObjectRef,
    /// What it is in its cluster.
    pub role: MachineRole,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a machine whose host is emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "camelCase")]
pub enum Fate {
    /// It goes on elsewhere as it is, with what its disks hold.
    Moved {
        /// The host.
        to: String,
    },
    /// Another machine takes its place; its disks are destroyed.
    Replaced {
        /// Why it is not moved.
        why: String,
        /// In which order, and where.
        how: String,
    },
    /// It stays where it is until somebody does something.
    Held {
        /// By what.
        by: String,
    },
    /// It was being deleted before.
    Deleted,
}

/// The fates of a host's machines, by cluster, control planes first. The plan is that for the host as it is in the snapshot: being
/// emptied. Where machines go is where they would if nothing else changed.
pub fn fates(snapshot: &Snapshot, plan: &Plan, host: &str) -> Vec<MachineFate> {
    let mut of_cluster: BTreeMap<NamespacedName, Vec<&Machine>> = BTreeMap::new();
    for machine in snapshot.machines.values().filter(|machine| machine.spec.host == host) {
        of_cluster.entry(cluster_of(machine)).or_default().push(machine);
    }
    let mut world = forecast::after(snapshot, plan);
    let mut fates = Vec::new();
    for (key, mut machines) in of_cluster {
        machines.sort_by(|one, other| machine_order(one).cmp(&machine_order(other)));
        let mut forecast = Forecast::over(world.clone(), &key);
        for machine in machines {
            let fate = match held_with_its_cluster(snapshot, machine, &key) {
                Some(fate) => fate,
                None => match &mut forecast {
                    Some(forecast) => fate(snapshot, plan, &key, machine, forecast),
                    None => held("the image or the network of its cluster is not in the store"),
                },
            };
            fates.push(MachineFate { machine: machine.object_ref(), role: machine.spec.role, fate });
        }
        if let Some(forecast) = forecast {
            world = forecast.into_world();
        }
    }
    fates
}

fn held(by: impl Into<String>) -> Fate {
    Fate::Held { by: by.into() }
}

/// What needs no look at the machine.
fn held_with_its_cluster(snapshot: &Snapshot, machine: &Machine, key: &NamespacedName) -> Option<Fate> {
    let Some(cluster) = snapshot.clusters.get(key) else {
        return Some(held("its cluster is not in the store"));
    };
    let name = &key.name;
    if machine.metadata.is_deleting() || cluster.metadata.is_deleting() {
        return Some(Fate::Deleted);
    }
    if cluster.record.stopped {
        let by = format!(
            "its cluster is stopped, and machines that are off stay where their disks are; `ashlar cluster start {name}` first"
        );
        return Some(held(by));
    }
    if cluster.spec.paused {
        return Some(held(format!("its cluster is paused; `ashlar cluster resume {name}` first")));
    }
    None
}

fn fate(
    snapshot: &Snapshot,
    plan: &Plan,
    key: &NamespacedName,
    machine: &Machine,
    forecast: &mut Forecast,
) -> Fate {
    if let Some(to) = forecast.target(machine) {
        return Fate::Moved { to };
    }
    let about = machine.object_ref();
    if let Some(by) = told(plan, &about, MOVE_ALIVE) {
        return held(by);
    }
    let obstacle = migration::obstacle(snapshot, machine);
    if obstacle.is_none() && forecast.is_current(machine) {
        return match forecast.moved(machine) {
            Ok(to) => Fate::Moved { to },
            Err(help) => held(format!("no host takes it: {help}")),
        };
    }
    let why = obstacle.unwrap_or_else(|| "it is to be of another class or version".to_owned());
    if let Some(by) = held_as_outdated(snapshot, plan, key, machine) {
        return held(by);
    }
    let how = forecast.replaced(machine);
    match forecast.waits_for_room(machine) {
        Some(help) => held(format!("{why}, and there is no room for another in its place: {help}")),
        None => Fate::Replaced { why, how },
    }
}

/// Why a machine that would be replaced is not.
fn held_as_outdated(
    snapshot: &Snapshot,
    plan: &Plan,
    key: &NamespacedName,
    machine: &Machine,
) -> Option<String> {
    let cluster = snapshot.clusters.get(key)?;
    match machine.spec.role {
        MachineRole::Worker => {
            let group = NamespacedName::new(&key.namespace, &machine.spec.group);
            match snapshot.groups.get(&group) {
                Some(group) if group.spec.replicas.is_some() => {}
                Some(group) => {
                    return Some(format!(
                        "its group {} has no number of replicas, so that nobody can tell a replacement from growth; set \
                         spec.replicas, or delete the machine",
                        group.metadata.name
                    ));
                }
                None => return Some(format!("its group {} is not in the store", machine.spec.group)),
            }
        }
        MachineRole::ControlPlane if !is_living(cluster) => {
            return Some("its cluster has not come up yet".to_owned());
        }
        MachineRole::ControlPlane => {}
    }
    if let Some(by) = told(plan, &cluster.object_ref(), ROLLOUT_GOES_ON) {
        return Some(by);
    }
    match snapshot.observed.clusters.get(key) {
        Some(ClusterSeen::Seen(world)) => drain::never_ends(cluster, world, machine),
        _ => None,
    }
}

/// What a plan says that something waits for, or is blocked by.
fn told(plan: &Plan, object: &ObjectRef, what: &str) -> Option<String> {
    plan.steps.iter().filter(|step| step.object == *object && step.why == what).find_map(|step| {
        match &step.state {
            // That passes by itself, and soon.
            StepState::Waiting(wait) if matches!(wait.reason.as_str(), "SeedFirst" | "InTurn") => None,
            StepState::Waiting(wait) => Some(wait.message.clone()),
            StepState::Blocked(block) => Some(block.message.clone()),
            StepState::Ready => None,
        }
    })
}
