//! Whole plans as text: what a person reads before anything happens.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::*;
use common::*;
use uuid::Uuid;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// Plans, checks, renders.
fn text(snapshot: &Snapshot) -> String {
    let mut world = World::new(snapshot.clone(), 1);
    let plan = world.plan();
    render::plan_text(snapshot, &plan)
}

fn host<'w>(snapshot: &'w mut Snapshot, name: &str) -> &'w mut HostWorld {
    match snapshot.observed.hosts.get_mut(name) {
        Some(HostSeen::Seen(world)) => world,
        other => panic!("{other:?}"),
    }
}

fn unreachable(snapshot: &mut Snapshot, name: &str) {
    let reason = "connection timed out after 10 s".to_owned();
    snapshot.observed.hosts.insert(name.to_owned(), HostSeen::Unreachable { reason });
}

#[test]
fn six_machines_on_three_hosts() {
    insta::assert_snapshot!(text(&six_machines()));
}

#[test]
fn one_plus_one_on_an_emulated_host() {
    insta::assert_snapshot!(text(&one_plus_one()));
}

#[test]
fn nothing_fits() {
    let mut snapshot = one_plus_one();
    add_class(&mut snapshot, "ctrl", 2, "64Gi", "10Gi");
    add_host(&mut snapshot, "lab-2", 1, 128, Accelerator::Emulated);
    add_host(&mut snapshot, "lab-3", 8, 128, Accelerator::Emulated);
    snapshot.hosts.get_mut("lab-3").unwrap().spec.cordoned = true;
    insta::assert_snapshot!(text(&snapshot));
}

#[test]
fn spread_required_on_one_host() {
    let mut snapshot = one_plus_one();
    add_cluster(&mut snapshot, "demo", 3, 1);
    insta::assert_snapshot!(text(&snapshot));
}

#[test]
fn spread_preferred_on_one_host() {
    let mut snapshot = one_plus_one();
    add_cluster(&mut snapshot, "demo", 3, 0);
    let cluster = snapshot.clusters.get_mut(&key("demo")).unwrap();
    cluster.spec.control_plane.spread = Spread::Preferred;
    insta::assert_snapshot!(text(&snapshot));
}

#[test]
fn a_foreign_domain_has_our_name() {
    let mut snapshot = one_plus_one();
    let foreign = DomainSeen {
        uuid: Uuid::from_u128(0xf0),
        name: "demo-ctrl-1".to_owned(),
        state: DomainState::Running,
        mark: None,
        disk_paths: Default::default(),
        medium_path: None,
        persistent: true,
        paused_by_migration: false,
        migrated_away: false,
        definition: None,
        running: None,
    };
    host(&mut snapshot, "lab-1").domains.insert(foreign.uuid, foreign.clone());
    insta::assert_snapshot!("a_foreign_domain_before_placement", text(&snapshot));

    // It appears after the machine was decided.
    host(&mut snapshot, "lab-1").domains.clear();
    let mut world = World::new(snapshot, 1);
    let plan = world.plan();
    world.commit(plan.decisions);
    host(&mut world.snapshot, "lab-1").domains.insert(foreign.uuid, foreign.clone());
    let plan = world.settle();
    assert_eq!(host(&mut world.snapshot, "lab-1").domains[&foreign.uuid], foreign, "it is untouched");
    insta::assert_snapshot!("a_foreign_domain_after_placement", render::plan_text(&world.snapshot, &plan));
}

#[test]
fn our_domain_lost_its_mark() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    for domain in host(&mut world.snapshot, "lab-1").domains.values_mut() {
        domain.mark = None;
    }
    delete_cluster(&mut world.snapshot, "demo");
    let plan = world.settle();
    assert_eq!(host(&mut world.snapshot, "lab-1").domains.len(), 2, "both are untouched");
    insta::assert_snapshot!(render::plan_text(&world.snapshot, &plan));
}

#[test]
fn a_host_does_not_answer() {
    let mut world = World::new(six_machines(), 1);
    assert!(world.settle().is_empty());
    unreachable(&mut world.snapshot, "host-b");
    let plan = world.plan();
    insta::assert_snapshot!("host_unreachable", render::plan_text(&world.snapshot, &plan));

    delete_cluster(&mut world.snapshot, "prod");
    let plan = world.settle();
    insta::assert_snapshot!("host_unreachable_while_deleting", render::plan_text(&world.snapshot, &plan));
    assert_eq!(world.snapshot.machines.len(), 2, "machines of the host that does not answer stay");
}

#[test]
fn a_pool_is_not_mounted() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    delete_cluster(&mut world.snapshot, "demo");
    let pools = std::mem::take(&mut host(&mut world.snapshot, "lab-1").pools);
    let plan = world.settle();
    insta::assert_snapshot!(render::plan_text(&world.snapshot, &plan));
    host(&mut world.snapshot, "lab-1").pools = pools;
    assert!(world.settle().is_empty());
    assert!(world.snapshot.machines.is_empty());
}

#[test]
fn delete_in_stages() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    delete_cluster(&mut world.snapshot, "demo");
    let plan = world.plan();
    let first = render::plan_text(&world.snapshot, &plan);
    world.commit(plan.decisions);
    let plan = world.plan();
    let second = render::plan_text(&world.snapshot, &plan);
    world.act(&plan);
    let plan = world.plan();
    let third = render::plan_text(&world.snapshot, &plan);
    world.commit(plan.decisions);
    let plan = world.plan();
    let last = render::plan_text(&world.snapshot, &plan);
    insta::assert_snapshot!(format!(
        "# intent\n{first}\n# work\n{second}\n# seen to be gone\n{third}\n# after\n{last}"
    ));
}

#[test]
fn stop_and_start() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    let cluster = |world: &mut World, stopped| {
        world.snapshot.clusters.get_mut(&key("demo")).unwrap().record.stopped = stopped;
    };
    cluster(&mut world, true);
    let plan = world.plan();
    let stop = render::plan_text(&world.snapshot, &plan);
    world.log.clear();
    assert!(world.settle().is_empty(), "stopped, and as it should be");
    let stopped = world.log.join("\n");
    cluster(&mut world, false);
    let plan = world.plan();
    let start = render::plan_text(&world.snapshot, &plan);
    assert!(world.settle().is_empty());
    insta::assert_snapshot!(format!("# stop\n{stop}\n# done\n{stopped}\n\n# start\n{start}"));
}

#[test]
fn a_first_boot_fails() {
    let mut world = World::new(one_plus_one(), 1);
    while world.snapshot.machines.values().all(|machine| machine.record.first_started_at.is_none()) {
        let plan = world.plan();
        if plan.decisions.is_empty() {
            world.act(&plan);
        } else {
            world.commit(plan.decisions);
        }
    }
    let failure = ConsoleFailure {
        phase: "kubeadm init: control-plane".to_owned(),
        message: "the image of kube-apiserver is not in this node image: check its tag".to_owned(),
        log_lines: vec!["failed to pull image".to_owned()],
    };
    let seen = ConsoleSeen { phase: failure.phase.clone(), finished: false, failure: Some(failure) };
    world.snapshot.observed.consoles.insert(key("demo-ctrl-1"), seen);
    let plan = world.plan();
    world.commit(plan.decisions);
    let plan = world.plan();
    let machine = &world.snapshot.machines[&key("demo-ctrl-1")];
    assert_eq!(machine.record.failure.as_ref().unwrap().phase, "kubeadm init: control-plane");
    insta::assert_snapshot!(render::plan_text(&world.snapshot, &plan));
}

#[test]
fn explain_a_machine() {
    let mut snapshot = six_machines();
    snapshot.hosts.get_mut("host-c").unwrap().spec.rack = "r2".to_owned();
    add_host(&mut snapshot, "host-d", 64, 20, Accelerator::Kvm);
    add_host(&mut snapshot, "host-e", 64, 512, Accelerator::Kvm);
    snapshot.hosts.get_mut("host-e").unwrap().spec.cordoned = true;
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    let mut text = String::new();
    for machine in ["prod-ctrl-2", "prod-wkr-3"] {
        let placement = explain::placement(&world.snapshot, &key(machine)).unwrap();
        text += &explain::placement_text(&placement, 10);
    }
    text += &world.snapshot.machines[&key("prod-wkr-1")].metadata.annotations[explain::PLACEMENT_ANNOTATION];
    insta::assert_snapshot!(text);
}

#[test]
fn wrong_references() {
    let mut snapshot = one_plus_one();
    add_cluster(&mut snapshot, "a", 1, 1);
    add_cluster(&mut snapshot, "b", 1, 1);
    add_cluster(&mut snapshot, "c", 1, 1);
    add_cluster(&mut snapshot, "d", 1, 1);
    add_cluster(&mut snapshot, "e", 1, 1);
    let mut spec = |name: &str, change: fn(&mut ClusterSpec)| {
        change(&mut snapshot.clusters.get_mut(&key(name)).unwrap().spec);
    };
    spec("a", |spec| spec.kubernetes_version = "v1.30.0".to_owned());
    spec("b", |spec| spec.network = "wan".to_owned());
    spec("c", |spec| spec.control_plane.class = "huge".to_owned());
    spec("d", |spec| spec.endpoint.address = Some("10.0.0.1".parse().unwrap()));
    spec("e", |spec| spec.endpoint.address = Some("10.0.0.99".parse().unwrap()));
    snapshot.foreign_addresses.insert(("lan".to_owned(), "10.0.0.99".parse().unwrap()));
    insta::assert_snapshot!(text(&snapshot));
}
