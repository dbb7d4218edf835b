//! Ashlar is killed at every outside call and every commit while somebody changes their mind about a cluster that is up, or
//! gives up one of two clusters: the change is finished by the next run, and the other cluster is left as it was.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;

use ashlar_api::{Kind, NamespacedName, ObjectRef};
use ashlar_engine::Goal;
use ashlar_sim::{Record, Simulation, fixtures};
use common::{demo, each, must_run};

/// A cluster that is up, with the words of its worker group exchanged, and a crash at every `every`-th point of that.
fn crash_in_a_change_of_workers(workers: &str, every: usize) {
    let simulation = Simulation::with_pool(1, 2).unwrap();
    let before = fixtures::cluster("demo", 1, 2);
    simulation.apply(&before).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let group = "{name: wkr, class: small, replicas: 2}";
    assert!(before.contains(group));
    simulation.apply(&before.replace(group, workers)).unwrap();
    simulation.record();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let records = simulation.take_records();
    let end = simulation.canonical().unwrap();
    println!("{} copies on the way to {workers}", records.len());
    assert!(records.len() > 3, "nothing changed");
    let records: Vec<&Record> = records.iter().step_by(every).collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::ClusterReady(demo()));
        let at = format!("{workers}, {:?}", record.point);
        assert_eq!(next.world.state().leftover_secrets(&demo()), Vec::<String>::new(), "{at}");
        assert_eq!(next.canonical().unwrap(), end, "{at}");
    });
}

#[test]
fn a_crash_while_labels_and_taints_change_ends_with_the_new_ones() {
    let taints = "[{key: dedicated, value: db, effect: NoSchedule}]";
    crash_in_a_change_of_workers(
        &format!("{{name: wkr, class: small, replicas: 2, labels: {{tier: gold}}, taints: {taints}}}"),
        1,
    );
}

#[test]
fn a_crash_while_workers_get_another_class_ends_with_that_class() {
    crash_in_a_change_of_workers("{name: wkr, class: worker, replicas: 2}", 3);
}

#[test]
fn a_crash_while_a_group_is_exchanged_ends_with_the_other_group() {
    crash_in_a_change_of_workers("{name: blue, class: small, replicas: 1}", 3);
}

/// A cluster goes to the next minor version, with an app in it that may lack one pod, and Ashlar is killed on the way: the
/// next run ends where it would have ended, no voter is lost, no pod was killed that was not asked to go.
fn crash_in_an_upgrade(control_planes: u32, workers: u32, every: usize) {
    let simulation = Simulation::with_pool(1, 4).unwrap();
    simulation.add_image("v1.36.3").unwrap();
    let after = fixtures::cluster("demo", control_planes, workers);
    let before = after.replace(fixtures::VERSION, "v1.36.3");
    simulation.apply(&before).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let app = ashlar_sim::SimApp::new(3, Some(2));
    simulation.world.state().clusters.get_mut(&demo()).unwrap().apps.insert("web".to_owned(), app);
    simulation.world.state().advance(jiff::SignedDuration::from_mins(1));
    simulation.apply(&after).unwrap();
    simulation.record();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let records = simulation.take_records();
    let end = simulation.canonical().unwrap();
    println!("{} copies on the way to {}", records.len(), fixtures::VERSION);
    let machines = (control_planes + workers) as usize;
    assert!(records.len() > 20 * machines, "nothing changed");
    let records: Vec<&Record> = records.iter().step_by(every).collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::ClusterReady(demo()));
        let at = format!("{:?}", record.point);
        assert_eq!(next.world.state().leftover_secrets(&demo()), Vec::<String>::new(), "{at}");
        let state = next.world.state();
        let versions: BTreeSet<&str> =
            state.clusters[&demo()].nodes.values().map(|node| node.kubelet_version.as_str()).collect();
        assert_eq!(versions, BTreeSet::from([fixtures::VERSION]), "{at}");
        assert_eq!(state.clusters[&demo()].nodes.len(), machines, "{at}");
        drop(state);
        assert_eq!(next.canonical().unwrap(), end, "{at}");
    });
}

#[test]
fn a_crash_while_one_control_plane_and_its_worker_are_upgraded_changes_nothing() {
    crash_in_an_upgrade(1, 1, 6);
}

#[test]
fn a_crash_while_three_control_planes_and_two_workers_are_upgraded_changes_nothing() {
    crash_in_an_upgrade(3, 2, 53);
}

/// Domains, files and nodes of a cluster, each with what tells it from one that was made anew.
fn belongings(simulation: &Simulation, cluster: &str) -> BTreeSet<String> {
    let state = simulation.world.state();
    let mut found = BTreeSet::new();
    for (name, host) in &state.hosts {
        for (uuid, domain) in &host.domains {
            if domain.name.contains(cluster) {
                found.insert(format!("{name} {uuid} {:?} {:?}", domain.state, domain.started_at));
            }
        }
        for (file, _) in host.pools.values().flat_map(|pool| &pool.volumes) {
            if file.contains(cluster) {
                found.insert(format!("{name} {file}"));
            }
        }
    }
    let world = &state.clusters[&NamespacedName::new("default", cluster)];
    found.extend(world.nodes.iter().map(|(name, node)| format!("{name} {}", node.provider_id)));
    found
}

#[test]
fn a_crash_while_one_of_two_clusters_goes_leaves_the_other_as_it_was() {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    let name = |name: &str| NamespacedName::new("default", name);
    simulation.apply(fixtures::OVERLAY).unwrap();
    // Staging on the same segment as production, on the same hosts.
    for cluster in ["prod", "staging"] {
        let text = fixtures::cluster(cluster, 3, 1).replace("network: lab", "network: overlay");
        simulation.apply(&text).unwrap();
        must_run(&simulation, Goal::ClusterReady(name(cluster)));
    }
    let prod = belongings(&simulation, "prod");
    assert!(prod.len() >= 4 + 4 + 4, "{prod:?}");
    simulation.delete(&ObjectRef::new(Kind::Cluster, "default", "staging")).unwrap();
    simulation.record();
    must_run(&simulation, Goal::ClusterGone(name("staging")));
    let records = simulation.take_records();
    println!("{} copies while staging went", records.len());
    let records: Vec<&Record> = records.iter().step_by(3).collect();
    each(&records, |record| {
        let at = format!("{:?}", record.point);
        let next = simulation.resume(record).unwrap();
        assert!(next.world.state().endpoint_answers(&name("prod")), "{at}");
        must_run(&next, Goal::ClusterGone(name("staging")));
        assert_eq!(next.world.state().remains(&name("staging")), Vec::<String>::new(), "{at}");
        assert_eq!(belongings(&next, "prod"), prod, "{at}");
        assert!(next.world.state().endpoint_answers(&name("prod")), "{at}");
    });
}
