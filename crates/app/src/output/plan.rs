//! A plan for people: per machine what will happen, where, why, and in which order.

use std::collections::BTreeMap;
use std::io::{self, Write};

use ashlar_api::{Kind, Machine, MachineRole, Object, ObjectRef, VolumeContent};
use ashlar_plan::report::Placement;
use ashlar_plan::{Decision, NoteKind, Plan, Snapshot, Step, StepState};
use serde_json::{Value, json};

use super::plural;

/// Objects as they will be when the plan's decisions are committed.
struct After<'a> {
    snapshot: &'a Snapshot,
    decided: BTreeMap<ObjectRef, &'a Object>,
}

impl<'a> After<'a> {
    fn new(snapshot: &'a Snapshot, plan: &'a Plan) -> Self {
        let mut decided = BTreeMap::new();
        for decision in plan.decisions.iter().flatten() {
            if let Decision::Create(object) | Decision::Update(object) = decision {
                decided.insert(object.object_ref(), object);
            }
        }
        After { snapshot, decided }
    }

    fn machine(&self, name: &ObjectRef) -> Option<&'a Machine> {
        match self.decided.get(name) {
            Some(Object::Machine(machine)) => Some(machine),
            _ => self.snapshot.machines.get(&name.key()),
        }
    }

    /// The machine that a step belongs to, or the step's own object.
    fn owner(&self, step: &Step) -> ObjectRef {
        if step.object.kind != Kind::Volume {
            return step.object.clone();
        }
        let volume = match self.decided.get(&step.object) {
            Some(Object::Volume(volume)) => Some(&**volume),
            _ => self.snapshot.volumes.get(&step.object.key()),
        };
        match volume.map(|volume| &volume.spec.content) {
            Some(VolumeContent::MachineDisk { machine, .. }) => {
                ObjectRef::new(Kind::Machine, &step.object.namespace, machine)
            }
            Some(VolumeContent::ImageFile { image, .. }) => ObjectRef::new(Kind::Image, "", image),
            None => step.object.clone(),
        }
    }
}

/// Prints a plan.
pub(crate) fn plan(out: &mut dyn Write, snapshot: &Snapshot, plan: &Plan) -> io::Result<()> {
    let after = After::new(snapshot, plan);
    objects(out, plan)?;
    let mut groups: Vec<(ObjectRef, Vec<&Step>)> = Vec::new();
    for step in &plan.steps {
        let owner = after.owner(step);
        match groups.iter_mut().find(|(name, _)| *name == owner) {
            Some((_, steps)) => steps.push(step),
            None => groups.push((owner, vec![step])),
        }
    }
    for placement in &plan.report.placements {
        if !groups.iter().any(|(name, _)| *name == placement.machine) {
            groups.push((placement.machine.clone(), Vec::new()));
        }
    }
    for (owner, steps) in &groups {
        writeln!(out)?;
        group(out, &after, plan, owner, steps)?;
    }
    notes(out, plan)?;
    summary(out, plan, &groups)
}

/// Decisions that are not about a machine's own parts: those stand at the machine.
fn objects(out: &mut dyn Write, plan: &Plan) -> io::Result<()> {
    let mut lines = Vec::new();
    for decision in plan.decisions.iter().flatten() {
        match decision {
            Decision::Create(Object::Machine(_) | Object::Volume(_)) => {}
            Decision::Create(object) => lines.push(format!("+ {}", object.object_ref())),
            Decision::Update(Object::Cluster(cluster)) => {
                let endpoint = cluster.record.endpoint.as_ref().map_or_else(String::new, |at| {
                    format!(": API at {}:{}, VRRP id {}", at.address, at.port, at.vrrp_id)
                });
                lines.push(format!("~ cluster {}{endpoint}", cluster.key()));
            }
            // A ledger's counter tells people nothing.
            Decision::Update(Object::Host(_) | Object::Network(_)) | Decision::Check { .. } => {}
            Decision::Update(object) => {
                let what = if object.metadata().is_deleting() { " (to be deleted)" } else { "" };
                lines.push(format!("~ {}{what}", object.object_ref()));
            }
            Decision::Remove { object, .. } => lines.push(format!("- {object}")),
        }
    }
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn group(
    out: &mut dyn Write,
    after: &After<'_>,
    plan: &Plan,
    owner: &ObjectRef,
    steps: &[&Step],
) -> io::Result<()> {
    let is_new = after.decided.contains_key(owner) && !after.snapshot.machines.contains_key(&owner.key());
    let sign = if owner.kind == Kind::Machine && is_new { "+ " } else { "  " };
    match after.machine(owner).filter(|_| owner.kind == Kind::Machine) {
        Some(machine) => writeln!(out, "{sign}{owner} on host {}: {}", machine.spec.host, size(machine))?,
        None => writeln!(out, "{sign}{owner}")?,
    }
    if let Some(placement) = plan.report.placements.iter().find(|one| one.machine == *owner) {
        why_here(out, placement)?;
    }
    let several_hosts = steps.iter().any(|step| step.host != steps[0].host);
    for (index, step) in steps.iter().enumerate() {
        let place =
            if several_hosts && !step.host.is_empty() { format!("{}: ", step.host) } else { String::new() };
        let state = match &step.state {
            StepState::Ready => String::new(),
            StepState::Waiting(wait) => format!("  (waits: {})", wait.message),
            StepState::Blocked(block) => format!("  BLOCKED {}: {}", block.reason, block.message),
        };
        writeln!(out, "  {:>3}. {place}{}{state}", index + 1, step.why)?;
    }
    Ok(())
}

fn size(machine: &Machine) -> String {
    let spec = &machine.spec;
    let role = match spec.role {
        MachineRole::ControlPlane => "control plane",
        MachineRole::Worker => "worker",
    };
    let address = spec.node_address().map_or_else(String::new, |address| format!(", {address}"));
    format!("{role}, {} vCPUs, {}{address}, {}", spec.vcpus, spec.memory, spec.image.kubernetes_version)
}

fn why_here(out: &mut dyn Write, placement: &Placement) -> io::Result<()> {
    match &placement.host {
        Some(host) => {
            let chosen = placement.verdicts.iter().find(|verdict| verdict.host == *host);
            let reason = chosen.map(|verdict| verdict.score_reason.as_str()).unwrap_or_default();
            writeln!(
                out,
                "      why {host}: {}",
                if reason.is_empty() { "the only host that fits" } else { reason }
            )?;
        }
        None => writeln!(out, "      no host fits")?,
    }
    for verdict in placement.verdicts.iter().filter(|verdict| Some(&verdict.host) != placement.host.as_ref())
    {
        match &verdict.refused {
            Some(refusal) => {
                writeln!(out, "      not {}: {} ({})", verdict.host, refusal.message, refusal.rule)?
            }
            None => writeln!(
                out,
                "      not {}: score {} ({})",
                verdict.host, verdict.score, verdict.score_reason
            )?,
        }
    }
    Ok(())
}

fn notes(out: &mut dyn Write, plan: &Plan) -> io::Result<()> {
    for (kind, title) in
        [(NoteKind::Blocked, "Blocked"), (NoteKind::Waiting, "Waiting"), (NoteKind::Notice, "Notice")]
    {
        let mut notes = plan.report.notes.iter().filter(|note| note.kind == kind).peekable();
        if notes.peek().is_some() {
            writeln!(out, "\n{title}:")?;
        }
        for note in notes {
            writeln!(out, "  {}: {}", note.object, note.message)?;
        }
    }
    Ok(())
}

fn summary(out: &mut dyn Write, plan: &Plan, groups: &[(ObjectRef, Vec<&Step>)]) -> io::Result<()> {
    if plan.is_empty() {
        return writeln!(out, "nothing to do: the world is as the store says");
    }
    let machines = groups.iter().filter(|(name, _)| name.kind == Kind::Machine).count();
    let blocked = plan.steps.iter().filter(|step| matches!(step.state, StepState::Blocked(_))).count();
    let blocked = if blocked > 0 { format!(", {blocked} of them blocked") } else { String::new() };
    writeln!(out, "\n{}, {}{blocked}", plural(machines, "machine"), plural(plan.steps.len(), "step"))
}

/// A plan for programs.
pub(crate) fn plan_value(plan: &Plan) -> Result<Value, serde_json::Error> {
    let mut decisions = Vec::new();
    for commit in &plan.decisions {
        let mut writes = Vec::new();
        for decision in commit {
            writes.push(match decision {
                Decision::Create(object) => {
                    json!({"create": object.to_value().map_err(serde::ser::Error::custom)?})
                }
                Decision::Update(object) => {
                    json!({"update": object.to_value().map_err(serde::ser::Error::custom)?})
                }
                Decision::Remove { object, resource_version } => {
                    json!({"remove": object, "resourceVersion": resource_version})
                }
                Decision::Check { object, resource_version } => {
                    json!({"check": object, "resourceVersion": resource_version})
                }
            });
        }
        decisions.push(Value::Array(writes));
    }
    Ok(json!({"decisions": decisions, "steps": plan.steps, "report": plan.report}))
}
