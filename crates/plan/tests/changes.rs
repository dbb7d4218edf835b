//! What happens to a living cluster: more, fewer, gone, failed, lost.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::*;
use common::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

fn names(world: &World) -> Vec<String> {
    world.snapshot.machines.keys().map(|key| key.name.clone()).collect()
}

fn living() -> World {
    let mut world = World::new(six_machines(), 1);
    assert!(world.settle().is_empty());
    world.log.clear();
    world
}

fn seen<'w>(world: &'w mut World, host: &str) -> &'w mut HostWorld {
    match world.snapshot.observed.hosts.get_mut(host) {
        Some(HostSeen::Seen(world)) => world,
        other => panic!("{other:?}"),
    }
}

fn set_workers(world: &mut World, replicas: u32) {
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.workers[0].replicas = Some(replicas);
}

#[test]
fn more_workers_and_fewer() {
    let mut world = living();
    set_workers(&mut world, 5);
    assert!(world.settle().is_empty());
    assert!(names(&world).contains(&"prod-wkr-5".to_owned()));
    set_workers(&mut world, 2);
    let plan = world.plan();
    assert!(plan.report.notes.iter().any(|note| note.reason == "ScaleDown"));
    assert!(world.settle().is_empty());
    assert_eq!(names(&world)[3..], ["prod-wkr-1", "prod-wkr-2"]);
    let ClusterSeen::Seen(api) = &world.snapshot.observed.clusters[&key("prod")] else { panic!() };
    assert_eq!(api.nodes.len(), 5, "nodes of machines that went are deleted");
    // Numbers are never used twice.
    set_workers(&mut world, 3);
    assert!(world.settle().is_empty());
    assert_eq!(names(&world)[3..], ["prod-wkr-1", "prod-wkr-2", "prod-wkr-6"]);
}

#[test]
fn a_group_that_grows_by_itself_is_left_alone() {
    let mut world = living();
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.workers[0].replicas = None;
    assert!(world.plan().is_empty());
    world.snapshot.groups.get_mut(&key("prod-wkr")).unwrap().spec.replicas = Some(4);
    assert!(world.settle().is_empty());
    assert_eq!(names(&world).len(), 7);
}

#[test]
fn a_deleted_worker_is_replaced_and_a_deleted_group_is_not() {
    let mut world = living();
    let now = world.snapshot.now;
    world.snapshot.machines.get_mut(&key("prod-wkr-2")).unwrap().metadata.deletion_timestamp = Some(now);
    assert!(world.settle().is_empty());
    assert_eq!(names(&world)[3..], ["prod-wkr-1", "prod-wkr-3", "prod-wkr-4"]);

    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.workers.clear();
    let plan = world.plan();
    assert!(plan.is_empty(), "not in the file any more is not a wish to delete");
    assert!(plan.report.notes.iter().any(|note| note.reason == "NotInFile"));
    world.snapshot.groups.get_mut(&key("prod-wkr")).unwrap().metadata.deletion_timestamp = Some(now);
    assert!(world.settle().is_empty());
    assert_eq!(names(&world), ["prod-ctrl-1", "prod-ctrl-2", "prod-ctrl-3"]);
    assert!(world.snapshot.groups.is_empty());
}

#[test]
fn one_control_plane_becomes_three_one_after_the_other() {
    let mut snapshot = six_machines();
    add_cluster(&mut snapshot, "prod", 1, 1);
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.control_plane.replicas = 3;
    world.log.clear();
    assert!(world.settle().is_empty());
    let order: Vec<_> = world
        .log
        .iter()
        .filter(|line| line.contains("startDomain") || line.contains("ejectSeed"))
        .map(|line| line.split('"').take(4).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        order,
        [
            "machine prod-ctrl-2: { action : startDomain",
            "machine prod-ctrl-2: { action : ejectSeed",
            "machine prod-ctrl-3: { action : startDomain",
            "machine prod-ctrl-3: { action : ejectSeed",
        ]
    );
    let bootstraps: Vec<_> = world.snapshot.machines.values().map(|machine| machine.spec.bootstrap).collect();
    assert_eq!(bootstraps.iter().filter(|bootstrap| **bootstrap == Bootstrap::Init).count(), 1);
}

#[test]
fn a_domain_that_somebody_removed_is_made_again_and_started() {
    let mut world = living();
    seen(&mut world, "host-a").domains.clear();
    assert!(world.settle().is_empty());
    let done: Vec<_> = world.log.iter().filter(|line| line.contains("Domain")).collect();
    assert_eq!(done.len(), 4, "two machines defined and started: {done:?}");
}

/// A person is asked where nobody is replaced for its health; otherwise that is waited for.
#[test]
fn a_disk_that_is_gone_is_never_made_anew() {
    for remediate in [false, true] {
        let mut world = living();
        world.snapshot.clusters.get_mut(&key("prod")).unwrap().spec.health.remediate = remediate;
        let root = world.snapshot.volumes[&key("prod-wkr-1-root")].spec.clone();
        let host = seen(&mut world, &root.host);
        host.pools.get_mut(&root.pool_uuid).unwrap().volumes.remove(&root.file_name);
        host.domains.retain(|_, domain| !domain.disk_paths.contains(&root.path()));
        let plan = world.settle();
        let is_told = |step: &Step| match &step.state {
            StepState::Blocked(block) => !remediate && block.reason == "VolumeMissing",
            StepState::Waiting(wait) => remediate && wait.reason == "VolumeMissing",
            StepState::Ready => false,
        };
        assert!(plan.steps.iter().any(is_told), "{remediate}: {plan:#?}");
        assert!(!world.log.iter().any(|line| line.contains("createVolume")), "{:?}", world.log);
    }
}

#[test]
fn somebody_elses_domain_with_our_disk_blocks() {
    let mut world = living();
    let (uuid, host) = {
        let machine = &world.snapshot.machines[&key("prod-wkr-1")];
        (machine.spec.domain.uuid, machine.spec.host.clone())
    };
    let domains = &mut seen(&mut world, &host).domains;
    let mut thief = domains.remove(&uuid).unwrap();
    thief.uuid = uuid::Uuid::from_u128(0xbad);
    thief.name = "thief".to_owned();
    thief.mark = None;
    domains.insert(thief.uuid, thief);
    let plan = world.settle();
    assert!(
        plan.steps
            .iter()
            .any(|step| matches!(&step.state, StepState::Blocked(block) if block.reason == "DiskInUse")),
        "{plan:#?}"
    );
    delete_cluster(&mut world.snapshot, "prod");
    let plan = world.settle();
    assert_eq!(names(&world), ["prod-wkr-1"], "its disk is not deleted under a running guest: {plan:#?}");
}

#[test]
fn an_image_file_that_is_gone_is_uploaded_again() {
    let mut world = living();
    let (name, volume) = world
        .snapshot
        .volumes
        .iter()
        .find(|(_, volume)| matches!(volume.spec.content, VolumeContent::ImageFile { .. }))
        .map(|(name, volume)| (name.clone(), volume.spec.clone()))
        .unwrap();
    seen(&mut world, &volume.host)
        .pools
        .get_mut(&volume.pool_uuid)
        .unwrap()
        .volumes
        .remove(&volume.file_name);
    let plan = world.plan();
    assert_eq!(plan.decisions.len(), 1, "first it is recorded that the file is not filled any more");
    assert!(world.settle().is_empty());
    assert_eq!(world.log.len(), 3, "{:?}", world.log);
    assert!(world.snapshot.volumes[&name].record.filled);
}

#[test]
fn an_image_file_goes_when_nothing_stands_on_it() {
    let mut world = living();
    let now = world.snapshot.now;
    for volume in world.snapshot.volumes.values_mut() {
        if matches!(volume.spec.content, VolumeContent::ImageFile { .. }) {
            volume.metadata.deletion_timestamp = Some(now);
        }
    }
    let plan = world.settle();
    assert_eq!(plan.steps.len(), 9);
    assert!(
        plan.steps
            .iter()
            .all(|step| matches!(&step.state, StepState::Waiting(wait) if wait.reason == "ImageInUse"))
    );
    delete_cluster(&mut world.snapshot, "prod");
    assert!(world.settle().is_empty());
    assert!(world.snapshot.volumes.is_empty());
}

/// Up to the point where the first control plane runs and has not joined.
fn booting() -> World {
    let mut world = World::new(one_plus_one(), 1);
    while world.snapshot.machines.values().all(|machine| machine.record.first_started_at.is_none()) {
        let plan = world.plan();
        if plan.decisions.is_empty() { world.act(&plan) } else { world.commit(plan.decisions) }
    }
    world.snapshot.observed.clusters.clear();
    world
}

fn pass(world: &mut World) -> MachineRecord {
    let plan = world.plan();
    world.commit(plan.decisions);
    world.snapshot.machines[&key("demo-ctrl-1")].record.clone()
}

#[test]
fn a_node_that_does_not_come_up_fails_at_its_deadline() {
    let mut world = booting();
    let seen = ConsoleSeen { phase: "kubeadm init: certs".to_owned(), finished: false, failure: None };
    world.snapshot.observed.consoles.insert(key("demo-ctrl-1"), seen);
    world.snapshot.now += jiff::SignedDuration::from_secs(1700);
    assert_eq!(pass(&mut world).failure, None, "emulated machines have 1800 s");
    world.snapshot.now += jiff::SignedDuration::from_secs(200);
    let host = world
        .snapshot
        .observed
        .hosts
        .insert("lab-1".to_owned(), HostSeen::Unreachable { reason: "cut off".to_owned() });
    assert_eq!(pass(&mut world).failure, None, "nothing is concluded from a host that does not answer");
    world.snapshot.observed.hosts.insert("lab-1".to_owned(), host.unwrap());
    let failure = pass(&mut world).failure.unwrap();
    assert_eq!(failure.phase, "kubeadm init: certs");
    insta::assert_snapshot!(failure.message, @"not Ready 1800 s after power-on, last seen in phase kubeadm init: certs; the cluster's API does not answer. See `ashlar console demo-ctrl-1`. It is kept as it is, to be looked at. Once the cause is gone: first `ashlar delete machine demo-ctrl-1`, then `ashlar cluster create demo`, which makes another in its place");
    // A failed machine that a person deletes is replaced, under a new number.
    let now = world.snapshot.now;
    world.snapshot.machines.get_mut(&key("demo-ctrl-1")).unwrap().metadata.deletion_timestamp = Some(now);
    world.snapshot.observed.consoles.clear();
    let left = world.settle();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(names(&world), ["demo-ctrl-2", "demo-wkr-1"]);
}

#[test]
fn only_our_own_ready_node_counts_as_joined() {
    let mut world = booting();
    let provider_id = world.snapshot.machines[&key("demo-ctrl-1")].spec.node.provider_id.clone();
    let see = |world: &mut World, provider_id: &str, ready, finished| {
        let node = NodeSeen {
            ready,
            message: "no pod network".to_owned(),
            provider_id: provider_id.to_owned(),
            kubelet_version: VERSION.to_owned(),
            ..NodeSeen::default()
        };
        let api =
            ClusterWorld { nodes: [("demo-ctrl-1".to_owned(), node)].into(), ..ClusterWorld::default() };
        world.snapshot.observed.clusters.insert(key("demo"), ClusterSeen::Seen(api));
        let console = ConsoleSeen { phase: "ready".to_owned(), finished, failure: None };
        world.snapshot.observed.consoles.insert(key("demo-ctrl-1"), console);
    };
    see(&mut world, "ashlar://other/machine", true, true);
    assert_eq!(pass(&mut world).joined_at, None);
    see(&mut world, &provider_id, false, true);
    assert_eq!(pass(&mut world).joined_at, None);
    see(&mut world, &provider_id, true, false);
    assert_eq!(pass(&mut world).joined_at, None, "first boot may still read its seed");
    see(&mut world, &provider_id, true, true);
    assert_eq!(pass(&mut world).joined_at, Some(world.snapshot.now));
}

/// What its API server showed is recorded of the control plane that it names, once; it counts more than a year from its start.
#[test]
fn when_a_control_planes_certificates_run_out_is_recorded_as_it_was_seen() {
    let mut world = living();
    let see = |world: &mut World, name: &str, days: i64| {
        let ends_at = world.snapshot.now + jiff::SignedDuration::from_hours(24 * days);
        let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) else {
            panic!("its API answers")
        };
        let dns_names = ["kubernetes".to_owned(), name.to_owned()].into();
        api.api_certificate = Some(ApiCertificate { dns_names, ends_at });
        ends_at
    };
    see(&mut world, "prod-wkr-1", 5);
    see(&mut world, "somebody-else", 5);
    assert!(world.plan().decisions.is_empty(), "nobody's, or a worker's");
    let ends_at = see(&mut world, "prod-ctrl-1", 200);
    let plan = world.plan();
    let [decisions] = &plan.decisions[..] else { panic!("{plan:#?}") };
    let [Decision::Update(Object::Machine(machine))] = &decisions[..] else { panic!("{decisions:#?}") };
    assert_eq!(machine.record.certificates_end_at, Some(ends_at));
    world.commit(plan.decisions);
    assert!(world.plan().is_empty(), "once");
    let due = see(&mut world, "prod-ctrl-1", 59);
    // What is known is acted on in the same pass.
    let plan = world.plan();
    let told = plan.report.notes.iter().any(|note| note.message.contains(&format!("run out at {due}")));
    assert!(told, "{:#?}", plan.report.notes);
}

#[test]
fn certificates_are_never_made_anew() {
    let mut world = living();
    world.snapshot.secrets.remove(&key("prod-pki"));
    let plan = world.settle();
    let [step] = &plan.steps[..] else { panic!("{plan:#?}") };
    assert!(matches!(&step.state, StepState::Blocked(block) if block.reason == "PkiMissing"), "{step:#?}");
}

#[test]
fn a_store_that_contradicts_itself_is_not_planned_from() {
    let mut world = living();
    world.snapshot.clusters = Objects::default();
    let error = plan(&world.snapshot, &mut SeededIds(1)).unwrap_err();
    insta::assert_snapshot!(error, @"the store contradicts itself: machine prod-ctrl-1 belongs to cluster prod, which is not there");
}

#[test]
fn a_snapshot_can_be_saved_and_read_again() {
    let world = living();
    assert!(!world.snapshot.machines.is_empty() && !world.snapshot.observed.clusters.is_empty());
    let text = serde_json::to_string(&world.snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), world.snapshot);
}
