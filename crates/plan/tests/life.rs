//! Clusters in a perfect world: they come up, stay as they are, and go without a trace.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::NamespacedName;
use ashlar_plan::*;
use common::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// Nothing of ours is left on any host.
fn assert_nothing_left(world: &World) {
    let snapshot = &world.snapshot;
    assert!(snapshot.clusters.is_empty() && snapshot.groups.is_empty() && snapshot.machines.is_empty());
    assert!(snapshot.secrets.is_empty(), "{:?}", snapshot.secrets);
    for host in place::summary(snapshot) {
        assert_eq!(
            (host.machines, host.free.vcpus, host.free.memory_mib),
            (0, host.offer.vcpus, host.offer.memory_mib)
        );
    }
    for (name, host) in &snapshot.observed.hosts {
        let HostSeen::Seen(host) = host else { continue };
        assert!(host.domains.is_empty(), "domains on {name}");
        let none = NetworksSeen::Seen {
            networks: Default::default(),
            foreign: Default::default(),
            hostname: String::new(),
        };
        assert_eq!(host.networks, none, "networks on {name}");
        for pool in host.pools.values() {
            for file in pool.volumes.keys() {
                assert!(
                    snapshot.volumes.values().any(|volume| volume.spec.file_name == *file
                        && matches!(volume.spec.content, ashlar_api::VolumeContent::ImageFile { .. })),
                    "{file} on {name}"
                );
            }
        }
    }
}

#[test]
fn one_plus_one_comes_up_and_goes() {
    let mut world = World::new(one_plus_one(), 1);
    let plan = world.settle();
    assert!(plan.is_empty(), "{:#?}", plan.steps);
    let machines: Vec<_> = world.snapshot.machines.keys().map(|key| key.name.clone()).collect();
    assert_eq!(machines, ["demo-ctrl-1", "demo-wkr-1"]);
    assert!(world.snapshot.machines.values().all(|machine| machine.record.joined_at.is_some()));
    assert!(world.snapshot.clusters[&key("demo")].record.initialized);
    insta::assert_snapshot!("one_plus_one_create_log", world.log.join("\n"));

    world.log.clear();
    delete_cluster(&mut world.snapshot, "demo");
    let plan = world.settle();
    assert!(plan.is_empty(), "{:#?}", plan.steps);
    assert_nothing_left(&world);
    insta::assert_snapshot!("one_plus_one_delete_log", world.log.join("\n"));
}

#[test]
fn six_machines_come_up_and_go() {
    let mut world = World::new(six_machines(), 2);
    assert!(world.settle().is_empty());
    assert_eq!(world.snapshot.machines.len(), 6);
    delete_cluster(&mut world.snapshot, "prod");
    assert!(world.settle().is_empty());
    assert_nothing_left(&world);
}
