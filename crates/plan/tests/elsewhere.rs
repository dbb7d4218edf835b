//! Domains that people moved to another host by hand: what is recorded, when it is forgotten, and what is not done meanwhile.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::check::check;
use ashlar_plan::*;
use common::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

fn settled() -> World {
    let mut world = World::new(six_machines(), 1);
    let _ = world.settle();
    world
}

fn machine<'s>(snapshot: &'s Snapshot, name: &str) -> &'s Machine {
    snapshot.machines.get(&key(name)).unwrap()
}

fn seen<'s>(snapshot: &'s mut Snapshot, host: &str) -> &'s mut HostWorld {
    match snapshot.observed.hosts.get_mut(host) {
        Some(HostSeen::Seen(world)) => world,
        other => panic!("{other:?}"),
    }
}

/// A host other than the machine's.
fn other_host(snapshot: &Snapshot, name: &str) -> String {
    let own = &machine(snapshot, name).spec.host;
    snapshot.hosts.keys().find(|host| *host != own).unwrap().clone()
}

/// Somebody migrates its domain; the definition stays, and is off, or goes.
fn migrate(snapshot: &mut Snapshot, name: &str, to: &str, stays: bool) {
    let (home, uuid) = (machine(snapshot, name).spec.host.clone(), machine(snapshot, name).spec.domain.uuid);
    let mut domain = seen(snapshot, &home).domains.remove(&uuid).unwrap();
    seen(snapshot, to).domains.insert(uuid, domain.clone());
    if stays {
        domain.state = DomainState::ShutOff;
        seen(snapshot, &home).domains.insert(uuid, domain);
    }
}

fn silence(snapshot: &mut Snapshot, host: &str) -> HostSeen {
    let unreachable = HostSeen::Unreachable { reason: "no route".to_owned() };
    snapshot.observed.hosts.insert(host.to_owned(), unreachable).unwrap()
}

fn fence(snapshot: &mut Snapshot, host: &str) {
    let fence = HostFence { at: snapshot.now, confirmed_by: "a person".to_owned() };
    snapshot.hosts.get_mut(host).unwrap().record.fence = Some(fence);
}

/// The first that a machine waits for, or is blocked by.
fn hold(plan: &Plan, name: &str) -> Option<(&'static str, String, String)> {
    let object = ObjectRef::new(Kind::Machine, "default", name);
    plan.steps.iter().filter(|step| step.object == object).find_map(|step| match &step.state {
        StepState::Ready => None,
        StepState::Waiting(wait) => Some(("waits", wait.reason.clone(), wait.message.clone())),
        StepState::Blocked(block) => Some(("blocked", block.reason.clone(), block.message.clone())),
    })
}

/// What would make its domain run.
fn runs(plan: &Plan, name: &str) -> Vec<Action> {
    let is_of = |action: &&Action| {
        matches!(action, Action::DefineDomain { machine } | Action::RedefineDomain { machine } | Action::StartDomain { machine }
            if *machine == key(name))
    };
    let ready = plan.steps.iter().filter(|step| step.state == StepState::Ready);
    ready.filter_map(|step| step.action.as_ref()).filter(is_of).cloned().collect()
}

fn recorded(snapshot: &Snapshot, name: &str) -> Vec<String> {
    machine(snapshot, name).record.seen_elsewhere.iter().cloned().collect()
}

/// A pass that does nothing but decide, and the plan after it.
fn decide(world: &mut World) -> Plan {
    let plan = world.plan();
    assert!(!plan.decisions.is_empty(), "nothing is decided");
    world.commit(plan.decisions);
    let plan = world.plan();
    assert!(plan.decisions.is_empty(), "{:?}", plan.decisions);
    plan
}

const WORKER: &str = "prod-wkr-1";
const CONTROL_PLANE: &str = "prod-ctrl-2";

#[test]
fn what_was_seen_on_another_host_outlives_its_silence() {
    for (name, stays) in [(WORKER, false), (WORKER, true), (CONTROL_PLANE, true)] {
        let mut world = settled();
        let to = other_host(&world.snapshot, name);
        migrate(&mut world.snapshot, name, &to, stays);
        let plan = decide(&mut world);
        assert_eq!(recorded(&world.snapshot, name), std::slice::from_ref(&to));
        let (kind, reason, _) = hold(&plan, name).unwrap();
        assert_eq!((kind, reason.as_str()), ("blocked", "DomainElsewhere"));
        assert_eq!(runs(&plan, name), []);

        let answer = silence(&mut world.snapshot, &to);
        let plan = world.plan();
        assert!(plan.decisions.is_empty(), "silence changes nothing: {:?}", plan.decisions);
        let (kind, reason, message) = hold(&plan, name).unwrap();
        assert_eq!((kind, reason.as_str()), ("waits", "DomainElsewhere"));
        assert!(message.contains(&format!("`ashlar host fence {to}`")), "{message}");
        assert_eq!(runs(&plan, name), []);

        // It answers without.
        world.snapshot.observed.hosts.insert(to.clone(), answer);
        let uuid = machine(&world.snapshot, name).spec.domain.uuid;
        seen(&mut world.snapshot, &to).domains.remove(&uuid);
        let plan = decide(&mut world);
        assert_eq!(recorded(&world.snapshot, name), Vec::<String>::new());
        let start = Action::StartDomain { machine: key(name) };
        assert_eq!(runs(&plan, name).last(), Some(&start), "stays: {stays}");
    }
}

#[test]
fn a_host_that_is_proved_off_gives_a_worker_free_and_no_etcd_member() {
    for (name, is_free) in [(WORKER, true), (CONTROL_PLANE, false)] {
        let mut world = settled();
        let to = other_host(&world.snapshot, name);
        migrate(&mut world.snapshot, name, &to, true);
        let _ = decide(&mut world);
        silence(&mut world.snapshot, &to);
        fence(&mut world.snapshot, &to);
        let plan = world.plan();
        world.commit(plan.decisions);
        let plan = world.plan();
        assert_eq!(recorded(&world.snapshot, name).is_empty(), is_free, "{name}");
        assert_eq!(runs(&plan, name).is_empty(), !is_free, "{name}");
        if !is_free {
            let (kind, _, message) = hold(&plan, name).unwrap();
            assert!(kind == "blocked" && message.contains("newest log"), "{message}");
        }
    }
}

#[test]
fn what_is_gone_is_not_made_again_while_a_host_that_may_have_it_is_silent() {
    let mut world = settled();
    let (home, uuid) = (
        machine(&world.snapshot, WORKER).spec.host.clone(),
        machine(&world.snapshot, WORKER).spec.domain.uuid,
    );
    let to = other_host(&world.snapshot, WORKER);
    seen(&mut world.snapshot, &home).domains.remove(&uuid);
    let again = [Action::DefineDomain { machine: key(WORKER) }, Action::StartDomain { machine: key(WORKER) }];
    let all_answer = world.plan();
    assert_eq!(runs(&all_answer, WORKER), again, "all hosts answer");

    silence(&mut world.snapshot, &to);
    let plan = world.plan();
    let (kind, reason, message) = hold(&plan, WORKER).unwrap();
    assert_eq!((kind, reason.as_str()), ("waits", "DomainMayBeElsewhere"));
    assert!(message.contains(&to), "{message}");
    assert_eq!(runs(&plan, WORKER), []);
    let rules: Vec<&str> = check(&world.snapshot, &all_answer).iter().map(|found| found.rule).collect();
    assert!(rules.contains(&"RunsOnce"), "the checker sees it, too: {rules:?}");

    // It does not carry the machine's network.
    let network = machine(&world.snapshot, WORKER).spec.nics[0].network.clone();
    let mut without = world.snapshot.clone();
    let others = without.hosts.keys().filter(|host| **host != to).cloned().collect();
    without.networks.get_mut(&network).unwrap().spec.attachment.hosts = others;
    let plan = World::new(without, 1).plan();
    assert_eq!(runs(&plan, WORKER), again, "no network");

    fence(&mut world.snapshot, &to);
    assert_eq!(runs(&world.plan(), WORKER), again, "proved off");

    // What is off, and defined, is started whoever is silent: power comes back host by host.
    let mut world = settled();
    seen(&mut world.snapshot, &home).domains.get_mut(&uuid).unwrap().state = DomainState::ShutOff;
    silence(&mut world.snapshot, &to);
    assert_eq!(runs(&world.plan(), WORKER), again[1..]);
    // But for what libvirt says went elsewhere.
    seen(&mut world.snapshot, &home).domains.get_mut(&uuid).unwrap().left_by_migration = true;
    let plan = world.plan();
    assert_eq!(hold(&plan, WORKER).unwrap().1, "DomainMayBeElsewhere");
    assert_eq!(runs(&plan, WORKER), []);
}

#[test]
fn the_checker_refuses_to_run_what_may_run_elsewhere() {
    let mut world = settled();
    let (home, uuid) = (
        machine(&world.snapshot, WORKER).spec.host.clone(),
        machine(&world.snapshot, WORKER).spec.domain.uuid,
    );
    let to = other_host(&world.snapshot, WORKER);
    seen(&mut world.snapshot, &home).domains.get_mut(&uuid).unwrap().state = DomainState::ShutOff;
    let plan = world.plan();
    assert_eq!(runs(&plan, WORKER), [Action::StartDomain { machine: key(WORKER) }]);
    let rules = |snapshot: &Snapshot, plan: &Plan| -> Vec<&'static str> {
        check(snapshot, plan).into_iter().map(|found| found.rule).collect()
    };
    assert_eq!(rules(&world.snapshot, &plan), Vec::<&str>::new());

    let mut remembered = world.snapshot.clone();
    remembered.machines.get_mut(&key(WORKER)).unwrap().record.seen_elsewhere.insert(to.clone());
    assert_eq!(rules(&remembered, &plan), Vec::<&str>::new(), "it answers without");
    silence(&mut remembered, &to);
    assert_eq!(rules(&remembered, &plan), ["RunsOnce"]);
    let mut redefined = plan.clone();
    for step in &mut redefined.steps {
        if step.action == Some(Action::StartDomain { machine: key(WORKER) }) {
            step.action = Some(Action::RedefineDomain { machine: key(WORKER) });
        }
    }
    assert_eq!(rules(&remembered, &redefined), ["RunsOnce"]);

    // Silence is no reason to forget.
    let mut forgotten = machine(&remembered, WORKER).clone();
    forgotten.record.seen_elsewhere.clear();
    let nothing = Plan { steps: Vec::new(), ..plan.clone() };
    let forgets =
        Plan { decisions: vec![vec![Decision::Update(Object::from(forgotten))]], ..nothing.clone() };
    assert_eq!(rules(&remembered, &forgets), ["RunsOnce"]);
    fence(&mut remembered, &to);
    assert_eq!(rules(&remembered, &forgets), Vec::<&str>::new());

    let mut away = world.snapshot.clone();
    seen(&mut away, &home).domains.get_mut(&uuid).unwrap().left_by_migration = true;
    assert_eq!(rules(&away, &plan), ["RunsOnce"]);
}

#[test]
fn what_a_move_of_ashlars_left_goes_first_and_is_nobodys_migration() {
    let mut world = settled();
    let to = other_host(&world.snapshot, WORKER);
    let worker = machine(&world.snapshot, WORKER).clone();
    migrate(&mut world.snapshot, WORKER, &to, false);
    // It is defined here, off, and there is what is left of it.
    let mut domain = seen(&mut world.snapshot, &to).domains[&worker.spec.domain.uuid].clone();
    domain.state = DomainState::ShutOff;
    seen(&mut world.snapshot, &to).domains.insert(worker.spec.domain.uuid, domain.clone());
    seen(&mut world.snapshot, &worker.spec.host).domains.insert(worker.spec.domain.uuid, domain);
    let left = LeftDomain {
        name: worker.spec.domain.name.clone(),
        uuid: worker.spec.domain.uuid,
        machine_uid: worker.metadata.uid.unwrap(),
        since: world.snapshot.now,
        by_move: false,
    };
    world.snapshot.hosts.get_mut(&to).unwrap().record.left_domains.push(left);
    let plan = world.plan();
    assert_eq!(recorded(&world.snapshot, WORKER), Vec::<String>::new());
    assert_eq!(hold(&plan, WORKER).unwrap().1, "LeftFirst");
    let undefine = Action::UndefineLeft { host: to.clone(), domain: worker.spec.domain.uuid };
    let is_ready = |step: &Step| step.state == StepState::Ready && step.action.as_ref() == Some(&undefine);
    assert!(plan.steps.iter().any(is_ready));
    // Whoever runs there was moved by hand.
    let there = seen(&mut world.snapshot, &to).domains.get_mut(&worker.spec.domain.uuid).unwrap();
    there.state = DomainState::Running;
    let plan = decide(&mut world);
    assert_eq!(recorded(&world.snapshot, WORKER), [to]);
    assert_eq!(hold(&plan, WORKER).unwrap().1, "DomainElsewhere");
}

#[test]
fn a_machine_that_was_never_moved_is_stored_as_before() {
    let world = settled();
    let text = serde_json::to_string(machine(&world.snapshot, WORKER)).unwrap();
    assert!(!text.contains("seenElsewhere"), "{text}");
}
