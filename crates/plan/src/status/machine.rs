//! A machine's phase and conditions.

use ashlar_api::*;

use super::{Judgement, READY, RESOLVED_REFS, hold_text, warn};
use crate::lost::{self, Lost};
use crate::{
    ClusterSeen, ClusterWorld, DomainSeen, DomainState, Drift, DriftKind, HostSeen, NodeSeen, Snapshot, Step,
    StepState, certificates, drift, health,
};

/// The status of a machine; of what was not asked, what was said before stays.
pub(super) fn status(
    snapshot: &Snapshot,
    machine: &Machine,
    has_steps: bool,
    hold: Option<&Step>,
    missing: Option<Lost>,
    drifts: &[Drift],
) -> MachineStatus {
    let mut status = machine.status.clone();
    let generation = machine.metadata.generation;
    let domain = domain(snapshot, machine);
    let node = node(snapshot, machine);
    if let Some(judgement) = domain_running(snapshot, machine, domain) {
        judgement.set(&mut status.conditions, snapshot.now, generation);
    }
    if let Some(judgement) = node_ready(snapshot, machine, node) {
        judgement.set(&mut status.conditions, snapshot.now, generation);
    }
    if let Some(phase) = phase(snapshot, machine, (domain, node), has_steps, hold) {
        status.phase = phase;
    }
    ready(machine, &status.phase, hold).set(&mut status.conditions, snapshot.now, generation);
    super::health::set(snapshot, machine, &mut status.conditions);
    drift(snapshot, machine, (domain, node), drifts, &mut status.conditions);
    if let Some(node) = node {
        super::node::set(node, machine, snapshot.now, &mut status.conditions);
    }
    warn(
        CERTIFICATES,
        certificates_run_out(snapshot, machine),
        &mut status.conditions,
        snapshot.now,
        generation,
    );
    warn(RESOLVED_REFS, missing, &mut status.conditions, snapshot.now, generation);
    status
}

/// Says what people changed; where nobody could tell now, what was said before stays.
fn drift(
    snapshot: &Snapshot,
    machine: &Machine,
    (domain, node): (Option<&DomainSeen>, Option<&NodeSeen>),
    drifts: &[Drift],
    conditions: &mut Vec<Condition>,
) {
    let mut set = |kinds: &[DriftKind]| {
        let found = kinds.iter().find_map(|kind| drift::of(drifts, machine, *kind));
        let lost = found.map(|drift| Lost { reason: drift.kind.reason(), message: drift.message.clone() });
        warn(kinds[0].condition(), lost, conditions, snapshot.now, machine.metadata.generation);
    };
    if domain.is_some() {
        set(&[DriftKind::Definition, DriftKind::Running]);
    }
    if node.is_some() {
        set(&[DriftKind::Node]);
    }
}

/// There only while it is time to do something about them.
const CERTIFICATES: &str = "CertificatesCurrent";

fn certificates_run_out(snapshot: &Snapshot, machine: &Machine) -> Option<Lost> {
    let at = certificates::run_out_at(machine).filter(|_| certificates::are_due(machine, snapshot.now))?;
    let what = if at <= snapshot.now { "ran out" } else { "run out" };
    Some(Lost {
        reason: "CertificatesRunOut",
        message: format!(
            "what kubeadm signed at its first boot {what} at {at}: another control plane takes its place in its turn"
        ),
    })
}

fn domain<'s>(snapshot: &'s Snapshot, machine: &Machine) -> Option<&'s DomainSeen> {
    match snapshot.observed.hosts.get(&machine.spec.host) {
        Some(HostSeen::Seen(world)) => world.domains.get(&machine.spec.domain.uuid),
        _ => None,
    }
}

fn seen_cluster<'s>(snapshot: &'s Snapshot, machine: &Machine) -> Option<&'s ClusterSeen> {
    let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
    snapshot.observed.clusters.get(&cluster)
}

fn node<'s>(snapshot: &'s Snapshot, machine: &Machine) -> Option<&'s NodeSeen> {
    match seen_cluster(snapshot, machine) {
        Some(ClusterSeen::Seen(world)) => world
            .nodes
            .get(&machine.spec.node.name)
            .filter(|node| node.provider_id == machine.spec.node.provider_id),
        _ => None,
    }
}

fn domain_running(snapshot: &Snapshot, machine: &Machine, domain: Option<&DomainSeen>) -> Option<Judgement> {
    let kind = "DomainRunning";
    let judgement =
        |status, reason: &str, message: String| Some(Judgement::new(kind, status, reason, message));
    let name = &machine.spec.domain.name;
    if !snapshot.hosts.contains_key(&machine.spec.host) {
        let lost = lost::host(&machine.spec.host);
        return judgement(ConditionStatus::Unknown, lost.reason, lost.message);
    }
    match (snapshot.observed.hosts.get(&machine.spec.host)?, domain) {
        (HostSeen::Unreachable { reason }, _) => judgement(
            ConditionStatus::Unknown,
            "HostUnreachable",
            format!("host {} does not answer: {reason}", machine.spec.host),
        ),
        (HostSeen::NotOurs { reason }, _) => judgement(
            ConditionStatus::Unknown,
            "HostNotOurs",
            format!("host {}: {reason}", machine.spec.host),
        ),
        (HostSeen::Fenced { reason, .. }, _) => {
            judgement(ConditionStatus::Unknown, "HostTakenOver", reason.clone())
        }
        (HostSeen::Seen(_), None) => judgement(
            ConditionStatus::False,
            "NoDomain",
            format!("there is no domain {name} on {}", machine.spec.host),
        ),
        (HostSeen::Seen(_), Some(domain)) => {
            let status =
                if domain.state.is_active() { ConditionStatus::True } else { ConditionStatus::False };
            let message = match domain.state {
                DomainState::Running => String::new(),
                DomainState::Paused => format!("domain {name} is paused: `virsh resume {name}` on its host"),
                DomainState::ShuttingDown => format!("domain {name} is shutting down"),
                DomainState::ShutOff => format!("domain {name} is off"),
                DomainState::Crashed => format!(
                    "domain {name} crashed: what its guest said last is in `ashlar console {}`",
                    machine.metadata.name
                ),
            };
            judgement(status, &format!("{:?}", domain.state), message)
        }
    }
}

fn node_ready(snapshot: &Snapshot, machine: &Machine, node: Option<&NodeSeen>) -> Option<Judgement> {
    let kind = "NodeReady";
    Some(match (seen_cluster(snapshot, machine)?, node) {
        (ClusterSeen::Unreachable { reason }, _) => Judgement::new(
            kind,
            ConditionStatus::Unknown,
            "ApiNotAnswering",
            format!("the API does not answer: {reason}"),
        ),
        (ClusterSeen::NotOurs { reason }, _) => Judgement::new(
            kind,
            ConditionStatus::Unknown,
            "ApiOfAnother",
            format!("what answers at the API's address is not this cluster's: {reason}"),
        ),
        (ClusterSeen::Seen(world), None) if world.nodes.contains_key(&machine.spec.node.name) => {
            Judgement::new(kind, ConditionStatus::False, "NodeOfAnother", node_of_another(machine, world))
        }
        (ClusterSeen::Seen(_), None) => {
            Judgement::new(kind, ConditionStatus::False, "NoNode", no_node(machine))
        }
        (ClusterSeen::Seen(world), Some(node)) if node.ready => {
            match health::silence(snapshot, world, node) {
                None => Judgement::new(kind, ConditionStatus::True, "KubeletReady", ""),
                Some(since) => Judgement::new(
                    kind,
                    ConditionStatus::Unknown,
                    "KubeletSilent",
                    format!("its kubelet has not renewed its lease since {since}"),
                ),
            }
        }
        (ClusterSeen::Seen(_), Some(node)) => {
            Judgement::new(kind, ConditionStatus::False, "KubeletNotReady", node.message.clone())
        }
    })
}

fn node_of_another(machine: &Machine, world: &ClusterWorld) -> String {
    let node = &machine.spec.node;
    let theirs = world.nodes.get(&node.name).map_or("", |seen| seen.provider_id.as_str());
    format!(
        "the API has a node {} whose provider id is {theirs:?}, and this machine's is {}: another machine registered \
         under its name. Find out whose it is; if nobody's, delete that node (`kubectl delete node {}`) and restart the \
         kubelet here",
        node.name, node.provider_id, node.name
    )
}

/// What a person does about a node that somebody deleted; before it joined there is none, and nothing to say.
fn no_node(machine: &Machine) -> String {
    if machine.record.joined_at.is_none() {
        return String::new();
    }
    let name = &machine.metadata.name;
    format!(
        "node {} was there and is gone from the API: restart the kubelet on the machine (`ashlar ssh {name}`), or delete \
         machine {name} to have another made",
        machine.spec.node.name
    )
}

/// The phase; none if nothing new is known.
fn phase(
    snapshot: &Snapshot,
    machine: &Machine,
    (domain, node): (Option<&DomainSeen>, Option<&NodeSeen>),
    has_steps: bool,
    hold: Option<&Step>,
) -> Option<String> {
    let phase = |text: &str| Some(text.to_owned());
    if machine.metadata.is_deleting() {
        return phase("Deleting");
    }
    if machine.record.failure.is_some() {
        return phase("Failed");
    }
    let host_seen = match snapshot.observed.hosts.get(&machine.spec.host) {
        None if !snapshot.hosts.contains_key(&machine.spec.host) => return phase("Unknown"),
        None => return machine.status.phase.is_empty().then(|| "Pending".to_owned()),
        Some(HostSeen::Unreachable { .. } | HostSeen::NotOurs { .. } | HostSeen::Fenced { .. }) => false,
        Some(HostSeen::Seen(_)) => true,
    };
    let started = machine.record.first_started_at.is_some();
    if !host_seen {
        return phase(if started { "Unknown" } else { "Pending" });
    }
    let stopped = snapshot
        .clusters
        .get(&NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster))
        .is_some_and(|cluster| cluster.record.stopped);
    let running = domain.is_some_and(|domain| domain.state.is_active());
    if matches!(hold.map(|step| &step.state), Some(StepState::Blocked(_))) {
        return phase("Blocked");
    }
    if !started {
        let waiting = hold.is_some_and(|step| {
            matches!(&step.state, StepState::Waiting(wait) if wait.reason == "ImageFile" || wait.reason == "HostNotObserved")
        });
        return phase(if waiting { "Pending" } else { "Creating" });
    }
    if !running {
        return phase(if stopped { "Stopped" } else { "Off" });
    }
    if stopped {
        return phase("Stopping");
    }
    if machine.record.joined_at.is_none() {
        let console = snapshot.observed.consoles.get(&machine.key());
        return phase(console.map_or("Booting", |console| console.phase.as_str()));
    }
    match (seen_cluster(snapshot, machine), node) {
        (Some(ClusterSeen::Seen(world)), Some(node))
            if (node.ready || machine.spec.node.cni == Cni::None)
                && health::silence(snapshot, world, node).is_none() =>
        {
            phase(match has_steps {
                _ if machine.record.migration.is_some() => "Migrating",
                true => "Finishing",
                false => READY,
            })
        }
        (Some(ClusterSeen::Seen(_)), _) => phase("NotReady"),
        (Some(ClusterSeen::Unreachable { .. } | ClusterSeen::NotOurs { .. }), _) => phase("Unknown"),
        (None, _) => None,
    }
}

fn ready(machine: &Machine, phase: &str, hold: Option<&Step>) -> Judgement {
    if phase == READY {
        return Judgement::new("Ready", ConditionStatus::True, "Ready", "");
    }
    let status = if phase == "Unknown" { ConditionStatus::Unknown } else { ConditionStatus::False };
    if let Some(failure) = &machine.record.failure {
        return Judgement::new("Ready", status, "FirstBootFailed", failure.message.clone());
    }
    match hold.map(hold_text) {
        Some((reason, message)) => Judgement::new("Ready", status, reason, message),
        None if phase.is_empty() => Judgement::new("Ready", status, "Pending", ""),
        // Phases of the console are sentences, and a reason is one word.
        None => {
            let reason: String = phase.chars().filter(char::is_ascii_alphanumeric).collect();
            Judgement::new("Ready", status, &reason, "")
        }
    }
}
