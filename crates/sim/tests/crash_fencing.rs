//! What is said to be a host's BMC is another one's, and Ashlar is killed at every outside call and every commit around that: the host
//! runs, and is never called off; the other one is turned off once.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use ashlar_api::{Kind, ObjectRef};
use ashlar_engine::Goal;
use ashlar_sim::executor::Ended;
use ashlar_sim::{Record, Simulation, fixtures};
use common::{demo, each, must_run, trace};

/// Hosts; two of so many may be silent at a time.
const HOSTS: u32 = 11;

fn serve(simulation: &Simulation) {
    let ended = simulation.serve(Duration::from_mins(10));
    let found = simulation.world.state().violations().to_vec();
    assert!(matches!(ended, Ended::Done(_)) && found.is_empty(), "{}\n{ended:?}", trace(simulation));
}

#[test]
fn a_crash_while_another_host_is_turned_off_in_its_place_proves_nothing() {
    let mut simulation = Simulation::with_pool(1, HOSTS).unwrap();
    simulation.settings_mut().poll_interval = Duration::from_secs(10);
    simulation.apply(&fixtures::cluster("demo", 1, 3)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let (cut_off, other) = {
        let state = simulation.world.state();
        let of = |machine: &str| {
            let holds =
                |host: &ashlar_sim::SimHost| host.domains.values().any(|domain| domain.name == machine);
            state.hosts.iter().find(|(_, host)| holds(host)).map(|(name, _)| name.clone()).unwrap()
        };
        (of("demo-wkr-2"), of("demo-wkr-3"))
    };
    assert_ne!(cut_off, other);
    let fencing =
        r#"{"ipmi": {"address": "bmc", "username": "ashlar", "passwordFile": "/bmc"}, "afterS": 60}"#;
    let host = ObjectRef::new(Kind::Host, "", &cut_off);
    simulation.edit(&host, "/spec/fencing", fencing).unwrap();
    {
        let mut state = simulation.world.state();
        let host = state.hosts.get_mut(&cut_off).unwrap();
        (host.frozen, host.bmc.is_of) = (true, Some(other.clone()));
        state.touched();
    }
    simulation.record();
    serve(&simulation);
    let records = simulation.take_records();
    assert!(records.len() > 10, "nothing changed");
    let records: Vec<&Record> = records.iter().collect();
    let doubted = |simulation: &Simulation, at: &str| {
        let stored = simulation.read(&host).unwrap().unwrap();
        assert!(stored.pointer("/record/fence").is_none(), "{at}: {stored}");
        let fell_silent = stored.pointer("/record/powerCut/fellSilent");
        assert_eq!(fell_silent, Some(&serde_json::json!([other])), "{at}: {stored}");
        assert!(simulation.world.state().hosts[&other].off, "{at}");
    };
    doubted(&simulation, "without a crash");
    println!("{} crashes", records.len());
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        serve(&next);
        doubted(&next, &format!("{:?}", record.point));
    });
}
