//! Networks: what is planned for hosts, and why; what keeps it from being done.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::{Accelerator, Network, NetworkSpec};
use ashlar_plan::network::{desired, names};
use ashlar_plan::render::plan_text;
use ashlar_plan::*;
use common::*;
use serde_json::json;

/// Three hosts with addresses between them, and two overlays of the same addresses.
fn pool() -> Snapshot {
    let mut snapshot = empty_pool();
    add_class(&mut snapshot, "ctrl", 2, "3Gi", "10Gi");
    add_class(&mut snapshot, "wkr", 2, "2Gi", "10Gi");
    for (index, name) in ["host-a", "host-b", "host-c"].iter().enumerate() {
        add_host(&mut snapshot, name, 16, 32, Accelerator::Kvm);
        let host = snapshot.hosts.get_mut(*name).unwrap();
        host.spec.underlay_address = Some([10, 9, 0, u8::try_from(index + 1).unwrap()].into());
        host.record.libvirt_version = "9.0.0".to_owned();
    }
    overlay(&mut snapshot, "red", json!({"vxlan": {"vni": 4711}}));
    overlay(&mut snapshot, "blue", json!({"vxlan": {"vni": 4712}}));
    snapshot
}

fn overlay(snapshot: &mut Snapshot, name: &str, attachment: serde_json::Value) {
    let spec: NetworkSpec = serde_json::from_value(json!({
        "attachment": attachment, "cidrs": ["10.30.0.0/24"], "gateway": "10.30.0.1",
        "ranges": [{"first": "10.30.0.10", "last": "10.30.0.99"}],
    }))
    .unwrap();
    insert(snapshot, Network::new(name, spec));
}

fn cluster(snapshot: &mut Snapshot, name: &str, network: &str, control_planes: u32, workers: u32) {
    add_cluster(snapshot, name, control_planes, workers);
    let key = ashlar_api::NamespacedName::new("default", name);
    snapshot.clusters.get_mut(&key).unwrap().spec.network = network.to_owned();
}

fn world(mut snapshot: Snapshot) -> World {
    cluster(&mut snapshot, "alpha", "red", 3, 1);
    let mut world = World::new(snapshot, 1);
    let _ = world.settle();
    world
}

/// What is said about networks, one line each.
fn network_lines(snapshot: &Snapshot, plan: &Plan) -> String {
    let is_about = |step: &&Step| {
        matches!(step.action, Some(Action::EnsureNetwork { .. } | Action::RemoveNetwork { .. }))
            || matches!(&step.state, StepState::Blocked(block) if block.reason.contains("Network") || block.reason == "NameTaken")
    };
    let lines: Vec<String> = plan
        .steps
        .iter()
        .filter(is_about)
        .map(|step| {
            let state = match &step.state {
                StepState::Ready => "ready".to_owned(),
                StepState::Waiting(wait) => format!("waits, {}: {}", wait.reason, wait.message),
                StepState::Blocked(block) => format!("BLOCKED {}: {}", block.reason, block.message),
            };
            format!("{} ({}): {} [{state}]", step.object, step.host, step.why)
        })
        .collect();
    assert_eq!(check::check(snapshot, plan), []);
    lines.join("\n")
}

fn networks<'w>(world: &'w mut World, host: &str) -> &'w mut NetworksSeen {
    match world.snapshot.observed.hosts.get_mut(host) {
        Some(HostSeen::Seen(seen)) => &mut seen.networks,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_overlay_is_made_with_its_machines() {
    let mut snapshot = pool();
    cluster(&mut snapshot, "alpha", "red", 3, 1);
    let mut ids = SeededIds(1);
    let first = ashlar_plan::plan(&snapshot, &mut ids).unwrap();
    insta::assert_snapshot!("an_overlay_is_made", plan_text(&snapshot, &first));
}

#[test]
fn an_overlay_settles_heals_and_goes() {
    let mut world = world(pool());
    assert!(world.plan().is_empty());
    let uid = world.snapshot.networks["red"].metadata.uid.unwrap();
    assert_eq!(world.snapshot.networks["red"].record.hosts.len(), 3);
    let mut said = Vec::new();
    // A rule that somebody deleted, and a host that was switched off and on.
    for (what, damage) in [
        ("a rule was deleted", NetworkSeen { intact: false, ..seen(&mut world, "host-b", uid) }),
        ("it is half made", NetworkSeen::default()),
    ] {
        let NetworksSeen::Seen { networks, .. } = networks(&mut world, "host-b") else { panic!() };
        networks.insert(uid, damage);
        let plan = world.plan();
        said.push(format!("# {what}\n{}", network_lines(&world.snapshot, &plan)));
        let _ = world.settle();
        assert!(world.plan().is_empty());
    }
    // A host that does not say.
    let before = networks(&mut world, "host-c").clone();
    *networks(&mut world, "host-c") = NetworksSeen::Unknown { reason: "nft is missing".to_owned() };
    let plan = world.plan();
    said.push(format!("# it does not say\n{}", network_lines(&world.snapshot, &plan)));
    *networks(&mut world, "host-c") = before;
    // Somebody else's interface.
    let NetworksSeen::Seen { foreign, .. } = networks(&mut world, "host-a") else { panic!() };
    foreign.insert(names::bridge(uid));
    let plan = world.plan();
    said.push(format!("# a foreign interface\n{}", network_lines(&world.snapshot, &plan)));
    let NetworksSeen::Seen { foreign, .. } = networks(&mut world, "host-a") else { panic!() };
    foreign.clear();
    // Another host joins: those that are there get a flood entry.
    let group = world.snapshot.groups.values_mut().next().unwrap();
    group.spec.replicas = Some(0);
    let _ = world.settle();
    insta::assert_snapshot!("an_overlay_heals", said.join("\n"));
}

fn seen(world: &mut World, host: &str, uid: uuid::Uuid) -> NetworkSeen {
    match networks(world, host) {
        NetworksSeen::Seen { networks, .. } => networks[&uid].clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_network_lacks_is_said() {
    let mut said = Vec::new();
    let mut without = pool();
    without.hosts.get_mut("host-b").unwrap().spec.underlay_address = None;
    let mut vlan = pool();
    overlay(&mut vlan, "red", json!({"vlan": {"bridge": "br0", "tag": 42}}));
    let mut narrow = pool();
    overlay(&mut narrow, "red", json!({"nat": {}, "hosts": ["host-b"]}));
    for (what, mut snapshot) in [("no address between hosts", without), ("VLAN", vlan), ("nat", narrow)] {
        cluster(&mut snapshot, "alpha", "red", if what == "nat" { 1 } else { 3 }, 1);
        let plan = ashlar_plan::plan(&snapshot, &mut SeededIds(1)).unwrap();
        said.push(format!("# {what}\n{}", network_lines(&snapshot, &plan)));
    }
    insta::assert_snapshot!("what_a_network_lacks", said.join("\n"));
}

#[test]
fn overlays_do_not_share_addresses_and_clusters_on_one_bridge_are_kept_apart() {
    let mut snapshot = pool();
    cluster(&mut snapshot, "alpha", "red", 1, 1);
    cluster(&mut snapshot, "beta", "blue", 1, 1);
    cluster(&mut snapshot, "gamma", "lan", 1, 1);
    cluster(&mut snapshot, "delta", "lan", 1, 1);
    let mut world = World::new(snapshot, 1);
    let _ = world.settle();
    let snapshot = &world.snapshot;
    let addresses = |cluster: &str| -> Vec<String> {
        let mine = snapshot.machines.values().filter(|machine| machine.spec.cluster == cluster);
        mine.map(|machine| machine.spec.nics[0].address.addr().to_string()).collect()
    };
    assert_eq!(addresses("alpha"), addresses("beta"), "two overlays of the same addresses");
    assert!(addresses("gamma").iter().all(|address| !addresses("delta").contains(address)));
    let mut macs: Vec<&str> =
        snapshot.machines.values().map(|machine| machine.spec.nics[0].mac.as_str()).collect();
    macs.sort_unstable();
    macs.dedup();
    assert_eq!(macs.len(), 8, "a MAC is one machine's in the whole installation");

    for machine in snapshot.machines.values() {
        let (network, host) = (&machine.spec.nics[0].network, &machine.spec.host);
        let wanted = desired(snapshot, network, host).unwrap();
        let tap = &wanted.taps[&names::tap(&machine.spec.nics[0].mac)];
        let endpoint = &machine.spec.node.endpoint.address;
        let is_control_plane = machine.spec.role == ashlar_api::MachineRole::ControlPlane;
        assert_eq!(
            tap.addresses.contains(endpoint),
            is_control_plane,
            "only control planes claim the endpoint"
        );
        // An overlay with one cluster needs no rules between clusters; a shared bridge does.
        assert_eq!(wanted.members.is_empty(), network != "lan", "{}", machine.key());
        for (cluster, members) in &wanted.members {
            let own = addresses(cluster.strip_prefix("default/").unwrap_or(cluster));
            assert!(own.iter().all(|address| members.iter().any(|member| member.to_string() == *address)));
            assert_eq!(members.len(), 3, "two machines and the endpoint of {cluster}");
        }
    }
}
