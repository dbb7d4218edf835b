//! Hosts that give no answer: who is turned off, who is not and why, and what the checker says to a plan that turns off
//! another one.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::check::check;
use ashlar_plan::*;
use common::*;
use jiff::SignedDuration;

/// Five hosts with BMCs, and three and two machines on them.
fn living() -> World {
    let mut snapshot = six_machines();
    for host in ["host-d", "host-e"] {
        add_host(&mut snapshot, host, 64, 512, Accelerator::Kvm);
    }
    snapshot.clusters = Objects::default();
    add_cluster(&mut snapshot, "prod", 3, 2);
    let names: Vec<String> = snapshot.hosts.keys().cloned().collect();
    for name in &names {
        let fencing = serde_json::json!({
            "ipmi": {"address": format!("bmc-{name}"), "username": "ashlar", "passwordFile": "/etc/ashlar/bmc"},
            "afterS": 300,
        });
        snapshot.hosts.get_mut(name).unwrap().spec.fencing = Some(serde_json::from_value(fencing).unwrap());
    }
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    world
}

/// It gives no answer; what runs there is heard by its cluster, or not.
fn falls_silent(world: &mut World, host: &str, is_heard: bool) {
    let seen = HostSeen::Unreachable { reason: "no answer within 20 s".to_owned() };
    world.snapshot.observed.hosts.insert(host.to_owned(), seen);
    let nodes: Vec<String> = world
        .snapshot
        .machines
        .values()
        .filter(|machine| machine.spec.host == host)
        .map(|machine| machine.spec.node.name.clone())
        .collect();
    let cluster = NamespacedName::new("default", "prod");
    let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&cluster) else {
        unreachable!("the API answers")
    };
    for node in nodes {
        api.nodes.get_mut(&node).unwrap().ready = is_heard;
    }
}

/// Passes that only record, each a quarter of the wait after the last.
fn wait_for_long(world: &mut World) {
    for _ in 0..=HostSilence::SIGHTINGS {
        let plan = world.plan();
        world.commit(plan.decisions);
        world.snapshot.now += SignedDuration::from_secs(75);
    }
}

/// What is said of turning hosts off, a line each.
fn said(plan: &Plan) -> String {
    let fences = plan.steps.iter().filter(|step| matches!(step.action, Some(Action::FenceHost { .. })));
    let lines = fences.map(|step| match &step.state {
        StepState::Ready => format!("{} now: {}", step.object.name, step.why),
        StepState::Waiting(wait) => format!("{} waits, {}: {}", step.object.name, wait.reason, wait.message),
        StepState::Blocked(block) => {
            format!("{} BLOCKED, {}: {}", step.object.name, block.reason, block.message)
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Hosts with machines.
fn used(world: &World) -> Vec<String> {
    let mut hosts: Vec<String> =
        world.snapshot.machines.values().map(|machine| machine.spec.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn rules(snapshot: &Snapshot, plan: &Plan) -> Vec<String> {
    check(snapshot, plan).iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_said_of_hosts_that_give_no_answer() {
    let mut all = Vec::new();
    let mut tell = |what: &str, world: &mut World| {
        let plan = world.plan();
        all.push(format!("== {what}\n{}", said(&plan)));
    };
    let mut world = living();
    let used = used(&world);
    falls_silent(&mut world, &used[0], false);
    tell("not recorded yet", &mut world);
    let plan = world.plan();
    world.commit(plan.decisions);
    tell("for a moment", &mut world);
    wait_for_long(&mut world);
    tell("for long", &mut world);

    let mut heard = living();
    falls_silent(&mut heard, &used[0], true);
    wait_for_long(&mut heard);
    tell("its guests are heard", &mut heard);

    falls_silent(&mut world, &used[1], false);
    wait_for_long(&mut world);
    tell("two of five", &mut world);
    world.snapshot.fence_max_percent = 40;
    tell("two of five, and so many may be", &mut world);
    falls_silent(&mut world, &used[2], false);
    world.snapshot.fence_max_percent = 49;
    wait_for_long(&mut world);
    tell("three of five", &mut world);

    let mut by_hand = living();
    by_hand.snapshot.hosts.get_mut(&used[0]).unwrap().spec.fencing.as_mut().unwrap().after_s = None;
    falls_silent(&mut by_hand, &used[0], false);
    wait_for_long(&mut by_hand);
    tell("only by hand", &mut by_hand);
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn a_host_without_machines_is_left_as_it_is() {
    let mut world = living();
    let used = used(&world);
    let Some(free) = world.snapshot.hosts.keys().find(|host| !used.contains(*host)).cloned() else { return };
    falls_silent(&mut world, &free, false);
    wait_for_long(&mut world);
    assert_eq!(said(&world.plan()), "");
}

#[test]
fn a_first_answer_ends_the_silence_and_it_is_counted_anew() {
    let mut world = living();
    let host = used(&world).remove(0);
    let seen = world.snapshot.observed.hosts.get(&host).cloned().unwrap();
    falls_silent(&mut world, &host, false);
    wait_for_long(&mut world);
    assert!(world.snapshot.hosts[&host].record.silence.as_ref().unwrap().is_over());
    let silent = world.snapshot.observed.hosts.insert(host.clone(), seen).unwrap();
    let plan = world.plan();
    world.commit(plan.decisions);
    assert_eq!(world.snapshot.hosts[&host].record.silence, None);
    world.snapshot.observed.hosts.insert(host.clone(), silent);
    let plan = world.plan();
    world.commit(plan.decisions);
    assert!(said(&world.plan()).contains("waits, HostSilent"));
}

#[test]
fn the_checker_refuses_to_turn_off_any_other() {
    let mut world = living();
    let host = used(&world).remove(0);
    falls_silent(&mut world, &host, false);
    wait_for_long(&mut world);
    let plan = world.plan();
    assert_eq!(rules(&world.snapshot, &plan), Vec::<String>::new());
    let broken = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = world.snapshot.clone();
        change(&mut snapshot);
        rules(&snapshot, &plan).join("; ")
    };
    let answers =
        world.snapshot.observed.hosts.values().find(|seen| matches!(seen, HostSeen::Seen(_))).cloned();
    assert!(
        broken(&|snapshot| drop(snapshot.observed.hosts.insert(host.clone(), answers.clone().unwrap())))
            .contains("it answers")
    );
    let with =
        |snapshot: &mut Snapshot, change: &dyn Fn(&mut Host)| change(snapshot.hosts.get_mut(&host).unwrap());
    assert!(broken(&|snapshot| with(snapshot, &|host| host.spec.fencing = None)).contains("nobody said"));
    let young = |host: &mut Host| host.record.silence.as_mut().unwrap().sightings = 3;
    assert!(broken(&|snapshot| with(snapshot, &young)).contains("not noticed for long enough"));
    let many = broken(&|snapshot| {
        for name in ["host-d", "host-e"] {
            let seen = HostSeen::Unreachable { reason: String::new() };
            snapshot.observed.hosts.insert(name.to_owned(), seen);
        }
    });
    assert!(many.contains("hosts are silent"), "{many}");
    // And no plan says that a host is off.
    let mut liar = Plan { decisions: Vec::new(), steps: Vec::new(), report: Report::default() };
    let mut off = world.snapshot.hosts[&host].clone();
    off.record.fence = Some(HostFence { at: world.snapshot.now, confirmed_by: "nobody".to_owned() });
    liar.decisions.push(vec![Decision::Update(off.into())]);
    assert!(rules(&world.snapshot, &liar).join("; ").contains("nobody has seen that"));
}

/// Another one fell silent when it was turned off: that is said, and it is not turned off, until somebody names another BMC.
#[test]
fn a_host_whose_fencing_is_in_doubt_is_not_turned_off() {
    let mut world = living();
    let host = used(&world).remove(0);
    falls_silent(&mut world, &host, false);
    wait_for_long(&mut world);
    let plan = world.plan();
    assert!(said(&plan).contains(" now: "));
    let by = world.snapshot.hosts[&host].spec.fencing.clone().unwrap();
    let cut = |fell_silent: &[&str]| PowerCut {
        at: world.snapshot.now,
        by: by.clone(),
        silent: Vec::new(),
        fell_silent: fell_silent.iter().map(|name| (*name).to_owned()).collect(),
    };
    let (asked, doubted) = (cut(&[]), cut(&["host-e"]));
    world.snapshot.hosts.get_mut(&host).unwrap().record.power_cut = Some(doubted.clone());
    assert!(rules(&world.snapshot, &plan).join("; ").contains("another host fell silent"));
    let doubt = said(&world.plan());
    assert!(
        doubt.contains("BLOCKED, AnotherHostFellSilent: ") && doubt.contains("host-e answered before"),
        "{doubt}"
    );
    // It is remembered when the host answers: the next time the other one would be turned off again.
    let recorded = |world: &World| world.snapshot.hosts[&host].record.power_cut.clone();
    let silent = world.snapshot.observed.hosts[&host].clone();
    let answers = world.snapshot.observed.hosts["host-e"].clone();
    let answer = |world: &mut World, seen: &HostSeen| {
        world.snapshot.observed.hosts.insert(host.clone(), seen.clone());
        let plan = world.plan();
        world.commit(plan.decisions);
    };
    answer(&mut world, &answers);
    assert_eq!(recorded(&world), Some(doubted));
    // That it was only asked for is over with its first answer, and goes on as long as it is silent.
    world.snapshot.hosts.get_mut(&host).unwrap().record.power_cut = Some(asked.clone());
    answer(&mut world, &silent);
    assert_eq!(recorded(&world), Some(asked));
    answer(&mut world, &answers);
    assert_eq!(recorded(&world), None);
    // Another BMC is named.
    world.snapshot.hosts.get_mut(&host).unwrap().record.power_cut = Some(cut_of(&by));
    let fencing = world.snapshot.hosts.get_mut(&host).unwrap().spec.fencing.as_mut().unwrap();
    fencing.ipmi.as_mut().unwrap().address = "bmc-right".to_owned();
    answer(&mut world, &silent);
    assert_eq!(recorded(&world), None);
}

fn cut_of(by: &HostFencing) -> PowerCut {
    PowerCut {
        at: jiff::Timestamp::UNIX_EPOCH,
        by: by.clone(),
        silent: Vec::new(),
        fell_silent: vec!["host-e".to_owned()],
    }
}

#[test]
fn two_hosts_with_one_bmc_are_not_turned_off() {
    let mut world = living();
    let used = used(&world);
    falls_silent(&mut world, &used[0], false);
    wait_for_long(&mut world);
    let its = world.snapshot.hosts[&used[0]].spec.fencing.clone();
    world.snapshot.hosts.get_mut(&used[1]).unwrap().spec.fencing = its;
    let told = said(&world.plan());
    assert!(told.contains(&format!("BLOCKED, SharedBmc: host {} is not turned off", used[0])), "{told}");
    assert!(told.contains(&format!("spec.fencing of host {} too", used[1])), "{told}");
}
