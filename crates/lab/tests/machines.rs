//! Machines other than the one that the tests run on: their mounts are arranged in a mount namespace. Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::process::Command;

use common::{TestLab, Traces, read, stdout};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const NONE: Option<&str> = None;

/// Runs `body` on a thread whose mounts are its own.
fn on_another_machine<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
        body()
    });
    thread.join().unwrap()
}

/// The life of a lab; returns where the host's daemons are among its cgroups.
fn life(tag: &str) -> String {
    let test = TestLab::new(tag);
    test.up(1);
    let output =
        test.in_host("h1", &["sh", "-c", "cd /sys/fs/cgroup; find . -maxdepth 2 -name daemons | sort"]);
    let virsh = test.in_host("h1", &["virsh", "--quiet", "-c", "qemu:///system", "pool-list"]);
    assert_eq!(stdout(&virsh), "images   active   yes");
    test.lab.power_off("h1").unwrap();
    test.up(1);
    let traces = Traces::of(&test.lab);
    test.lab.down(&|_| {}).unwrap();
    assert_eq!(traces.left(), Vec::<String>::new());
    stdout(&output)
}

#[test]
fn cgroup_v2_alone() {
    let found = on_another_machine(|| {
        umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).unwrap();
        mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), NONE).unwrap();
        life("v2")
    });
    assert_eq!(found, "./daemons");
}

#[test]
fn no_cgroups() {
    let found = on_another_machine(|| {
        umount2("/sys/fs/cgroup", MntFlags::MNT_DETACH).unwrap();
        life("none")
    });
    assert_eq!(found, "");
}

#[test]
fn nobody_ever_used_named_network_namespaces() {
    on_another_machine(|| {
        let mounts = read("/proc/thread-self/mountinfo");
        life("first");
        assert_eq!(read("/proc/thread-self/mountinfo"), mounts);
        assert!(!fs::exists("/run/netns").unwrap());
    });
}

#[test]
fn somebody_uses_ip_netns_while_the_lab_runs() {
    on_another_machine(|| {
        let ip = |args: &[&str]| {
            let output = Command::new("ip").arg("netns").args(args).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            stdout(&output)
        };
        let test = TestLab::new("ip");
        test.up(1);
        ip(&["add", "theirs"]);
        let traces = Traces::of(&test.lab);
        test.lab.down(&|_| {}).unwrap();
        assert_eq!(traces.left(), Vec::<String>::new());
        assert_eq!(ip(&["list"]), "theirs");
        // And theirs first.
        test.up(1);
        test.lab.down(&|_| {}).unwrap();
        assert_eq!(ip(&["list"]), "theirs");
        ip(&["del", "theirs"]);
    });
}
