//! A lab comes up, is what it should be, is repaired, and goes without a trace. Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use ashlar_lab::{DaemonState, LabError, Place, Power};
use common::{TestLab, Traces, chain, own_mounts, read, stdout};

#[test]
fn one_host_is_reached_as_a_real_one_and_nothing_else_is() {
    let test = TestLab::new("one");
    let report = test.up(1);
    let host = &report.description.hosts[0];
    assert!(!report.changes.is_empty());
    assert!(test.lab.status().unwrap().is_complete());

    // sshd with the pinned host key and the lab's own key.
    let output = test.ssh("h1", "hostname; cat /etc/machine-id; ls /sys/class/net; ls /root /tmp; pwd");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let machine_id = host.host_uuid.simple();
    assert_eq!(
        stdout(&output),
        format!("h1\n{machine_id}\nbr-nodes\nlo\nmgmt0\nup0\n/root:\n\n/tmp:\n/root")
    );
    // Another host key under the same address is refused.
    let wrong = report.description.state_dir.join("wrong_known_hosts");
    fs::write(&wrong, format!("10.77.0.11 {}\n", report.description.client_public_key)).unwrap();
    let option = format!("UserKnownHostsFile={}", wrong.display());
    let config = report.description.ssh_config.display().to_string();
    let output = test.in_control(&["ssh", "-F", &config, "-o", &option, "h1", "true"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Host key verification failed"), "{output:?}");
    // Nobody gets in without the key.
    let output = test.in_control(&[
        "ssh",
        "-F",
        "/dev/null",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "IdentityFile=/dev/null",
        "root@10.77.0.11",
        "true",
    ]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied (publickey)"), "{output:?}");

    // libvirt: its own socket, its own UUID, its pool.
    let output = test.in_host("h1", &["virsh", "--quiet", "--connect", "qemu:///system", "pool-list"]);
    assert_eq!(stdout(&output), "images   active   yes");
    let output =
        test.ssh("h1", "virsh -c qemu:///system capabilities | grep '<uuid>'; which virt-ssh-helper");
    assert_eq!(stdout(&output), format!("<uuid>{}</uuid>\n/usr/bin/virt-ssh-helper", host.host_uuid));
    fs::write(host.pool_dir.join("probe.raw"), "x").unwrap();
    let output = test.in_host("h1", &["ls", host.pool_path.to_str().unwrap()]);
    assert_eq!(stdout(&output), "probe.raw");

    // Networks: the host reaches nodes and their gateway, the control namespace only the hosts' management addresses.
    let in_host = Place::Host("h1".to_owned());
    assert_eq!(test.connect(&Place::Control, "10.77.0.11", 22), "open");
    assert!(test.connect(&Place::Control, "10.88.0.1", 9).contains("Network is unreachable"));
    assert!(test.connect(&Place::Control, "10.88.0.11", 22).contains("Network is unreachable"));
    assert!(test.connect(&Place::Control, "192.0.2.1", 9).contains("Network is unreachable"));
    assert!(test.connect(&in_host, "10.88.0.1", 9).contains("Connection refused"), "the gateway answers");
    assert!(
        test.connect(&in_host, "192.0.2.1", 9).contains("Network is unreachable"),
        "nothing leaves the machine"
    );
    let forward = |place| {
        stdout(&test.lab.output(place, &["cat", "/proc/sys/net/ipv4/ip_forward"], common::DEADLINE).unwrap())
    };
    assert_eq!([&Place::Control, &Place::Switch, &in_host].map(forward), ["0", "0", "0"]);
    // No interface of any lab is in the machine's own namespace.
    for name in ["br-nodes", "br-mgmt", "mgmt0", "up0", "m-ctl", "m-h1", "n-h1"] {
        assert!(!fs::exists(format!("/sys/class/net/{name}")).unwrap(), "{name}");
    }
}

#[test]
fn a_second_up_changes_nothing_and_a_killed_daemon_is_started_again() {
    let test = TestLab::new("again");
    let first = test.up(1);
    let pids = || test.lab.status().unwrap().hosts[0].daemons.iter().map(|it| it.pid).collect::<Vec<_>>();
    let before = pids();
    let second = test.up(1);
    assert_eq!(second.changes, Vec::<String>::new());
    assert_eq!(second.description, first.description);
    assert_eq!(pids(), before);
    assert!(second.elapsed < Duration::from_secs(1), "{:?}", second.elapsed);

    let libvirt = test.lab.hypervisor_daemon();
    test.lab.kill_daemon("h1", libvirt).unwrap();
    assert_eq!(test.lab.status().unwrap().hosts[0].daemon(libvirt), DaemonState::Dead);
    assert_eq!(test.up(1).changes, [format!("h1: {} started", libvirt.program())]);
    test.lab.pause_daemon("h1", libvirt).unwrap();
    assert_eq!(test.lab.status().unwrap().hosts[0].daemon(libvirt), DaemonState::Stopped);
    assert_eq!(test.up(1).changes, [format!("h1: {} continued", libvirt.program())]);
    assert!(test.lab.status().unwrap().is_complete());
}

#[test]
fn hosts_are_added_and_know_each_other_and_two_labs_do_not_collide() {
    let first = TestLab::new("many");
    first.up(1);
    let first_holder =
        first.lab.status().unwrap().hosts[0].namespaces.iter().map(|it| it.inode).collect::<Vec<_>>();
    let second = TestLab::new("other");
    second.up(1);

    let report = first.up(3);
    assert_eq!(report.description.hosts.len(), 3);
    assert!(!report.changes.iter().any(|line| line.starts_with("h1:")), "{:?}", report.changes);
    let status = first.lab.status().unwrap();
    assert!(status.is_complete());
    assert_eq!(status.hosts[0].namespaces.iter().map(|it| it.inode).collect::<Vec<_>>(), first_holder);
    let uuids: std::collections::BTreeSet<_> =
        report.description.hosts.iter().map(|it| it.host_uuid).collect();
    assert_eq!(uuids.len(), 3);
    // Over both networks, by the names in /etc/hosts; h1 was started before the others existed.
    assert_eq!(first.connect(&Place::Host("h1".to_owned()), "h3", 22), "open");
    assert!(first.connect(&Place::Host("h1".to_owned()), "10.88.0.13", 9).contains("Connection refused"));
    // A lower number removes nothing.
    assert_eq!(first.up(1).changes, Vec::<String>::new());

    // Same addresses, other keys: one lab's key does not open the other's hosts.
    assert_eq!(stdout(&second.ssh("h1", "cat /etc/machine-id")).len(), 32);
    assert!(second.connect(&Place::Control, "10.77.0.12", 22).contains("No route to host"), "one host only");
    let key = first.lab.description().unwrap().unwrap().client_key.display().to_string();
    let config = second.lab.description().unwrap().unwrap().ssh_config.display().to_string();
    let plain = ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"];
    let rest = ["-o", "UserKnownHostsFile=/dev/null", "-i", &key, "root@10.77.0.11", "true"];
    let output = second.in_control(&[&plain[..], &rest[..]].concat());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?} {config}");

    let traces = Traces::of(&first.lab);
    first.lab.down(&|_| {}).unwrap();
    assert_eq!(traces.left(), Vec::<String>::new());
    assert!(second.lab.status().unwrap().is_complete(), "the other lab was not touched");
}

#[test]
fn down_leaves_nothing_and_hits_nobody_else() {
    let mounts = own_mounts();
    let test = TestLab::new("down");
    test.up(1);
    // Somebody's process with the same name as one of ours, working in the lab's directory, but not in the lab.
    let mut bystander = Command::new("sleep").arg("600").current_dir(test.lab.state_dir()).spawn().unwrap();
    // A client that somebody left in the control namespace, and a stray one in the host.
    let sleeper = || {
        let mut command = Command::new("sleep");
        command.arg("600").stdin(Stdio::null());
        command
    };
    let mut client = test.lab.spawn(&Place::Control, &mut sleeper()).unwrap();
    let mut stray = test.lab.spawn(&Place::Host("h1".to_owned()), &mut sleeper()).unwrap();

    let traces = Traces::of(&test.lab);
    assert!(!traces.left().is_empty(), "the search finds a lab that runs");
    let reaper = std::thread::spawn(move || (client.wait().unwrap(), stray.wait().unwrap()));
    let report = test.lab.down(&|_| {}).unwrap();
    assert!(!report.changes.is_empty());
    assert!(!reaper.join().unwrap().0.success());
    assert!(bystander.try_wait().unwrap().is_none(), "a process outside the lab was killed");
    bystander.kill().unwrap();
    bystander.wait().unwrap();

    assert_eq!(traces.left(), Vec::<String>::new());
    assert_eq!(own_mounts(), mounts);
    let status = test.lab.status().unwrap();
    assert!(!status.exists && status.namespaces.is_empty() && status.hosts.is_empty());
    assert_eq!(test.lab.down(&|_| {}).unwrap().changes, Vec::<String>::new());
}

#[test]
fn a_lab_whose_state_was_deleted_by_hand_can_still_be_removed() {
    let test = TestLab::new("lost");
    test.up(1);
    let traces = Traces::of(&test.lab);
    fs::remove_dir_all(test.lab.state_dir()).unwrap();
    test.lab.down(&|_| {}).unwrap();
    assert_eq!(traces.left(), Vec::<String>::new());
}

#[test]
fn a_host_whose_holder_died_is_powered_on_again() {
    let test = TestLab::new("holder");
    test.up(1);
    let record: serde_json::Value =
        serde_json::from_str(&read(test.lab.state_dir().join("hosts/h1/host.json").to_str().unwrap()))
            .unwrap();
    let holder = record["holder"]["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &holder]).status().unwrap().success());
    common::wait_for("the holder's end", Duration::from_secs(10), || {
        test.lab.status().unwrap().hosts[0].power == Power::Off
    });
    let changes = test.up(1).changes;
    assert_eq!(changes[0], "h1: powered on");
    assert!(test.lab.status().unwrap().is_complete());
}

#[test]
fn two_at_once_do_not_get_in_each_others_way() {
    let test = TestLab::new("both");
    let reports = std::thread::scope(|scope| {
        let ups: Vec<_> = [1, 2]
            .map(|hosts| {
                scope.spawn({
                    let test = &test;
                    move || test.up(hosts)
                })
            })
            .into_iter()
            .collect();
        ups.into_iter().map(|up| up.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(test.lab.status().unwrap().hosts.len(), 2);
    assert!(test.lab.status().unwrap().is_complete());
    let made = reports.iter().flat_map(|it| &it.changes).filter(|it| *it == "h1: powered on").count();
    assert_eq!(made, 1, "the first host was made once");
}

#[test]
fn refusals_say_what_to_do() {
    let test = TestLab::new("refuse");
    let message = |error: LabError| chain(&error);
    let name = test.lab.name();
    let up = |lab: &ashlar_lab::Lab, hosts| message(lab.up(hosts, &|_| {}).unwrap_err());
    assert_eq!(up(&test.lab, 0), "a lab has 1 to 244 hosts, not 0");
    assert_eq!(
        message(ashlar_lab::Lab::new("My lab").unwrap_err()),
        "\"My lab\" is not a lab name: it must start with a lower-case letter"
    );
    assert_eq!(
        message(test.lab.exec(&Place::Control, &["true"]).unwrap_err()),
        format!("lab \"{name}\" is not running: start it with `ashlar lab up {name}`")
    );

    // A directory of somebody else's is neither used nor removed.
    fs::create_dir(test.lab.state_dir()).unwrap();
    let precious = test.lab.state_dir().join("precious");
    fs::write(&precious, "x").unwrap();
    let dir = test.lab.state_dir().display();
    assert_eq!(
        up(&test.lab, 1),
        format!(
            "{dir} is not empty and is not the state of lab \"{name}\": choose another state directory, or empty it"
        )
    );
    test.lab.down(&|_| {}).unwrap();
    assert!(precious.exists());
    fs::remove_file(&precious).unwrap();

    test.up(1);
    assert_eq!(
        message(test.lab.power_off("h7").unwrap_err()),
        format!("lab \"{name}\" has no host \"h7\"; it has h1")
    );
    let elsewhere = tempfile::tempdir().unwrap();
    let twin = ashlar_lab::Lab::with_state_dir(name, &elsewhere.path().join("lab")).unwrap();
    let expected = format!(
        "lab \"{name}\" already runs on this machine with another state directory, {dir}: name that one, or take \
         another name for the lab"
    );
    assert_eq!(up(&twin, 1), expected);
    assert_eq!(message(twin.down(&|_| {}).unwrap_err()), expected);
    assert!(test.lab.status().unwrap().is_complete());
}
