//! Whose turn it is to be overwritten: few disks at a time on each host, whose guests use the same medium.
//!
//! Making a plan does not do it: what is under way, and what is held back because it failed, only the engine knows.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::{MachineVolumeRole, ObjectRef, VolumeContent};

use crate::{Action, Plan, Snapshot, Step, StepState, Wait};

/// Disks that are overwritten at a time on a host.
pub const AT_ONCE: usize = 1;

/// Whether a step overwrites a disk, and not a seed, which is small.
pub fn is_overwriting(snapshot: &Snapshot, step: &Step) -> bool {
    let Some(Action::WipeVolume { volume }) = &step.action else { return false };
    snapshot.volumes.get(volume).is_some_and(|volume| {
        matches!(&volume.spec.content, VolumeContent::MachineDisk { role, .. } if *role != MachineVolumeRole::Seed)
    })
}

/// Holds the steps whose turn it is not, and what comes after them, and says who is first.
///
/// `under_way` has the hosts on which somebody overwrites a disk now, or will before anything else is begun for it. What may not
/// begin from this plan keeps nobody waiting.
pub fn in_turn(
    plan: &mut Plan,
    snapshot: &Snapshot,
    under_way: &BTreeMap<ObjectRef, BTreeSet<String>>,
    may_begin: impl Fn(&Step) -> bool,
) {
    let mut turns: BTreeMap<String, Vec<ObjectRef>> = BTreeMap::new();
    for (object, hosts) in under_way {
        for host in hosts {
            turns.entry(host.clone()).or_default().push(object.clone());
        }
    }
    let mut held: BTreeSet<ObjectRef> = BTreeSet::new();
    for step in plan.steps.iter_mut().filter(|step| step.state == StepState::Ready) {
        if held.contains(&step.object) {
            let message = "comes after the step before it".to_owned();
            step.state = StepState::Waiting(Wait { reason: "EarlierStep".to_owned(), message });
            continue;
        }
        if !is_overwriting(snapshot, step) {
            continue;
        }
        let turns = turns.entry(step.host.clone()).or_default();
        if turns.contains(&step.object) {
            continue;
        }
        if turns.len() < AT_ONCE {
            if may_begin(step) {
                turns.push(step.object.clone());
            }
            continue;
        }
        let first: Vec<String> = turns.iter().map(ToString::to_string).collect();
        let message =
            format!("disks are overwritten one after the other on {}: {} first", step.host, first.join(", "));
        step.state = StepState::Waiting(Wait { reason: "InTurn".to_owned(), message });
        held.insert(step.object.clone());
    }
}

#[cfg(test)]
mod tests {
    use ashlar_api::*;
    use uuid::Uuid;

    use super::*;
    use crate::Report;

    fn machine(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Machine, "default", name)
    }

    fn step(machine_name: &str, host: &str, action: Action) -> Step {
        let object = machine(machine_name);
        Step {
            object,
            host: host.to_owned(),
            action: Some(action),
            state: StepState::Ready,
            why: String::new(),
        }
    }

    fn volume(name: &str, role: MachineVolumeRole) -> Volume {
        let content = VolumeContent::MachineDisk { machine: "m".to_owned(), role, backing: None };
        let mut volume = Volume::new(
            name,
            VolumeSpec {
                host: "h1".to_owned(),
                pool: "default".to_owned(),
                pool_uuid: Uuid::nil(),
                pool_path: "/pool".to_owned(),
                file_name: format!("{name}.raw"),
                format: VolumeFormat::Raw,
                capacity: Mebibytes(1024),
                content,
                reclaim: ReclaimPolicy::Delete,
            },
        );
        volume.metadata.namespace = "default".to_owned();
        volume
    }

    fn key(name: &str) -> NamespacedName {
        NamespacedName::new("default", name)
    }

    /// Machines a, b and c on a host with a disk each, and d on another; b also has a seed to wipe.
    fn world() -> (Snapshot, Plan) {
        let mut snapshot = Snapshot::empty(Uuid::nil(), jiff::Timestamp::UNIX_EPOCH);
        let mut steps = Vec::new();
        for (name, host) in [("a", "h1"), ("b", "h1"), ("c", "h1"), ("d", "h2")] {
            let disk = volume(&format!("{name}-root"), MachineVolumeRole::Root);
            steps.push(step(name, host, Action::UndefineDomain { machine: key(name) }));
            if name == "b" {
                let seed = volume("b-seed", MachineVolumeRole::Seed);
                steps.push(step(name, host, Action::WipeVolume { volume: seed.key() }));
                snapshot.volumes.insert(seed.key(), seed);
            }
            steps.push(step(name, host, Action::WipeVolume { volume: disk.key() }));
            steps.push(step(name, host, Action::DeleteVolume { volume: disk.key() }));
            snapshot.volumes.insert(disk.key(), disk);
        }
        (snapshot, Plan { decisions: Vec::new(), steps, report: Report::default() })
    }

    /// For each machine how many of its steps may be taken, and what the first that may not waits for.
    fn told(plan: &Plan) -> Vec<String> {
        ["a", "b", "c", "d"]
            .iter()
            .map(|name| {
                let own = || plan.steps.iter().filter(|step| step.object == machine(name));
                let ready = own().filter(|step| step.state == StepState::Ready).count();
                let waits = own().find_map(|step| match &step.state {
                    StepState::Waiting(wait) => Some(format!(", {}: {}", wait.reason, wait.message)),
                    _ => None,
                });
                format!("{name}: {ready} of {}{}", own().count(), waits.unwrap_or_default())
            })
            .collect()
    }

    #[test]
    fn one_disk_at_a_time_on_each_host_and_everything_before_it_at_once() {
        let (snapshot, mut plan) = world();
        in_turn(&mut plan, &snapshot, &BTreeMap::new(), |_| true);
        let wait = "InTurn: disks are overwritten one after the other on h1: machine a first";
        assert_eq!(
            told(&plan),
            [
                "a: 3 of 3".to_owned(),
                format!("b: 2 of 4, {wait}"),
                format!("c: 1 of 3, {wait}"),
                "d: 3 of 3".to_owned()
            ]
        );
    }

    #[test]
    fn who_has_begun_is_first() {
        let (snapshot, mut plan) = world();
        let under_way = [(machine("c"), BTreeSet::from(["h1".to_owned()]))].into();
        in_turn(&mut plan, &snapshot, &under_way, |step| step.object != machine("c"));
        let wait = "InTurn: disks are overwritten one after the other on h1: machine c first";
        assert_eq!(
            told(&plan),
            [
                format!("a: 1 of 3, {wait}"),
                format!("b: 2 of 4, {wait}"),
                "c: 3 of 3".to_owned(),
                "d: 3 of 3".to_owned()
            ]
        );
    }

    #[test]
    fn who_is_held_back_or_cannot_begin_yet_keeps_nobody_waiting() {
        let (snapshot, mut plan) = world();
        for step in plan.steps.iter_mut().filter(|step| step.object == machine("a")) {
            step.state =
                StepState::Waiting(Wait { reason: "Retrying".to_owned(), message: "it failed".to_owned() });
        }
        in_turn(&mut plan, &snapshot, &BTreeMap::new(), |step| step.object != machine("b"));
        let told = told(&plan);
        assert_eq!(told[1], "b: 4 of 4", "its lane is busy with something else");
        assert_eq!(told[2], "c: 3 of 3");
    }
}
