//! `ashlar cluster status`: cluster → control plane, workers → machines → phase.

use std::collections::BTreeMap;

use ashlar_api::condition::find_condition;
use ashlar_api::{Cluster, ConditionStatus, Kind, Machine, MachineRole, Object};
use ashlar_plan::DriftKind;
use jiff::Timestamp;

use crate::cli::{ClusterStatusArgs, OutputFormat};
use crate::commands::get::print_value;
use crate::failure::{Exit, Result};
use crate::objects::{Reader, object_ref};
use crate::output::{Tree, age};
use crate::settings::Settings;

/// Shows clusters.
pub(crate) fn status(settings: &Settings, args: &ClusterStatusArgs) -> Result {
    let reader = Reader::open(settings)?;
    reader.note_if_missing(settings);
    let namespace = settings.namespace.as_str();
    let objects = match &args.name {
        Some(name) => vec![reader.object(&object_ref(Kind::Cluster, name, namespace))?],
        None => reader.objects(Kind::Cluster, Some(namespace))?,
    };
    if objects.is_empty() {
        settings.printer.note(format!("no clusters in namespace {namespace}"));
    }
    let mut machines = Vec::new();
    for object in reader.objects(Kind::Machine, Some(namespace))? {
        if let Object::Machine(machine) = object {
            machines.push(*machine);
        }
    }
    let now = Timestamp::now();
    let mut values = Vec::new();
    for object in objects {
        let Object::Cluster(cluster) = object else { continue };
        let mut own: Vec<&Machine> =
            machines.iter().filter(|machine| machine.spec.cluster == cluster.metadata.name).collect();
        own.sort_by_key(|machine| (machine.spec.role, number(&machine.metadata.name)));
        if matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
            values.push(serde_json::json!({"cluster": *cluster, "machines": own}));
        } else {
            let tree = tree(&cluster, &own, now);
            settings.printer.data(|out| tree.write(out))?;
        }
    }
    match values.pop() {
        Some(one) if args.name.is_some() => print_value(settings, &one),
        Some(last) => {
            values.push(last);
            print_value(settings, &serde_json::Value::Array(values))
        }
        None => Ok(Exit::Success),
    }
}

/// The number at the end of a machine's name, so that 10 comes after 9.
fn number(name: &str) -> (String, u32) {
    let (stem, digits) = name.rsplit_once('-').unwrap_or((name, ""));
    (stem.to_owned(), digits.parse().unwrap_or(0))
}

fn tree(cluster: &Cluster, machines: &[&Machine], now: Timestamp) -> Tree {
    let ready = machines.iter().filter(|machine| is_ready(machine)).count();
    let endpoint = cluster.record.endpoint.as_ref();
    let endpoint = endpoint.map_or_else(String::new, |at| format!("   https://{}:{}", at.address, at.port));
    let mut root = Tree::new(format!(
        "cluster {}   {}   {}{endpoint}   {ready}/{} machines ready",
        cluster.key(),
        state(cluster),
        cluster.spec.kubernetes_version,
        machines.len(),
    ));
    let mut groups: BTreeMap<(MachineRole, &str), Vec<&Machine>> = BTreeMap::new();
    groups.insert((MachineRole::ControlPlane, ""), Vec::new());
    for machine in machines {
        groups.entry((machine.spec.role, machine.spec.group.as_str())).or_default().push(machine);
    }
    for ((role, group), members) in groups {
        let ready = members.iter().filter(|machine| is_ready(machine)).count();
        let (title, wanted) = match role {
            MachineRole::ControlPlane => {
                ("control plane".to_owned(), cluster.spec.control_plane.replicas as usize)
            }
            MachineRole::Worker => (format!("workers {group}"), members.len()),
        };
        let mut branch = Tree::new(format!("{title}   {ready}/{wanted} ready"));
        branch.children.extend(members.iter().map(|machine| leaf(machine, now)));
        root.children.push(branch);
    }
    for condition in &cluster.status.conditions {
        if condition.status != ConditionStatus::True && !condition.message.is_empty() {
            root.children.push(Tree::new(format!("{}: {}", condition.reason, condition.message)));
        }
    }
    root
}

fn state(cluster: &Cluster) -> String {
    if cluster.metadata.is_deleting() {
        return "Deleting".to_owned();
    }
    if cluster.record.stopped {
        return "Stopped".to_owned();
    }
    match find_condition(&cluster.status.conditions, "Ready") {
        Some(condition) if condition.status == ConditionStatus::True => "Ready".to_owned(),
        Some(condition) => condition.reason.clone(),
        None => "Pending".to_owned(),
    }
}

fn is_ready(machine: &Machine) -> bool {
    phase(machine) == "Ready"
}

fn phase(machine: &Machine) -> &str {
    match () {
        () if machine.metadata.is_deleting() => "Deleting",
        () if machine.record.failure.is_some() => "Failed",
        () if machine.status.phase.is_empty() => "Pending",
        () => &machine.status.phase,
    }
}

/// Of a control plane, until when what kubeadm signed for it is good. Kubelets renew their own.
fn certificates(machine: &Machine) -> String {
    let end = ashlar_plan::certificates::run_out_at(machine);
    end.map_or_else(String::new, |at| format!("   certificates until {}", at.strftime("%Y-%m-%d")))
}

fn leaf(machine: &Machine, now: Timestamp) -> Tree {
    let spec = &machine.spec;
    let address = spec.node_address().map_or_else(|| "-".to_owned(), |address| address.to_string());
    let since = age(now, machine.record.joined_at.or(machine.metadata.creation_timestamp));
    let mut leaf = Tree::new(format!(
        "{}   {}   host {}   {address}   {since}{}",
        machine.metadata.name,
        phase(machine),
        spec.host,
        certificates(machine)
    ));
    if let Some(failure) = &machine.record.failure {
        leaf.children.push(Tree::new(format!("{}: {}", failure.phase, failure.message.replace('\n', " "))));
    } else if phase(machine) == "Ready" {
        // Of one that is Ready: what ails it all the same, and what of it is not as it was declared.
        let drifted = machine.status.conditions.iter().filter(|condition| {
            condition.status != ConditionStatus::True
                && (["Healthy", "NodeHealthy"].contains(&condition.kind.as_str())
                    || [DriftKind::Definition, DriftKind::Node]
                        .iter()
                        .any(|kind| kind.condition() == condition.kind))
                && !condition.message.is_empty()
        });
        leaf.children.extend(drifted.map(|condition| Tree::new(condition.message.replace('\n', " "))));
    } else {
        let troubled = machine
            .status
            .conditions
            .iter()
            .find(|condition| condition.status != ConditionStatus::True && !condition.message.is_empty());
        leaf.children.extend(troubled.map(|condition| Tree::new(condition.message.replace('\n', " "))));
    }
    leaf
}
