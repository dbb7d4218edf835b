//! Changing one's mind: what of it happens in place, what replaces machines, and how `plan` says so before anything does.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::in_place::not_in_place;
use ashlar_plan::render::plan_text;
use ashlar_plan::*;
use common::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

fn living() -> World {
    let mut snapshot = six_machines();
    add_class(&mut snapshot, "big", 24, "96Gi", "100Gi");
    add_class(&mut snapshot, "ctrl-big", 12, "32Gi", "40Gi");
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    world.log.clear();
    world
}

fn group(world: &mut World) -> &mut InlineWorkerGroup {
    &mut world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.workers[0]
}

fn node(world: &World, name: &str) -> NodeSeen {
    match &world.snapshot.observed.clusters[&key("prod")] {
        ClusterSeen::Seen(api) => api.nodes[name].clone(),
        ClusterSeen::Unreachable { reason } | ClusterSeen::NotOurs { reason } => panic!("{reason}"),
    }
}

fn taint(key: &str) -> Taint {
    Taint { key: key.to_owned(), value: "yes".to_owned(), effect: TaintEffect::NoSchedule }
}

/// The plan's text without what was planned for machines that are new, which depends on ids.
fn text(world: &mut World) -> String {
    let plan = world.plan();
    plan_text(&world.snapshot, &plan)
}

#[test]
fn labels_and_taints_change_in_place() {
    let mut world = living();
    let before: Vec<_> = world.snapshot.machines.values().map(|machine| machine.metadata.uid).collect();
    group(&mut world).labels.insert("disk".to_owned(), "ssd".to_owned());
    group(&mut world).taints.push(taint("batch"));
    let plan = world.plan();
    assert_eq!(not_in_place(&plan), Vec::<String>::new());
    insta::assert_snapshot!("labels", plan_text(&world.snapshot, &plan));
    assert!(world.settle().is_empty());
    let seen = node(&world, "prod-wkr-2");
    assert_eq!(seen.labels.get("disk").map(String::as_str), Some("ssd"));
    assert_eq!(seen.taints, [taint("batch")]);

    // Taken back: what others gave the node stays, and nothing is remembered for longer than needed.
    if let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) {
        let node = api.nodes.get_mut("prod-wkr-2").unwrap();
        node.labels.insert("mine".to_owned(), "yes".to_owned());
        node.taints.push(taint("mine"));
    }
    assert!(world.settle().is_empty());
    group(&mut world).labels.clear();
    group(&mut world).taints.clear();
    assert!(world.settle().is_empty());
    let seen = node(&world, "prod-wkr-2");
    assert_eq!((seen.labels.get("disk"), seen.labels.contains_key("mine")), (None, true));
    assert_eq!(seen.taints, [taint("mine")]);
    for machine in world.snapshot.machines.values() {
        assert_eq!(machine.record.removed_labels, Vec::<String>::new());
        assert_eq!(machine.record.removed_taints, Vec::new());
    }
    let after: Vec<_> = world.snapshot.machines.values().map(|machine| machine.metadata.uid).collect();
    assert_eq!(before, after, "nothing was replaced");
}

#[test]
fn another_class_replaces_workers_one_at_a_time() {
    let mut world = living();
    group(&mut world).class = "big".to_owned();
    insta::assert_snapshot!("class", text(&mut world));
    let plan = world.plan();
    assert!(not_in_place(&plan).iter().any(|line| line.contains("prod-wkr-3")), "{:?}", not_in_place(&plan));
    assert!(world.settle().is_empty());
    let workers: Vec<_> = world
        .snapshot
        .machines
        .values()
        .filter(|machine| machine.spec.role == MachineRole::Worker)
        .map(|machine| (machine.metadata.name.as_str(), machine.spec.class.as_str()))
        .collect();
    assert_eq!(workers, [("prod-wkr-4", "big"), ("prod-wkr-5", "big"), ("prod-wkr-6", "big")]);
    let order: Vec<_> = world
        .log
        .iter()
        .filter(|line| line.contains("startDomain") || line.contains("destroyDomain"))
        .map(|line| {
            line.split([' ', ':', '"'])
                .filter(|word| word.contains("prod-") || word.ends_with("Domain"))
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        order,
        [
            "prod-wkr-4 startDomain",
            "prod-wkr-1 destroyDomain",
            "prod-wkr-5 startDomain",
            "prod-wkr-2 destroyDomain",
            "prod-wkr-6 startDomain",
            "prod-wkr-3 destroyDomain",
        ]
    );
}

#[test]
fn another_class_replaces_control_planes_one_at_a_time() {
    let mut world = living();
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.control_plane.class = "ctrl-big".to_owned();
    let plan = world.plan();
    assert!(!not_in_place(&plan).is_empty());
    assert!(world.settle().is_empty());
    let members: Vec<_> = world.etcd[&key("prod")].values().map(|member| member.name.clone()).collect();
    assert_eq!(members.len(), 3);
    for machine in
        world.snapshot.machines.values().filter(|machine| machine.spec.role == MachineRole::ControlPlane)
    {
        assert_eq!(machine.spec.class, "ctrl-big");
    }
}

#[test]
fn only_in_place_refuses_whatever_is_not_certain() {
    let mut world = living();
    group(&mut world).replicas = Some(4);
    let more = not_in_place(&world.plan());
    assert!(more.iter().any(|line| line.contains("prod-wkr-4 is made")), "{more:?}");
    group(&mut world).replicas = Some(2);
    let fewer = not_in_place(&world.plan());
    assert!(fewer.iter().any(|line| line.contains("prod-wkr-3 is removed")), "{fewer:?}");
    group(&mut world).replicas = Some(3);
    assert_eq!(not_in_place(&world.plan()), Vec::<String>::new());
    // A host that does not answer: nobody knows what would happen there.
    let reason = "no answer".to_owned();
    world.snapshot.observed.hosts.insert("host-a".to_owned(), HostSeen::Unreachable { reason });
    assert!(!not_in_place(&world.plan()).is_empty());
}

#[test]
fn a_second_group_comes_and_goes() {
    let mut world = living();
    let mut second = group(&mut world).clone();
    (second.name, second.replicas) = ("gpu".to_owned(), Some(1));
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.workers.push(second);
    assert!(world.settle().is_empty());
    assert!(world.snapshot.machines.contains_key(&key("prod-gpu-1")));
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.workers.pop();
    let plan = world.plan();
    assert!(plan.is_empty() && plan.report.notes.iter().any(|note| note.reason == "NotInFile"));
    let now = world.snapshot.now;
    world.snapshot.groups.get_mut(&key("prod-gpu")).unwrap().metadata.deletion_timestamp = Some(now);
    insta::assert_snapshot!("group", text(&mut world));
    assert!(world.settle().is_empty());
    assert!(!world.snapshot.machines.contains_key(&key("prod-gpu-1")));
}
