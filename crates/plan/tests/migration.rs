//! Whatever the two hosts say of a machine on its way: the plan stands its check, and what has come to the target becomes the
//! machine only where its source is certain to have done nothing after that.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::*;
use common::*;

/// What a host says of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Silent,
    Fenced,
    Nothing,
    Running,
    /// Running, and not defined there.
    RunningTransient,
    Paused,
    /// As it arrives, or has left.
    PausedByMigration,
    Arriving,
    ShuttingDown,
    ShutOff,
    /// libvirt knows that it has gone to another host.
    ShutOffLeft,
    Crashed,
}

use Says::*;

const SOURCE: [Says; 10] = [
    Silent,
    Fenced,
    Nothing,
    Running,
    Paused,
    PausedByMigration,
    ShuttingDown,
    ShutOff,
    ShutOffLeft,
    Crashed,
];

const TARGET: [Says; 9] =
    [Silent, Fenced, Nothing, Running, RunningTransient, Paused, Arriving, ShutOff, Crashed];

impl Says {
    fn domain(self, before: &DomainSeen) -> Option<DomainSeen> {
        let state = match self {
            Silent | Fenced | Nothing => return None,
            Running | RunningTransient => DomainState::Running,
            Paused | PausedByMigration | Arriving => DomainState::Paused,
            ShuttingDown => DomainState::ShuttingDown,
            ShutOff | ShutOffLeft => DomainState::ShutOff,
            Crashed => DomainState::Crashed,
        };
        Some(DomainSeen {
            state,
            persistent: !matches!(self, Arriving | RunningTransient),
            paused_by_migration: matches!(self, PausedByMigration | Arriving),
            left_by_migration: self == ShutOffLeft,
            ..before.clone()
        })
    }

    fn is_active(self) -> bool {
        !matches!(self, Silent | Fenced | Nothing | ShutOff | ShutOffLeft | Crashed)
    }
}

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// Machines of which one is to move.
fn on_its_way(machine: &NamespacedName) -> World {
    let mut snapshot = six_machines();
    let cluster = snapshot.clusters.get_mut(&key("prod")).unwrap();
    cluster.spec.control_plane.spread = Spread::Preferred;
    for (host, number) in ["host-a", "host-b", "host-c"].into_iter().zip(1_u8..) {
        snapshot.hosts.get_mut(host).unwrap().spec.underlay_address = Some([10, 0, 1, number].into());
    }
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    let from = world.snapshot.machines[machine].spec.host.clone();
    world.snapshot.hosts.get_mut(&from).unwrap().spec.draining = true;
    for _ in 0..20 {
        if world.snapshot.machines[machine].record.migration.is_some() {
            return world;
        }
        let plan = world.plan();
        // Who is on that host too may be first: it is left out.
        let busy: Vec<NamespacedName> = world
            .snapshot
            .machines
            .values()
            .filter(|other| other.key() != *machine && other.record.migration.is_some())
            .map(|other| other.key())
            .collect();
        for other in busy {
            world.snapshot.machines.get_mut(&other).unwrap().record.migration = None;
            world.snapshot.machines.get_mut(&other).unwrap().record.not_migrated =
                Some(Box::new(NotMigrated { from: from.clone(), message: "not now".to_owned() }));
        }
        world.commit(plan.decisions);
    }
    panic!("{machine} does not move: {:#?}", world.plan());
}

fn say(snapshot: &mut Snapshot, host: &str, uuid: uuid::Uuid, says: Says, before: &DomainSeen) {
    if matches!(says, Silent | Fenced) {
        let reason = "no answer".to_owned();
        snapshot.observed.hosts.insert(host.to_owned(), HostSeen::Unreachable { reason });
        let fence = HostFence { at: snapshot.now, confirmed_by: "a test".to_owned() };
        snapshot.hosts.get_mut(host).unwrap().record.fence = (says == Fenced).then_some(fence);
        return;
    }
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get_mut(host) else { panic!("{host}") };
    match says.domain(before) {
        Some(domain) => drop(world.domains.insert(uuid, domain)),
        None => drop(world.domains.remove(&uuid)),
    }
}

/// What the plan does about the machine.
fn outcome(snapshot: &Snapshot, plan: &Plan, machine: &Machine) -> Vec<String> {
    let migration = machine.record.migration.as_ref().unwrap();
    let mut said = Vec::new();
    for decision in plan.decisions.iter().flatten() {
        if let Decision::Update(Object::Machine(changed)) = decision
            && changed.key() == machine.key()
        {
            if changed.metadata.is_deleting() && !machine.metadata.is_deleting() {
                said.push("it is replaced".to_owned());
            }
            if changed.record.migration.is_some() {
                continue;
            }
            said.push(
                if changed.spec.host == machine.spec.host { "it stays" } else { "it has moved" }.to_owned(),
            );
        }
    }
    for step in plan.steps.iter().filter(|step| step.object == machine.object_ref()) {
        let place = if step.host == migration.to { " at the target" } else { " at the source" };
        match (&step.action, &step.state) {
            (Some(Action::ResumeDomain { .. }), StepState::Ready) => {
                said.push(format!("let it go on{place}"))
            }
            (Some(Action::DropArrival { .. }), StepState::Ready) => {
                said.push("end what is at the target".to_owned())
            }
            (_, StepState::Ready) => {}
            (_, StepState::Waiting(Wait { reason, .. })) if reason == "EarlierStep" => {}
            (_, StepState::Waiting(wait)) => said.push(format!("wait: {}", wait.reason)),
            (_, StepState::Blocked(block)) => said.push(format!("a person: {}", block.reason)),
        }
    }
    said.dedup();
    assert_eq!(check::check(snapshot, plan), vec![], "{said:?}");
    said
}

fn each_case(name: &str, wanted: fn(Case) -> bool, mut judge: impl FnMut(Case, &[String])) {
    let key = key(name);
    let world = on_its_way(&key);
    for source in SOURCE {
        for target in TARGET {
            for bits in 0..16_u8 {
                let [arrived, went_on, deleting, calling] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
                let case = Case { source, target, arrived, went_on, deleting, calling };
                if !wanted(case) {
                    continue;
                }
                let mut snapshot = world.snapshot.clone();
                let now = snapshot.now;
                let machine = snapshot.machines.get_mut(&key).unwrap();
                let migration = machine.record.migration.as_mut().unwrap();
                migration.arrived_at = arrived.then_some(now);
                migration.went_on_at = went_on.then_some(now);
                machine.metadata.deletion_timestamp = deleting.then_some(now);
                let machine = machine.clone();
                let (from, to) =
                    (machine.spec.host.clone(), machine.record.migration.as_ref().unwrap().to.clone());
                let uuid = machine.spec.domain.uuid;
                let Some(HostSeen::Seen(seen)) = snapshot.observed.hosts.get(&from) else { panic!("{from}") };
                let before = seen.domains[&uuid].clone();
                say(&mut snapshot, &from, uuid, source, &before);
                say(&mut snapshot, &to, uuid, target, &before);
                if calling {
                    snapshot.under_way.insert(key.clone());
                }
                let plan = plan(&snapshot, &mut SeededIds(2)).unwrap();
                let said = outcome(&snapshot, &plan, &machine);
                judge(case, &said);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    source: Says,
    target: Says,
    arrived: bool,
    went_on: bool,
    deleting: bool,
    calling: bool,
}

fn holds(case: Case, said: &[String]) {
    let Case { source, target, arrived, went_on, deleting, .. } = case;
    let says = |word: &str| said.iter().any(|said| said == word);
    // What the source has did nothing after all had come to the target.
    let certain = !source.is_active() && (arrived || !went_on && matches!(source, Nothing | ShutOffLeft));
    if says("it has moved") || says("let it go on at the target") {
        assert!(certain, "{case:?}: {said:?}");
    }
    if says("it stays") {
        assert!(
            !arrived || matches!(source, Running | ShuttingDown) && target == Nothing,
            "{case:?}: {said:?}"
        );
    }
    if says("let it go on at the source") {
        assert!(!arrived && matches!(target, Nothing | Fenced), "{case:?}: {said:?}");
    }
    if says("end what is at the target") {
        let is_rubbish = source.is_active()
            || matches!(source, ShutOff | Crashed)
            || target == Arriving
            || went_on && matches!(source, Nothing | ShutOffLeft)
            || source == Fenced && (deleting || says("it is replaced"));
        assert!(!arrived && is_rubbish && source != Silent, "{case:?}: {said:?}");
    }
}

#[test]
fn what_has_come_becomes_the_machine_only_where_its_source_did_nothing_after_that() {
    let mut cases = 0;
    each_case(
        "prod-ctrl-1",
        |_| true,
        |case, said| {
            cases += 1;
            holds(case, said);
        },
    );
    each_case("prod-wkr-1", |case| !case.calling && !case.deleting, holds);
    assert_eq!(cases, SOURCE.len() * TARGET.len() * 16);
}

#[test]
fn what_is_done_about_each_pair_of_answers() {
    let mut text = String::new();
    let wanted = |case: Case| !(case.deleting || case.calling || case.arrived && case.went_on);
    each_case("prod-ctrl-1", wanted, |case, said| {
        let Case { source, target, arrived, went_on, .. } = case;
        let known = if arrived { ", arrived" } else { "" };
        let known = if went_on { ", went on" } else { known };
        text += &format!("{source:?} | {target:?}{known}: {}\n", said.join("; "));
    });
    insta::assert_snapshot!(text);
}
