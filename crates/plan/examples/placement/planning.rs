//! A whole plan for a big pool: everything at once, and nothing to do.

use std::time::Instant;

use ashlar_api::*;
use ashlar_plan::{Snapshot, check, plan, render};

use crate::common::{World, add_class, add_cluster, add_host, add_network, empty_pool};

fn world(hosts: u32, clusters: u32, machines_of_each: u32) -> World {
    let mut snapshot: Snapshot = empty_pool();
    add_network(&mut snapshot, "lan", "br0", "10.0.0.0/12", ("10.0.0.10", "10.15.255.250"));
    for number in 0..hosts {
        let name = format!("host-{number:04}");
        add_host(&mut snapshot, &name, 64, 512, Accelerator::Kvm);
        if let Some(host) = snapshot.hosts.get_mut(&name) {
            host.spec.rack = format!("r{:02}", number % 40);
            host.spec.zone = format!("z{}", number % 4);
        }
    }
    add_class(&mut snapshot, "ctrl", 8, "16Gi", "40Gi");
    add_class(&mut snapshot, "wkr", 16, "64Gi", "100Gi");
    for number in 0..clusters {
        add_cluster(&mut snapshot, &format!("c{number:03}"), 3, machines_of_each - 3);
    }
    World::new(snapshot, 1)
}

fn measure<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    println!("{what:<40}{:>10.1} ms", started.elapsed().as_secs_f64() * 1000.0);
    result
}

pub(crate) fn run(hosts: u32, clusters: u32, machines_of_each: u32) {
    println!("plan      {hosts} hosts, {clusters} clusters, {} machines", clusters * machines_of_each);
    let mut world = world(hosts, clusters, machines_of_each);
    let first = measure("plan: everything", || plan(&world.snapshot, &mut world.ids)).unwrap();
    let violations = measure("check of that", || check::check(&world.snapshot, &first));
    assert!(violations.is_empty(), "{violations:#?}");
    let text = measure("text of that", || render::plan_text(&world.snapshot, &first));
    println!(
        "{:<40}{:>10} decisions, {} steps, {} lines",
        "",
        first.decisions.iter().flatten().count(),
        first.steps.len(),
        text.lines().count()
    );
    measure("(the simulated world does it all)", || assert!(world.settle().is_empty()));
    assert_eq!(world.snapshot.machines.len(), (clusters * machines_of_each) as usize);
    let nothing = measure("plan: nothing to do", || plan(&world.snapshot, &mut world.ids)).unwrap();
    assert!(nothing.is_empty());
    measure("check of that", || assert!(check::check(&world.snapshot, &nothing).is_empty()));
}
