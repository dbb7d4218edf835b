//! Faults made on purpose, and a virtual machine that lives through some of them. Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ashlar_lab::{DaemonState, Link, Place, Power};
use common::{TestLab, Traces, pids, read, stdout, wait_for};

/// Emulated, and other tests run beside it.
const BOOT_DEADLINE: Duration = Duration::from_secs(180);

#[test]
fn a_cut_link_cuts_and_heals() {
    let test = TestLab::new("link");
    test.up(1);
    let in_host = Place::Host("h1".to_owned());
    test.lab.cut_link("h1", Link::Management).unwrap();
    assert!(!test.lab.status().unwrap().hosts[0].management_link);
    assert!(!test.ssh("h1", "true").status.success());
    assert!(
        test.connect(&in_host, "10.88.0.1", 9).contains("Connection refused"),
        "the other link is untouched"
    );
    test.lab.heal_link("h1", Link::Management).unwrap();
    wait_for("ssh after healing", Duration::from_secs(30), || test.ssh("h1", "true").status.success());

    test.lab.cut_link("h1", Link::Nodes).unwrap();
    assert!(!test.connect(&in_host, "10.88.0.1", 9).contains("Connection refused"));
    assert!(test.ssh("h1", "true").status.success());
    let name = test.lab.name();
    assert_eq!(test.up(1).changes, [format!("lab {name}: network linked")]);
    wait_for("the gateway after up", Duration::from_secs(30), || {
        test.connect(&in_host, "10.88.0.1", 9).contains("Connection refused")
    });
}

#[test]
fn a_frozen_libvirt_answers_nobody_until_it_goes_on() {
    let test = TestLab::new("freeze");
    test.up(1);
    let libvirt = test.lab.hypervisor_daemon();
    let asked = || test.in_host("h1", &["timeout", "2", "virsh", "-c", "qemu:///system", "uri"]);
    assert!(asked().status.success());
    test.lab.pause_daemon("h1", libvirt).unwrap();
    assert_eq!(asked().status.code(), Some(124), "a connection opens, and nothing comes");
    test.lab.resume_daemon("h1", libvirt).unwrap();
    assert!(asked().status.success());
    test.lab.freeze("h1").unwrap();
    let shell = || test.ssh("h1", "true").status.success();
    assert_eq!(test.lab.status().unwrap().hosts[0].daemon(libvirt), DaemonState::Stopped);
    assert!(!shell(), "nothing in a frozen host answers");
    test.lab.thaw("h1").unwrap();
    assert!(shell() && asked().status.success(), "it goes on where it was");
    test.lab.kill_daemon("h1", libvirt).unwrap();
    assert!(!asked().status.success());
    test.lab.start_daemon("h1", libvirt).unwrap();
    assert!(asked().status.success());
}

#[test]
fn a_virtual_machine_runs_in_a_host_and_outlives_libvirt_but_not_the_power() {
    let image = test_image();
    let test = TestLab::new("guest");
    let report = test.up(1);
    let host = &report.description.hosts[0];
    for file in ["vmlinuz", "initrd.img"] {
        fs::copy(image.join(file), host.pool_dir.join(file)).unwrap();
    }
    fs::write(host.pool_dir.join("guest.xml"), GUEST).unwrap();
    let virsh = |args: &[&str]| {
        let output =
            test.in_host("h1", &[&["virsh", "--quiet", "--connect", "qemu:///system"], args].concat());
        assert!(output.status.success(), "virsh {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        stdout(&output)
    };
    let console = host.log_dir.join("libvirt/qemu/guest.console.log");
    let ticks = || read(console.to_str().unwrap()).matches("ASHLAR-TICK").count();
    virsh(&["define", "/var/lib/libvirt/images/guest.xml"]);
    virsh(&["start", "guest"]);
    wait_for("the guest's first tick", BOOT_DEADLINE, || ticks() > 0);
    let status = test.lab.status().unwrap();
    assert_eq!(status.hosts[0].domains, ["guest"]);

    // QEMU is the host's: in its cgroup, as the distribution's user.
    let group = format!("/ashlar-{}/h1/machine/", test.lab.name());
    let qemu: Vec<i32> =
        pids().into_iter().filter(|pid| read(&format!("/proc/{pid}/cgroup")).contains(&group)).collect();
    let [pid] = qemu[..] else { panic!("one QEMU in {group}: {qemu:?}") };
    assert!(read(&format!("/proc/{pid}/cmdline")).contains("guest=guest"));
    assert!(!read(&format!("/proc/{pid}/status")).contains("Uid:\t0\t"), "QEMU does not run as root");

    let libvirt = test.lab.hypervisor_daemon();
    test.lab.kill_daemon("h1", libvirt).unwrap();
    let before = ticks();
    wait_for("a tick without libvirt", BOOT_DEADLINE, || ticks() > before);
    test.up(1);
    assert_eq!(virsh(&["domstate", "guest"]), "running");

    // Whatever ends in a host is collected at once; libvirt waits for that.
    virsh(&["destroy", "guest"]);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "not even a zombie");
    virsh(&["start", "guest"]);

    test.lab.power_off("h1").unwrap();
    let off = test.lab.status().unwrap();
    assert_eq!(off.hosts[0].power, Power::Off);
    assert_eq!((off.hosts[0].processes, off.hosts[0].domains.len()), (0, 0));
    assert!(off.hosts[0].daemons.iter().all(|it| it.state == DaemonState::Dead));
    assert!(!test.ssh("h1", "true").status.success());
    test.lab.power_on("h1").unwrap();
    assert!(test.lab.status().unwrap().is_complete());
    assert_eq!(virsh(&["domstate", "guest"]), "shut off", "defined still, and not started by itself");
    assert_eq!(virsh(&["pool-list"]), "images   active   yes");

    // `down` with a guest that runs.
    virsh(&["start", "guest"]);
    let traces = Traces::of(&test.lab);
    test.lab.down(&|_| {}).unwrap();
    assert_eq!(traces.left(), Vec::<String>::new());
}

/// The busybox image that prints `ASHLAR-TICK n` on its console.
fn test_image() -> PathBuf {
    let root = std::env::var_os("ASHLAR_IMAGE_DIR")
        .map_or_else(|| PathBuf::from("/var/cache/ashlar/images"), PathBuf::from);
    let found = fs::read_dir(&root).into_iter().flatten().flatten().map(|it| it.path()).find(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("test-busybox-") && path.join("image.json").exists()
    });
    found.unwrap_or_else(|| panic!("no test image in {}: build it first (`make test` does)", root.display()))
}

const GUEST: &str = "<domain type='qemu'><name>guest</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>/var/lib/libvirt/images/vmlinuz</kernel>
<initrd>/var/lib/libvirt/images/initrd.img</initrd><cmdline>console=ttyS0 quiet panic=5 net.ifnames=0</cmdline></os>
<cpu mode='maximum'/><features><acpi/></features>
<devices><serial type='pty'><log file='/var/log/libvirt/qemu/guest.console.log'/></serial>
<interface type='bridge'><source bridge='br-nodes'/><model type='virtio'/></interface></devices></domain>";
