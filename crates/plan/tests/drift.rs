//! What people changed behind Ashlar's back: seen field by field, put right or told.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::sync::Arc;

use ashlar_api::*;
use ashlar_plan::definition::{DefinedDisk, DefinedNic, differences};
use ashlar_plan::*;
use common::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

fn living() -> World {
    let mut world = World::new(six_machines(), 1);
    assert!(world.settle().is_empty());
    world.log.clear();
    world
}

fn domain<'w>(world: &'w mut World, name: &str) -> &'w mut DomainSeen {
    let machine = world.snapshot.machines[&key(name)].clone();
    match world.snapshot.observed.hosts.get_mut(&machine.spec.host) {
        Some(HostSeen::Seen(host)) => host.domains.get_mut(&machine.spec.domain.uuid).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn edit(world: &mut World, name: &str, edit: impl FnOnce(&mut Definition)) {
    edit(Arc::make_mut(domain(world, name).definition.as_mut().unwrap()));
}

fn node<'w>(world: &'w mut World, name: &str) -> &'w mut NodeSeen {
    match world.snapshot.observed.clusters.get_mut(&key("prod")) {
        Some(ClusterSeen::Seen(api)) => api.nodes.get_mut(name).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn report_only(world: &mut World) {
    let cluster = world.snapshot.clusters.get_mut(&key("prod")).unwrap();
    cluster.spec.drift.policy = DriftPolicy::Report;
}

/// Conditions of the machine that say what was changed.
fn told(world: &World, plan: &Plan, name: &str) -> Vec<String> {
    let updates = status::status(&world.snapshot, plan);
    let status = updates.iter().find_map(|update| match &update.status {
        status::StatusValue::Machine(status) if update.object.name == name => Some(status),
        _ => None,
    });
    let conditions = status.map_or(&[][..], |status| &status.conditions);
    let is_drift =
        |condition: &&Condition| ["DefinitionCurrent", "NodeAsDeclared"].contains(&condition.kind.as_str());
    conditions
        .iter()
        .filter(is_drift)
        .map(|condition| {
            format!("{} {:?} {}: {}", condition.kind, condition.status, condition.reason, condition.message)
        })
        .collect()
}

fn actions(plan: &Plan) -> Vec<&Action> {
    plan.steps.iter().filter_map(|step| step.action.as_ref()).collect()
}

#[test]
fn what_was_just_defined_is_as_declared() {
    let world = living();
    for machine in world.snapshot.machines.values() {
        let spec = domain::domain_spec(world.snapshot.installation, machine, &world.snapshot.volumes, false)
            .unwrap();
        assert_eq!(differences(machine, &world.snapshot.volumes, &Definition::of(&spec)), []);
    }
}

/// What a person does to a definition.
type Edit = fn(&mut Definition);

/// Each field by itself: who edits it reads what it was and what it is.
#[test]
fn every_field_is_compared() {
    let world = living();
    let machine = &world.snapshot.machines[&key("prod-ctrl-1")];
    let spec =
        domain::domain_spec(world.snapshot.installation, machine, &world.snapshot.volumes, false).unwrap();
    let edits: [(&str, Edit); 24] = [
        ("type", |it| it.kind = "xen".to_owned()),
        ("machine type", |it| it.machine_type = "pc-i440fx-7.2".to_owned()),
        ("memory", |it| (it.memory_kib, it.current_memory_kib) = (1024 * 1024, 1024 * 1024)),
        ("memory in odd numbers", |it| it.memory_kib = 1_000_001),
        ("current memory", |it| it.current_memory_kib = 1024 * 1024),
        ("vCPUs", |it| (it.vcpus, it.current_vcpus) = (17, 17)),
        ("current vCPUs", |it| it.current_vcpus = 1),
        ("threads", |it| it.shared_cpus = "0-1".parse().unwrap()),
        ("own threads", |it| it.own_cpus = vec!["3".parse().unwrap()]),
        ("NUMA", |it| it.numa_nodes = "1".parse().unwrap()),
        ("huge pages", |it| it.hugepages_kib = Some(2048)),
        ("kernel", |it| it.kernel_path = "/boot/vmlinuz".to_owned()),
        ("initrd", |it| it.initrd_path.clear()),
        ("command line", |it| it.command_line.push_str(" single")),
        ("no etcd disk", |it| it.disks.retain(|disk| disk.serial != "etcd")),
        ("another root disk", |it| it.disks[0].path = "/srv/other.qcow2".to_owned()),
        ("another base", |it| it.disks[0].backing_path = Some("/srv/base.qcow2".to_owned())),
        ("unsafe cache", |it| it.disks[0].cache = "unsafe".to_owned()),
        ("one more disk", |it| {
            it.disks.push(DefinedDisk { path: "/srv/more.img".to_owned(), ..DefinedDisk::default() });
        }),
        ("another bridge", |it| it.nics[0].bridge = "virbr0".to_owned()),
        ("no filter", |it| it.nics[0].filter.clear()),
        ("another MTU and VLAN", |it| (it.nics[0].mtu, it.nics[0].vlan) = (None, Some(7))),
        ("another card", |it| {
            it.nics = vec![DefinedNic { mac: "52:54:00:00:00:01".to_owned(), ..DefinedNic::default() }];
        }),
        ("a device", |it| it.devices.push("hostdev (pci)".to_owned())),
    ];
    let mut text = String::new();
    for (what, edit) in edits {
        let mut found = Definition::of(&spec);
        edit(&mut found);
        let changes = differences(machine, &world.snapshot.volumes, &found);
        assert!(!changes.is_empty(), "{what} is not noticed");
        let changes: Vec<String> = changes.iter().map(|change| format!("  {change}\n")).collect();
        text.push_str(&format!("{what}\n{}", changes.concat()));
    }
    insta::assert_snapshot!(text);
    // What is not told is not compared.
    let mut found = Definition::of(&spec);
    found.disks[0].backing_path = None;
    assert_eq!(differences(machine, &world.snapshot.volumes, &found), []);
}

#[test]
fn an_edited_definition_is_put_right_and_nothing_is_restarted() {
    let mut world = living();
    edit(&mut world, "prod-wkr-1", |it| it.memory_kib *= 2);
    let plan = world.plan();
    assert_eq!(actions(&plan), [&Action::RedefineDomain { machine: key("prod-wkr-1") }]);
    insta::assert_snapshot!(told(&world, &plan, "prod-wkr-1").join("\n"));
    assert_eq!(drift::news(&world.snapshot, &plan).len(), 1);
    assert!(in_place::not_in_place(&plan).is_empty(), "a guest that runs is not touched");
    assert!(world.settle().is_empty());
    assert_eq!(world.log.len(), 1, "{:#?}", world.log);
}

#[test]
fn an_edited_definition_is_put_right_before_its_domain_starts() {
    let mut world = living();
    edit(&mut world, "prod-wkr-1", |it| it.nics[0].filter.clear());
    domain(&mut world, "prod-wkr-1").state = DomainState::ShutOff;
    let machine = || key("prod-wkr-1");
    let plan = world.plan();
    assert_eq!(
        actions(&plan),
        [&Action::RedefineDomain { machine: machine() }, &Action::StartDomain { machine: machine() }]
    );
}

#[test]
fn where_it_is_only_told_nothing_is_done() {
    let mut world = living();
    report_only(&mut world);
    edit(&mut world, "prod-wkr-1", |it| it.vcpus = 1);
    node(&mut world, "prod-wkr-1")
        .labels
        .insert("node.kubernetes.io/instance-type".to_owned(), "huge".to_owned());
    let plan = world.plan();
    assert!(plan.is_empty(), "{plan:#?}");
    insta::assert_snapshot!(told(&world, &plan, "prod-wkr-1").join("\n"));
}

#[test]
fn what_runs_otherwise_is_told_and_left_to_its_next_start() {
    let mut world = living();
    let domain = domain(&mut world, "prod-wkr-1");
    let mut running = Definition::clone(domain.definition.as_deref().unwrap());
    running.memory_kib /= 2;
    running.current_memory_kib /= 2;
    domain.running = Some(Arc::new(running));
    let plan = world.plan();
    assert!(plan.is_empty(), "{plan:#?}");
    insta::assert_snapshot!(told(&world, &plan, "prod-wkr-1").join("\n"));
}

#[test]
fn a_definition_that_was_removed_under_a_running_domain_comes_back() {
    let mut world = living();
    domain(&mut world, "prod-wkr-1").persistent = false;
    let plan = world.plan();
    assert_eq!(actions(&plan), [&Action::RedefineDomain { machine: key("prod-wkr-1") }]);
    // One that is on its way is libvirt's business.
    domain(&mut world, "prod-wkr-1").paused_by_migration = true;
    assert!(!actions(&world.plan()).contains(&&Action::RedefineDomain { machine: key("prod-wkr-1") }));
}

#[test]
fn a_strangers_definition_is_nobodys_business() {
    let mut world = living();
    edit(&mut world, "prod-wkr-1", |it| it.memory_kib *= 2);
    domain(&mut world, "prod-wkr-1").mark = None;
    let plan = world.plan();
    assert_eq!(actions(&plan), [] as [&Action; 0]);
    assert!(plan.report.drifts.is_empty());
}

#[test]
fn labels_and_taints_of_ours_are_put_back_and_those_of_others_stay() {
    let mut world = living();
    let worker = node(&mut world, "prod-wkr-1");
    worker.labels.remove("node.kubernetes.io/instance-type");
    worker.labels.insert("theirs".to_owned(), "yes".to_owned());
    let theirs = Taint { key: "theirs".to_owned(), value: String::new(), effect: TaintEffect::NoSchedule };
    worker.taints.push(theirs.clone());
    node(&mut world, "prod-ctrl-1").taints.clear();
    let plan = world.plan();
    assert_eq!(
        actions(&plan),
        [
            &Action::ConfigureNode { machine: key("prod-ctrl-1") },
            &Action::ConfigureNode { machine: key("prod-wkr-1") }
        ]
    );
    insta::assert_snapshot!(
        [told(&world, &plan, "prod-ctrl-1"), told(&world, &plan, "prod-wkr-1")].concat().join("\n")
    );
    assert!(world.settle().is_empty());
    let worker = node(&mut world, "prod-wkr-1");
    assert_eq!(worker.labels["theirs"], "yes");
    assert!(worker.taints.contains(&theirs));
    assert!(worker.labels.contains_key("node.kubernetes.io/instance-type"));
}

/// What is declared anew is no drift, and reaches nodes under either rule.
#[test]
fn declared_labels_reach_nodes_where_drift_is_only_told() {
    let mut world = living();
    report_only(&mut world);
    world
        .snapshot
        .groups
        .get_mut(&key("prod-wkr"))
        .unwrap()
        .spec
        .labels
        .insert("tier".to_owned(), "web".to_owned());
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.workers[0]
        .labels
        .insert("tier".to_owned(), "web".to_owned());
    assert!(world.settle().is_empty());
    assert_eq!(node(&mut world, "prod-wkr-1").labels["tier"], "web");
    assert!(!world.snapshot.machines[&key("prod-wkr-1")].record.node_lags());
    node(&mut world, "prod-wkr-1").labels.remove("tier");
    let plan = world.plan();
    assert!(plan.is_empty() && plan.report.drifts.len() == 1, "{plan:#?}");
}

/// Its agent takes it away when the node's network is up, as Cilium's does; put back it would evict what runs there.
#[test]
fn a_taint_that_evicts_is_set_once_and_not_put_back() {
    let mut world = living();
    let taint =
        Taint { key: "net/agent-not-ready".to_owned(), value: String::new(), effect: TaintEffect::NoExecute };
    world.snapshot.groups.get_mut(&key("prod-wkr")).unwrap().spec.taints.push(taint.clone());
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.workers[0].taints.push(taint.clone());
    assert!(world.settle().is_empty());
    assert!(node(&mut world, "prod-wkr-1").taints.contains(&taint), "it was declared");
    node(&mut world, "prod-wkr-1").taints.clear();
    let plan = world.plan();
    assert!(plan.is_empty(), "{plan:#?}");
    let drifts = &plan.report.drifts;
    assert!(drifts.len() == 1 && drifts[0].message.contains("would evict pods"), "{drifts:#?}");
}

/// The host's QEMU may have the declared one no more; what was declared would be refused, and the machine stay off.
#[test]
fn another_machine_type_is_left_and_told() {
    let mut world = living();
    edit(&mut world, "prod-wkr-1", |it| it.machine_type = "pc-q35-9.0".to_owned());
    domain(&mut world, "prod-wkr-1").state = DomainState::ShutOff;
    let plan = world.plan();
    assert_eq!(actions(&plan), [&Action::StartDomain { machine: key("prod-wkr-1") }]);
    let drifts = &plan.report.drifts;
    assert!(drifts.iter().any(|drift| drift.message.contains("another type")), "{drifts:#?}");
}
