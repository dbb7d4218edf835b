//! What a daemon does for the clusters' etcd besides its passes: snapshots on time, alarms told, room given back.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use ashlar_api::{DrainBy, NamespacedName};
use ashlar_engine::effects::Clock as _;
use ashlar_engine::etcd_copy::{Manifest, OpenCopy};
use ashlar_engine::{Chore, ChoreDeed, CopyPolicy, Goal, Upkeep, declare};
use ashlar_sim::{CrashPoint, Moment, SimCopies, SimHost, Simulation, executor::Ended, fixtures};
use common::{demo, must_run, trace};
use jiff::SignedDuration;

const HOUR: Duration = Duration::from_secs(60 * 60);
const ROUND: SignedDuration = SignedDuration::from_mins(11);
const MIB: u64 = 1 << 20;

fn policy() -> CopyPolicy {
    CopyPolicy { every: 6 * HOUR, keep: 3, keep_for: Some(48 * HOUR) }
}

fn no_snapshots() -> Upkeep {
    Upkeep::new(CopyPolicy { every: Duration::ZERO, ..policy() }, Arc::new(SimCopies::default()))
}

/// Three control planes on three hosts.
fn world() -> Simulation {
    let simulation = Simulation::with_pool(1, 3).unwrap();
    simulation.apply(&fixtures::cluster("demo", 3, 0)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    simulation
}

fn round(simulation: &Simulation, upkeep: &Upkeep) -> Vec<Chore> {
    let done = simulation.keep_etcd(upkeep).unwrap_or_else(|error| panic!("{error}\n{}", trace(simulation)));
    done.expect("nobody kills it").unwrap()
}

fn later(simulation: &Simulation, time: SignedDuration) {
    simulation.world.state().advance(time);
}

/// All members' databases are mostly room.
fn waste(simulation: &Simulation) {
    let mut state = simulation.world.state();
    let etcd = &mut state.clusters.get_mut(&demo()).unwrap().etcd;
    etcd.databases = etcd.members.keys().map(|id| (*id, (300 * MIB, 20 * MIB))).collect();
}

fn wasteful(simulation: &Simulation) -> usize {
    let state = simulation.world.state();
    state.clusters[&demo()].etcd.databases.values().filter(|(size, used)| size != used).count()
}

fn defragmented(done: &[Chore]) -> Vec<String> {
    let nodes = done.iter().filter_map(|chore| match &chore.deed {
        ChoreDeed::Defragmented { node, .. } => Some(node.clone()),
        _ => None,
    });
    nodes.collect()
}

#[test]
fn snapshots_are_taken_on_time_with_what_belongs_to_them_and_old_ones_go() {
    let simulation = world();
    let kept = SimCopies::default();
    let upkeep = Upkeep::new(policy(), Arc::new(kept.clone()));
    let done = round(&simulation, &upkeep);
    // Not of the member that leads, which has most to do.
    let leader = "demo-ctrl-1";
    assert!(
        matches!(&done[..], [Chore { deed: ChoreDeed::Copied { node, .. }, .. }] if node != leader),
        "{done:?}"
    );
    {
        let kept = kept.kept();
        let (database, parts) = kept.values().next().unwrap();
        let manifest = Manifest::parse(parts.manifest.as_bytes()).unwrap();
        let copy = OpenCopy::new(&manifest, simulation.vault()).unwrap();
        let contents = copy.contents(&parts.contents[..]).unwrap();
        let names: Vec<String> = contents
            .objects
            .iter()
            .map(|it| {
                format!("{} {}", it["kind"].as_str().unwrap(), it["metadata"]["name"].as_str().unwrap())
            })
            .collect();
        insta::assert_snapshot!(names.join("\n"));
        assert_eq!(contents.copy.kubernetes_version, "v1.37.2");
        let secrets = copy.secrets(&contents).unwrap();
        let shows = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        let values = secrets.iter().flat_map(|(_, values)| values.values()).map(|value| value.as_slice());
        let keys: Vec<&[u8]> = values.filter(|value| shows(value, b"PRIVATE KEY")).collect();
        assert_eq!(keys.len(), 7, "of the cluster, and three machines");
        let mut snapshot = Vec::new();
        copy.database(&database[..], &contents, &mut snapshot).unwrap();
        // Nothing of it lies there as it is; and what was opened has the secrets still sealed.
        let text = serde_json::to_vec(&contents).unwrap();
        let page = &snapshot[..64];
        assert!(shows(&snapshot, page) && !shows(database, page));
        for key in keys {
            assert!(
                !shows(&parts.contents, key) && !shows(&text, key) && !shows(parts.manifest.as_bytes(), key)
            );
        }
    }
    later(&simulation, SignedDuration::from_mins(1));
    assert_eq!(round(&simulation, &upkeep), [], "not before its time");
    // What a new daemon does depends on what is there, not on what another one remembered.
    assert_eq!(round(&simulation, &Upkeep::new(policy(), Arc::new(kept.clone()))), []);
    for _ in 0..5 {
        later(&simulation, SignedDuration::from_hours(6));
        assert_eq!(round(&simulation, &upkeep).len(), 1);
    }
    assert_eq!(kept.kept().len(), 3);
    // One that is not whole is none, and is taken again in the next round.
    let cut = |cuts| simulation.world.state().clusters.get_mut(&demo()).unwrap().etcd.cuts_copies = cuts;
    later(&simulation, SignedDuration::from_hours(6));
    cut(true);
    let done = round(&simulation, &upkeep);
    assert!(
        matches!(&done[..], [Chore { deed: ChoreDeed::Failed { message }, .. }] if message.contains("not whole")),
        "{done:?}"
    );
    cut(false);
    assert_eq!(round(&simulation, &upkeep).len(), 1);
}

#[test]
fn alarms_are_told_and_room_comes_back_one_member_at_a_time_the_leader_last() {
    let simulation = world();
    let upkeep = no_snapshots();
    waste(&simulation);
    let alarm = |text: Option<&str>| {
        simulation.world.state().clusters.get_mut(&demo()).unwrap().etcd.alarm = text.map(str::to_owned);
    };
    alarm(Some("memberID:7 alarm:NOSPACE"));
    let done = round(&simulation, &upkeep);
    assert_eq!(done.len(), 3, "{done:?}");
    assert!(
        done.iter()
            .all(|chore| matches!(&chore.deed, ChoreDeed::Alarm { message } if message.contains("NOSPACE")))
    );
    assert_eq!(wasteful(&simulation), 3, "nothing is touched while a member is not well");
    alarm(None);
    assert_eq!(round(&simulation, &upkeep), [], "asked just now");
    let mut nodes = Vec::new();
    for left in [2, 1, 0] {
        later(&simulation, ROUND);
        let done = defragmented(&round(&simulation, &upkeep));
        assert_eq!((done.len(), wasteful(&simulation)), (1, left), "{done:?}");
        nodes.extend(done);
    }
    assert_eq!(nodes.last().unwrap(), "demo-ctrl-1", "the leader is the last: {nodes:?}");
    later(&simulation, ROUND);
    assert_eq!(round(&simulation, &upkeep), []);
    // Nor while a member does not answer.
    waste(&simulation);
    later(&simulation, SignedDuration::from_hours(2));
    let machine = simulation.world.state().hosts["h2"].domains.keys().next().copied().unwrap();
    simulation.world.state().hosts.get_mut("h2").unwrap().domains.get_mut(&machine).unwrap().state =
        ashlar_plan::DomainState::ShutOff;
    assert_eq!(defragmented(&round(&simulation, &upkeep)), Vec::<String>::new());
}

#[test]
fn while_members_differ_none_of_them_is_copied_that_may_be_wrong_and_no_copy_goes() {
    let simulation = world();
    let kept = SimCopies::default();
    let upkeep = Upkeep::new(policy(), Arc::new(kept.clone()));
    let alarm = |text: Option<&str>| {
        simulation.world.state().clusters.get_mut(&demo()).unwrap().etcd.alarm = text.map(str::to_owned);
    };
    let id_of = |node: &str| {
        let state = simulation.world.state();
        let mut members = state.clusters[&demo()].etcd.members.iter();
        members.find(|(_, member)| member.name == node).map(|(id, _)| *id).unwrap()
    };
    let copied = |done: &[Chore]| {
        done.iter().find_map(|chore| match &chore.deed {
            ChoreDeed::Copied { node, .. } => Some(node.clone()),
            _ => None,
        })
    };
    let usual = copied(&round(&simulation, &upkeep)).unwrap();
    for _ in 1..3 {
        later(&simulation, SignedDuration::from_hours(6));
        assert_eq!(copied(&round(&simulation, &upkeep)).as_ref(), Some(&usual));
    }
    let good: Vec<_> = kept.kept().keys().cloned().collect();
    assert_eq!(good.len(), 3);
    let wrong = format!("memberID:{} alarm:CORRUPT", id_of(&usual));
    alarm(Some(&wrong));
    for copies in [4, 5, 6, 6, 6] {
        later(&simulation, SignedDuration::from_hours(6));
        assert_ne!(copied(&round(&simulation, &upkeep)).as_ref(), Some(&usual), "of the one that is wrong");
        assert_eq!(kept.kept().len(), copies, "no copy goes, and there is an end to it");
    }
    assert!(good.iter().all(|copy| kept.kept().contains_key(copy)));
    // Nobody knows who: no copy is taken, since any of them may be wrong.
    alarm(Some("alarm:CORRUPT"));
    kept.kept().retain(|copy, _| good.contains(copy));
    later(&simulation, SignedDuration::from_hours(6));
    let done = round(&simulation, &upkeep);
    let says =
        |chore: &Chore| matches!(&chore.deed, ChoreDeed::Failed { message } if message.contains("CORRUPT"));
    assert!(copied(&done).is_none() && done.iter().any(says), "{done:?}");
    assert_eq!(kept.kept().len(), 3);
    // It is over: all goes on.
    alarm(None);
    later(&simulation, ROUND);
    assert!(copied(&round(&simulation, &upkeep)).is_some());
    assert_eq!(kept.kept().len(), 3);
}

#[test]
fn a_kill_before_and_after_each_effect_and_commit_ends_where_none_does() {
    let simulation = world();
    let before = simulation.effects();
    waste(&simulation);
    assert_eq!(defragmented(&round(&simulation, &no_snapshots())).len(), 1);
    let effects = simulation.effects() - before;
    assert!(effects >= 3, "the intent, the call, and its end: {effects}");
    for effect in 0..effects {
        for moment in [Moment::Before, Moment::After] {
            let simulation = world();
            waste(&simulation);
            simulation.world.crash_at(Some(CrashPoint { effect, moment }));
            let killed = simulation.keep_etcd(&no_snapshots()).unwrap();
            assert!(killed.is_none(), "nobody was killed at {effect} {moment:?}");
            simulation.world.crash_at(None);
            // Another daemon remembers nothing, and goes on; the member that was about to be defragmented may be at it still.
            let upkeep = no_snapshots();
            later(&simulation, ROUND);
            while wasteful(&simulation) > 0 {
                let left = wasteful(&simulation);
                assert_eq!(defragmented(&round(&simulation, &upkeep)).len(), 1, "{effect} {moment:?}");
                assert_eq!(wasteful(&simulation), left - 1);
                later(&simulation, ROUND);
            }
        }
    }
}

/// The follower that is defragmented first.
const FIRST: &str = "demo-ctrl-2";

/// What people do while a daemon is at it, once the first member is defragmented.
fn meanwhile(simulation: &Simulation, upkeep: &Upkeep, people: impl Fn()) {
    let ended = simulation.serve_and_keep(upkeep, async || {
        while !defragments(simulation) {
            simulation.world.sleep(Duration::from_secs(1)).await;
        }
        people();
        simulation.world.sleep(HOUR).await;
    });
    assert!(matches!(ended, Ended::Done(_)), "{ended:?}\n{}", trace(simulation));
}

fn defragments(simulation: &Simulation) -> bool {
    trace(simulation).contains("is defragmented")
}

/// Three control planes on four hosts, whose databases are mostly room and take minutes to be written anew.
fn slow_world() -> Simulation {
    let simulation = Simulation::with_pool(1, 4).unwrap();
    simulation.apply(&fixtures::cluster("demo", 3, 0)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    waste(&simulation);
    simulation.world.state().clusters.get_mut(&demo()).unwrap().etcd.defragment_s = 240;
    simulation
}

#[test]
fn a_control_plane_that_is_to_go_stays_until_the_member_of_another_is_back() {
    for name in ["demo-ctrl-1", "demo-ctrl-2", "demo-ctrl-3"] {
        let simulation = slow_world();
        meanwhile(&simulation, &no_snapshots(), || {
            simulation.replace_machine(&NamespacedName::new("default", name)).unwrap();
        });
        assert_eq!(simulation.world.state().etcd_votes(&demo()), (3, 3));
        let told = trace(&simulation);
        assert!(told.contains(&format!("{name} was removed")), "{told}");
    }
}

#[test]
fn a_host_keeps_its_control_plane_until_its_member_is_back() {
    let simulation = slow_world();
    meanwhile(&simulation, &no_snapshots(), || {
        // Its own: while that of another is, the plan knows it for one that is not well.
        let host = {
            let state = simulation.world.state();
            let has = |host: &SimHost| host.domains.values().any(|domain| domain.name == FIRST);
            state.hosts.iter().find(|(_, host)| has(host)).map(|(name, _)| name.clone()).unwrap()
        };
        let drain = declare::drain_host(simulation.store(), &host, DrainBy::Migration);
        futures::executor::block_on(drain).unwrap();
    });
    let told = trace(&simulation);
    assert!(told.contains("migrate_domain") || told.contains("demo-ctrl-2 was removed"), "{told}");
    assert_eq!(simulation.world.state().etcd_votes(&demo()), (3, 3));
}

#[test]
fn who_comes_after_a_daemon_that_was_killed_leaves_the_others_alone_as_long_as_the_member_may_be_gone() {
    let killed = (0..5).find_map(|effect| {
        let simulation = slow_world();
        simulation.world.crash_at(Some(CrashPoint { effect, moment: Moment::After }));
        assert!(simulation.keep_etcd(&no_snapshots()).unwrap().is_none(), "nobody was killed at {effect}");
        simulation.world.crash_at(None);
        defragments(&simulation).then_some(simulation)
    });
    let simulation = killed.expect("one of its effects is the call");
    meanwhile(&simulation, &no_snapshots(), || {
        simulation.replace_machine(&NamespacedName::new("default", FIRST)).unwrap();
    });
    let told = trace(&simulation);
    assert!(told.contains("demo-ctrl-2 was removed"), "{told}");
    assert_eq!(simulation.world.state().etcd_votes(&demo()), (3, 3));
}
