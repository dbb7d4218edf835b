//! Clusters with machines that are not well, and what becomes of those.

use ashlar_api::*;
use ashlar_plan::*;
use jiff::SignedDuration;

use super::*;

/// A name in the default namespace.
pub fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// A cluster that is up, on five hosts.
pub fn living(control_planes: u32, workers: u32) -> World {
    let mut snapshot = six_machines();
    for host in ["host-d", "host-e"] {
        add_host(&mut snapshot, host, 64, 512, Accelerator::Kvm);
    }
    snapshot.clusters = Objects::default();
    add_cluster(&mut snapshot, "prod", control_planes, workers);
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    world
}

/// Passes that only record, each a quarter of five minutes' patience after the last, until nothing is to be recorded.
pub fn be_patient(world: &mut World) {
    be_patient_for(world, SignedDuration::from_mins(5));
}

/// As above, for another patience.
pub fn be_patient_for(world: &mut World, patience: SignedDuration) {
    for _ in 0..=Ailment::PATIENCE_SIGHTINGS {
        let plan = world.plan();
        world.commit(plan.decisions);
        world.snapshot.now += patience / 4;
    }
}

/// Who goes by the plan, and why others wait.
pub fn decided_fates(plan: &Plan) -> String {
    let mut lines: Vec<String> = plan
        .decisions
        .iter()
        .flatten()
        .filter_map(|decision| match decision {
            Decision::Update(Object::Machine(machine)) if machine.metadata.is_deleting() => Some(format!(
                "{} goes: {}",
                machine.metadata.name,
                machine.record.remediation.as_ref()?.message
            )),
            _ => None,
        })
        .collect();
    lines.extend(plan.steps.iter().filter(|step| step.why.ends_with(" is well")).map(
        |step| match &step.state {
            StepState::Waiting(wait) => {
                format!("{} waits, {}: {}", step.object.name, wait.reason, wait.message)
            }
            StepState::Blocked(block) => {
                format!("{} BLOCKED, {}: {}", step.object.name, block.reason, block.message)
            }
            StepState::Ready => unreachable!("nothing is done by that step"),
        },
    ));
    lines.join("\n")
}

/// What the API shows of a machine's node.
pub fn node<'w>(world: &'w mut World, machine: &str) -> &'w mut NodeSeen {
    let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) else {
        unreachable!("the API answers")
    };
    api.nodes.get_mut(machine).unwrap()
}

/// What a machine is recorded to suffer from.
pub fn ailment(world: &World, machine: &str) -> Option<AilmentKind> {
    world.snapshot.machines[&key(machine)].record.ailment.as_ref().map(|ailment| ailment.kind)
}

/// One pass, whose decisions are committed.
pub fn pass(world: &mut World) {
    let plan = world.plan();
    world.commit(plan.decisions);
}
