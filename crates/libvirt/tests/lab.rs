//! Real libvirt on the hosts of a lab: volumes, domains, guests. Needs root, and the busybox test image.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod specs;

use std::time::{Duration, Instant};

use ashlar_api::{Accelerator, DomainIdentity, VolumeFormat};
use ashlar_engine::contract;
use ashlar_engine::effects::{
    Dial, DialTarget, EffectErrorKind, HostShell, Hypervisor, VolumeCreate, VolumeSource, probe_name,
};
use ashlar_plan::domain::DomainNic;
use ashlar_plan::{DomainSpec, DomainState};
use common::{TestLab, guest_initrd, place, put, wait_for};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

const BOOT: Duration = Duration::from_secs(120);

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_contract_holds_on_real_libvirt() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        contract::all(&place).await;
    });
}

#[test]
fn uploads_arrive_whole_and_a_wiped_seed_is_zeros_in_its_own_blocks() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        let host = &place.host;
        let image = common::test_image();
        for (part, path) in [("vmlinuz", &place.kernel_path), ("initrd.img", &place.initrd_path)] {
            let content = std::fs::read(image.join(part)).unwrap();
            assert_eq!(hosts.file_sha256(host, path).await.unwrap(), hex(&content), "{part}");
        }
        let missing = hosts.file_sha256(host, "/var/lib/libvirt/images/it's not there").await.unwrap_err();
        assert_eq!(missing.kind, EffectErrorKind::NotFound, "{missing}");

        let seed: Vec<u8> = (0..380_928_u32).map(|byte| (byte % 251) as u8).collect();
        let volume = VolumeCreate {
            format: VolumeFormat::Iso,
            capacity_bytes: seed.len() as u64,
            ..place.volume("ashlar-test-seed.iso")
        };
        hosts.create_volume(host, &volume).await.unwrap();
        let bytes = std::sync::Arc::new(zeroize::Zeroizing::new(seed.clone()));
        let source = VolumeSource::Bytes { bytes, length: seed.len() as u64 };
        hosts.upload_volume(host, place.pool, &volume.file_name, source).await.unwrap();
        let path = format!("{}/{}", place.pool_path, volume.file_name);
        assert_eq!(hosts.file_sha256(host, &path).await.unwrap(), hex(&seed));
        let blocks = || lab.on_host(0, &["filefrag", "-v", &path]);
        let before = blocks();
        hosts.wipe_volume(host, place.pool, &volume.file_name).await.unwrap();
        assert_eq!(hosts.file_sha256(host, &path).await.unwrap(), hex(&vec![0; seed.len()]));
        assert_eq!(extents(&before), extents(&blocks()), "the wipe wrote elsewhere");
    });
}

/// Physical places of a file, from `filefrag -v`.
fn extents(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()))
        .map(|line| line.split(':').nth(2).unwrap_or_default().trim().to_owned())
        .collect()
}

#[test]
fn a_probe_domain_proves_emulation_and_tells_why_kvm_fails() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        let host = &place.host;
        let proves = async |accelerator| -> Result<bool, String> {
            let domain = Uuid::new_v4();
            hosts
                .start_probe(host, domain, accelerator, &place.kernel_path, &place.initrd_path)
                .await
                .map_err(|error| error.to_string())?;
            let mut seen = hosts.read_probe(host, domain).await.unwrap();
            let until = Instant::now() + BOOT;
            while !seen.marked && seen.running && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(200)).await;
                seen = hosts.read_probe(host, domain).await.unwrap();
            }
            hosts.destroy_domain(host, domain).await.unwrap();
            assert_eq!(hosts.domain_by_name(host, &probe_name(domain)).await.unwrap(), None);
            if seen.marked { Ok(true) } else { Err(seen.log_lines.join("\n")) }
        };
        assert_eq!(proves(Accelerator::Emulated).await, Ok(true));
        // Works on a machine with KVM; elsewhere QEMU's own reason has to come through.
        if let Err(reason) = proves(Accelerator::Kvm).await {
            assert!(reason.to_lowercase().contains("kvm") || reason.contains("MSR"), "{reason}");
        }
        let broken = hosts
            .start_probe(host, Uuid::new_v4(), Accelerator::Emulated, "/nowhere/vmlinuz", &place.initrd_path)
            .await
            .unwrap_err();
        assert!(broken.message.contains("/nowhere/vmlinuz"), "{broken}");
    });
}

#[test]
fn a_guest_boots_is_dialled_and_shut_down() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let mut place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        place.command_line += " ashlar.ip=10.88.1.7/16 ashlar.http=8080 ashlar.name=guest-7";
        let host = place.host.clone();
        let root = "ashlar-test-root.raw";
        hosts.create_volume(&host, &place.volume(root)).await.unwrap();
        let mut spec = place.domain("guest-7", root, None);
        spec.mark.machine = Some(std::sync::Arc::new(specs::machine()));
        spec.nics[0].mac = "02:a5:00:00:00:07".to_owned();
        hosts.define_domain(&host, &spec).await.unwrap();
        assert_eq!(hosts.domain(&host, spec.uuid).await.unwrap().unwrap().mark, Some(spec.mark.clone()));
        let addresses = ["10.88.1.7".parse().unwrap(), "10.88.1.8".parse().unwrap()];
        assert!(hosts.addresses_answer(&host, &place.bridge, &addresses).await.unwrap().is_empty());
        hosts.start_domain(&host, spec.uuid).await.unwrap();

        let identity = DomainIdentity { uuid: spec.uuid, name: spec.name.clone() };
        read_until(&hosts, &place, &identity, "ASHLAR-HTTP 8080").await;
        read_until(&hosts, &place, &identity, "ASHLAR-DISK sda sectors=2048 serial=root").await;
        let answered = hosts.addresses_answer(&host, &place.bridge, &addresses).await.unwrap();
        assert_eq!(answered, addresses[..1].iter().copied().collect());

        let begin = Instant::now();
        let target = |port| DialTarget {
            via: vec![host.clone()],
            network: "nodes".to_owned(),
            namespace: None,
            address: "10.88.1.7".parse().unwrap(),
            others: Vec::new(),
            port,
        };
        let mut stream = hosts.dial(&target(8080)).await.unwrap();
        println!("dial to a guest: {:?}", begin.elapsed());
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        assert!(page.ends_with("guest-7\n"), "{page}");
        let refused = hosts.dial(&target(8081)).await.err().unwrap();
        assert_eq!(refused.kind, EffectErrorKind::Unreachable);
        assert!(refused.message.contains("10.88.1.7:8081: connection refused"), "{refused}");

        hosts.shutdown_domain(&host, spec.uuid).await.unwrap();
        // That it ended is told, before anybody looks.
        tokio::time::timeout(Duration::from_secs(60), hosts.stirred()).await.expect("no hint from libvirt");
        wait_for("the guest powers off", Duration::from_secs(60), async || {
            hosts.domain(&host, spec.uuid).await.unwrap().unwrap().state == DomainState::ShutOff
        })
        .await;
        hosts.undefine_domain(&host, spec.uuid).await.unwrap();
    });
}

/// Reads a console from its beginning, in the pieces that come, until it holds the text.
async fn read_until(
    hosts: &ashlar_libvirt::Hosts,
    place: &contract::Place<'_>,
    domain: &DomainIdentity,
    text: &str,
) -> String {
    let mut console = Vec::new();
    let mut offset = 0;
    let until = Instant::now() + BOOT;
    loop {
        let chunk = hosts.read_console(&place.host, domain, offset).await.unwrap();
        assert_eq!(chunk.next_offset, offset + chunk.bytes.len() as u64);
        offset = chunk.next_offset;
        console.extend(chunk.bytes);
        let so_far = String::from_utf8_lossy(&console);
        if so_far.contains(text) {
            return so_far.into_owned();
        }
        assert!(Instant::now() < until, "no {text:?} on the console:\n{so_far}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What keepalived does passes; what only an attacker does is dropped.
#[test]
fn the_filter_lets_a_virtual_address_pass_and_drops_foreign_macs() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let mut place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        let host = place.host.clone();
        let initrd = guest_initrd(
            lab.dir.path(),
            "ip link set eth0 up
ip addr add 10.88.1.8/16 dev eth0
ip addr add 10.88.1.9/16 dev eth0
arping -A -c 2 -I eth0 10.88.1.9
ping -c 3 -I eth0 224.0.0.18
echo ASHLAR-HONEST
n=0
while ! ping -c 1 -W 1 10.88.0.11 >/dev/null; do n=$((n + 1)); [ $n -lt 30 ] || break; done
echo ASHLAR-REACHED $n
ip link set eth0 down
ip link set eth0 address 02:66:66:66:66:66
ip link set eth0 up
ip addr add 10.88.1.8/16 dev eth0
ping -c 3 -W 1 10.88.0.11 && echo ASHLAR-SPOOF-PASSED
echo ASHLAR-SPOOFED
while :; do sleep 1; done
",
        );
        place.initrd_path =
            put(&hosts, &host, place.pool, &place.pool_path, &initrd, "ashlar-test-filter.raw").await;
        let root = "ashlar-test-root.raw";
        hosts.create_volume(&host, &place.volume(root)).await.unwrap();
        let spec = DomainSpec {
            nics: vec![DomainNic {
                bridge: place.bridge.clone(),
                tap: "as-02a500000008".to_owned(),
                mac: "02:a5:00:00:00:08".to_owned(),
                mtu: 1500,
                vlan: None,
            }],
            ..place.domain("guest-8", root, None)
        };
        hosts.define_domain(&host, &spec).await.unwrap();
        let capture = lab.capture(0, &place.bridge);
        hosts.start_domain(&host, spec.uuid).await.unwrap();
        let identity = DomainIdentity { uuid: spec.uuid, name: spec.name.clone() };
        let console = read_until(&hosts, &place, &identity, "ASHLAR-SPOOFED").await;
        assert!(console.contains("ASHLAR-REACHED"), "{console}");
        assert!(!console.contains("ASHLAR-SPOOF-PASSED"), "{console}");
        let frames = capture.stop();
        assert!(
            frames.contains("10.88.1.9 is-at 02:a5:00:00:00:08") || frames.contains("10.88.1.9"),
            "{frames}"
        );
        assert!(frames.contains("> 224.0.0.18"), "{frames}");
        assert!(!frames.contains("02:66:66:66:66:66"), "a frame with a foreign MAC came through:\n{frames}");
        hosts.destroy_domain(&host, spec.uuid).await.unwrap();
        hosts.undefine_domain(&host, spec.uuid).await.unwrap();
    });
}

#[test]
fn virtual_time_starts() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        let root = "ashlar-test-root.raw";
        hosts.create_volume(&place.host, &place.volume(root)).await.unwrap();
        let spec = DomainSpec { virtual_time: true, ..place.domain("guest-9", root, None) };
        hosts.define_domain(&place.host, &spec).await.unwrap();
        hosts.start_domain(&place.host, spec.uuid).await.unwrap();
        let identity = DomainIdentity { uuid: spec.uuid, name: spec.name.clone() };
        read_until(&hosts, &place, &identity, "ASHLAR-TICK 1").await;
        hosts.destroy_domain(&place.host, spec.uuid).await.unwrap();
        hosts.undefine_domain(&place.host, spec.uuid).await.unwrap();
    });
}

#[test]
fn looking_changes_nothing_and_foreign_domains_are_seen_without_a_mark() {
    let lab = TestLab::up(1);
    lab.inside(async |hosts| {
        let place = place(&hosts, &lab.description, lab.target(0, 1)).await;
        let host = &place.host;
        let root = "ashlar-test-root.raw";
        hosts.create_volume(host, &place.volume(root)).await.unwrap();
        for number in 0..50 {
            let mut spec = place.domain(&format!("many-{number}"), root, None);
            spec.mark.machine = Some(std::sync::Arc::new(specs::machine()));
            hosts.define_domain(host, &spec).await.unwrap();
        }
        let foreign = lab.dir.path().join("lab/hosts/h1/lib/foreign.xml");
        std::fs::write(
            &foreign,
            "<domain type='qemu'><name>demo-ctrl-1</name><memory>65536</memory><os><type>hvm</type></os></domain>",
        )
        .unwrap();
        lab.on_host(0, &["virsh", "define", "/var/lib/libvirt/foreign.xml"]);
        let before = hosts.counters().all();
        let begin = Instant::now();
        let world = hosts.observe(host).await.unwrap();
        println!("observe of {} domains: {:?}", world.domains.len(), begin.elapsed());
        assert_eq!(world.domains.len(), 51);
        let seen = world.domains.values().find(|domain| domain.name == "demo-ctrl-1").unwrap();
        assert_eq!((&seen.mark, seen.state), (&None, DomainState::ShutOff));
        assert_eq!(world.domains.values().filter(|domain| domain.mark.is_some()).count(), 50);
        let mutating = |counts: &std::collections::BTreeMap<&str, u64>| {
            counts.iter().filter(|(kind, _)| **kind != ashlar_libvirt::READ).map(|(_, n)| n).sum::<u64>()
        };
        assert_eq!(mutating(&hosts.counters().all()), mutating(&before));
        assert!(hosts.counters().all()[ashlar_libvirt::READ] > before[ashlar_libvirt::READ]);
    });
}
