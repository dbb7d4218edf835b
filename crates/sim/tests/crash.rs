//! Ashlar is killed at every outside call and every store commit, before and after it: the next run ends where an
//! undisturbed one ends, and nothing is left over.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use ashlar_engine::Goal;
use ashlar_engine::Scope;
use ashlar_sim::{CrashPoint, Moment, Record, Simulation, executor::Ended, fixtures};
use common::{DEADLINE, cluster_ref, delete, demo, each, must_run};

/// A run to the goal, with a copy at every crash point.
fn recorded(simulation: &Simulation, goal: Goal) -> Vec<Record> {
    simulation.record();
    must_run(simulation, goal);
    simulation.take_records()
}

/// What was recorded in the store before the crash keeps its identity: nothing is made a second time.
fn assert_same_identities(at: &str, record: &Record, end: &Simulation) {
    let end: BTreeMap<String, String> = end
        .stored()
        .unwrap()
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.pointer("/metadata/uid")?.as_str()?.to_owned())))
        .collect();
    for (key, uid) in record.uids().filter(|(key, _)| !key.starts_with("Event/")) {
        if let Some(now) = end.get(&key) {
            assert_eq!(now, uid, "{at}: {key} was made anew");
        }
    }
}

fn crash_everywhere(control_planes: u32, workers: u32, hosts: u32, every: usize) {
    crash_on_network("  network: lab\n", control_planes, workers, hosts, every);
}

fn crash_on_network(network: &str, control_planes: u32, workers: u32, hosts: u32, every: usize) {
    let simulation = Simulation::with_pool(1, hosts).unwrap();
    simulation.apply(fixtures::OVERLAY).unwrap();
    let cluster = fixtures::cluster("demo", control_planes, workers);
    simulation.apply(&cluster.replace("  network: lab\n", network)).unwrap();
    let creating = recorded(&simulation, Goal::ClusterReady(demo()));
    let ready = simulation.canonical().unwrap();
    delete(&simulation);
    let deleting = recorded(&simulation, Goal::ClusterGone(demo()));
    let gone = simulation.canonical().unwrap();
    println!("{} copies while it was created, {} while it was deleted", creating.len(), deleting.len());

    let creating: Vec<&Record> = creating.iter().step_by(every).collect();
    each(&creating, |record| {
        let at = format!("creating, {:?}", record.point);
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::ClusterReady(demo()));
        assert_eq!(next.world.state().leftover_secrets(&demo()), Vec::<String>::new(), "{at}");
        assert_same_identities(&at, record, &next);
        assert_eq!(next.canonical().unwrap(), ready, "{at}");
        // And who thinks better of it deletes what is half there.
        let next = simulation.resume(record).unwrap();
        delete(&next);
        must_run(&next, Goal::ClusterGone(demo()));
        assert_eq!(next.world.state().remains(&demo()), Vec::<String>::new(), "{at}");
    });
    let deleting: Vec<&Record> = deleting.iter().step_by(every).collect();
    each(&deleting, |record| {
        let at = format!("deleting, {:?}", record.point);
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::ClusterGone(demo()));
        assert_eq!(next.world.state().remains(&demo()), Vec::<String>::new(), "{at}");
        assert_eq!(next.canonical().unwrap(), gone, "{at}");
    });
}

#[test]
fn a_crash_anywhere_ends_where_an_undisturbed_run_ends() {
    crash_everywhere(1, 1, 1, 1);
}

#[test]
fn a_crash_in_a_highly_available_cluster_does_so_too() {
    crash_everywhere(3, 1, 3, 23);
}

#[test]
fn a_crash_anywhere_leaves_nothing_of_an_overlay() {
    crash_on_network("  network: overlay\n", 3, 1, 3, 7);
}

#[test]
fn a_crash_anywhere_leaves_nothing_of_a_network_of_its_own() {
    crash_on_network("", 1, 1, 2, 3);
}

/// Runs to the goal, killed at each of the points in turn; whoever comes after the last crash is left in peace.
fn run_with_crashes(simulation: &Simulation, goal: &Goal, points: &[CrashPoint]) {
    for point in points {
        simulation.world.crash_at(Some(*point));
        match simulation.run(&Scope::All, goal, DEADLINE) {
            Ended::Crashed => {}
            // It was done before it came so far.
            Ended::Done(Ok(_)) => break,
            other => panic!("{point:?}: {other:?}\n{}", common::trace(simulation)),
        }
    }
    simulation.world.crash_at(None);
    must_run(simulation, goal.clone());
}

#[test]
fn two_crashes_in_a_row_do_so_too() {
    let undisturbed = Simulation::with_pool(1, 1).unwrap();
    undisturbed.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
    must_run(&undisturbed, Goal::ClusterReady(demo()));
    let ready = undisturbed.canonical().unwrap();
    let pairs: Vec<[CrashPoint; 2]> =
        [(3, 0), (7, 5), (19, 1), (33, 12), (41, 40), (57, 2), (70, 9), (85, 4)]
            .iter()
            .flat_map(|(first, second)| {
                [(Moment::Before, Moment::After), (Moment::After, Moment::Before)].map(|(one, other)| {
                    [
                        CrashPoint { effect: *first, moment: one },
                        CrashPoint { effect: *second, moment: other },
                    ]
                })
            })
            .collect();
    each(&pairs, |points| {
        let simulation = Simulation::with_pool(1, 1).unwrap();
        simulation.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
        run_with_crashes(&simulation, &Goal::ClusterReady(demo()), points);
        assert_eq!(simulation.canonical().unwrap(), ready, "{points:?}");
        simulation.delete(&cluster_ref()).unwrap();
        run_with_crashes(
            &simulation,
            &Goal::ClusterGone(demo()),
            &points.map(|point| CrashPoint { effect: point.effect % 17, ..point }),
        );
        assert_eq!(simulation.world.state().remains(&demo()), Vec::<String>::new(), "{points:?}");
    });
}

/// A change of a cluster that is up, with a crash at every `every`-th point of it.
fn crash_in_a_change(hosts: u32, from: u32, change: impl Fn(&Simulation), voters: usize, every: usize) {
    let simulation = Simulation::with_pool(1, hosts).unwrap();
    simulation.apply(&fixtures::cluster("demo", from, 1)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    change(&simulation);
    let records = recorded(&simulation, Goal::ClusterReady(demo()));
    assert_eq!(simulation.world.state().etcd_votes(&demo()), (voters, voters));
    let end = simulation.canonical().unwrap();
    println!("{} copies from {from} control planes to {voters}", records.len());
    let records: Vec<&Record> = records.iter().step_by(every).collect();
    each(&records, |record| {
        let at = format!("from {from} to {voters}, {:?}", record.point);
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::ClusterReady(demo()));
        assert_eq!(next.world.state().leftover_secrets(&demo()), Vec::<String>::new(), "{at}");
        assert_eq!(next.world.state().etcd_votes(&demo()), (voters, voters), "{at}");
        assert_same_identities(&at, record, &next);
        assert_eq!(next.canonical().unwrap(), end, "{at}");
    });
}

fn scale(to: u32) -> impl Fn(&Simulation) {
    move |simulation| {
        simulation.apply(&fixtures::cluster("demo", to, 1)).unwrap();
    }
}

#[test]
fn a_crash_while_control_planes_come_ends_with_all_of_them() {
    crash_in_a_change(3, 1, scale(3), 3, 5);
    crash_in_a_change(5, 3, scale(5), 5, 11);
}

#[test]
fn a_crash_while_control_planes_go_ends_without_them() {
    crash_in_a_change(3, 3, scale(1), 1, 1);
    crash_in_a_change(5, 5, scale(3), 3, 3);
}

#[test]
fn a_crash_while_a_healthy_control_plane_is_replaced_ends_with_the_other() {
    let delete = |simulation: &Simulation| {
        let object = ashlar_api::ObjectRef::new(ashlar_api::Kind::Machine, "default", "demo-ctrl-1");
        simulation.delete(&object).unwrap();
    };
    crash_in_a_change(3, 3, delete, 3, 3);
}

#[test]
fn a_crash_while_a_failed_join_is_replaced_ends_with_another() {
    let fail = |simulation: &Simulation| {
        let failure = ("kubeadm-etcd-join".to_owned(), "kubeadm".to_owned());
        simulation.world.state().failing_boots.insert("demo-ctrl-2".to_owned(), failure);
        simulation.apply(&fixtures::cluster("demo", 3, 1)).unwrap();
    };
    crash_in_a_change(3, 1, fail, 3, 7);
}

#[test]
fn a_crash_while_unused_image_files_go_leaves_none_and_keeps_none_that_is_wanted() {
    let simulation = Simulation::with_pool(1, 2).unwrap();
    let cluster = fixtures::cluster("demo", 1, 1);
    simulation.apply(&cluster).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    delete(&simulation);
    must_run(&simulation, Goal::ClusterGone(demo()));
    simulation.world.state().advance(jiff::SignedDuration::from_hours(25));
    let records = recorded(&simulation, Goal::Settled);
    let end = simulation.canonical().unwrap();
    assert!(!end.contains("imageFile"), "{end}");
    println!("{} copies while image files went", records.len());
    each(&records, |record| {
        let at = format!("{:?}", record.point);
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::Settled);
        assert_eq!(next.canonical().unwrap(), end, "{at}");
        // Wanted again, by a command that is about nothing but the cluster.
        let next = simulation.resume(record).unwrap();
        next.apply(&cluster).unwrap();
        match next.run(&Scope::Cluster(demo()), &Goal::ClusterReady(demo()), DEADLINE) {
            Ended::Done(Ok(_)) => {}
            other => panic!("{at}: {other:?}\n{}", common::trace(&next)),
        }
        assert_eq!(next.world.state().violations(), Vec::<String>::new(), "{at}");
    });
}
