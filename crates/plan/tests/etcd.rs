//! Control planes come and go: one at a time, and never at the cost of etcd's majority.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::check::check;
use ashlar_plan::*;
use common::*;
use jiff::SignedDuration;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// A pool of five hosts with a cluster of so many control planes and no workers.
fn living(control_planes: u32) -> World {
    let mut snapshot = six_machines();
    for host in ["host-d", "host-e"] {
        add_host(&mut snapshot, host, 64, 512, Accelerator::Kvm);
    }
    snapshot.clusters = Objects::default();
    add_cluster(&mut snapshot, "prod", control_planes, 1);
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    world.log.clear();
    world
}

fn set_replicas(world: &mut World, replicas: u32) {
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.control_plane.replicas = replicas;
}

fn control_planes(world: &World) -> Vec<String> {
    let machines = world.snapshot.machines.values();
    machines
        .filter(|machine| machine.spec.role == MachineRole::ControlPlane)
        .map(|machine| machine.metadata.name.clone())
        .collect()
}

fn delete(world: &mut World, machine: &str) {
    let now = world.snapshot.now;
    world.snapshot.machines.get_mut(&key(machine)).unwrap().metadata.deletion_timestamp = Some(now);
}

/// The host loses its power and does not come back.
fn lose(world: &mut World, machine: &str) {
    let machine = world.snapshot.machines[&key(machine)].clone();
    let reason = "no route to host".to_owned();
    world.snapshot.observed.hosts.insert(machine.spec.host.clone(), HostSeen::Unreachable { reason });
    if let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) {
        let node = api.nodes.get_mut(&machine.spec.node.name).unwrap();
        (node.ready, node.message) = (false, "Kubelet stopped posting node status.".to_owned());
    }
    world.guests();
}

/// What was done to etcd and to power, in order.
fn story(world: &World) -> Vec<String> {
    let words = ["startDomain", "EtcdMember", "moveEtcdLeader", "destroyDomain", "remove machine"];
    let told = |line: &&String| words.iter().any(|word| line.contains(word)) && line.contains("-ctrl-");
    world
        .log
        .iter()
        .filter(told)
        .map(|line| match line.split_once(": {") {
            Some((_, action)) => {
                let action: serde_json::Value = serde_json::from_str(&format!("{{{action}")).unwrap();
                let text = |name: &str| action[name]["name"].as_str().unwrap_or_default().to_owned();
                format!("{} {} {}", action["action"].as_str().unwrap(), text("machine"), text("to"))
                    .trim()
                    .to_owned()
            }
            None => line.clone(),
        })
        .collect()
}

/// Why steps of the object wait or are blocked.
fn reasons(plan: &Plan, object: &str) -> Vec<String> {
    let told =
        plan.steps.iter().filter(|step| step.object.name == object).filter_map(|step| match &step.state {
            StepState::Waiting(wait) if wait.reason != "EarlierStep" => {
                Some(format!("{}: {}", wait.reason, wait.message))
            }
            StepState::Blocked(block) => Some(format!("BLOCKED {}: {}", block.reason, block.message)),
            _ => None,
        });
    told.collect()
}

#[test]
fn one_becomes_three_and_five_and_three_and_one() {
    let mut world = living(1);
    for replicas in [3, 5, 3, 1] {
        set_replicas(&mut world, replicas);
        let plan = world.settle();
        assert!(plan.is_empty(), "{:#?}", plan.steps);
        assert_eq!(world.etcd[&key("prod")].len(), replicas as usize);
        assert_eq!(control_planes(&world).len(), replicas as usize);
    }
    insta::assert_snapshot!("one_three_five_three_one", story(&world).join("\n"));
}

#[test]
fn a_healthy_one_is_replaced_before_it_leaves() {
    let mut world = living(3);
    delete(&mut world, "prod-ctrl-1");
    assert!(world.settle().is_empty());
    assert_eq!(control_planes(&world), ["prod-ctrl-2", "prod-ctrl-3", "prod-ctrl-4"]);
    insta::assert_snapshot!(story(&world).join("\n"), @r"
    startDomain prod-ctrl-4
    moveEtcdLeader prod-ctrl-1 prod-ctrl-4
    removeEtcdMember prod-ctrl-1
    destroyDomain prod-ctrl-1
    remove machine prod-ctrl-1
    ");
}

/// With as many hosts as control planes, the only host that will be free is the one of whom is replaced.
#[test]
fn with_preferred_spread_a_replacement_takes_the_host_of_whom_it_replaces() {
    for host in ["host-a", "host-b", "host-c"] {
        let mut snapshot = six_machines();
        snapshot.clusters = Objects::default();
        add_cluster(&mut snapshot, "prod", 3, 1);
        snapshot.clusters.get_mut(&key("prod")).unwrap().spec.control_plane.spread = Spread::Preferred;
        let mut world = World::new(snapshot, 1);
        assert!(world.settle().is_empty());
        let going = control_planes(&world)
            .into_iter()
            .find(|name| world.snapshot.machines[&key(name)].spec.host == host)
            .unwrap();
        delete(&mut world, &going);
        assert!(world.settle().is_empty());
        assert_eq!(world.snapshot.machines[&key("prod-ctrl-4")].spec.host, host);
    }
}

#[test]
fn a_lost_one_leaves_before_its_replacement_comes() {
    let mut world = living(3);
    lose(&mut world, "prod-ctrl-2");
    delete(&mut world, "prod-ctrl-2");
    let plan = world.settle();
    insta::assert_snapshot!(story(&world).join("\n"), @r"
    removeEtcdMember prod-ctrl-2
    startDomain prod-ctrl-4
    ");
    // Its machine stays until its host was seen without it.
    assert!(
        reasons(&plan, "prod-ctrl-2")[0].contains("no route to host"),
        "{:?}",
        reasons(&plan, "prod-ctrl-2")
    );
    assert_eq!(world.etcd[&key("prod")].len(), 3);
}

#[test]
fn nobody_joins_while_somebody_is_not_healthy() {
    let mut world = living(3);
    lose(&mut world, "prod-ctrl-2");
    set_replicas(&mut world, 5);
    let plan = world.settle();
    insta::assert_snapshot!("join_beside_unhealthy", reasons(&plan, "prod-ctrl-4").join("\n"));
    assert_eq!(story(&world), Vec::<String>::new());
}

#[test]
fn nobody_leaves_while_that_could_cost_the_majority() {
    let mut world = living(3);
    lose(&mut world, "prod-ctrl-2");
    delete(&mut world, "prod-ctrl-3");
    let plan = world.settle();
    insta::assert_snapshot!("leave_beside_unhealthy", reasons(&plan, "prod-ctrl-3").join("\n"));
    assert_eq!(story(&world), Vec::<String>::new());
}

#[test]
fn without_a_majority_nothing_is_changed() {
    let mut world = living(3);
    lose(&mut world, "prod-ctrl-2");
    lose(&mut world, "prod-ctrl-3");
    delete(&mut world, "prod-ctrl-2");
    let plan = world.settle();
    insta::assert_snapshot!("no_majority", reasons(&plan, "prod-ctrl-2").join("\n"));
    assert_eq!(story(&world), Vec::<String>::new());
}

#[test]
fn the_unhealthy_one_goes_when_there_are_too_many() {
    let mut world = living(5);
    lose(&mut world, "prod-ctrl-4");
    set_replicas(&mut world, 3);
    let plan = world.plan();
    let note = plan.report.notes.iter().find(|note| note.reason == "ControlPlaneScaleDown").unwrap();
    insta::assert_snapshot!("scale_down_note", note.message);
    let _ = world.settle();
    // The second waits until the first one's machine is gone, which nobody can see.
    assert_eq!(story(&world), ["removeEtcdMember prod-ctrl-4"]);
}

#[test]
fn what_never_ran_goes_at_once() {
    let mut world = living(1);
    set_replicas(&mut world, 5);
    let plan = world.plan();
    world.commit(plan.decisions);
    set_replicas(&mut world, 1);
    assert!(world.settle().is_empty());
    assert_eq!(control_planes(&world), ["prod-ctrl-1"]);
    assert!(!story(&world).iter().any(|line| line.contains("startDomain")), "{:?}", story(&world));
}

/// A join fails after its learner was added.
fn fail_join(world: &mut World, machine: &str) {
    let failure = MachineFailure {
        phase: "kubeadm-etcd-join".to_owned(),
        message: "context deadline exceeded".to_owned(),
        log_lines: Vec::new(),
        overdue: false,
        at: world.snapshot.now,
    };
    let now = world.snapshot.now;
    let machine = world.snapshot.machines.get_mut(&key(machine)).unwrap();
    machine.record.first_started_at = Some(now);
    machine.record.failure = Some(failure);
    let learner = EtcdMember { name: String::new(), ..member(machine, true) };
    world.etcd.get_mut(&key("prod")).unwrap().insert(learner.id, learner);
    world.guests();
}

#[test]
fn a_failed_join_is_replaced_and_its_learner_removed_three_times() {
    let mut world = living(1);
    set_replicas(&mut world, 3);
    for number in 2..=6 {
        let name = format!("prod-ctrl-{number}");
        while !world.snapshot.machines.contains_key(&key(&name)) {
            let plan = world.plan();
            if plan.decisions.is_empty() { world.act(&plan) } else { world.commit(plan.decisions) }
        }
        fail_join(&mut world, &name);
    }
    let plan = world.settle();
    let left: Vec<_> = control_planes(&world);
    assert_eq!(left, ["prod-ctrl-1", "prod-ctrl-5", "prod-ctrl-6"], "those after the third are kept");
    assert!(world.etcd[&key("prod")].values().all(|member| !member.is_learner), "no learner is left");
    assert!(reasons(&plan, "prod-ctrl-5")[0].contains("FirstBootFailed"), "{:?}", plan.steps);
}

#[test]
fn a_member_that_is_nobodys_stops_changes() {
    let mut world = living(3);
    let stranger = EtcdMember {
        id: 0xabc,
        name: "someone".to_owned(),
        peer_urls: vec!["https://10.9.9.9:2380".to_owned()],
        is_learner: false,
    };
    let healthy = EtcdStatus { member_id: 0xabc, leader: Some(1), ..EtcdStatus::default() };
    world.etcd.get_mut(&key("prod")).unwrap().insert(0xabc, stranger);
    world.guests();
    if let Some(EtcdSeen::Seen(etcd)) = world.snapshot.observed.etcd.get_mut(&key("prod")) {
        etcd.nodes.insert("someone".to_owned(), Ok(healthy));
    }
    delete(&mut world, "prod-ctrl-3");
    let mut plan = world.plan();
    for _ in 0..3 {
        world.commit(std::mem::take(&mut plan.decisions));
        plan = world.plan();
    }
    insta::assert_snapshot!("stranger", reasons(&plan, "prod-ctrl-3").join("\n"));
}

#[test]
fn a_node_that_joined_without_a_vote_gets_it() {
    let mut world = living(3);
    let id = member_id(&world.snapshot.machines[&key("prod-ctrl-3")]);
    world.etcd.get_mut(&key("prod")).unwrap().get_mut(&id).unwrap().is_learner = true;
    world.guests();
    assert!(world.settle().is_empty());
    assert_eq!(story(&world), ["promoteEtcdMember prod-ctrl-3"]);
}

fn ready(action: Action, object: &str, host: &str) -> Step {
    Step {
        object: ObjectRef::new(Kind::Machine, "default", object),
        host: host.to_owned(),
        action: Some(action),
        state: StepState::Ready,
        why: "because".to_owned(),
    }
}

fn rules(world: &World, steps: Vec<Step>) -> Vec<&'static str> {
    let plan = Plan { decisions: Vec::new(), steps, report: Report::default() };
    let mut rules: Vec<_> =
        check(&world.snapshot, &plan).into_iter().map(|violation| violation.rule).collect();
    rules.retain(|rule| ["Intent", "Quorum", "OneAtATime"].contains(rule));
    rules.dedup();
    rules
}

#[test]
fn the_checker_refuses_what_could_cost_the_majority() {
    let mut world = living(3);
    let remove = |name: &str| ready(Action::RemoveEtcdMember { machine: key(name) }, name, "");
    let destroy = |world: &World, name: &str| {
        let host = &world.snapshot.machines[&key(name)].spec.host;
        ready(Action::DestroyDomain { machine: key(name) }, name, host)
    };
    assert_eq!(rules(&world, vec![remove("prod-ctrl-1")]), ["Intent"], "nobody asked for it");
    set_replicas(&mut world, 1);
    delete(&mut world, "prod-ctrl-1");
    let one = vec![remove("prod-ctrl-1"), destroy(&world, "prod-ctrl-1")];
    assert_eq!(rules(&world, one.clone()), Vec::<&str>::new());
    assert_eq!(rules(&world, vec![destroy(&world, "prod-ctrl-1")]), ["Quorum"], "still a member");
    delete(&mut world, "prod-ctrl-2");
    assert_eq!(rules(&world, vec![remove("prod-ctrl-1"), remove("prod-ctrl-2")]), ["OneAtATime"]);
    lose(&mut world, "prod-ctrl-3");
    assert_eq!(rules(&world, one.clone()), ["Quorum"], "of the two that stay one is lost");
    world.snapshot.observed.etcd.clear();
    assert_eq!(rules(&world, one), ["Quorum"], "nobody knows");
}

#[test]
fn the_checker_refuses_a_join_that_could_cost_the_majority() {
    let mut world = living(3);
    set_replicas(&mut world, 5);
    let plan = world.plan();
    world.commit(plan.decisions);
    let start = |world: &World, name: &str| {
        let host = &world.snapshot.machines[&key(name)].spec.host;
        let machine = key(name);
        vec![
            ready(Action::DefineDomain { machine: machine.clone() }, name, host),
            ready(Action::StartDomain { machine }, name, host),
        ]
    };
    for volume in world.snapshot.volumes.values_mut() {
        volume.record.filled = true;
    }
    let four = start(&world, "prod-ctrl-4");
    assert_eq!(rules(&world, four.clone()), Vec::<&str>::new());
    let both = [four.clone(), start(&world, "prod-ctrl-5")].concat();
    assert_eq!(rules(&world, both), ["OneAtATime"]);
    lose(&mut world, "prod-ctrl-2");
    assert_eq!(rules(&world, four.clone()), ["Quorum"], "three of four are needed, two would be sure");
    delete(&mut world, "prod-ctrl-2");
    assert_eq!(rules(&world, four), ["Quorum"], "the lost one leaves first");
}

#[test]
fn while_a_member_is_defragmented_no_control_plane_is_disturbed() {
    let mut world = living(3);
    delete(&mut world, "prod-ctrl-1");
    let disturbs = |plan: &Plan| {
        let is = |step: &Step| match &step.action {
            Some(Action::MoveEtcdLeader { .. } | Action::RemoveEtcdMember { .. }) => true,
            Some(Action::DestroyDomain { machine }) => machine.name == "prod-ctrl-1",
            _ => false,
        };
        plan.steps.iter().any(|step| step.state == StepState::Ready && is(step))
    };
    // Step by step: before each that disturbs a control plane a defragmentation begins, as it may at any moment.
    let mut waited = 0;
    for _ in 0..200 {
        let plan = world.plan();
        if plan.decisions.is_empty() && disturbs(&plan) {
            let (since, machine) = (world.snapshot.now, "prod-ctrl-2".to_owned());
            let until = since + defragmentation::LASTS;
            let mark = |world: &mut World, mark| {
                world.snapshot.clusters.get_mut(&key("prod")).unwrap().record.defragmenting = mark;
            };
            mark(&mut world, Some(Defragmentation { machine, since, until }));
            let held = world.plan();
            assert!(!disturbs(&held), "{:#?}", held.steps);
            let told = reasons(&held, "prod-ctrl-1");
            assert!(
                told.iter().any(|told| told.starts_with("EtcdDefragmenting: the etcd of prod-ctrl-2")),
                "{told:?}"
            );
            // The checker sees it by itself.
            let broken = check(&world.snapshot, &plan);
            assert!(broken.iter().any(|it| it.rule == "OneAtATime"), "{broken:#?}");
            // It ends by itself, and a clock that was wrong makes it no longer.
            for now in [until, since - SignedDuration::from_secs(1)] {
                world.snapshot.now = now;
                assert!(disturbs(&world.plan()));
            }
            world.snapshot.now = since;
            mark(&mut world, None);
            waited += 1;
        }
        match plan.decisions.is_empty() {
            true if plan.steps.is_empty() => break,
            true => world.act(&plan),
            false => world.commit(plan.decisions),
        }
    }
    assert!(waited > 0, "leadership, member, machine");
    assert_eq!(control_planes(&world), ["prod-ctrl-2", "prod-ctrl-3", "prod-ctrl-4"]);
}

/// Somebody took it out.
fn take_out(world: &mut World, machine: &str) {
    let Some(EtcdSeen::Seen(etcd)) = world.snapshot.observed.etcd.get_mut(&key("prod")) else { panic!() };
    etcd.members.retain(|_, member| member.name != machine);
}

#[test]
fn who_has_left_etcd_is_no_vote_that_lacks() {
    let mut world = living(3);
    delete(&mut world, "prod-ctrl-1");
    take_out(&mut world, "prod-ctrl-1");
    let plan = world.plan();
    world.commit(plan.decisions);
    let gone = world.snapshot.machines[&key("prod-ctrl-1")].clone();
    assert!(gone.record.left_etcd);

    // It is off, and nobody hears etcd.
    let off = |world: &mut World| {
        let host = world.snapshot.observed.hosts.get_mut(&gone.spec.host).unwrap();
        let HostSeen::Seen(host) = host else { panic!() };
        host.domains.get_mut(&gone.spec.domain.uuid).unwrap().state = DomainState::ShutOff;
        let silent = EtcdSeen::Unreachable { reason: "nobody answers".to_owned() };
        world.snapshot.observed.etcd.insert(key("prod"), silent);
    };
    off(&mut world);
    let starts = |world: &mut World| {
        let start = Action::StartDomain { machine: gone.key() };
        world.plan().steps.iter().any(|step| step.action.as_ref() == Some(&start))
    };
    assert!(!starts(&mut world));
    world.snapshot.machines.get_mut(&gone.key()).unwrap().record.left_etcd = false;
    assert!(starts(&mut world), "it may be the vote that lacks");
    let plan = world.plan();
    assert!(check(&world.snapshot, &plan).is_empty());
    world.snapshot.machines.get_mut(&gone.key()).unwrap().record.left_etcd = true;
    let found = check(&world.snapshot, &plan);
    assert!(found.iter().any(|finding| finding.message.contains("has left etcd")), "{found:?}");
}

#[test]
fn the_checker_wants_it_seen_that_one_has_left_etcd() {
    let mut world = living(3);
    delete(&mut world, "prod-ctrl-1");
    let mut left = world.snapshot.machines[&key("prod-ctrl-1")].clone();
    left.record.left_etcd = true;
    let mut plan = world.plan();
    plan.steps.clear();
    plan.decisions = vec![vec![Decision::Update(left.into())]];
    let quorum = |world: &World| check(&world.snapshot, &plan).iter().any(|finding| finding.rule == "Quorum");
    assert!(quorum(&world), "it is a member");
    let silent = EtcdSeen::Unreachable { reason: "nobody answers".to_owned() };
    let seen = world.snapshot.observed.etcd.insert(key("prod"), silent).unwrap();
    assert!(quorum(&world), "nobody was heard");
    world.snapshot.observed.etcd.insert(key("prod"), seen);
    take_out(&mut world, "prod-ctrl-1");
    assert!(!quorum(&world));
}

#[test]
fn a_disk_that_may_be_a_votes_is_not_overwritten() {
    let mut world = living(3);
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.wipe_disks = WipeDisks::Zero;
    delete(&mut world, "prod-ctrl-1");
    let overwrites = |step: &Step| matches!(&step.action, Some(Action::WipeVolume { volume }) if volume.name == "prod-ctrl-1-etcd");
    let mut was_ready = false;
    for _ in 0..100 {
        let plan = world.plan();
        let is_ready = plan.steps.iter().any(|step| overwrites(step) && step.state == StepState::Ready);
        let machine = world.snapshot.machines.get(&key("prod-ctrl-1"));
        assert!(!is_ready || machine.is_some_and(|machine| machine.record.left_etcd));
        if is_ready && !was_ready {
            let mut forgotten = world.snapshot.clone();
            forgotten.machines.get_mut(&key("prod-ctrl-1")).unwrap().record =
                MachineRecord { left_etcd: false, disks_only: false, ..machine.unwrap().record.clone() };
            let found = check(&forgotten, &plan);
            assert!(found.iter().any(|finding| finding.rule == "Quorum"), "{found:?}");
        }
        was_ready |= is_ready;
        if plan.decisions.is_empty() { world.act(&plan) } else { world.commit(plan.decisions) }
    }
    assert!(was_ready);
}
