//! Goldens of seeds, and the console's reader.

use std::collections::BTreeMap;

use ashlar_api::{Accelerator, Bootstrap, Machine, MachineRole, MachineSpec};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::console::{Phase, Progress};
use super::*;

pub(crate) fn machine() -> MachineSpec {
    let spec = serde_json::json!({
        "cluster": "demo", "role": "control-plane", "class": "small", "bootstrap": "init", "host": "h1",
        "domain": {"uuid": "7d1c3f60-0f0c-4b55-8d5c-0c4f6a1c2b01", "name": "demo-cp-1"},
        "vcpus": 2, "memory": "3Gi", "cpuPolicy": "shared", "accelerator": "kvm", "machineType": "pc-q35-7.2",
        "image": {
            "name": "node-v1.37.2-0123456789ab", "digest": "sha256:00", "kubernetesVersion": "v1.37.2",
            "tags": {"etcd": "3.7.0-0", "coredns": "v1.14.6", "pause": "3.10.2", "flannel": "v0.28.10"},
            "commandLine": "console=ttyS0", "diskVolume": "d", "kernelVolume": "k", "initrdVolume": "i",
        },
        "nics": [{"network": "lab", "bridge": "br0", "mac": "52:54:00:00:00:01", "address": "10.20.0.11/24",
            "gateway": "10.20.0.1", "mtu": 1500}],
        "volumes": [],
        "node": {
            "name": "demo-cp-1",
            "providerId": "ashlar://4f0e9f5e-7f3e-4b0a-9d57-0a6f0a6b1c01/7d1c3f60-0f0c-4b55-8d5c-0c4f6a1c2b02",
            "endpoint": {"address": "10.20.0.10", "port": 6443, "vrrpId": 51},
            "extraSans": ["demo.example.org"], "podCidr": "10.244.0.0/16", "serviceCidr": "10.96.0.0/16",
            "dnsDomain": "cluster.local", "cni": "flannel",
            "labels": {"node.kubernetes.io/instance-type": "small", "topology.kubernetes.io/zone": "lab"},
            "sshAuthorizedKeys": ["ssh-ed25519 AAAAC3Nza me@example.org"], "startupTimeoutS": 900,
        },
    });
    serde_json::from_value(spec).unwrap()
}

fn worker() -> MachineSpec {
    let mut machine = machine();
    machine.role = MachineRole::Worker;
    machine.bootstrap = Bootstrap::Join;
    machine.node.name = "demo-workers-1".to_owned();
    machine.nics[0].address = "10.20.0.21/24".parse().unwrap();
    machine.node.taints = vec![
        serde_json::from_value(
            serde_json::json!({"key": "dedicated", "value": "db", "effect": "NoSchedule"}),
        )
        .unwrap(),
    ];
    machine
}

fn seed(machine: &MachineSpec) -> SeedTemplate {
    seed_template(&NodeBootstrap {
        cluster: "demo",
        machine,
        machine_uid: Uuid::from_u128(2),
        secrets: SecretNames { pki: "demo-pki", join_token: "demo-join", ssh_host_key: Some("demo-ssh") },
    })
    .unwrap()
}

/// All files but the script, whose text is a file of its own.
fn show(template: &SeedTemplate) -> String {
    let mut out = String::new();
    for file in template.files.iter().filter(|file| file.name != "bootstrap.sh") {
        out += &format!("=== {}\n", file.name);
        for piece in &file.pieces {
            match piece {
                Piece::Text(text) => out += text,
                Piece::Secret(s) => out += &format!("<<{}/{} {:?}>>", s.object, s.key, s.encoding),
            }
        }
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

#[test]
fn first_control_plane() {
    insta::assert_snapshot!(show(&seed(&machine())));
}

#[test]
fn first_control_plane_under_emulation() {
    let mut machine = machine();
    machine.accelerator = Accelerator::Emulated;
    insta::assert_snapshot!(show(&seed(&machine)));
}

#[test]
fn further_control_plane() {
    let mut machine = machine();
    machine.bootstrap = Bootstrap::Join;
    insta::assert_snapshot!(show(&seed(&machine)));
}

#[test]
fn worker_joins() {
    insta::assert_snapshot!(show(&seed(&worker())));
}

#[test]
fn worker_under_emulation() {
    let mut worker = worker();
    worker.accelerator = Accelerator::Emulated;
    worker.virtual_time = true;
    worker.vcpus = 1;
    insta::assert_snapshot!(show(&seed(&worker)));
}

#[test]
fn secrets_come_in_at_the_end_and_only_those_that_the_role_needs() {
    let template = seed(&worker());
    let names: Vec<_> = template.secrets().map(|s| format!("{}/{}", s.object, s.key)).collect();
    assert_eq!(names, ["demo-ssh/ssh_host_ed25519_key", "demo-pki/ca.crt", "demo-join/token"]);
    let rendered = template
        .render(|secret| Ok::<_, ()>(Zeroizing::new(format!("[{}]", secret.key).into_bytes())))
        .unwrap();
    let discovery = rendered.iter().find(|file| file.name == "discovery.conf").unwrap();
    let text = String::from_utf8(discovery.bytes.to_vec()).unwrap();
    assert!(text.contains("certificate-authority-data: W2NhLmNydF0=\n"), "{text}");
    assert!(text.contains("token: [token]\n"), "{text}");
    assert!(!format!("{rendered:?}").contains("[token]"));
    assert_eq!(template.render(|_| Err("sealed")).unwrap_err(), "sealed");
}

#[test]
fn an_incomplete_machine_is_refused() {
    let mut machine = worker();
    machine.bootstrap = Bootstrap::Init;
    let secrets = SecretNames { pki: "p", join_token: "t", ssh_host_key: None };
    let render = |machine: &Machine| {
        let node =
            NodeBootstrap { cluster: "demo", machine: &machine.spec, machine_uid: Uuid::nil(), secrets };
        seed_template(&node).unwrap_err().to_string()
    };
    let object = |spec: MachineSpec| {
        Machine { spec, ..serde_json::from_value(serde_json::json!({"apiVersion": "ashlar.dev/v1alpha1", "kind": "Machine", "metadata": {"name": "x"}, "spec": self::machine()})).unwrap() }
    };
    assert_eq!(
        render(&object(machine)),
        "machine demo-workers-1 is a worker and cannot initialize a cluster"
    );
    let mut machine = self::machine();
    machine.nics.clear();
    assert_eq!(
        render(&object(machine)),
        "machine demo-cp-1 has no network interface; a node needs one with a static address"
    );
}

#[test]
fn addons_of_a_cluster() {
    let node = machine().node;
    let all: BTreeMap<_, _> = crate::addons::addons(&node, 1500, "v0.28.10")
        .into_iter()
        .map(|addon| (addon.name, addon.objects))
        .collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&all).unwrap());
}

fn fed(text: &str) -> Progress {
    let mut progress = Progress::default();
    // In odd pieces, as a console gives them.
    for piece in text.as_bytes().chunks(7) {
        progress.feed(piece);
    }
    progress
}

#[test]
fn a_good_boot_is_followed_to_its_end() {
    let mut progress = Progress::default();
    let mut seen = Vec::new();
    let log = "SeaBIOS\r\n[    0.000000] Linux version 6.12\r\nASHLAR-BOOT initrd\r\nASHLAR-BOOT system\r\n\
               ASHLAR-BOOT cloud-init\r\nASHLAR-PHASE node-setup start\r\nASHLAR-PHASE node-setup ok\r\n\
               [   12.1] noise ASHLAR-PHASE kubeadm-etcd-join start\r\nASHLAR-PHASE kubeadm-etcd-join retry 3/8\r\n\
               ASHLAR-SSH-HOST-KEY ssh-ed25519 AAAA\r\nASHLAR-PHASE ready ok 140\r\n";
    for line in log.split_inclusive('\n') {
        progress.feed(line.as_bytes());
        seen.push(progress.phase().to_string());
    }
    assert_eq!(
        seen,
        [
            "firmware",
            "kernel",
            "initrd",
            "system",
            "cloud-init",
            "node-setup",
            "node-setup",
            "kubeadm etcd-join",
            "kubeadm etcd-join (attempt 3)",
            "kubeadm etcd-join (attempt 3)",
            "ready"
        ]
    );
    assert!(progress.is_ready());
    assert_eq!(progress.ssh_host_key(), Some("ssh-ed25519 AAAA"));
    assert_eq!(progress.failure(), None);
}

#[test]
fn a_failed_phase_keeps_its_log_and_says_what_to_do() {
    let progress = fed("ASHLAR-PHASE images start\nASHLAR-PHASE images fail exit=2\n\
         ASHLAR-LOG the image registry.k8s.io/etcd:9 is not in this node's containerd\n\
         ASHLAR-FAILED phase=images reason=image-missing\n");
    let failure = progress.failure().unwrap();
    assert_eq!((failure.phase.as_str(), failure.reason.as_str()), ("images", "image-missing"));
    assert_eq!(failure.log_lines, ["the image registry.k8s.io/etcd:9 is not in this node's containerd"]);
    assert!(progress.advice().unwrap().contains("build the image again"));
    assert_eq!(progress.phase(), &Phase::Step { name: "images".to_owned(), attempt: 1 });
}

#[test]
fn a_second_kernel_panic_is_a_failure_with_the_last_lines() {
    let panic =
        "VFS: Unable to mount root\n[    9.1] Kernel panic - not syncing: VFS: no root\nASHLAR-BOOT initrd\n";
    let mut progress = fed(panic);
    assert_eq!(progress.failure(), None, "it is started again");
    assert_eq!(progress.kernel_panics(), 1);
    progress.feed(panic.as_bytes());
    let failure = progress.failure().unwrap();
    assert_eq!(failure.reason, "kernel-panic");
    assert!(failure.log_lines.last().unwrap().contains("Kernel panic"));
    assert!(progress.advice().unwrap().contains("started anew"));
}

#[test]
fn a_node_that_panicked_once_becomes_ready() {
    let progress = fed(
        "[    1.6] Kernel panic - not syncing: Fatal exception in interrupt\n[    0.0] Linux version 6.12\n\
         ASHLAR-PHASE ready ok 20\n",
    );
    assert!(progress.is_ready());
    assert_eq!((progress.failure(), progress.kernel_panics()), (None, 1));
}

#[test]
fn memory_is_named_as_the_cause_where_it_was() {
    let progress = fed(
        "[ 90.1] Out of memory: Killed process 77 (etcd)\nASHLAR-FAILED phase=kubeadm-preflight reason=kubeadm\n",
    );
    assert!(progress.advice().unwrap().contains("too little memory"));
}

#[test]
fn a_machine_that_tries_again_after_a_reboot_is_no_longer_failed() {
    let progress =
        fed("ASHLAR-FAILED phase=endpoint reason=endpoint-unreachable\nASHLAR-PHASE endpoint start\n");
    assert_eq!(progress.failure(), None);
}

#[test]
fn endless_lines_are_bounded() {
    let mut progress = Progress::default();
    progress.feed(&vec![b'x'; 4 << 20]);
    progress.feed(b"\nASHLAR-BOOT initrd\n");
    assert_eq!(progress.phase(), &Phase::Initrd);
    assert!(progress.tail().map(str::len).max() <= Some(600));
}
