//! The checker finds what is wrong: each rule is broken on purpose in a plan that was good.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::check::check;
use ashlar_plan::*;
use common::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

fn create_plan() -> (Snapshot, Plan) {
    let mut world = World::new(six_machines(), 1);
    let plan = world.plan();
    (world.snapshot, plan)
}

fn rules(snapshot: &Snapshot, plan: &Plan) -> Vec<&'static str> {
    let mut rules: Vec<_> = check(snapshot, plan).into_iter().map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

fn machine<'p>(plan: &'p mut Plan, name: &str) -> &'p mut Machine {
    plan.decisions
        .iter_mut()
        .flatten()
        .find_map(|decision| match decision {
            Decision::Create(Object::Machine(machine)) if machine.metadata.name == name => {
                Some(&mut **machine)
            }
            _ => None,
        })
        .unwrap()
}

#[test]
fn a_good_plan_breaks_nothing() {
    let (snapshot, plan) = create_plan();
    assert_eq!(check(&snapshot, &plan), vec![]);
}

#[test]
fn addresses_macs_and_names_are_held_once() {
    let (snapshot, mut plan) = create_plan();
    let other = machine(&mut plan, "prod-ctrl-1").spec.nics[0].clone();
    machine(&mut plan, "prod-ctrl-2").spec.nics[0].address = other.address;
    assert_eq!(rules(&snapshot, &plan), ["Uniqueness"]);

    let (snapshot, mut plan) = create_plan();
    machine(&mut plan, "prod-ctrl-2").spec.nics[0].mac = other.mac;
    assert_eq!(rules(&snapshot, &plan), ["Uniqueness"]);

    let (snapshot, mut plan) = create_plan();
    let uuid = machine(&mut plan, "prod-ctrl-1").spec.domain.uuid;
    machine(&mut plan, "prod-ctrl-2").spec.domain.uuid = uuid;
    assert_eq!(rules(&snapshot, &plan), ["Uniqueness"]);

    let (mut snapshot, plan) = create_plan();
    snapshot.foreign_addresses.insert(("lan".to_owned(), other.address.addr()));
    assert_eq!(rules(&snapshot, &plan), ["Address"]);
}

#[test]
fn a_host_is_not_overfilled() {
    let (mut snapshot, plan) = create_plan();
    let host = snapshot.hosts.get_mut("host-b").unwrap();
    host.record.capacity.as_mut().unwrap().memory = Mebibytes::from_gib(81);
    assert_eq!(rules(&snapshot, &plan), ["Capacity"]);
    let host = snapshot.hosts.get_mut("host-b").unwrap();
    host.record.capacity.as_mut().unwrap().memory = Mebibytes::from_gib(82);
    assert_eq!(check(&snapshot, &plan), vec![], "80 GiB claimed and 2 reserved are 82");
}

#[test]
fn a_claim_bumps_the_ledgers() {
    for kind in [Kind::Host, Kind::Network] {
        let (snapshot, mut plan) = create_plan();
        for commit in &mut plan.decisions {
            commit.retain(|decision| decision.object_ref().kind != kind);
        }
        assert_eq!(rules(&snapshot, &plan), ["Ledger"]);
    }
}

#[test]
fn commits_have_a_size() {
    let (snapshot, mut plan) = create_plan();
    let many: Vec<Decision> = plan
        .decisions
        .iter()
        .flatten()
        .filter_map(|decision| match decision {
            Decision::Create(Object::Volume(volume)) => Some(volume.clone()),
            _ => None,
        })
        .cycle()
        .take(101)
        .enumerate()
        .map(|(index, mut volume)| {
            volume.metadata.name = format!("v{index}");
            volume.spec.file_name = format!("{index}.qcow2");
            volume.spec.capacity = Mebibytes(1);
            Decision::Create(Object::Volume(volume))
        })
        .collect();
    plan.decisions.push(many);
    assert_eq!(rules(&snapshot, &plan), ["CommitSize"]);
}

#[test]
fn nothing_is_destroyed_without_intent() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    let mut plan = world.plan();
    let ready = |action: Action, object: &str| Step {
        object: ObjectRef::new(Kind::Machine, "default", object),
        host: "lab-1".to_owned(),
        action: Some(action),
        state: StepState::Ready,
        why: "because".to_owned(),
    };
    let worker = key("demo-wkr-1");
    plan.steps = vec![ready(Action::DestroyDomain { machine: worker.clone() }, "demo-wkr-1")];
    assert_eq!(rules(&world.snapshot, &plan), ["Intent"]);
    plan.steps = vec![ready(Action::DeleteVolume { volume: key("demo-wkr-1-root") }, "demo-wkr-1")];
    assert_eq!(rules(&world.snapshot, &plan), ["Intent", "InUse"]);
    plan.steps = vec![ready(Action::DeleteNode { machine: worker.clone() }, "demo-wkr-1")];
    assert_eq!(rules(&world.snapshot, &plan), ["Intent"]);
    plan.steps = vec![ready(Action::ShutdownDomain { machine: key("demo-ctrl-1") }, "demo-ctrl-1")];
    assert_eq!(rules(&world.snapshot, &plan), ["Quorum"], "one of one is the majority");

    // With the intent, but not on what lost our mark.
    let machine = world.snapshot.machines.get_mut(&worker).unwrap();
    machine.metadata.deletion_timestamp = Some(world.snapshot.now);
    let uuid = machine.spec.domain.uuid;
    plan.steps = vec![ready(Action::DestroyDomain { machine: worker.clone() }, "demo-wkr-1")];
    assert_eq!(rules(&world.snapshot, &plan), ["Drain"], "pods could still come to its node");
    let cluster = key("demo");
    let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&cluster) else { panic!() };
    api.nodes.get_mut("demo-wkr-1").unwrap().unschedulable = true;
    api.pods.insert("demo-wkr-1".to_owned(), vec![PodSeen::default()]);
    assert_eq!(rules(&world.snapshot, &plan), ["Drain"], "a pod runs there");
    let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&cluster) else { panic!() };
    api.pods.insert("demo-wkr-1".to_owned(), Vec::new());
    assert_eq!(rules(&world.snapshot, &plan), Vec::<&str>::new());
    plan.steps = vec![ready(Action::UndefineDomain { machine: worker.clone() }, "demo-wkr-1")];
    assert_eq!(rules(&world.snapshot, &plan), ["Order"], "it runs");
    match world.snapshot.observed.hosts.get_mut("lab-1") {
        Some(HostSeen::Seen(host)) => host.domains.get_mut(&uuid).unwrap().mark = None,
        other => panic!("{other:?}"),
    }
    plan.steps = vec![ready(Action::DestroyDomain { machine: worker }, "demo-wkr-1")];
    assert_eq!(rules(&world.snapshot, &plan), ["Ours"]);
}

#[test]
fn what_a_move_left_goes_where_that_is_on_record_and_it_stands_still() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    let mut plan = world.plan();
    let machine = world.snapshot.machines[&key("demo-wkr-1")].clone();
    let uuid = machine.spec.domain.uuid;
    plan.steps = vec![Step {
        object: ObjectRef::new(Kind::Host, "", "lab-1"),
        host: "lab-1".to_owned(),
        action: Some(Action::UndefineLeft { host: "lab-1".to_owned(), domain: uuid }),
        state: StepState::Ready,
        why: "because".to_owned(),
    }];
    assert_eq!(rules(&world.snapshot, &plan), ["Intent"]);
    let left = LeftDomain {
        name: machine.spec.domain.name.clone(),
        uuid,
        machine_uid: machine.metadata.uid.unwrap(),
        since: world.snapshot.now,
        by_move: true,
    };
    let remember = |world: &mut World, left: LeftDomain| {
        world.snapshot.hosts.get_mut("lab-1").unwrap().record.left_domains = vec![left];
    };
    let is = |world: &mut World, state: DomainState| match world.snapshot.observed.hosts.get_mut("lab-1") {
        Some(HostSeen::Seen(host)) => host.domains.get_mut(&uuid).unwrap().state = state,
        other => panic!("{other:?}"),
    };
    remember(&mut world, left.clone());
    is(&mut world, DomainState::Paused);
    assert_eq!(rules(&world.snapshot, &plan), ["InUse"], "it is the machine's");
    world.snapshot.machines.remove(&key("demo-wkr-1"));
    assert_eq!(rules(&world.snapshot, &plan), Vec::<&str>::new());
    is(&mut world, DomainState::Running);
    assert_eq!(rules(&world.snapshot, &plan), ["Order"], "somebody let it go on");
    is(&mut world, DomainState::Paused);
    remember(&mut world, LeftDomain { by_move: false, ..left });
    assert_eq!(
        rules(&world.snapshot, &plan),
        ["Order"],
        "no move left it, and nobody knows why it is paused"
    );
}

#[test]
fn an_old_store_makes_no_machine() {
    let (mut snapshot, plan) = create_plan();
    let behind =
        |store_is_behind| HostSeen::Fenced { reason: "a newer one works".to_owned(), store_is_behind };
    snapshot.observed.hosts.insert("host-z".to_owned(), behind(false));
    assert_eq!(check(&snapshot, &plan), vec![], "another process of the same store has it");
    snapshot.observed.hosts.insert("host-z".to_owned(), behind(true));
    assert_eq!(rules(&snapshot, &plan), ["StoreInDoubt"]);
    assert_eq!(check(&snapshot, &plan).len(), 6, "each machine");

    // A worker runs that the store does not know, and one more of its cluster is made.
    let mut world = World::new(one_plus_one(), 1);
    let create = world.plan();
    assert!(world.settle().is_empty());
    let lost = world.snapshot.machines.remove(&key("demo-wkr-1")).unwrap();
    let mut snapshot = world.snapshot.clone();
    let mut plan = create;
    let is_doubted = |snapshot: &Snapshot, plan: &Plan| rules(snapshot, plan).contains(&"StoreInDoubt");
    assert!(is_doubted(&snapshot, &plan));
    machine(&mut plan, "demo-ctrl-1").spec.cluster = "other".to_owned();
    machine(&mut plan, "demo-wkr-1").spec.cluster = "other".to_owned();
    assert!(!is_doubted(&snapshot, &plan), "another cluster's are not in doubt");
    machine(&mut plan, "demo-wkr-1").spec.cluster = "demo".to_owned();
    assert!(is_doubted(&snapshot, &plan));
    let left = LeftDomain {
        name: lost.spec.domain.name.clone(),
        uuid: lost.spec.domain.uuid,
        machine_uid: lost.metadata.uid.unwrap(),
        since: snapshot.now,
        by_move: false,
    };
    snapshot.hosts.get_mut("lab-1").unwrap().record.left_domains = vec![left];
    assert!(!is_doubted(&snapshot, &plan), "it was let go of");
}

#[test]
fn only_what_was_seen_gone_gives_its_room_away() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    let mut plan = world.plan();
    let mut machine = world.snapshot.machines[&key("demo-wkr-1")].clone();
    machine.record.disks_only = true;
    plan.decisions = vec![vec![Decision::Update(machine.into())]];
    assert_eq!(rules(&world.snapshot, &plan), ["Removal"]);
    assert_eq!(check(&world.snapshot, &plan).len(), 3, "no intent, and domain and node are there");
}

#[test]
fn objects_leave_only_when_the_world_was_seen_without_them() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    let mut plan = world.plan();
    let remove =
        |object: ObjectRef| vec![vec![Decision::Remove { object, resource_version: "1".to_owned() }]];
    plan.decisions = remove(ObjectRef::new(Kind::Volume, "default", "demo-wkr-1-root"));
    assert_eq!(rules(&world.snapshot, &plan), ["Removal"]);
    assert_eq!(check(&world.snapshot, &plan).len(), 2, "no intent, and the file is there");
    plan.decisions = remove(ObjectRef::new(Kind::Secret, "default", "demo-pki"));
    assert_eq!(rules(&world.snapshot, &plan), ["Removal"]);
    plan.decisions = remove(ObjectRef::new(Kind::Host, "", "lab-1"));
    assert_eq!(rules(&world.snapshot, &plan), ["Removal"]);
}

#[test]
fn two_control_planes_never_join_at_once() {
    let mut world = World::new(six_machines(), 1);
    let joined = |world: &World| {
        let first = world.snapshot.machines.get(&key("prod-ctrl-1"));
        first.is_some_and(|machine| machine.record.joined_at.is_some())
    };
    while !joined(&world) {
        let plan = world.plan();
        if plan.decisions.is_empty() { world.act(&plan) } else { world.commit(plan.decisions) }
    }
    let mut plan = world.plan();
    for name in ["prod-ctrl-2", "prod-ctrl-3"] {
        for step in &mut plan.steps {
            if step.action == Some(Action::StartDomain { machine: key(name) }) {
                step.state = StepState::Ready;
            }
        }
    }
    assert!(rules(&world.snapshot, &plan).contains(&"OneAtATime"));
}

#[test]
fn texts_hold_no_secrets() {
    let (snapshot, mut plan) = create_plan();
    plan.steps[0].why = "join with ab12cd.0123456789abcdef".to_owned();
    assert_eq!(rules(&snapshot, &plan), ["Secret"]);
    let (snapshot, mut plan) = create_plan();
    let keys = &mut machine(&mut plan, "prod-ctrl-1").spec.node.ssh_authorized_keys;
    keys.push("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned());
    assert_eq!(rules(&snapshot, &plan), ["Secret"]);
}
