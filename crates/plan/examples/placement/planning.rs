//! A whole plan for a big pool: everything at once, nothing to do, and hosts that do not answer any more. For a quarter
//! and half of the pool too, to see what grows faster than it.

use std::time::Instant;

use ashlar_api::*;
use ashlar_plan::{HostSeen, Snapshot, check, plan, render};

use crate::common::{SeededIds, World, add_class, add_cluster, add_host, add_network, empty_pool};

/// One host in so many stops answering.
const LOST: usize = 20;
/// Each time is the best of so many.
const REPEAT: usize = 3;

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

/// The result with its best time in ms.
fn best<T>(repeat: usize, mut work: impl FnMut() -> T) -> (T, f64) {
    let mut fastest = f64::INFINITY;
    let mut result = None;
    for _ in 0..repeat {
        let started = Instant::now();
        result = Some(work());
        fastest = fastest.min(started.elapsed().as_secs_f64() * 1000.0);
    }
    (result.unwrap(), fastest)
}

pub(crate) fn run(hosts: u32, clusters: u32, machines_of_each: u32) {
    println!(
        "plan      of all machines at once, with nothing to do, and with one host in {LOST} unreachable; ms, best of {REPEAT}"
    );
    println!(
        "{:>6}{:>10}{:>10}{:>12}{:>10}{:>10}{:>12}{:>10}{:>12}",
        "hosts", "clusters", "machines", "everything", "check", "text", "no-op", "check", "hosts lost"
    );
    for part in [4, 2, 1] {
        one(hosts / part, clusters / part, machines_of_each);
    }
}

fn one(hosts: u32, clusters: u32, machines_of_each: u32) {
    let mut world = world(hosts, clusters, machines_of_each);
    let (first, everything) = best(REPEAT, || plan(&world.snapshot, &mut SeededIds(1)).unwrap());
    let (violations, checked) = best(REPEAT, || check::check(&world.snapshot, &first));
    assert!(violations.is_empty(), "{violations:#?}");
    let (_, text) = best(1, || render::plan_text(&world.snapshot, &first));
    assert!(world.settle().is_empty());
    assert_eq!(world.snapshot.machines.len(), (clusters * machines_of_each) as usize);
    let (nothing, no_op) = best(REPEAT, || plan(&world.snapshot, &mut SeededIds(1)).unwrap());
    assert!(nothing.is_empty());
    let (violations, no_op_checked) = best(REPEAT, || check::check(&world.snapshot, &nothing));
    assert!(violations.is_empty());
    // Nobody knows whether they are dead: nothing is to be done about their machines, and that is said.
    for (number, seen) in world.snapshot.observed.hosts.values_mut().enumerate() {
        if number % LOST == 0 {
            *seen = HostSeen::Unreachable { reason: "no route to host".to_owned() };
        }
    }
    let (lost, hosts_lost) = best(REPEAT, || plan(&world.snapshot, &mut SeededIds(1)).unwrap());
    assert!(lost.decisions.is_empty(), "silence is no proof of death");
    println!(
        "{hosts:>6}{clusters:>10}{:>10}{everything:>12.1}{checked:>10.1}{text:>10.1}{no_op:>12.1}{no_op_checked:>10.1}{hosts_lost:>12.1}",
        clusters * machines_of_each
    );
}
