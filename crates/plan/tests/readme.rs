//! What the README promises of its example pool is what the planner decides.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use std::sync::Arc;

use ashlar_api::*;
use ashlar_plan::*;
use common::*;

/// The YAML of the README that holds the words.
fn example(words: &str) -> Vec<Object> {
    let readme = include_str!("../../../README.md");
    let blocks = readme.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap());
    let found: Vec<&str> = blocks.filter(|block| block.contains(words)).collect();
    assert_eq!(found.len(), 1, "{} examples with `{words}`", found.len());
    expand::expand(manifest::read(found[0], "README.md").unwrap())
}

#[test]
fn the_example_pool_of_three_hosts_is_placed_as_the_rules_say() {
    let mut snapshot = empty_pool();
    for (name, rack) in [("h1", "a"), ("h2", "b"), ("h3", "c")] {
        add_host(&mut snapshot, name, 64, 256, Accelerator::Kvm);
        let host = snapshot.hosts.get_mut(name).unwrap();
        host.spec.rack = rack.to_owned();
        host.spec.uri = format!("qemu+ssh://root@10.0.0.1{}/system", &name[1..]);
    }
    let mut pool = Arc::unwrap_or_clone(snapshot.pools.remove("default").unwrap());
    pool.metadata.name = "images".to_owned();
    snapshot.pools.insert("images".to_owned(), pool);
    for object in example("replicas: 3, class: control") {
        insert(&mut snapshot, object);
    }
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    let told = world.snapshot.machines.values().map(|machine| {
        let why = machine.metadata.annotations.get(explain::PLACEMENT_ANNOTATION).unwrap();
        format!("{} on {}\n{why}\n", machine.metadata.name, machine.spec.host)
    });
    insta::assert_snapshot!(told.collect::<String>());
    for role in [MachineRole::ControlPlane, MachineRole::Worker] {
        let of_role = world.snapshot.machines.values().filter(|machine| machine.spec.role == role);
        let hosts: std::collections::BTreeSet<&String> = of_role.map(|machine| &machine.spec.host).collect();
        assert_eq!(hosts.len(), 3, "{role:?}: one on each host");
    }
}
