//! Ashlar is killed at every outside call and every commit while a host is emptied by moving its machines alive: the next run
//! ends where an undisturbed one ends, no guest was ever turned off, none ran twice, and nothing is left on the host. And while
//! what a move has left is removed, whose machine is gone.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use ashlar_api::{DrainBy, Kind, ObjectRef};
use ashlar_engine::{Goal, Scope, declare};
use ashlar_plan::DomainState;
use ashlar_sim::executor::Ended;
use ashlar_sim::{Record, Simulation, fixtures};
use common::{demo, each, must_run};
use futures::executor::block_on;

/// Domains with the moment at which each was turned on.
fn turned_on(simulation: &Simulation) -> BTreeSet<String> {
    let state = simulation.world.state();
    let domains = state.hosts.values().flat_map(|host| host.domains.values());
    domains.map(|domain| format!("{} {:?} {:?}", domain.name, domain.state, domain.started_at)).collect()
}

fn crash_on_the_way(control_planes: u32, workers: u32, every: usize) {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    simulation.apply(&fixtures::cluster("demo", control_planes, workers)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let before = turned_on(&simulation);
    let is_full = |name: &str| !simulation.world.state().hosts[name].domains.is_empty();
    let host = ["h1", "h2", "h3"].into_iter().find(|name| is_full(name)).unwrap();
    block_on(declare::drain_host(simulation.store(), host, DrainBy::Migration)).unwrap();
    simulation.record();
    let emptied = || Goal::HostEmptied(host.to_owned());
    must_run(&simulation, emptied());
    must_run(&simulation, Goal::Settled);
    let records = simulation.take_records();
    let end = simulation.canonical().unwrap();
    println!("{} copies on the way", records.len());
    assert!(records.len() > 20, "nothing moved");
    assert_eq!(turned_on(&simulation), before);
    let records: Vec<&Record> = records.iter().step_by(every).collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, emptied());
        must_run(&next, Goal::Settled);
        let at = format!("{:?}", record.point);
        assert_eq!(turned_on(&next), before, "{at}");
        let state = next.world.state();
        assert!(state.hosts[host].domains.is_empty(), "{at}");
        let of_machines = |file: &&String| file.contains("demo-");
        let left: Vec<&String> = state.hosts[host]
            .pools
            .values()
            .flat_map(|pool| pool.volumes.keys())
            .filter(of_machines)
            .collect();
        assert_eq!(left, Vec::<&String>::new(), "{at}");
        drop(state);
        common::assert_same(&at, &next.canonical().unwrap(), &end);
    });
}

#[test]
fn a_crash_while_a_lonely_control_plane_and_its_worker_move_changes_nothing() {
    crash_on_the_way(1, 3, 1);
}

#[test]
fn a_crash_while_one_of_three_control_planes_moves_changes_nothing() {
    crash_on_the_way(3, 2, 1);
}

/// Where the domain is, host by host, and how it stands there.
fn places(simulation: &Simulation, name: &str) -> Vec<(String, DomainState)> {
    let state = simulation.world.state();
    let on = |(host, world): (&String, &ashlar_sim::SimHost)| {
        let domain = world.domains.values().find(|domain| domain.name == name)?;
        Some((host.clone(), domain.state))
    };
    state.hosts.iter().filter_map(on).collect()
}

fn answers(simulation: &Simulation, host: &str, does: bool) {
    simulation.world.state().hosts.get_mut(host).unwrap().reachable = does;
}

/// Works while a host is silent: not everything can be done.
fn run_beside_silence(simulation: &Simulation) {
    let ended = simulation.run(&Scope::All, &Goal::Settled, Duration::from_secs(300));
    assert!(matches!(ended, Ended::Done(_)), "{}\n{ended:?}", common::trace(simulation));
    assert_eq!(simulation.world.state().violations(), &[] as &[String]);
}

/// A worker is on its way, and all of it is at its target although it goes on where it was. Neither is the host of the API.
struct Unheard {
    simulation: Simulation,
    worker: String,
    from: String,
    to: String,
}

fn arrived_unheard() -> Unheard {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 3)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let place = |name: &str| places(&simulation, name).pop().unwrap().0;
    let home = place("demo-ctrl-1");
    let workers = ["demo-wkr-1", "demo-wkr-2", "demo-wkr-3"];
    let from = workers.iter().map(|worker| place(worker)).find(|host| *host != home).unwrap();
    block_on(declare::cordon_host(simulation.store(), &home)).unwrap();
    block_on(declare::drain_host(simulation.store(), &from, DrainBy::Migration)).unwrap();
    simulation.world.state().unheard_moves = 1;
    simulation.record();
    must_run(&simulation, Goal::Settled);
    let found = simulation.take_records().into_iter().find_map(|record| {
        let next = simulation.resume(&record).unwrap();
        let is_over = next.world.state().unheard_moves == 0;
        let (worker, to) = workers.iter().find_map(|worker| {
            let places = places(&next, worker);
            let goes_on = places.contains(&(from.clone(), DomainState::Running));
            let to = places.into_iter().find(|(_, state)| *state == DomainState::Paused)?.0;
            goes_on.then(|| ((*worker).to_owned(), to))
        })?;
        is_over.then(|| Unheard { simulation: next, worker, from: from.clone(), to })
    });
    found.expect("a move ended unheard")
}

#[test]
fn a_crash_while_a_machine_goes_that_a_move_left_half_elsewhere_leaves_nothing_there() {
    let Unheard { simulation, worker, from, to } = arrived_unheard();
    answers(&simulation, &to, false);
    block_on(declare::uncordon_host(simulation.store(), &from)).unwrap();
    let machine = ObjectRef::new(Kind::Machine, "default", &worker);
    simulation.delete(&machine).unwrap();
    simulation.record();
    run_beside_silence(&simulation);
    let silent = simulation.take_records();
    assert_eq!(simulation.read(&machine).unwrap(), None, "its own host answers");
    assert_eq!(places(&simulation, &worker), [(to.clone(), DomainState::Paused)]);
    assert!(!simulation.world.state().orphans().is_empty(), "the judge sees it");
    answers(&simulation, &to, true);
    simulation.record();
    must_run(&simulation, Goal::Settled);
    let heard = simulation.take_records();
    println!("{} + {} copies on the way", silent.len(), heard.len());
    assert!(silent.len() > 10 && heard.len() > 3, "nothing went");
    let is_clean = |simulation: &Simulation, at: &str| {
        must_run(simulation, Goal::Settled);
        let orphans = simulation.world.state().orphans();
        assert!(orphans.is_empty(), "{at}: {orphans:?}");
        assert!(places(simulation, &worker).is_empty(), "{at}");
    };
    is_clean(&simulation, "the end");
    each(&silent, |record| {
        for answers_late in [true, false] {
            let next = simulation.resume(record).unwrap();
            if answers_late {
                run_beside_silence(&next);
            }
            answers(&next, &to, true);
            is_clean(&next, &format!("silent, {:?}, late: {answers_late}", record.point));
        }
    });
    each(&heard, |record| is_clean(&simulation.resume(record).unwrap(), &format!("{:?}", record.point)));
}

/// What befalls both ends of a move between a kill and the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The source loses its power for a moment.
    SourceCycled,
    /// So do all hosts.
    AllCycled,
    /// The source does, while the others are silent for some time.
    SourceCycledOthersSilent,
    /// The source's libvirtd is started anew.
    LibvirtdRestarted,
    /// The source loses its power, and a person says so; later it is back.
    SourceFenced,
}

/// So many moves end badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Unheard(u32),
    LeavingTheirDefinition(u32),
}

/// Killed anywhere on the way, and then that: what goes on is never older than what ran last anywhere, nothing that is newest is taken
/// away (the judges hold both), and it comes to the same end but for who was replaced.
fn befallen_on_the_way(ends: Ends, fates: &[Fate], every: usize) {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 3)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let is_full = |name: &str| !simulation.world.state().hosts[name].domains.is_empty();
    let host = ["h1", "h2", "h3"].into_iter().find(|name| is_full(name)).unwrap();
    block_on(declare::drain_host(simulation.store(), host, DrainBy::Migration)).unwrap();
    match ends {
        Ends::Unheard(moves) => simulation.world.state().unheard_moves = moves,
        Ends::LeavingTheirDefinition(moves) => simulation.world.state().keeping_moves = moves,
    }
    simulation.record();
    let emptied = || Goal::HostEmptied(host.to_owned());
    must_run(&simulation, emptied());
    must_run(&simulation, Goal::Settled);
    let records = simulation.take_records();
    println!("{} copies on the way", records.len());
    assert!(records.len() > 20, "nothing moved");
    let records: Vec<&Record> = records.iter().step_by(every).collect();
    let cases: Vec<(Fate, &Record)> =
        fates.iter().flat_map(|fate| records.iter().map(|record| (*fate, *record))).collect();
    each(&cases, |(fate, record)| {
        let next = simulation.resume(record).unwrap();
        let at = format!("{ends:?} {fate:?} {:?}", record.point);
        befall(&next, host, *fate, &at);
        let state = next.world.state();
        assert_eq!(state.violations(), &[] as &[String], "{at}");
        drop(state);
        must_run(&next, emptied());
        must_run(&next, Goal::Settled);
        let state = next.world.state();
        let domains: Vec<_> = state.hosts.values().flat_map(|host| host.domains.values()).collect();
        assert_eq!(domains.len(), 4, "{at}");
        assert!(domains.iter().all(|domain| domain.state == DomainState::Running), "{at}");
        assert!(state.hosts[host].domains.is_empty(), "{at}");
        let of_machines = |file: &&String| file.contains("demo-");
        let files = state.hosts[host].pools.values().flat_map(|pool| pool.volumes.keys());
        assert_eq!(files.filter(of_machines).collect::<Vec<_>>(), Vec::<&String>::new(), "{at}");
    });
}

fn befall(next: &Simulation, source: &str, fate: Fate, at: &str) {
    let names: Vec<String> = next.world.state().hosts.keys().cloned().collect();
    let cycle = |name: &str| {
        let mut state = next.world.state();
        for on in [false, true] {
            state.power(name, on).unwrap();
        }
    };
    let silence = |is_silent: bool| {
        let mut state = next.world.state();
        for (name, host) in &mut state.hosts {
            host.reachable = !is_silent || name == source;
        }
        state.touched();
    };
    let a_while = || {
        next.run(&ashlar_engine::Scope::All, &Goal::Settled, std::time::Duration::from_secs(300));
        let said = next.world.state().violations().join("\n");
        assert_eq!(said, "", "{at}\n{}", common::trace(next));
    };
    match fate {
        Fate::SourceCycled => cycle(source),
        Fate::AllCycled => names.iter().for_each(|name| cycle(name)),
        Fate::SourceCycledOthersSilent => {
            silence(true);
            cycle(source);
            a_while();
            silence(false);
        }
        Fate::LibvirtdRestarted => {
            next.world.state().restart_libvirtd(source).unwrap();
        }
        Fate::SourceFenced => {
            silence(true);
            next.world.state().power(source, false).unwrap();
            a_while();
            next.lose_host(source).unwrap();
            silence(false);
            next.world.state().power(source, false).unwrap();
            a_while();
            next.world.state().power(source, true).unwrap();
            // Who was fenced is cordoned, and is emptied as before.
        }
    }
}

#[test]
fn a_move_that_nobody_heard_of_and_power_cuts_after_it_never_turn_a_machine_back() {
    use Fate::*;
    let fates = [SourceCycled, AllCycled, SourceCycledOthersSilent, LibvirtdRestarted, SourceFenced];
    befallen_on_the_way(Ends::Unheard(2), &fates, 4);
}

#[test]
fn a_definition_that_is_left_and_power_cuts_after_it_never_turn_a_machine_back() {
    use Fate::*;
    befallen_on_the_way(Ends::LeavingTheirDefinition(9), &[SourceCycled, AllCycled, SourceFenced], 4);
}
