//! Machines that are not well: who is replaced, who is not, and what the checker says to a plan that replaces too many.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::check::check;
use ashlar_plan::*;
use common::patients::*;
use common::*;
use jiff::SignedDuration;

/// Of the patience with a node that is not Ready.
const QUARTER: SignedDuration = SignedDuration::from_secs(75);

/// The node says that it is not Ready.
fn fall_ill(world: &mut World, machine: &str) {
    let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) else {
        unreachable!("the API answers")
    };
    let node = api.nodes.get_mut(machine).unwrap();
    (node.ready, node.message) = (false, "Kubelet stopped posting node status.".to_owned());
}

#[test]
fn one_of_three_workers_is_replaced() {
    let mut world = living(1, 3);
    fall_ill(&mut world, "prod-wkr-2");
    insta::assert_snapshot!("one_patience", decided_fates(&world.plan()));
    be_patient(&mut world);
    insta::assert_snapshot!("one_goes", decided_fates(&world.plan()));
}

#[test]
fn of_two_sick_workers_of_three_one_goes() {
    let mut world = living(1, 3);
    fall_ill(&mut world, "prod-wkr-1");
    fall_ill(&mut world, "prod-wkr-3");
    be_patient(&mut world);
    insta::assert_snapshot!("two_of_three", decided_fates(&world.plan()));
}

#[test]
fn of_three_sick_workers_of_five_one_goes_first() {
    let mut world = living(1, 5);
    for number in 1..=3 {
        fall_ill(&mut world, &format!("prod-wkr-{number}"));
    }
    be_patient(&mut world);
    insta::assert_snapshot!("three_of_five", decided_fates(&world.plan()));
}

#[test]
fn nobody_goes_where_all_are_sick() {
    let mut world = living(3, 2);
    for machine in ["prod-wkr-1", "prod-wkr-2", "prod-ctrl-1", "prod-ctrl-2", "prod-ctrl-3"] {
        fall_ill(&mut world, machine);
    }
    be_patient(&mut world);
    insta::assert_snapshot!("all_sick", decided_fates(&world.plan()));
}

#[test]
fn a_control_plane_goes_while_the_others_are_well_and_the_only_one_never() {
    let mut world = living(3, 1);
    fall_ill(&mut world, "prod-ctrl-1");
    be_patient(&mut world);
    insta::assert_snapshot!("control_plane", decided_fates(&world.plan()));
    let mut world = living(1, 1);
    fall_ill(&mut world, "prod-ctrl-1");
    be_patient(&mut world);
    insta::assert_snapshot!("only_control_plane", decided_fates(&world.plan()));
}

#[test]
fn the_only_control_plane_is_well_again_once_its_node_is_ready() {
    let mut world = living(1, 1);
    // Its etcd is not asked, being the only one.
    world.snapshot.observed.etcd.clear();
    node(&mut world, "prod-ctrl-1").ready = false;
    pass(&mut world);
    assert_eq!(ailment(&world, "prod-ctrl-1"), Some(AilmentKind::NodeNotReady));
    node(&mut world, "prod-ctrl-1").ready = true;
    pass(&mut world);
    assert_eq!(ailment(&world, "prod-ctrl-1"), None);
}

#[test]
fn a_missing_answer_makes_nobody_sick_and_stops_the_patience() {
    let mut world = living(1, 3);
    fall_ill(&mut world, "prod-wkr-2");
    let plan = world.plan();
    world.commit(plan.decisions);
    let seen = world.snapshot.clone();
    let host = world.snapshot.machines[&key("prod-wkr-2")].spec.host.clone();
    let reason = "no route to host".to_owned();
    let silent = |world: &mut World, what: &str| match what {
        "host" => drop(
            world
                .snapshot
                .observed
                .hosts
                .insert(host.clone(), HostSeen::Unreachable { reason: reason.clone() }),
        ),
        _ => drop(
            world
                .snapshot
                .observed
                .clusters
                .insert(key("prod"), ClusterSeen::Unreachable { reason: reason.clone() }),
        ),
    };
    for what in ["host", "API"] {
        world.snapshot = seen.clone();
        silent(&mut world, what);
        for _ in 0..10 {
            world.snapshot.now += SignedDuration::from_mins(5);
            let plan = world.plan();
            assert!(plan.decisions.is_empty(), "{what}: {:?}", plan.decisions);
        }
    }
}

#[test]
fn what_others_held_up_has_its_last_quarter_anew_once_one_of_them_is_well() {
    for (sick, others) in [
        (["prod-wkr-1", "prod-wkr-2", "prod-wkr-3"].as_slice(), "prod-ctrl-1"),
        (["prod-ctrl-1", "prod-ctrl-2"].as_slice(), "prod-wkr-1"),
    ] {
        let mut world = living(3, 3);
        sick.iter().for_each(|machine| fall_ill(&mut world, machine));
        be_patient(&mut world);
        let (first, second) = (sick[0], sick[1]);
        let goes = |world: &mut World| decided_fates(&world.plan()).contains(&format!("{second} goes"));
        node(&mut world, first).ready = true;
        for second in [0, 2, 40, 32] {
            world.snapshot.now += SignedDuration::from_secs(second);
            assert!(!goes(&mut world), "{second} s after {first} was well");
            pass(&mut world);
        }
        world.snapshot.now += SignedDuration::from_secs(3);
        // Others' being ill and well says nothing of it.
        fall_ill(&mut world, others);
        pass(&mut world);
        node(&mut world, others).ready = true;
        assert!(goes(&mut world), "{second} stays ill");
    }
}

/// The API gives no answer for so long; then it answers as before.
fn api_is_silent_for(world: &mut World, time: SignedDuration) {
    let clusters = world.snapshot.observed.clusters.clone();
    let silent = ClusterSeen::Unreachable { reason: "no route to host".to_owned() };
    world.snapshot.observed.clusters.insert(key("prod"), silent);
    pass(world);
    world.snapshot.now += time;
    assert!(world.plan().decisions.is_empty(), "it is said once");
    world.snapshot.observed.clusters = clusters;
}

#[test]
fn after_a_hole_in_what_was_seen_the_last_quarter_of_the_patience_is_watched() {
    // In the middle of it, and when it was over and something else was in the way.
    for looks in [3, 4, 5] {
        let mut world = living(1, 3);
        fall_ill(&mut world, "prod-wkr-2");
        let rests = |world: &mut World, paused| {
            world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.paused = paused;
        };
        rests(&mut world, true);
        for _ in 0..=looks {
            pass(&mut world);
            world.snapshot.now += QUARTER;
        }
        rests(&mut world, false);
        api_is_silent_for(&mut world, SignedDuration::from_hours(2));
        let goes = |world: &mut World| decided_fates(&world.plan()).contains("prod-wkr-2 goes");
        // What is seen first may be old, or a kubelet that is restarted just then.
        for second in [0, 2, 40, 30] {
            world.snapshot.now += SignedDuration::from_secs(second);
            assert!(!goes(&mut world), "{looks} looks, {second} s");
            pass(&mut world);
        }
        world.snapshot.now += SignedDuration::from_secs(3);
        pass(&mut world);
        assert!(goes(&mut world), "{looks} looks");
    }
}

/// Its host is emptied, and it is on its way to another one that is like it, for as long as that takes.
fn moves(world: &mut World, machine: &str) {
    let from = world.snapshot.machines[&key(machine)].spec.host.clone();
    let hosts: Vec<String> = world.snapshot.hosts.keys().cloned().collect();
    for host in &hosts {
        let spec = &mut world.snapshot.hosts.get_mut(host).unwrap().spec;
        (spec.rack, spec.zone) = (String::new(), String::new());
        spec.underlay_address = Some([10, 0, 1, 1].into());
        spec.draining = *host == from;
    }
    let migration = Migration {
        to: hosts.into_iter().find(|host| *host != from).unwrap(),
        volumes: Vec::new(),
        disk_volume: String::new(),
        kernel_volume: String::new(),
        initrd_volume: String::new(),
        decided_at: world.snapshot.now,
        why: String::new(),
        failures: 0,
        last_failure: String::new(),
        failed_at: None,
        arrived_at: None,
        went_on_at: None,
    };
    world.snapshot.machines.get_mut(&key(machine)).unwrap().record.migration = Some(Box::new(migration));
}

#[test]
fn no_control_plane_goes_while_another_one_moves() {
    let mut world = living(3, 3);
    fall_ill(&mut world, "prod-ctrl-1");
    be_patient(&mut world);
    let there = world.snapshot.clone();
    assert!(decided_fates(&world.plan()).contains("prod-ctrl-1 goes"));
    moves(&mut world, "prod-ctrl-2");
    insta::assert_snapshot!(decided_fates(&world.plan()), @"prod-ctrl-1 waits, OneAtATime: control planes change one at a time: prod-ctrl-2 moves to another host first");
    // A worker that moves is in nobody's way.
    world.snapshot = there;
    let host_of = |world: &World, machine: &str| world.snapshot.machines[&key(machine)].spec.host.clone();
    let workers = ["prod-wkr-1", "prod-wkr-2", "prod-wkr-3"];
    let worker =
        workers.into_iter().find(|it| host_of(&world, it) != host_of(&world, "prod-ctrl-1")).unwrap();
    moves(&mut world, worker);
    assert!(decided_fates(&world.plan()).contains("prod-ctrl-1 goes"));
}

/// What the commit writes, or has unchanged, in which the machine's deletion is recorded.
fn deleted_with(plan: &Plan, machine: &str) -> Vec<String> {
    let is_deletion = |decision: &Decision| {
        matches!(decision, Decision::Update(Object::Machine(one)) if one.metadata.name == machine
            && one.metadata.is_deleting())
    };
    let commit = plan.decisions.iter().find(|commit| commit.iter().any(is_deletion)).unwrap();
    let told = commit.iter().map(|decision| match decision {
        Decision::Check { object, .. } => format!("{object} unchanged"),
        other => other.object_ref().to_string(),
    });
    told.collect()
}

/// What must be as it was read; what is written must be, too.
fn holds(commit: &[String], objects: &[&str]) {
    for object in objects {
        let is_held = |name: &String| name == object || *name == format!("{object} unchanged");
        assert!(commit.iter().any(is_held), "{object}: {commit:?}");
    }
}

/// A cluster for which nothing new is made, so that what is recorded is who goes.
fn full() -> World {
    let mut world = living(3, 3);
    let hosts: Vec<String> = world.snapshot.hosts.keys().cloned().collect();
    hosts.iter().for_each(|host| world.snapshot.hosts.get_mut(host).unwrap().spec.cordoned = true);
    world
}

#[test]
fn who_goes_is_recorded_with_all_that_was_a_reason_for_it() {
    let mut world = full();
    fall_ill(&mut world, "prod-wkr-2");
    be_patient(&mut world);
    let worker = deleted_with(&world.plan(), "prod-wkr-2");
    // It is counted in its group.
    assert!(worker.contains(&"workergroup prod-wkr".to_owned()), "{worker:?}");
    holds(&worker, &["cluster prod", "machine prod-wkr-2"]);

    let mut world = full();
    fall_ill(&mut world, "prod-ctrl-1");
    be_patient(&mut world);
    let control_plane = deleted_with(&world.plan(), "prod-ctrl-1");
    assert!(control_plane.contains(&"cluster prod".to_owned()), "{control_plane:?}");

    let mut world = full();
    let host = world.snapshot.machines[&key("prod-wkr-2")].spec.host.clone();
    let fence = HostFence { at: world.snapshot.now, confirmed_by: "a person".to_owned() };
    world.snapshot.hosts.get_mut(&host).unwrap().record.fence = Some(fence);
    let silent = HostSeen::Unreachable { reason: "it is off".to_owned() };
    world.snapshot.observed.hosts.insert(host.clone(), silent);
    pass(&mut world);
    let off = deleted_with(&world.plan(), "prod-wkr-2");
    holds(&off, &["cluster prod", "workergroup prod-wkr", &format!("host {host}")]);
}

/// A plan that replaces machines for their health although that is too much, or too early.
fn forced(world: &World, machines: &[&str]) -> Vec<String> {
    let now = world.snapshot.now;
    let mut writes: Vec<Decision> = Vec::new();
    for name in machines {
        let mut machine = Machine::clone(&world.snapshot.machines[&key(name)]);
        machine.metadata.deletion_timestamp = Some(now);
        machine.record.remediation =
            Some(Remediation { kind: AilmentKind::NodeNotReady, message: "forced".to_owned() });
        writes.push(Decision::Update(machine.into()));
    }
    let incident = Some(Incident { replaced: 1, last_at: now });
    let mut group = WorkerGroup::clone(&world.snapshot.groups[&key("prod-wkr")]);
    group.record.incident = incident.clone();
    writes.push(Decision::Update(group.into()));
    let mut cluster = Cluster::clone(&world.snapshot.clusters[&key("prod")]);
    cluster.record.incident = incident;
    writes.push(Decision::Update(cluster.into()));
    let plan = Plan { decisions: vec![writes], steps: Vec::new(), report: Report::default() };
    let found = check(&world.snapshot, &plan);
    found
        .into_iter()
        .filter(|violation| violation.rule == "Remediation")
        .map(|violation| violation.to_string())
        .collect()
}

#[test]
fn the_checker_refuses_what_the_planner_would_not_do() {
    let mut world = living(3, 3);
    let mut text = String::new();
    let mut tell = |what: &str, found: Vec<String>| {
        assert!(!found.is_empty(), "{what}");
        text += &format!("{what}\n  {}\n", found.join("\n  "));
    };
    tell("a healthy one", forced(&world, &["prod-wkr-1"]));
    fall_ill(&mut world, "prod-wkr-1");
    let plan = world.plan();
    world.commit(plan.decisions);
    tell("before its patience is over", forced(&world, &["prod-wkr-1"]));
    be_patient(&mut world);
    assert_eq!(forced(&world, &["prod-wkr-1"]), Vec::<String>::new());
    fall_ill(&mut world, "prod-wkr-2");
    be_patient_with(&mut world, "prod-wkr-1");
    tell("two at once", forced(&world, &["prod-wkr-1", "prod-wkr-2"]));
    let paused = |world: &mut World, paused| {
        world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.paused = paused;
    };
    paused(&mut world, true);
    tell("of a cluster that rests", forced(&world, &["prod-wkr-1"]));
    paused(&mut world, false);
    tell("a healthy control plane", forced(&world, &["prod-ctrl-1"]));
    let mut world = living(3, 3);
    fall_ill(&mut world, "prod-ctrl-1");
    be_patient(&mut world);
    assert_eq!(forced(&world, &["prod-ctrl-1"]), Vec::<String>::new());
    moves(&mut world, "prod-ctrl-2");
    tell("a control plane beside one that moves", forced(&world, &["prod-ctrl-1"]));
    insta::assert_snapshot!("checker", text);
}

/// The second worker is as far as the first.
fn be_patient_with(world: &mut World, first: &str) {
    let ailment = world.snapshot.machines[&key(first)].record.ailment.clone();
    world.snapshot.machines.get_mut(&key("prod-wkr-2")).unwrap().record.ailment = ailment;
}
