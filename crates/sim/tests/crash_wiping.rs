//! Ashlar is killed at every outside call and every commit while disks are overwritten before they are deleted: the next run ends where
//! an undisturbed one ends. That none is deleted without is judged by the world at each deletion, and that none is overwritten beside
//! another on its host.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use ashlar_api::{Kind, NamespacedName, ObjectRef};
use ashlar_engine::{Goal, Scope};
use ashlar_sim::{Record, Simulation, executor::Ended, fixtures};
use common::{DEADLINE, delete, demo, each, must_run};

/// A cluster whose disks are overwritten, that is up.
fn up(hosts: u32, control_planes: u32, workers: u32) -> Simulation {
    let simulation = Simulation::with_pool(1, hosts).unwrap();
    let cluster = fixtures::cluster("demo", control_planes, workers) + "  wipeDisks: zero\n";
    simulation.apply(&cluster).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    // So long that others go on meanwhile.
    simulation.world.state().hosts.values_mut().for_each(|host| host.overwrite_s = 70);
    simulation
}

fn zeroed(simulation: &Simulation) -> usize {
    simulation.world.state().trace.iter().filter(|line| line.contains(" zero_volume ")).count()
}

#[test]
fn a_crash_while_a_machine_is_replaced_leaves_no_disk_as_it_was() {
    let simulation = up(3, 3, 2);
    simulation.replace_machine(&NamespacedName::new("default", "demo-ctrl-1")).unwrap();
    simulation.record();
    must_run(&simulation, Goal::ClusterReady(demo()));
    must_run(&simulation, Goal::Settled);
    let records = simulation.take_records();
    let end = simulation.canonical().unwrap();
    assert_eq!(zeroed(&simulation), 2, "its root disk and etcd's");
    let is_past = |machine: &serde_json::Value| machine.pointer("/record/disksOnly") == Some(&true.into());
    assert!(records.iter().any(|record| record.objects("Machine").any(is_past)), "nobody waits for them");
    println!("{} copies on the way", records.len());
    let records: Vec<&Record> = records.iter().collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::ClusterReady(demo()));
        must_run(&next, Goal::Settled);
        let at = format!("{:?}", record.point);
        common::assert_same(&at, &next.canonical().unwrap(), &end);
    });
}

/// The same, and with Ashlar all hosts lose their power, so that nobody hears etcd when they are back: who has left it is not started
/// again from disks that are being overwritten. That is judged by the world whenever a domain goes on.
#[test]
fn who_has_left_etcd_stays_off_when_everything_loses_its_power() {
    let simulation = up(3, 3, 0);
    simulation.replace_machine(&NamespacedName::new("default", "demo-ctrl-1")).unwrap();
    simulation.record();
    must_run(&simulation, Goal::ClusterReady(demo()));
    must_run(&simulation, Goal::Settled);
    let records = simulation.take_records();
    println!("{} copies on the way", records.len());
    let records: Vec<&Record> = records.iter().collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        {
            let mut state = next.world.state();
            let hosts: Vec<String> = state.hosts.keys().cloned().collect();
            for on in [false, true] {
                hosts.iter().for_each(|host| state.power(host, on).unwrap());
            }
        }
        must_run(&next, Goal::ClusterReady(demo()));
        must_run(&next, Goal::Settled);
        assert_eq!(next.world.state().etcd_votes(&demo()), (3, 3), "{:?}", record.point);
        assert_eq!(next.world.state().violations(), &[] as &[String], "{:?}", record.point);
    });
}

#[test]
fn a_crash_while_a_cluster_is_deleted_leaves_no_disk_as_it_was() {
    let simulation = up(2, 1, 2);
    delete(&simulation);
    simulation.record();
    must_run(&simulation, Goal::ClusterGone(demo()));
    let records = simulation.take_records();
    assert_eq!(zeroed(&simulation), 4, "three root disks and etcd's");
    println!("{} copies on the way", records.len());
    let records: Vec<&Record> = records.iter().collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::ClusterGone(demo()));
        let state = next.world.state();
        let left: Vec<_> = state
            .hosts
            .values()
            .flat_map(|host| host.pools.values())
            .flat_map(|pool| pool.volumes.keys())
            .filter(|file| file.contains("demo-"))
            .collect();
        assert_eq!(left, Vec::<&String>::new(), "{:?}", record.point);
    });
}

/// A disk that is deleted without is noticed.
#[test]
fn the_judge_sees_what_was_not_overwritten() {
    let simulation = up(1, 1, 1);
    delete(&simulation);
    // Somebody says that it has been done, and it has not.
    let volume = ObjectRef::new(Kind::Volume, "default", "demo-wkr-1-root");
    let stored = simulation.read(&volume).unwrap().unwrap();
    assert_eq!(stored.pointer("/record/wipe"), Some(&true.into()), "{stored}");
    simulation.edit(&volume, "/record/wiped", "true").unwrap();
    let ended = simulation.run(&Scope::All, &Goal::ClusterGone(demo()), DEADLINE);
    assert!(matches!(ended, Ended::Violated), "{ended:?}");
    let state = simulation.world.state();
    let found = state.violations().join("\n");
    assert!(found.contains("was to be overwritten first"), "{found}");
}
