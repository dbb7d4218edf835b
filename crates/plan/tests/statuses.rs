//! Phases and conditions through a cluster's life.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::fmt::Write as _;

use ashlar_api::*;
use ashlar_plan::*;
use common::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// Writes the statuses into the snapshot and tells what changed.
fn record(world: &mut World, plan: &Plan, text: &mut String) {
    for update in status::status(&world.snapshot, plan) {
        let (what, conditions) = match &update.status {
            status::StatusValue::Machine(status) => (status.phase.clone(), &status.conditions),
            status::StatusValue::Cluster(status) => {
                (format!("{}/{}", status.ready_machines, status.machines), &status.conditions)
            }
            status::StatusValue::WorkerGroup(status) => {
                (status.ready_replicas.to_string(), &status.conditions)
            }
            status::StatusValue::Host(status) => (String::new(), &status.conditions),
        };
        let conditions: Vec<String> = conditions
            .iter()
            .map(|condition| format!("{}={:?}({})", condition.kind, condition.status, condition.reason))
            .collect();
        let _ = writeln!(text, "{}: {what} {}", update.object, conditions.join(" "));
        let object_key = update.object.key();
        let snapshot = &mut world.snapshot;
        match update.status {
            status::StatusValue::Machine(status) => {
                snapshot.machines.get_mut(&object_key).unwrap().status = status
            }
            status::StatusValue::Cluster(status) => {
                snapshot.clusters.get_mut(&object_key).unwrap().status = status
            }
            status::StatusValue::WorkerGroup(status) => {
                snapshot.groups.get_mut(&object_key).unwrap().status = status
            }
            status::StatusValue::Host(status) => {
                snapshot.hosts.get_mut(&update.object.name).unwrap().status = status;
            }
        }
    }
}

#[test]
fn a_life() {
    let mut world = World::new(one_plus_one(), 1);
    let mut text = String::new();
    let live = |world: &mut World, text: &mut String| {
        for pass in 1.. {
            let plan = world.plan();
            if !plan.decisions.is_empty() {
                world.commit(plan.decisions);
                continue;
            }
            let _ = writeln!(text, "-- pass {pass}");
            record(world, &plan, text);
            if plan.steps.iter().all(|step| step.state != StepState::Ready) {
                break;
            }
            world.act(&plan);
        }
    };
    live(&mut world, &mut text);
    let plan = world.plan();
    assert_eq!(status::status(&world.snapshot, &plan), vec![], "an idle world changes no status");

    text.push_str("\n== the host falls silent\n");
    let was = world
        .snapshot
        .observed
        .hosts
        .insert("lab-1".to_owned(), HostSeen::Unreachable { reason: "no answer".to_owned() });
    live(&mut world, &mut text);
    world.snapshot.observed.hosts.insert("lab-1".to_owned(), was.unwrap());

    text.push_str("\n== stopped\n");
    world.snapshot.clusters.get_mut(&key("demo")).unwrap().record.stopped = true;
    live(&mut world, &mut text);

    text.push_str("\n== deleted\n");
    delete_cluster(&mut world.snapshot, "demo");
    live(&mut world, &mut text);
    insta::assert_snapshot!(text);
}

#[test]
fn transitions_keep_their_time() {
    let mut world = World::new(one_plus_one(), 1);
    let plan = world.settle();
    record(&mut world, &plan, &mut String::new());
    let ready = |world: &World| {
        let conditions = &world.snapshot.machines[&key("demo-wkr-1")].status.conditions;
        conditions.iter().find(|condition| condition.kind == "Ready").unwrap().last_transition_time
    };
    let before = ready(&world);
    world.snapshot.now += jiff::SignedDuration::from_hours(1);
    let plan = world.plan();
    record(&mut world, &plan, &mut String::new());
    assert_eq!(ready(&world), before);
}

/// The reason of a condition that an object has; none if it has none of that kind.
fn reason_of(world: &World, plan: &Plan, object: &ObjectRef, kind: &str) -> Option<String> {
    let update = status::status(&world.snapshot, plan).into_iter().find(|update| update.object == *object)?;
    let conditions = match update.status {
        status::StatusValue::Machine(status) => status.conditions,
        status::StatusValue::Cluster(status) => status.conditions,
        status::StatusValue::WorkerGroup(status) => status.conditions,
        status::StatusValue::Host(status) => status.conditions,
    };
    condition::find_condition(&conditions, kind).map(|condition| condition.reason.clone())
}

/// `apply` makes objects of the groups that stand in a cluster's file.
fn as_applied(world: &mut World) {
    world.snapshot.clusters.values_mut().for_each(|cluster| cluster.spec.workers.clear());
    world.snapshot.groups.values_mut().for_each(|group| group.metadata.owner_references.clear());
}

#[test]
fn what_is_lost_from_the_store_is_told_where_it_is_needed() {
    let mut world = World::new(one_plus_one(), 1);
    let _ = world.settle();
    as_applied(&mut world);
    let worker = ObjectRef::new(Kind::Machine, "default", "demo-wkr-1");
    let group = ObjectRef::new(Kind::WorkerGroup, "default", "demo-wkr");
    let cluster = ObjectRef::new(Kind::Cluster, "default", "demo");
    type Lose = fn(&mut Snapshot);
    let cases: [(Lose, &ObjectRef, &str); 5] = [
        (|snapshot| snapshot.groups = Objects::new(), &worker, "WorkerGroupMissing"),
        (|snapshot| snapshot.pools = Objects::new(), &worker, "StoragePoolMissing"),
        (
            |snapshot| {
                snapshot.hosts = Objects::new();
                snapshot.observed.hosts.clear();
            },
            &worker,
            "HostMissing",
        ),
        (|snapshot| snapshot.classes = Objects::new(), &group, "NoSuchClass"),
        (|snapshot| snapshot.classes = Objects::new(), &cluster, "NoSuchClass"),
    ];
    let before = world.snapshot.clone();
    for (lose, object, reason) in cases {
        lose(&mut world.snapshot);
        let plan = world.plan();
        assert_eq!(plan.decisions, Vec::<Vec<Decision>>::new(), "{reason}: nothing is decided for that");
        assert!(plan.steps.iter().all(|step| step.state != StepState::Ready), "{reason}: nothing is done");
        assert_eq!(reason_of(&world, &plan, object, "ResolvedRefs").as_deref(), Some(reason));
        assert!(plan.report.notes.iter().any(|note| note.reason == reason), "{reason} is in the plan");
        world.snapshot = before.clone();
    }
}

#[test]
fn a_group_that_was_lost_and_came_back_without_a_number_keeps_its_machines() {
    let mut world = World::new(one_plus_one(), 1);
    world.snapshot.clusters.values_mut().for_each(|cluster| cluster.spec.workers[0].replicas = Some(3));
    let _ = world.settle();
    as_applied(&mut world);
    let group = world.snapshot.groups.values_mut().next().unwrap();
    group.record = WorkerGroupRecord::default();
    group.spec.replicas = None;
    let plan = world.plan();
    assert_eq!(plan.decisions, Vec::<Vec<Decision>>::new());
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
}
