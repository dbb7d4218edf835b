//! R5 in small: what is claimed of hosts, read from the store at every commit. The bench replays the Azure traces.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ashlar_api::{Kind, ObjectRef};
use ashlar_engine::{Goal, Scope};
use ashlar_plan::DomainState;
use ashlar_sim::{CrashPoint, HostOptions, Moment, Record, Simulation, fixtures};
use common::{each, must_run};
use serde_json::Value;

const HOSTS: u32 = 3;
/// Room for 24 small machines in all, by memory: 18 GiB a host of which 2 stay with it.
const MEMORY_MIB: u64 = 18 << 10;
const OFFERED_MIB: u64 = MEMORY_MIB - (2 << 10);
const MACHINE_MIB: u64 = 2 << 10;

fn pool(seed: u64) -> Simulation {
    let simulation = Simulation::new(seed);
    for number in 1..=HOSTS {
        let options = HostOptions { memory_mib: MEMORY_MIB, ..HostOptions::big(&format!("h{number}")) };
        simulation.add_host(&options).unwrap();
    }
    simulation.add_image(fixtures::VERSION).unwrap();
    simulation.apply(fixtures::POOL_OBJECTS).unwrap();
    simulation
}

/// Memory claimed by host.
fn claims<'a>(machines: impl Iterator<Item = &'a Value>) -> BTreeMap<String, u64> {
    let mut claimed = BTreeMap::new();
    for machine in machines {
        let host = machine["spec"]["host"].as_str().unwrap().to_owned();
        *claimed.entry(host).or_default() += MACHINE_MIB;
    }
    claimed
}

/// Judges every moment; gives how full the fullest host ever was.
fn judge(records: &[Record], at: &str) -> u64 {
    let mut fullest = 0;
    for record in records {
        for (host, claimed) in claims(record.objects("Machine")) {
            assert!(claimed <= OFFERED_MIB, "{at}, {:?}: {claimed} MiB are claimed of {host}", record.point);
            fullest = fullest.max(claimed);
        }
    }
    fullest
}

/// A host loses its power and its network, or comes back.
fn lose(simulation: &Simulation, host: &str, is_lost: bool) {
    let mut state = simulation.world.state();
    let host = state.hosts.get_mut(host).unwrap();
    host.reachable = !is_lost;
    if is_lost {
        host.domains.values_mut().for_each(|domain| domain.state = DomainState::ShutOff);
    }
}

/// Two Ashlars place more than fits, one of them is killed in the middle of a claim, and hosts are lost meanwhile.
#[test]
fn r5_claims_never_pass_what_hosts_offer_and_end_at_exactly_zero() {
    let rounds: Vec<u64> = if cfg!(debug_assertions) { (0..2).collect() } else { (0..40).collect() };
    let (moments, kills) = (AtomicU64::new(0), AtomicU64::new(0));
    each(&rounds, |round| {
        let simulation = pool(*round);
        let mut fullest = 0;
        for wave in 0..5_u64 {
            // The fifth cluster does not fit any more.
            simulation.apply(&fixtures::cluster(&format!("c{wave}"), 1, 5)).unwrap();
            lose(&simulation, "h2", wave == 1);
            lose(&simulation, "h3", wave == 3);
            let moment = if (round + wave) % 2 == 0 { Moment::Before } else { Moment::After };
            simulation.world.crash_at(Some(CrashPoint { effect: (round * 7 + wave * 5) % 23, moment }));
            simulation.record();
            let ended = simulation.run_two([&Scope::All; 2], &Goal::Settled, Duration::from_secs(180));
            let records = simulation.take_records();
            let at = format!("round {round}, wave {wave}");
            assert!(simulation.world.state().violations().is_empty(), "{at}: {}", common::trace(&simulation));
            if let ashlar_sim::executor::Ended::Done([first, _]) = ended {
                kills.fetch_add(u64::from(first.is_none()), Ordering::Relaxed);
            }
            moments.fetch_add(records.len() as u64, Ordering::Relaxed);
            fullest = fullest.max(judge(&records, &at));
        }
        assert_eq!(fullest, OFFERED_MIB, "round {round}: no host was ever full");
        for host in ["h2", "h3"] {
            lose(&simulation, host, false);
        }
        for wave in 0..5 {
            let cluster = ObjectRef::new(Kind::Cluster, "default", format!("c{wave}"));
            simulation.delete(&cluster).unwrap();
        }
        must_run(&simulation, Goal::Settled);
        let left: Vec<String> = simulation
            .stored()
            .unwrap()
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| key.starts_with("Machine/") || key.starts_with("Cluster/"))
            .collect();
        assert_eq!(left, Vec::<String>::new(), "round {round}");
        let state = simulation.world.state();
        let domains: usize = state.hosts.values().map(|host| host.domains.len()).sum();
        assert_eq!(domains, 0, "round {round}: what is claimed ends at exactly zero");
    });
    println!(
        "R5: {} pools, two planners each, {} kills in the middle, hosts lost; claims judged at {} commits and calls, 0 violations",
        rounds.len(),
        kills.into_inner(),
        moments.into_inner()
    );
}
