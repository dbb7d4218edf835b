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
