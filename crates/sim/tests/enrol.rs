//! A host's lease is given back when the host is given up, and when its enrolment fails.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use ashlar_api::{HostSpec, Kind, ObjectRef};
use ashlar_engine::Goal;
use ashlar_engine::enrol::{self, EnrolError, Enrolled, NewHost};
use ashlar_sim::executor::{self, Ended};
use ashlar_sim::{HostOptions, POOL, Simulation, fixtures};
use common::{demo, must_run};

fn run<T>(simulation: &Simulation, work: impl Future<Output = T>) -> T {
    match executor::run(&simulation.world, work) {
        Ended::Done(outcome) => outcome,
        _ => panic!("it did not end"),
    }
}

fn add(simulation: &Simulation, new: &NewHost) -> Result<Enrolled, EnrolError> {
    let engine = simulation.engine();
    run(simulation, enrol::add(&engine, new))
}

fn remove(simulation: &Simulation, host: &str) {
    let engine = simulation.engine();
    run(simulation, enrol::remove(&engine, host)).unwrap();
}

fn new_host(simulation: &Simulation, name: &str, pools: &[&str]) -> NewHost {
    let stored = simulation.read(&ObjectRef::new(Kind::Host, "", "h1")).unwrap().unwrap();
    let spec: HostSpec = serde_json::from_value(stored["spec"].clone()).unwrap();
    NewHost {
        name: name.to_owned(),
        spec: HostSpec { ssh_host_key: KEY.to_owned(), ..spec },
        pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
        test_image: None,
    }
}

/// One that enrolment takes for a key.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAMLtGz+RFDcRysO96Ul/gvkexRG6lG671M1O48MsEdD";

fn set_key(simulation: &Simulation, host: &str, key: &str) -> String {
    let mut state = simulation.world.state();
    std::mem::replace(&mut state.hosts.get_mut(host).unwrap().ssh_host_key, key.to_owned())
}

/// A host that nobody has enrolled.
fn bare(simulation: &Simulation, name: &str) -> NewHost {
    simulation.add_host(&HostOptions::big(name)).unwrap();
    remove(simulation, name);
    set_key(simulation, name, KEY);
    new_host(simulation, name, &[POOL])
}

fn lease(simulation: &Simulation, host: &str) -> Option<u64> {
    simulation.world.state().hosts[host].lease.map(|(_, token, _)| token)
}

#[test]
fn an_enrolment_that_fails_gives_the_host_back_and_one_that_works_keeps_it() {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    let new = bare(&simulation, "h2");
    assert_eq!(lease(&simulation, "h2"), None);
    let failed = add(&simulation, &NewHost { pools: vec!["none".to_owned()], ..new.clone() });
    let told = failed.unwrap_err().to_string();
    assert!(told.contains("host h2 has no active pool none"), "{told}");
    assert_eq!(lease(&simulation, "h2"), None, "another installation may have it");
    let enrolled = add(&simulation, &new).unwrap();
    assert_eq!(enrolled.host.record.architecture, "amd64");
    assert_eq!(lease(&simulation, "h2"), Some(enrolled.host.record.lease_token));
    remove(&simulation, "h2");
    assert_eq!(lease(&simulation, "h2"), None);
}

#[test]
fn an_enrolment_that_fails_again_does_not_fence_off_what_comes_after() {
    let simulation = Simulation::with_pool(1, 1).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    // Once more, with a pool that is not there.
    let before = lease(&simulation, "h1");
    let key = set_key(&simulation, "h1", KEY);
    let failed = add(&simulation, &new_host(&simulation, "h1", &["none"])).unwrap_err().to_string();
    assert!(failed.contains("no active pool none"), "{failed}");
    assert!(lease(&simulation, "h1") > before, "it is still ours, and has seen a newer token");
    // Nor under another name, which is refused.
    let again = new_host(&simulation, "again", &[POOL]);
    let twin = simulation.world.state().hosts["h1"].clone();
    simulation.world.state().hosts.insert("again".to_owned(), twin);
    let failed = add(&simulation, &again).unwrap_err().to_string();
    assert!(failed.contains("enrolled already, as h1"), "{failed}");
    simulation.world.state().hosts.remove("again");
    set_key(&simulation, "h1", &key);
    simulation.apply(&fixtures::cluster("demo", 1, 2)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
}
