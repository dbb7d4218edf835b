//! What is sent to hosts for networks: rules and scripts as goldens, and VLANs in a domain's XML.

#![allow(clippy::unwrap_used, reason = "tests")]

mod specs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ashlar_api::{AddressRange, NicVlan};
use ashlar_libvirt::{network, xml};
use ashlar_plan::network::{HostNetwork, MadeBridge, Overlay, TapFilter, names};
use uuid::{Uuid, uuid};

const NETWORK: Uuid = uuid!("b5b5b5b5-0000-4000-8000-0123456789ab");

fn range(first: [u8; 4], last: [u8; 4]) -> AddressRange {
    AddressRange { first: first.into(), last: last.into() }
}

fn filter(machine: &str, cluster: &str, mac: &str, addresses: &[[u8; 4]]) -> (String, TapFilter) {
    let filter = TapFilter {
        machine: format!("default/{machine}"),
        cluster: cluster.to_owned(),
        mac: mac.to_owned(),
        addresses: addresses.iter().map(|address| Ipv4Addr::from(*address)).collect(),
        pod_sources: BTreeSet::new(),
    };
    (names::tap(mac), filter)
}

fn overlay() -> HostNetwork {
    HostNetwork {
        installation: specs::INSTALLATION,
        uid: NETWORK,
        name: "prod".to_owned(),
        bridge: names::bridge(NETWORK),
        mtu: 1450,
        made: Some(MadeBridge {
            gateway: "10.30.0.1/16".parse().unwrap(),
            gateway_mac: names::gateway_mac(NETWORK),
            egress: true,
            overlay: Some(Overlay {
                vni: 4711,
                port: 4789,
                local: [10, 0, 0, 11].into(),
                peers: [[10, 0, 0, 12].into(), [10, 0, 0, 13].into()].into(),
            }),
        }),
        guarded: Vec::new(),
        hosts: std::sync::Arc::new([[10, 0, 0, 11].into(), [10, 0, 0, 12].into()].into()),
        dns: BTreeSet::new(),
        taps: BTreeMap::from([
            filter("a-ctrl-1", "default/a", "52:54:00:00:00:01", &[[10, 30, 1, 2], [10, 30, 1, 1]]),
            filter("b-wkr-1", "default/b", "52:54:00:00:00:02", &[[10, 30, 1, 3]]),
        ]),
        members: BTreeMap::from([
            ("default/a".to_owned(), [[10, 30, 1, 1].into(), [10, 30, 1, 2].into()].into()),
            ("default/b".to_owned(), [[10, 30, 1, 3].into()].into()),
        ]),
        given_out: vec![range([10, 30, 1, 1], [10, 30, 1, 99])],
    }
}

fn bridge() -> HostNetwork {
    let mut network = overlay();
    network.bridge = "br0".to_owned();
    network.mtu = 1500;
    network.made = None;
    network.guarded = vec![range([10, 30, 1, 1], [10, 30, 1, 99])];
    network.dns = [[10, 30, 0, 53].into()].into();
    network.taps.retain(|_, filter| filter.cluster == "default/a");
    for filter in network.taps.values_mut() {
        filter.pod_sources = ["10.244.0.0/16".parse().unwrap()].into();
    }
    network.members.clear();
    network.given_out.clear();
    network
}

#[test]
fn rules_of_an_overlay() {
    let network = overlay();
    let made = network.made.as_ref().unwrap();
    let text = [
        network::bridge_table(&network),
        network::host_table(&network),
        network::namespace_table(&network, made),
    ];
    insta::assert_snapshot!(text.join("---\n"));
}

#[test]
fn rules_of_an_existing_bridge() {
    let network = bridge();
    insta::assert_snapshot!([network::bridge_table(&network), network::host_table(&network)].join("---\n"));
}

#[test]
fn nothing_in_a_script_is_what_a_shell_would_act_on() {
    let mut network = overlay();
    network.name = "$(reboot) `x` 'quoted' ASHLAR-END".to_owned();
    let script = network::apply_script(&network).unwrap();
    // The name is a part of the description only, which stands in a quoted here-document.
    let lines: Vec<&str> = script.lines().filter(|line| line.contains("$(reboot)")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with('{') && lines[0].ends_with('}'));
    for shell in ["sh", "bash"] {
        let status = std::process::Command::new(shell).args(["-n", "-c", &script]).status().unwrap();
        assert!(status.success(), "{shell}");
    }
}

#[test]
fn interfaces_in_vlans() {
    let mut spec = specs::worker();
    spec.nics[0].vlan = Some(NicVlan { tag: 42, open_vswitch: true });
    let open_vswitch = xml::domain(&spec).unwrap();
    spec.nics[0].vlan = Some(NicVlan { tag: 42, open_vswitch: false });
    let linux = xml::domain(&spec).unwrap();
    let interface = |xml: &str| {
        let begin = xml.find("<interface").unwrap();
        let end = xml.find("</interface>").unwrap();
        xml[begin..end].to_owned()
    };
    insta::assert_snapshot!(format!("{}---\n{}", interface(&open_vswitch), interface(&linux)));
}
