//! What people changed behind Ashlar's back and that a cluster can live with: edited definitions, labels and taints of nodes.
//!
//! Found once a plan. The rule of the cluster (`spec.drift`) says whether it is put right or only told.

use ashlar_api::*;
use serde::{Deserialize, Serialize};

use crate::definition::{Change, NONE, differences};
use crate::{ClusterSeen, DomainSeen, DomainState, HostSeen, NodeSeen, Note, NoteKind, Snapshot};

/// Something of a machine that is not as it was declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The machine.
    pub machine: NamespacedName,
    /// What of it.
    pub kind: DriftKind,
    /// Field by field.
    pub changes: Vec<Change>,
    /// Whether it is put right.
    pub heals: bool,
    /// Object, what was found, what comes of it.
    pub message: String,
}

/// What of a machine is not as it was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DriftKind {
    /// Its domain's definition.
    Definition,
    /// What runs, where the definition is right.
    Running,
    /// Labels and taints of its node.
    Node,
}

impl DriftKind {
    /// The condition of the machine that says so: there only while it is so.
    pub fn condition(self) -> &'static str {
        match self {
            DriftKind::Definition | DriftKind::Running => "DefinitionCurrent",
            DriftKind::Node => "NodeAsDeclared",
        }
    }

    /// Its reason, and that of the event.
    pub fn reason(self) -> &'static str {
        match self {
            DriftKind::Definition => "DefinitionEdited",
            DriftKind::Running => "RunsOtherwise",
            DriftKind::Node => "NodeEdited",
        }
    }
}

impl Drift {
    /// Its changes in one line: `memory: 2Gi → 4Gi; …`.
    pub fn diff(&self) -> String {
        diff(&self.changes)
    }
}

fn diff(changes: &[Change]) -> String {
    let changes: Vec<String> = changes.iter().map(Change::to_string).collect();
    changes.join("; ")
}

/// The drift of a machine, of those that were found.
pub(crate) fn of<'d>(drifts: &'d [Drift], machine: &Machine, kind: DriftKind) -> Option<&'d Drift> {
    let ObjectMeta { namespace, name, .. } = &machine.metadata;
    let place = |drift: &Drift| {
        (&drift.machine.namespace, &drift.machine.name, drift.kind).cmp(&(namespace, name, kind))
    };
    drifts.get(drifts.binary_search_by(place).ok()?)
}

/// All of it, in the order of the machines. What was not seen is not concluded about, and what is on its way is left alone.
pub(crate) fn found(snapshot: &Snapshot) -> Vec<Drift> {
    let mut drifts = Vec::new();
    let mut cluster: Option<(NamespacedName, Option<&Cluster>)> = None;
    for (key, machine) in snapshot.machines.iter() {
        let (namespace, name) = (&machine.metadata.namespace, &machine.spec.cluster);
        // Machines of a cluster mostly stand side by side.
        if cluster.as_ref().is_none_or(|(key, _)| key.namespace != *namespace || key.name != *name) {
            let key = NamespacedName::new(namespace, name);
            let object = snapshot.clusters.get(&key);
            cluster = Some((key, object));
        }
        let Some((cluster, Some(object))) = &cluster else { continue };
        let is_settled = machine.record.joined_at.is_some()
            && machine.record.migration.is_none()
            && !machine.metadata.is_deleting()
            && !object.metadata.is_deleting();
        if !is_settled {
            continue;
        }
        let heals = object.spec.drift.heals();
        of_domain(snapshot, key, machine, heals, &mut drifts);
        if let Some(ClusterSeen::Seen(world)) = snapshot.observed.clusters.get(cluster)
            && !object.record.stopped
            && let Some(node) = world.nodes.get(&machine.spec.node.name)
        {
            drifts.extend(of_node(key, machine, node, heals));
        }
    }
    drifts
}

/// The machine's domain, where it is its own beyond doubt and does not come or go.
fn domain<'s>(snapshot: &'s Snapshot, machine: &Machine) -> Option<&'s DomainSeen> {
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(&machine.spec.host) else { return None };
    let domain = world.domains.get(&machine.spec.domain.uuid)?;
    let mark = domain.mark.as_ref()?;
    let is_ours = mark.installation == snapshot.installation
        && Some(mark.machine_uid) == machine.metadata.uid
        && domain.name == machine.spec.domain.name;
    (is_ours && !domain.paused_by_migration).then_some(domain)
}

fn of_domain(
    snapshot: &Snapshot,
    key: &NamespacedName,
    machine: &Machine,
    heals: bool,
    drifts: &mut Vec<Drift>,
) {
    let Some(domain) = domain(snapshot, machine) else { return };
    let compared = |found: &Option<std::sync::Arc<crate::Definition>>| {
        found.as_ref().map_or_else(Vec::new, |found| differences(machine, &snapshot.volumes, found))
    };
    let mut changes = compared(&domain.definition);
    if !domain.persistent && domain.state == DomainState::Running {
        let (field, declared) = ("definition".to_owned(), "kept on the host".to_owned());
        changes.push(Change { field, declared, found: "removed while it runs".to_owned() });
    }
    let mut add = |kind, heals, changes: Vec<Change>, what: &str, then: String| {
        if !changes.is_empty() {
            let (name, host, diff) = (&machine.spec.domain.name, &machine.spec.host, diff(&changes));
            let message = format!("domain {name} on {host} {what} (declared → found): {diff}; {then}");
            drifts.push(Drift { machine: key.clone(), kind, changes, heals, message });
        }
    };
    let is_typed = changes.iter().any(|change| TYPES.contains(&change.field.as_str()));
    let edited = match (heals, is_typed) {
        (true, true) => TYPED,
        (true, false) => HEALED,
        (false, _) => REPORTED,
    };
    add(
        DriftKind::Definition,
        heals && !is_typed,
        changes,
        "is not defined as it was declared",
        edited.to_owned(),
    );
    let then = format!(
        "its next start takes up what is defined: `ashlar machine replace {}`, or restart it when that suits you",
        machine.metadata.name
    );
    add(DriftKind::Running, heals, compared(&domain.running), "runs otherwise than declared", then);
}

/// Who changes these had a reason that the host gave (a QEMU that has the declared one no more): what was declared would be
/// refused, and a machine that is off would not be started.
const TYPES: [&str; 2] = ["type", "machine type"];
const TYPED: &str = "it is left so, since somebody gave it another type: `ashlar machine replace` makes one of what the host has";

const HEALED: &str =
    "it is defined again as declared, what runs goes on as it is and takes that up at its next start";
const REPORTED: &str = "it is left so, and that counts from its next start on (spec.drift.policy: report)";

/// Labels and taints that the machine says, and its node has not. Those of others are not looked at. A taint that evicts is
/// never put back: who took it away may be who it is for (a network's agent that is ready), and pods would go again and again.
fn of_node(key: &NamespacedName, machine: &Machine, node: &NodeSeen, heals: bool) -> Option<Drift> {
    let config = &machine.spec.node;
    // What was declared anew is on its way there.
    if machine.record.node_lags() || node.provider_id != config.provider_id {
        return None;
    }
    let (mut changes, mut is_evicting) = (Vec::new(), true);
    for (label, value) in &config.labels {
        let found = node.labels.get(label);
        if found != Some(value) {
            let found = found.map_or(NONE, String::as_str).to_owned();
            changes.push(Change { field: format!("label {label}"), declared: value.clone(), found });
            is_evicting = false;
        }
    }
    for taint in &config.taints {
        if !node.taints.contains(taint) {
            let other =
                node.taints.iter().find(|there| (&there.key, there.effect) == (&taint.key, taint.effect));
            let found = other.map_or_else(|| NONE.to_owned(), effect);
            changes.push(Change { field: format!("taint {}", taint.key), declared: effect(taint), found });
            is_evicting &= taint.evicts();
        }
    }
    if changes.is_empty() {
        return None;
    }
    let then = match (heals, is_evicting) {
        (true, true) => {
            "it is left so, since putting it back would evict pods: `kubectl taint node` does it, or take it out of the group"
        }
        (true, false) => "they are put back (`spec.drift.policy: report` leaves them)",
        (false, _) => "they are left so (spec.drift.policy: report)",
    };
    let heals = heals && !is_evicting;
    let message = format!(
        "labels and taints of node {} were changed (declared → found): {}; {then}",
        config.name,
        diff(&changes)
    );
    Some(Drift { machine: key.clone(), kind: DriftKind::Node, changes, heals, message })
}

/// What there is of a taint beside its key.
fn effect(taint: &Taint) -> String {
    let value = if taint.value.is_empty() { String::new() } else { format!("{}:", taint.value) };
    format!("{value}{:?}", taint.effect)
}

pub(crate) fn taint_text(taint: &Taint) -> String {
    let value = if taint.value.is_empty() { String::new() } else { format!("={}", taint.value) };
    format!("{}{value}:{:?}", taint.key, taint.effect)
}

/// A note for each.
pub(crate) fn notes(drifts: &[Drift]) -> impl Iterator<Item = Note> {
    drifts.iter().map(|drift| Note {
        object: ObjectRef::new(Kind::Machine, &drift.machine.namespace, &drift.machine.name),
        kind: NoteKind::Warning,
        reason: drift.kind.reason().to_owned(),
        message: drift.message.clone(),
    })
}

/// What no status tells yet, and is worth an event: drift, and what answers in the place of a cluster's API.
pub fn news(snapshot: &Snapshot, plan: &crate::Plan) -> Vec<Note> {
    let is_told = |conditions: &[Condition], note: &Note| {
        conditions
            .iter()
            .any(|condition| condition.reason == note.reason && condition.message == note.message)
    };
    let mut news: Vec<Note> = notes(&plan.report.drifts).collect();
    news.retain(|note| {
        let machine = snapshot.machines.get(&note.object.key());
        !machine.is_some_and(|machine| is_told(&machine.status.conditions, note))
    });
    for cluster in snapshot.clusters.values() {
        let Some(lost) = crate::lost::of_api(snapshot, cluster) else { continue };
        let (object, reason) = (cluster.object_ref(), lost.reason.to_owned());
        let note = Note { object, kind: NoteKind::Warning, reason, message: lost.message };
        if !is_told(&cluster.status.conditions, &note) {
            news.push(note);
        }
    }
    news
}
