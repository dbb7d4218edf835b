//! A plan as text for people: per machine what will happen, where, why, and in which order.

mod fates;
mod rollout;
mod summary;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ashlar_api::*;

pub use fates::fates_text;

use crate::explain::verdict_lines;
use crate::{Decision, Note, NoteKind, Placement, Plan, Snapshot, Step, StepState};

/// Hosts shown for a machine that is placed, and for one that no host takes.
const SHOWN_HOSTS: usize = 8;

/// The objects as they will be once the decisions are committed, as far as the text needs them.
struct After<'p> {
    snapshot: &'p Snapshot,
    decided: BTreeMap<ObjectRef, &'p Object>,
    placements: BTreeMap<&'p ObjectRef, &'p Placement>,
}

impl<'p> After<'p> {
    fn new(snapshot: &'p Snapshot, plan: &'p Plan) -> Self {
        let mut decided = BTreeMap::new();
        for decision in plan.decisions.iter().flatten() {
            if let Decision::Create(object) | Decision::Update(object) = decision {
                decided.insert(object.object_ref(), object);
            }
        }
        let mut placements = BTreeMap::new();
        for placement in &plan.report.placements {
            placements.entry(&placement.machine).or_insert(placement);
        }
        After { snapshot, decided, placements }
    }

    fn machine(&self, name: &ObjectRef) -> Option<&'p Machine> {
        match self.decided.get(name) {
            Some(Object::Machine(machine)) => Some(machine),
            _ => self.snapshot.machines.get(&name.key()),
        }
    }

    fn volume(&self, name: &ObjectRef) -> Option<&'p Volume> {
        match self.decided.get(name) {
            Some(Object::Volume(volume)) => Some(volume),
            _ => self.snapshot.volumes.get(&name.key()),
        }
    }

    fn cluster(&self, name: &NamespacedName) -> Option<&'p Cluster> {
        let object = ObjectRef::new(Kind::Cluster, &name.namespace, &name.name);
        match self.decided.get(&object) {
            Some(Object::Cluster(cluster)) => Some(cluster),
            _ => self.snapshot.clusters.get(name),
        }
    }

    /// The cluster that a step is for; none for what hosts share.
    fn cluster_of(&self, object: &ObjectRef) -> Option<NamespacedName> {
        match object.kind {
            Kind::Cluster => Some(object.key()),
            Kind::Machine => Some(match self.machine(object) {
                Some(machine) => NamespacedName::new(&object.namespace, &machine.spec.cluster),
                None => self.cluster_of_name(object)?,
            }),
            Kind::WorkerGroup => {
                let cluster = match self.decided.get(object) {
                    Some(Object::WorkerGroup(group)) => &group.spec.cluster,
                    _ => &self.snapshot.groups.get(&object.key())?.spec.cluster,
                };
                Some(NamespacedName::new(&object.namespace, cluster))
            }
            _ => None,
        }
    }

    /// A machine that has no host yet is only a name: its cluster's, a group's, and a number.
    fn cluster_of_name(&self, machine: &ObjectRef) -> Option<NamespacedName> {
        self.snapshot
            .clusters
            .keys()
            .filter(|cluster| cluster.namespace == machine.namespace)
            .filter(|cluster| {
                machine.name.strip_prefix(&cluster.name).is_some_and(|rest| rest.starts_with('-'))
            })
            .max_by_key(|cluster| cluster.name.len())
            .cloned()
    }
}

/// The whole plan as text. The same plan gives the same text.
pub fn plan_text(snapshot: &Snapshot, plan: &Plan) -> String {
    let after = After::new(snapshot, plan);
    let mut text = String::new();
    if plan.is_empty() {
        let as_it_should =
            if warnings(plan).next().is_none() { ": everything is as it should be" } else { "" };
        let _ = writeln!(text, "nothing to do{as_it_should}");
    }
    let mut sections: BTreeMap<Option<NamespacedName>, Vec<(&ObjectRef, Vec<&Step>)>> = BTreeMap::new();
    let mut positions: BTreeMap<&ObjectRef, (Option<NamespacedName>, usize)> = BTreeMap::new();
    for step in &plan.steps {
        let (cluster, position) = positions.entry(&step.object).or_insert_with(|| {
            let cluster = after.cluster_of(&step.object);
            let section = sections.entry(cluster.clone()).or_default();
            section.push((&step.object, Vec::new()));
            (cluster, section.len() - 1)
        });
        if let Some(section) = sections.get_mut(cluster) {
            section[*position].1.push(step);
        }
    }
    for note in plan.report.notes.iter().filter(|note| note.kind != NoteKind::Warning) {
        let cluster = after.cluster_of(&note.object);
        if cluster.is_some() {
            sections.entry(cluster).or_default();
        }
    }
    // What hosts share comes first in the map, and is done first.
    for (cluster, objects) in &sections {
        match cluster {
            None => shared(&mut text, &after, objects),
            Some(cluster) => self::cluster(&mut text, &after, plan, cluster, objects),
        }
    }
    for note in warnings(plan) {
        let _ = writeln!(text, "warning: {}: {} ({})", note.object, note.message, note.reason);
    }
    removals(&mut text, plan);
    summary::write(&mut text, snapshot, plan);
    text
}

fn warnings(plan: &Plan) -> impl Iterator<Item = &Note> {
    plan.report.notes.iter().filter(|note| note.kind == NoteKind::Warning)
}

fn shared(text: &mut String, after: &After<'_>, objects: &[(&ObjectRef, Vec<&Step>)]) {
    let mut hosts: BTreeMap<&str, Vec<&(&ObjectRef, Vec<&Step>)>> = BTreeMap::new();
    for entry in objects {
        let host = match entry.0.kind {
            Kind::Host => entry.0.name.as_str(),
            _ => after.volume(entry.0).map_or("", |volume| volume.spec.host.as_str()),
        };
        hosts.entry(host).or_default().push(entry);
    }
    for (host, objects) in hosts {
        let _ = writeln!(text, "host {host}");
        for (object, steps) in objects {
            let _ = writeln!(text, "  {object}");
            numbered(text, steps);
        }
        text.push('\n');
    }
}

fn cluster(
    text: &mut String,
    after: &After<'_>,
    plan: &Plan,
    key: &NamespacedName,
    objects: &[(&ObjectRef, Vec<&Step>)],
) {
    let _ = write!(text, "cluster {key}");
    if let Some(cluster) = after.cluster(key) {
        let _ = write!(text, ": Kubernetes {}", cluster.spec.kubernetes_version);
        if let Some(endpoint) = &cluster.record.endpoint {
            let _ = write!(
                text,
                ", API at {}:{} (VRRP id {}) on network {}",
                endpoint.address, endpoint.port, endpoint.vrrp_id, cluster.spec.network
            );
        }
    }
    text.push('\n');
    // What it comes to, before what is done now.
    rollout::write(text, after.snapshot, plan, key);
    for (object, steps) in objects {
        if object.kind == Kind::Machine {
            machine(text, after, object);
        } else {
            let _ = writeln!(text, "  {object}");
        }
        numbered(text, steps);
    }
    notices(text, after, plan, key);
    text.push('\n');
}

/// What is worth knowing about a cluster; what is the same for several objects is said once.
fn notices(text: &mut String, after: &After<'_>, plan: &Plan, key: &NamespacedName) {
    let mut told: Vec<(&Note, Vec<String>)> = Vec::new();
    for note in &plan.report.notes {
        // What is waited for, or blocked, stands at its step.
        if note.kind != NoteKind::Notice || after.cluster_of(&note.object).as_ref() != Some(key) {
            continue;
        }
        let same = told.iter_mut().find(|(first, _)| {
            (&first.reason, &first.message, first.object.kind)
                == (&note.reason, &note.message, note.object.kind)
        });
        match same {
            Some((_, others)) => others.push(note.object.key().to_string()),
            None => told.push((note, Vec::new())),
        }
    }
    for (note, others) in told {
        let objects = [&[note.object.to_string()], &others[..]].concat().join(", ");
        let _ = writeln!(text, "  note: {} ({objects}, {})", note.message, note.reason);
    }
}

fn machine(text: &mut String, after: &After<'_>, object: &ObjectRef) {
    let is_new = !after.snapshot.machines.contains_key(&object.key());
    let sign = if is_new { "+" } else { " " };
    match after.machine(object) {
        None => {
            let _ = writeln!(text, "  {sign} {object}: no host yet");
        }
        Some(machine) => {
            let spec = &machine.spec;
            let role = match spec.role {
                MachineRole::ControlPlane => "control plane",
                MachineRole::Worker => "worker",
            };
            let _ = write!(
                text,
                "  {sign} {object} on host {}: {role}, {} vCPUs, {} ({}), {}",
                spec.host, spec.vcpus, spec.memory, spec.class, spec.image.kubernetes_version
            );
            if let Some(nic) = spec.nics.first() {
                let _ = write!(text, ", {} on {}", nic.address, nic.network);
            }
            if spec.accelerator == Accelerator::Emulated {
                text.push_str(", emulated");
            }
            text.push('\n');
        }
    }
    if let Some(placement) = after.placements.get(object) {
        for line in verdict_lines(placement, SHOWN_HOSTS) {
            let _ = writeln!(text, "      {line}");
        }
    }
}

fn numbered(text: &mut String, steps: &[&Step]) {
    for (index, step) in steps.iter().enumerate() {
        let state = match &step.state {
            StepState::Ready => String::new(),
            StepState::Waiting(wait) if wait.reason == "EarlierStep" => String::new(),
            StepState::Waiting(wait) => format!("  [waits: {}]", wait.message),
            StepState::Blocked(block) => format!("  [BLOCKED {}: {}]", block.reason, block.message),
        };
        let _ = writeln!(text, "    {:>3}. {}{state}", index + 1, step.why);
    }
}

/// Objects that leave the store, because the world was seen without what they stand for.
fn removals(text: &mut String, plan: &Plan) {
    let mut any = false;
    for decision in plan.decisions.iter().flatten() {
        if let Decision::Remove { object, .. } = decision {
            let _ = writeln!(text, "- {object}");
            any = true;
        }
    }
    if any {
        text.push('\n');
    }
}
