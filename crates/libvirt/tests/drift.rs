//! A definition that is edited with virsh on real libvirt: what is told of it, and that defining it again disturbs nothing.
//! Needs root, and the busybox test image.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod specs;

use ashlar_engine::effects::{HostNetworks, Hypervisor};
use ashlar_plan::network::{HostNetwork, TapFilter, names};
use ashlar_plan::{Definition, DomainSeen, DomainSpec, DomainState, NetworkSeen, NetworksSeen};
use common::{TestLab, place};

#[test]
fn what_virsh_edits_is_seen_and_defined_again_under_a_running_guest() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        let host = &place.host;
        let root = "ashlar-test-root.raw";
        hosts.create_volume(host, &place.volume(root)).await.unwrap();
        let mut spec: DomainSpec = place.domain("edited", root, None);
        spec.mark.machine = Some(std::sync::Arc::new(specs::machine()));
        let look = async || -> DomainSeen { hosts.domain(host, spec.uuid).await.unwrap().unwrap() };
        let declared = Definition::of(&spec);
        let told = |seen: &DomainSeen| seen.definition.as_deref().unwrap().clone();

        hosts.define_domain(host, &spec).await.unwrap();
        assert_eq!(told(&look().await), declared, "what libvirt adds shows as a change");
        hosts.start_domain(host, spec.uuid).await.unwrap();
        let seen = look().await;
        assert_eq!((told(&seen), &seen.running), (declared.clone(), &None), "so does what runs");
        let process = lab.on_host(0, &["virsh", "domid", "edited"]);

        let memory = format!("s#<memory unit='KiB'>{}<#<memory unit='KiB'>{}<#", declared.memory_kib, 393_216);
        let edit = format!(
            "virsh dumpxml --inactive edited | sed -e \"{memory}\" -e \"s#<currentMemory.*##\" -e \"/filterref/d\" \
             -e \"s#>{0}</vcpu>#>3</vcpu>#\" -e \"s#cores='{0}'#cores='3'#\" >/var/lib/libvirt/edited.xml && \
             virsh define /var/lib/libvirt/edited.xml",
            declared.vcpus
        );
        lab.on_host(0, &["sh", "-c", &edit]);
        let seen = look().await;
        let edited = told(&seen);
        assert_eq!((edited.memory_kib, edited.vcpus), (393_216, 3));
        assert!(edited.nics.iter().all(|nic| nic.filter.is_empty()), "{edited:#?}");
        assert_eq!(seen.running.as_deref(), Some(&declared), "what runs is as declared");

        hosts.define_domain(host, &spec).await.unwrap();
        let seen = look().await;
        assert_eq!((told(&seen), &seen.running), (declared.clone(), &None));
        assert_eq!(seen.state, DomainState::Running);
        assert_eq!(lab.on_host(0, &["virsh", "domid", "edited"]), process, "its process is another one");

        // Removed under the running guest: it would vanish when that stops.
        lab.on_host(0, &["virsh", "undefine", "edited"]);
        assert!(!look().await.persistent);
        hosts.define_domain(host, &spec).await.unwrap();
        let seen = look().await;
        assert!(seen.persistent && seen.state == DomainState::Running);
        assert_eq!(told(&seen), declared);
        assert_eq!(lab.on_host(0, &["virsh", "domid", "edited"]), process);

        // Started otherwise than declared: told until its next start.
        hosts.destroy_domain(host, spec.uuid).await.unwrap();
        lab.on_host(0, &["virsh", "define", "/var/lib/libvirt/edited.xml"]);
        hosts.start_domain(host, spec.uuid).await.unwrap();
        hosts.define_domain(host, &spec).await.unwrap();
        let seen = look().await;
        assert_eq!(told(&seen), declared);
        assert_eq!(seen.running.unwrap().memory_kib, 393_216);
        hosts.destroy_domain(host, spec.uuid).await.unwrap();
        assert_eq!(look().await.running, None);
        hosts.undefine_domain(host, spec.uuid).await.unwrap();
    });
}

#[test]
fn a_bridge_of_peoples_that_goes_is_told() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let (host, uid) = (lab.target(0, 1), uuid::Uuid::new_v4());
        lab.on_host(0, &["ip", "link", "add", "br-theirs", "type", "bridge"]);
        let mac = "52:54:00:00:00:01".to_owned();
        let filter = TapFilter {
            machine: "default/demo-wkr-1".to_owned(),
            cluster: "default/demo".to_owned(),
            mac: mac.clone(),
            addresses: [[10, 30, 1, 2].into()].into(),
            pod_sources: Default::default(),
        };
        let network = HostNetwork {
            installation: common::INSTALLATION,
            uid,
            name: "theirs".to_owned(),
            bridge: "br-theirs".to_owned(),
            mtu: 1500,
            made: None,
            guarded: Vec::new(),
            hosts: Default::default(),
            dns: Default::default(),
            taps: [(names::tap(&mac), filter)].into(),
            members: Default::default(),
            given_out: Vec::new(),
        };
        hosts.apply_network(&host, &network).await.unwrap();
        let look = async || -> NetworkSeen {
            match hosts.observe_networks(&host).await.unwrap() {
                NetworksSeen::Seen { mut networks, .. } => networks.remove(&uid).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        let seen = look().await;
        assert!(seen.intact && !seen.bridge_gone, "{seen:?}");
        lab.on_host(0, &["ip", "link", "del", "br-theirs"]);
        let seen = look().await;
        assert!(seen.intact && seen.bridge_gone, "{seen:?}");
        lab.on_host(0, &["ip", "link", "add", "br-theirs", "type", "bridge"]);
        assert!(!look().await.bridge_gone);
        hosts.remove_network(&host, common::INSTALLATION, uid).await.unwrap();
    });
}
