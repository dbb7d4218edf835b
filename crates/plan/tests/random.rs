//! Random pools and clusters: no rule is broken, the same input gives the same plan, crashes change nothing about
//! the end, and nothing is left after everything was deleted.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::*;
use common::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct RandomHost {
    threads: u32,
    memory_gib: u64,
    cordoned: bool,
    reachable: bool,
    rack: u8,
    foreign: bool,
}

#[derive(Clone, Debug)]
struct RandomCluster {
    control_planes: u32,
    workers: u32,
    preferred: bool,
    other_network: bool,
}

fn hosts() -> impl Strategy<Value = Vec<RandomHost>> {
    let host = (1..48_u32, 4..200_u64, 0..8_u8, 0..8_u8, 0..3_u8, 0..6_u8).prop_map(
        |(threads, memory_gib, cordoned, reachable, rack, foreign)| RandomHost {
            threads,
            memory_gib,
            cordoned: cordoned == 0,
            reachable: reachable != 0,
            rack,
            foreign: foreign == 0,
        },
    );
    prop::collection::vec(host, 1..7)
}

fn clusters() -> impl Strategy<Value = Vec<RandomCluster>> {
    let cluster = (prop::sample::select(vec![1, 3, 5]), 0..5_u32, any::<bool>(), any::<bool>()).prop_map(
        |(control_planes, workers, preferred, other_network)| RandomCluster {
            control_planes,
            workers,
            preferred,
            other_network,
        },
    );
    prop::collection::vec(cluster, 1..5)
}

fn build(hosts: &[RandomHost], clusters: &[RandomCluster], range_last: u8) -> Snapshot {
    let mut snapshot = empty_pool();
    // A second network on the same bridge: the same broadcast domain.
    add_network(&mut snapshot, "lan2", "br0", "10.0.0.0/24", ("10.0.0.10", &format!("10.0.0.{range_last}")));
    for address in [12, 17, 40] {
        snapshot.foreign_addresses.insert(("lan".to_owned(), [10, 0, 0, address].into()));
    }
    for (index, host) in hosts.iter().enumerate() {
        let name = format!("host-{index}");
        add_host(&mut snapshot, &name, host.threads, host.memory_gib, Accelerator::Kvm);
        let object = snapshot.hosts.get_mut(&name).unwrap();
        object.spec.cordoned = host.cordoned;
        object.spec.rack = format!("r{}", host.rack);
        match snapshot.observed.hosts.get_mut(&name) {
            Some(HostSeen::Seen(world)) if host.foreign => {
                let foreign = DomainSeen {
                    uuid: uuid::Uuid::from_u128(0xf0 + index as u128),
                    name: "c0-ctrl-1".to_owned(),
                    state: DomainState::Running,
                    mark: None,
                    disk_paths: Default::default(),
                    medium_path: None,
                    persistent: true,
                    paused_by_migration: false,
                    migrated_away: false,
                    definition: None,
                    running: None,
                };
                world.domains.insert(foreign.uuid, foreign);
            }
            _ => {}
        }
        if !host.reachable {
            let reason = "no answer".to_owned();
            snapshot.observed.hosts.insert(name, HostSeen::Unreachable { reason });
        }
    }
    add_class(&mut snapshot, "ctrl", 2, "4Gi", "20Gi");
    add_class(&mut snapshot, "wkr", 3, "8Gi", "20Gi");
    for (index, cluster) in clusters.iter().enumerate() {
        let name = format!("c{index}");
        add_cluster(&mut snapshot, &name, cluster.control_planes, cluster.workers);
        let spec = &mut snapshot.clusters.get_mut(&NamespacedName::new("default", &name)).unwrap().spec;
        if cluster.preferred {
            spec.control_plane.spread = Spread::Preferred;
        }
        if cluster.other_network {
            spec.network = "lan2".to_owned();
        }
    }
    snapshot
}

/// What is left may only wait for a place, or for what waits for a place.
fn assert_settled(plan: &Plan) {
    assert!(plan.decisions.is_empty());
    for step in &plan.steps {
        if matches!(&step.state, StepState::Blocked(block) if block.reason == "NoEndpoint") {
            continue;
        }
        let StepState::Waiting(wait) = &step.state else { panic!("{step:#?}") };
        assert!(
            ["Unschedulable", "ControlPlanePending", "NoAddress", "EarlierStep"]
                .contains(&wait.reason.as_str())
                || step.object.kind == Kind::Cluster,
            "{step:#?}"
        );
    }
}

fn assert_gone(world: &World) {
    let snapshot = &world.snapshot;
    assert!(snapshot.machines.is_empty() && snapshot.secrets.is_empty() && snapshot.clusters.is_empty());
    let disks = |volume: &&Volume| matches!(volume.spec.content, VolumeContent::MachineDisk { .. });
    assert_eq!(snapshot.volumes.values().filter(disks).count(), 0);
    for host in snapshot.observed.hosts.values() {
        let HostSeen::Seen(host) = host else { continue };
        assert!(host.domains.values().all(|domain| domain.mark.is_none()), "foreign domains stay, ours go");
        for pool in host.pools.values() {
            let images = snapshot.volumes.values().map(|volume| &volume.spec.file_name);
            let images: std::collections::BTreeSet<_> = images.collect();
            assert!(pool.volumes.keys().all(|file| images.contains(file)));
        }
    }
}

/// An eighth of proptest's own number, which `PROPTEST_CASES` sets: each case is a whole life.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.div_ceil(8), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_same_input_gives_the_same_plan(hosts in hosts(), clusters in clusters(), seed: u64) {
        let snapshot = build(&hosts, &clusters, 250);
        let plan = ashlar_plan::plan(&snapshot, &mut SeededIds(seed)).unwrap();
        prop_assert_eq!(&plan, &ashlar_plan::plan(&snapshot, &mut SeededIds(seed)).unwrap());
        prop_assert_eq!(check::check(&snapshot, &plan), vec![]);
        let text = render::plan_text(&snapshot, &plan);
        prop_assert_eq!(text, render::plan_text(&snapshot, &plan));
    }

    #[test]
    fn everything_comes_up_and_goes(hosts in hosts(), clusters in clusters(), seed: u64, last in 14..60_u8) {
        let mut world = World::new(build(&hosts, &clusters, last), seed);
        assert_settled(&world.settle());
        let names: Vec<_> = world.snapshot.clusters.keys().cloned().collect();
        for cluster in names {
            delete_cluster(&mut world.snapshot, &cluster.name);
        }
        prop_assert!(world.settle().is_empty());
        assert_gone(&world);
    }

    #[test]
    fn crashes_do_not_change_the_end(
        hosts in hosts(), clusters in clusters(), seed: u64, cuts in prop::collection::vec(0..12_usize, 40),
    ) {
        let mut calm = World::new(build(&hosts, &clusters, 250), seed);
        let calm_end = calm.settle();
        assert_settled(&calm_end);
        let mut world = World::new(build(&hosts, &clusters, 250), seed);
        for cut in cuts {
            let plan = world.plan();
            if plan.decisions.is_empty() {
                world.act_in_part(&plan, cut);
            } else {
                // A crash between two commits of a plan, too.
                let commits = plan.decisions.into_iter().take(cut.max(1)).collect();
                world.commit(commits);
            }
        }
        let crashed_end = world.settle();
        assert_settled(&crashed_end);
        // Not where: for how long a host has had machines is part of its score, and a crash takes time. So in a full pool
        // another machine may be the one without a place.
        if calm_end.steps.is_empty() && crashed_end.steps.is_empty() {
            prop_assert!(world.snapshot.machines.keys().eq(calm.snapshot.machines.keys()));
        }
        let names: Vec<_> = world.snapshot.clusters.keys().cloned().collect();
        for cluster in names {
            delete_cluster(&mut world.snapshot, &cluster.name);
        }
        prop_assert!(world.settle().is_empty());
        assert_gone(&world);
    }

    #[test]
    fn a_host_that_falls_silent_costs_nothing(hosts in hosts(), clusters in clusters(), seed: u64, passes in 1..30_usize) {
        let mut world = World::new(build(&hosts, &clusters, 250), seed);
        for _ in 0..passes {
            let plan = world.plan();
            if plan.decisions.is_empty() { world.act_in_part(&plan, 5) } else { world.commit(plan.decisions) }
        }
        let silent = "host-0".to_owned();
        let was = world.snapshot.observed.hosts.insert(
            silent.clone(),
            HostSeen::Unreachable { reason: "cut off".to_owned() },
        );
        let before: Vec<_> =
            world.snapshot.machines.values().filter(|machine| machine.spec.host == silent).map(Machine::key).collect();
        let names: Vec<_> = world.snapshot.clusters.keys().cloned().collect();
        for cluster in &names {
            delete_cluster(&mut world.snapshot, &cluster.name);
        }
        let waiting = world.settle();
        prop_assert!(waiting.steps.iter().all(|step| step.state != StepState::Ready));
        for machine in &before {
            prop_assert!(world.snapshot.machines.contains_key(machine), "{machine} was forgotten");
        }
        world.snapshot.observed.hosts.insert(silent, was.unwrap());
        prop_assert!(world.settle().is_empty());
        assert_gone(&world);
    }
}
