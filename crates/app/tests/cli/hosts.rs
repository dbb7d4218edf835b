//! A lab host that refuses, changed, or lost its libvirt: what the person at the command line sees. Needs root.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ashlar_lab::{Lab, LabDescription};
use serde_json::json;

use crate::harness::Place;
use crate::seed::{host, stock, test_image};

struct TestLab {
    lab: Lab,
    description: LabDescription,
    _dir: tempfile::TempDir,
}

impl TestLab {
    fn up() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes namespaces: run it as root");
        let dir = tempfile::Builder::new().prefix("ashlar-cli-").tempdir_in("/var/tmp").unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let lab =
            Lab::with_state_dir(&format!("cli-{}", std::process::id()), &dir.path().join("lab")).unwrap();
        lab.up(1, &|_| {}).unwrap();
        let description = lab.description().unwrap().unwrap();
        TestLab { lab, description, _dir: dir }
    }

    /// Runs a command of the place in the lab's control namespace.
    fn run(&self, place: &Place, args: &[&str]) -> String {
        let inner = place.command(args);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.description.control_namespace]);
        command.arg(inner.get_program()).args(inner.get_args()).current_dir(place.path());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        place.shown(&output).replace(&self.description.client_key.display().to_string(), "[LAB KEY]")
    }
}

/// What a person is left with. What is said on the way is told as it comes.
fn end_of(args: &str, text: &str) -> String {
    let exit = text.lines().next().unwrap_or_default();
    let at = text.find("error:").unwrap_or(text.find("--- ").unwrap_or(0));
    format!("$ ashlar {args}\n{exit}\n{}", &text[at..])
}

impl Drop for TestLab {
    fn drop(&mut self) {
        if let Err(error) = self.lab.down(&|_| {}) {
            eprintln!("lab {} is not gone: {error}", self.lab.name());
        }
    }
}

const OTHER_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAMLtGz+RFDcRysO96Ul/gvkexRG6lG671M1O48MsEdD";
const CLUSTER: &str = "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: prod}\nspec:\n  \
                       kubernetesVersion: v1.37.2\n  network: lan\n  controlPlane: {replicas: 1, class: ctrl}\n";

#[test]
fn a_host_that_refuses_or_changed_or_lost_its_libvirt() {
    let lab = TestLab::up();
    let there = &lab.description.hosts[0];
    let uri = format!("qemu+ssh://{}@{}:{}/system", there.ssh_user, there.ssh_address, there.ssh_port);
    let pinned = there.known_hosts_line.split_once(' ').unwrap().1.trim();
    let right = lab.description.client_key.display().to_string();

    // As enrolled: with what an enrolment records, so that no VM has to be booted for it.
    let place = Place::with(&stock());
    place.put(&[test_image(place.path())]);
    let enrolled = |key: &str| {
        let mut host = host("h1", 1);
        host["spec"]["uri"] = uri.clone().into();
        host["spec"]["sshHostKey"] = key.into();
        host["spec"]["sshKeyPath"] = right.clone().into();
        host["record"]["hostUuid"] = json!(there.host_uuid);
        // Those that nobody could reach.
        let others = ["h2", "h3"].map(|name| {
            let mut other = crate::seed::host(name, 9);
            other["record"] = json!({});
            other
        });
        place.put(&[vec![host], others.to_vec()].concat());
    };
    let file = place.file("prod.yaml", CLUSTER);
    let wrong = place.path().join("wrong").display().to_string();
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &wrong]).status();
    assert!(made.unwrap().success());

    let add = |more: &[&str]| {
        let args = [&["host", "add", "n1", "--uri", &uri][..], more].concat();
        end_of("host", &lab.run(&place, &args))
    };
    let mut all = vec![
        add(&["--ssh-host-key", pinned, "--ssh-key", &wrong]),
        add(&["--ssh-host-key", OTHER_KEY, "--ssh-key", &right]),
        add(&["--ssh-host-key", pinned, "--ssh-key", &right, "--pool", "none"]),
    ];
    // A host whose enrolment was refused is nobody's: another installation may have it.
    let on_host = ashlar_lab::Place::Host(there.name.clone());
    let listed = ["ls", "/var/lib/libvirt/ashlar"];
    let listed = lab.lab.output(&on_host, &listed, Duration::from_secs(30)).unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert_eq!(listed.trim(), "lease.lock");

    enrolled(OTHER_KEY);
    let told = lab.run(&place, &["apply", "-f", &file, "--timeout", "30s"]);
    assert!(told.contains("shows another SSH host key than the one that was pinned"), "{told}");
    all.push(end_of("apply", &told));
    enrolled(pinned);
    let daemon = lab.lab.hypervisor_daemon();
    lab.lab.kill_daemon(&there.name, daemon).unwrap();
    let told = lab.run(&place, &["apply", "-f", &file, "--timeout", "8s"]);
    assert!(told.contains("libvirt does not run there"), "{told}");
    all.push(end_of("apply", &told));
    lab.lab.start_daemon(&there.name, daemon).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    // It is found again without anybody doing anything: what is left to do is said once more.
    loop {
        let plan = lab.run(&place, &["plan"]);
        if plan.contains("prod-ctrl-1") && !plan.contains("libvirt does not run there") {
            break;
        }
        assert!(Instant::now() < until, "{plan}");
    }
    insta::assert_snapshot!(all.join("\n"));
}
