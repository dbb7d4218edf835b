//! Why a machine is where it is, or nowhere: one situation after the other, as `plan` and `ashlar explain machine` tell it.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::*;
use common::*;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// Three hosts of 16 threads and 64 GiB in racks a, b and c; cluster `prod` with one control plane and three workers.
fn pool() -> Snapshot {
    let mut snapshot = empty_pool();
    for (name, rack) in [("host-a", "a"), ("host-b", "b"), ("host-c", "c")] {
        add_host(&mut snapshot, name, 16, 64, Accelerator::Kvm);
        host(&mut snapshot, name).spec.rack = rack.to_owned();
    }
    add_class(&mut snapshot, "ctrl", 2, "4Gi", "20Gi");
    add_class(&mut snapshot, "wkr", 4, "16Gi", "40Gi");
    add_cluster(&mut snapshot, "prod", 1, 3);
    snapshot
}

fn host<'s>(snapshot: &'s mut Snapshot, name: &str) -> &'s mut Host {
    snapshot.hosts.get_mut(name).unwrap()
}

fn class<'s>(snapshot: &'s mut Snapshot, name: &str) -> &'s mut MachineClassSpec {
    &mut snapshot.classes.get_mut(name).unwrap().spec
}

fn cluster<'s>(snapshot: &'s mut Snapshot, name: &str) -> &'s mut ClusterSpec {
    &mut snapshot.clusters.get_mut(&key(name)).unwrap().spec
}

/// Gives a host two NUMA nodes of equal size with so many huge pages of 1 GiB on each.
fn numa(snapshot: &mut Snapshot, name: &str, huge_gib: u64, dedicated: &str) {
    let host = host(snapshot, name);
    host.spec.dedicated_cpus = dedicated.parse().unwrap();
    let capacity = host.record.capacity.as_mut().unwrap();
    let half = capacity.threads / 2;
    for node in 0..2 {
        let part = NumaNode {
            threads: half,
            memory: Mebibytes(capacity.memory.0 / 2),
            cpus: CpuSet((node * half..(node + 1) * half).collect()),
            hugepages: if huge_gib > 0 {
                [(HugepageSize::Gib1, huge_gib)].into()
            } else {
                Default::default()
            },
        };
        capacity.numa.insert(node, part);
    }
}

/// The placements of the first plan, what is waited for, and what is to be known.
fn told(snapshot: &Snapshot) -> String {
    let mut world = World::new(snapshot.clone(), 1);
    let plan = world.plan();
    let mut text = String::new();
    for placement in &plan.report.placements {
        text += &explain::placement_text(placement, 10);
    }
    for note in &plan.report.notes {
        let placement = ["Unschedulable", "NotHighlyAvailable", "NoImage", "ControlPlanePending"];
        if placement.contains(&note.reason.as_str()) {
            text += &format!("{}: {}: {}\n", note.object, note.reason, note.message);
        }
    }
    text
}

#[test]
fn spread_over_racks_and_packed() {
    let mut snapshot = pool();
    add_cluster(&mut snapshot, "prod", 3, 2);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn full() {
    let mut snapshot = pool();
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    class(&mut snapshot, "wkr").memory = Mebibytes::from_gib(40);
    cluster(&mut snapshot, "prod").workers[0].replicas = Some(4);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn vcpus_used_up() {
    let mut snapshot = pool();
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    for name in ["host-a", "host-b", "host-c"] {
        host(&mut snapshot, name).spec.cpu_overcommit = 1;
    }
    class(&mut snapshot, "wkr").vcpus = 15;
    class(&mut snapshot, "wkr").memory = Mebibytes::from_gib(1);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn reserved_for_the_host() {
    let mut snapshot = pool();
    for name in ["host-a", "host-b", "host-c"] {
        host(&mut snapshot, name).spec.reserved.memory = Mebibytes::from_gib(52);
    }
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn rack_rule_meets_a_full_rack() {
    let mut snapshot = pool();
    add_host(&mut snapshot, "host-d", 16, 64, Accelerator::Kvm);
    host(&mut snapshot, "host-d").spec.rack = "a".to_owned();
    host(&mut snapshot, "host-b").spec.reserved.memory = Mebibytes::from_gib(62);
    add_cluster(&mut snapshot, "prod", 3, 0);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn racks_as_far_as_they_go() {
    let mut snapshot = pool();
    for (name, rack) in [("host-d", "a"), ("host-e", "b")] {
        add_host(&mut snapshot, name, 16, 64, Accelerator::Kvm);
        host(&mut snapshot, name).spec.rack = rack.to_owned();
    }
    add_cluster(&mut snapshot, "prod", 5, 0);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn zones_after_racks() {
    let mut snapshot = empty_pool();
    for (name, zone, rack) in
        [("h1", "z1", "a"), ("h2", "z1", "b"), ("h3", "z1", "c"), ("h4", "z2", "d"), ("h5", "z2", "e")]
    {
        add_host(&mut snapshot, name, 16, 64, Accelerator::Kvm);
        (host(&mut snapshot, name).spec.zone, host(&mut snapshot, name).spec.rack) =
            (zone.to_owned(), rack.to_owned());
    }
    add_class(&mut snapshot, "ctrl", 2, "4Gi", "20Gi");
    add_class(&mut snapshot, "wkr", 4, "16Gi", "40Gi");
    add_cluster(&mut snapshot, "prod", 3, 0);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn numa_node_too_small() {
    let mut snapshot = pool();
    for name in ["host-a", "host-b", "host-c"] {
        numa(&mut snapshot, name, 0, "4-7,12-15");
    }
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    let wkr = class(&mut snapshot, "wkr");
    (wkr.cpu_policy, wkr.memory) = (CpuPolicy::Dedicated, Mebibytes::from_gib(40));
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn hugepages() {
    let mut snapshot = pool();
    numa(&mut snapshot, "host-a", 8, "");
    numa(&mut snapshot, "host-b", 16, "");
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    class(&mut snapshot, "wkr").hugepages = Some(HugepageSize::Gib1);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn two_numa_nodes() {
    let mut snapshot = pool();
    numa(&mut snapshot, "host-a", 8, "");
    numa(&mut snapshot, "host-b", 4, "");
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    let wkr = class(&mut snapshot, "wkr");
    (wkr.hugepages, wkr.numa_nodes) = (Some(HugepageSize::Gib1), Some(2));
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn dedicated_cpus() {
    let mut snapshot = pool();
    numa(&mut snapshot, "host-a", 0, "4-7,12-15");
    numa(&mut snapshot, "host-b", 0, "6-7,14-15");
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    class(&mut snapshot, "wkr").cpu_policy = CpuPolicy::Dedicated;
    let mut text = told(&snapshot);
    let mut world = World::new(snapshot, 1);
    let plan = world.plan();
    world.commit(plan.decisions);
    for (name, machine) in &world.snapshot.machines {
        let cells: Vec<String> = machine
            .spec
            .numa
            .iter()
            .map(|cell| format!("node {} threads {}", cell.host_node, cell.cpus))
            .collect();
        text += &format!("{name}: {}; others on {}\n", cells.join(", "), machine.spec.shared_cpus);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn n_plus_one() {
    let mut snapshot = pool();
    class(&mut snapshot, "wkr").memory = Mebibytes::from_gib(20);
    cluster(&mut snapshot, "prod").workers[0].replicas = Some(7);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn room_that_was_kept_is_for_replacements() {
    let mut snapshot = pool();
    class(&mut snapshot, "wkr").memory = Mebibytes::from_gib(20);
    cluster(&mut snapshot, "prod").workers[0].replicas = Some(5);
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    let now = world.snapshot.now;
    let lost = world.snapshot.machines.get_mut(&key("prod-wkr-2")).unwrap();
    lost.metadata.deletion_timestamp = Some(now);
    let plan = world.plan();
    let mut text = String::new();
    for placement in &plan.report.placements {
        text += &explain::placement_text(placement, 10);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn missing_image() {
    let mut snapshot = pool();
    cluster(&mut snapshot, "prod").kubernetes_version = "v1.36.4".to_owned();
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn image_for_another_architecture() {
    let mut snapshot = pool();
    for name in ["host-a", "host-c"] {
        host(&mut snapshot, name).record.architecture = "arm64".to_owned();
    }
    add_cluster(&mut snapshot, "prod", 3, 0);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn missing_network() {
    let mut snapshot = pool();
    snapshot.networks.get_mut("lan").unwrap().spec.attachment.hosts = vec!["host-b".to_owned()];
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    cluster(&mut snapshot, "prod").workers[0].replicas = Some(4);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn missing_pool_and_full_file_system() {
    let mut snapshot = pool();
    snapshot.pools.get_mut("default").unwrap().record.hosts.remove("host-a");
    snapshot.pools.get_mut("default").unwrap().record.hosts.get_mut("host-b").unwrap().capacity_mib =
        20 * 1024;
    let uuid = snapshot.pools["default"].record.hosts["host-c"].uuid;
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get_mut("host-c") else {
        panic!("it was seen")
    };
    world.pools.get_mut(&uuid).unwrap().available_mib = 900;
    cluster(&mut snapshot, "prod").admission = Some(Admission::None);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn cordoned() {
    let mut snapshot = pool();
    for name in ["host-a", "host-b", "host-c"] {
        host(&mut snapshot, name).spec.cordoned = true;
    }
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn unreachable() {
    let mut snapshot = pool();
    let reason = "connection timed out after 10 s".to_owned();
    snapshot.observed.hosts.insert("host-b".to_owned(), HostSeen::Unreachable { reason });
    add_cluster(&mut snapshot, "prod", 3, 1);
    insta::assert_snapshot!(told(&snapshot));
}

#[test]
fn preferred_spread() {
    let mut snapshot = pool();
    snapshot.hosts.remove("host-c");
    add_cluster(&mut snapshot, "prod", 3, 0);
    let required = told(&snapshot);
    cluster(&mut snapshot, "prod").control_plane.spread = Spread::Preferred;
    insta::assert_snapshot!(format!("# required\n{required}\n# preferred\n{}", told(&snapshot)));
}

#[test]
fn a_big_pool() {
    let mut snapshot = pool();
    for number in 0..40 {
        add_host(&mut snapshot, &format!("more-{number:02}"), 16, 64, Accelerator::Kvm);
    }
    let mut text = told(&snapshot);
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    let placement = explain::placement(&world.snapshot, &key("prod-wkr-2")).unwrap();
    assert_eq!(placement.verdicts.len(), 43, "explained one by one");
    text += &explain::placement_text(&placement, 5);
    insta::assert_snapshot!(text);
}
