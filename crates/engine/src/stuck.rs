//! When only a person can help: something is blocked or did not come up, and what does not depend on it is done.

use std::collections::BTreeSet;

use ashlar_api::{Kind, Machine, MachineRole, NamespacedName, ObjectRef};
use ashlar_plan::{ClusterSeen, Plan, Step, StepState};

use crate::{BlockedStep, Engine, EngineError, FailedNode, belongs::Belongings, progress::Progress};

impl Engine {
    /// Whether only a person can help: something is blocked, and nothing else can be done, or nothing moved for long.
    pub(crate) fn stuck(
        &self,
        belongings: &Belongings<'_>,
        plan: &Plan,
        progress: &Progress,
    ) -> Option<EngineError> {
        let blocks = blocks(belongings, plan);
        // A host that lets go of an image file takes it anew afterwards.
        let can_move = belongings.steps(plan).any(|step| can_move(step, &blocks))
            || plan.steps.iter().any(|step| step.state == StepState::Ready && belongings.is_tidying(step));
        let patient = progress.quiet_for(self.world.clock.now()) < self.settings.blocked_patience
            || belongings.steps(plan).any(is_booting);
        if blocks.is_empty() || can_move && patient {
            return None;
        }
        let failed = belongings.failed_machines();
        Some(if failed.is_empty() { EngineError::Blocked { blocks } } else { nodes_failed(&failed, blocks) })
    }
}

/// Nodes that did not come up end a run once nothing is left that can be done without them.
pub(crate) fn without_failed(belongings: &Belongings<'_>, plan: &Plan) -> Option<EngineError> {
    let failed = belongings.failed_machines();
    if failed.is_empty() {
        return None;
    }
    let hopeless: BTreeSet<NamespacedName> = failed
        .iter()
        .filter(|machine| {
            machine.spec.role == MachineRole::ControlPlane && !belongings.may_come_late(machine)
        })
        .map(|machine| cluster_of(machine))
        .filter(|cluster| !belongings.has_control_plane(cluster))
        .collect();
    let is_failed = |object: &ObjectRef| failed.iter().any(|machine| machine.object_ref() == *object);
    let needs_failed = |step: &Step| {
        let clusters = belongings.clusters_of_step(step);
        !clusters.is_empty() && clusters.iter().all(|cluster| hopeless.contains(cluster))
    };
    let blocks = blocks(belongings, plan);
    // What can be done for a failed one at once, is: its learner leaves etcd.
    let goes_on =
        |step: &Step| can_move(step, &blocks) && (step.state == StepState::Ready || !is_failed(&step.object));
    let others_go_on = belongings.steps(plan).any(|step| goes_on(step) && !needs_failed(step));
    (!others_go_on).then(|| nodes_failed(&failed, blocks))
}

fn nodes_failed(failed: &[&Machine], mut blocks: Vec<BlockedStep>) -> EngineError {
    blocks.retain(|block| !failed.iter().any(|machine| machine.object_ref() == block.object));
    let node = |machine: &&Machine| {
        let failure = machine.record.failure.as_ref()?;
        Some(FailedNode {
            machine: machine.key(),
            phase: failure.phase.clone(),
            message: failure.message.clone(),
            log_lines: failure.log_lines.clone(),
        })
    };
    EngineError::NodesFailed { nodes: failed.iter().filter_map(node).collect(), blocks }
}

fn blocks(belongings: &Belongings<'_>, plan: &Plan) -> Vec<BlockedStep> {
    let block = |step: &Step| match &step.state {
        StepState::Blocked(block) => Some(BlockedStep {
            object: step.object.clone(),
            host: step.host.clone(),
            reason: block.reason.clone(),
            message: block.message.clone(),
        }),
        // Room comes from a person, or from another command, and this one cannot know of either.
        StepState::Waiting(wait) if wait.reason == "Unschedulable" => Some(BlockedStep {
            object: step.object.clone(),
            host: step.host.clone(),
            reason: wait.reason.clone(),
            message: format!("{}: {}", step.object, wait.message),
        }),
        StepState::Ready | StepState::Waiting(_) => None,
    };
    belongings.steps(plan).filter_map(block).collect()
}

/// Whether a first boot is under way: it may say nothing for long, and has a deadline of its own.
fn is_booting(step: &Step) -> bool {
    matches!(&step.state, StepState::Waiting(wait) if wait.reason == "Booting")
}

fn can_move(step: &Step, blocks: &[BlockedStep]) -> bool {
    match step.state {
        StepState::Ready => true,
        StepState::Waiting(_) => !blocks.iter().any(|block| block.object == step.object),
        StepState::Blocked(_) => false,
    }
}

fn cluster_of(machine: &Machine) -> NamespacedName {
    NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster)
}

impl Belongings<'_> {
    /// Machines of the scope that did not come up, and stay.
    fn failed_machines(&self) -> Vec<&Machine> {
        self.snapshot
            .machines
            .values()
            .filter(|machine| {
                machine.record.failure.is_some()
                    && !machine.metadata.is_deleting()
                    && self.has(&machine.object_ref())
            })
            .collect()
    }

    /// Whether a machine that took too long has an API that answers all the same: with its add-ons its node may become
    /// Ready, and has then joined.
    fn may_come_late(&self, machine: &Machine) -> bool {
        let seen = self.snapshot.observed.clusters.get(&cluster_of(machine));
        machine.record.failure.as_ref().is_some_and(|failure| failure.overdue)
            && matches!(seen, Some(ClusterSeen::Seen(_)))
    }

    /// Whether the cluster has a control plane that came up: without one nothing of it can.
    fn has_control_plane(&self, cluster: &NamespacedName) -> bool {
        self.snapshot.machines.values().any(|machine| {
            machine.spec.role == MachineRole::ControlPlane
                && machine.record.joined_at.is_some()
                && cluster_of(machine) == *cluster
        })
    }

    /// The clusters that a step is for; none if it is for the pool, or nobody can tell.
    fn clusters_of_step(&self, step: &Step) -> Vec<NamespacedName> {
        if step.object.kind == Kind::Network {
            let clusters = self.snapshot.clusters.values();
            let on_it = clusters.filter(|cluster| cluster.spec.network == step.object.name);
            return on_it.map(|cluster| cluster.key()).collect();
        }
        self.clusters_of(&step.object).unwrap_or_default()
    }
}
