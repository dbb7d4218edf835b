//! What is wrong is named, with its place, its cause and the next step.

use ashlar_store::EngineLock;

use crate::harness::Place;
use crate::seed::{demo, stock};

#[test]
fn words_that_are_not_known() {
    let place = Place::with(&stock());
    let all = [
        place.run(&["host", "add-lab"]),
        place.run(&["gte", "hosts"]),
        place.run(&["get", "machnes"]),
        place.run(&["get", "host", "h4"]),
        place.run(&["get", "host/h1", "h2"]),
        place.run(&["get", "hosts", "-o", "xml"]),
        place.run(&["get", "hosts", "--timeout", "soon"]),
        place.run(&["explain", "cluster.spec.controlPlan"]),
        place.run(&["explain", "host", "h1"]),
        place.run(&["--lab", "no-such-lab", "get", "hosts"]),
        place.run(&["--lab", "Bad_Name", "get", "hosts"]),
        place.run(&["image", "inspect", "none"]),
        place.run(&["kubeconfig", "demo"]),
        place.run(&["adopt"]),
        place.run(&["adopt", "cluster", "old"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn files_with_mistakes() {
    let place = Place::with(&stock());
    let cluster = "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: a}\nspec:\n";
    let files = [
        ("unclosed.yaml", "kind: [Cluster\n".to_owned()),
        (
            "unknown.yaml",
            format!(
                "{cluster}  kubernetesVersion: v1.37.2\n  network: lan\n  controlplane: {{replicas: 1}}\n"
            ),
        ),
        (
            "even.yaml",
            format!(
                "{cluster}  kubernetesVersion: v1.37.2\n  network: lan\n  controlPlane: {{replicas: 2, class: ctrl}}\n"
            ),
        ),
        (
            "refs.yaml",
            format!(
                "{cluster}  kubernetesVersion: v1.36.9\n  network: lann\n  controlPlane: {{replicas: 1, class: huge}}\n  podCidr: 10.0.0.0/16\n"
            ),
        ),
        ("empty.yaml", "# nothing\n".to_owned()),
        ("binary.yaml", "a\0b".to_owned()),
    ];
    let mut all = Vec::new();
    for (name, text) in &files {
        let file = place.file(name, text);
        all.push(place.run(&["apply", "-f", &file]));
    }
    place.file("dir/notes.txt", "");
    all.push(place.run(&["apply", "-f", "dir"]));
    all.push(place.run(&["apply", "-f", "no-such.yaml"]));
    all.push(place.run_with(&["plan", "-f", "-"], "kind: Clutser\n"));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn clusters_that_cannot_be() {
    let place = Place::with(&[stock(), demo()].concat());
    let cluster = |name: &str, more: &str| {
        format!(
            "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  \
             kubernetesVersion: v1.37.2\n  network: lan\n  controlPlane: {{replicas: 1, class: ctrl}}\n{more}"
        )
    };
    let classes = "apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {name: huge}\nspec: {vcpus: 900, memory: 4Ti, \
                   rootDisk: 40Gi}\n---\n";
    let full = "apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {name: wide}\nspec: {vcpus: 2, memory: 4Gi, \
                rootDisk: 60Ti}\n---\n";
    let with_class = |class: &str| cluster("big", "").replace("class: ctrl", &format!("class: {class}"));
    let files = [
        ("malformed.yaml", cluster("a", "").replace("  network", " network")),
        ("cidrs.yaml", cluster("a", "  podCidr: 10.96.0.0/12\n  serviceCidr: 10.100.0.0/16\n")),
        ("nodes.yaml", cluster("a", "  podCidr: 10.0.0.0/16\n")),
        ("vip-outside.yaml", cluster("a", "  endpoint: {address: 192.168.7.7}\n")),
        ("vip-in-use.yaml", cluster("a", "  endpoint: {address: 10.0.0.100}\n")),
        ("vip-of-machine.yaml", cluster("a", "  endpoint: {address: 10.0.0.101}\n")),
        ("twice.yaml", format!("{}---\n{}", cluster("a", ""), cluster("a", ""))),
        (
            "groups-twice.yaml",
            cluster("a", "  workers:\n  - {name: w, class: wkr, replicas: 1}\n  - {name: w, class: wkr}\n"),
        ),
        ("version.yaml", cluster("a", "").replace("v1.37.2", "v1.35.0")),
    ];
    let mut all = Vec::new();
    for (name, text) in &files {
        let file = place.file(name, text);
        all.push(place.run(&["apply", "-f", &file]));
    }
    for (name, text) in [
        ("huge.yaml", classes.to_owned() + &with_class("huge")),
        ("full.yaml", full.to_owned() + &with_class("wide")),
    ] {
        let file = place.file(name, &text);
        all.push(place.run(&["plan", "--offline", "-f", &file]));
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn key_providers_that_give_no_key() {
    let place = Place::with(&[stock(), demo()].concat());
    let inside = place.state().join("key").display().to_string();
    std::fs::write(&inside, [7; 32]).unwrap();
    let open = place.file("open.key", &"x".repeat(32));
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let all = [
        place.run(&["kubeconfig", "demo", "--key", "hunter2"]),
        place.run(&["kubeconfig", "demo", "--key", &format!("file:{inside}")]),
        place.run(&["kubeconfig", "demo", "--key", &format!("file:{open}")]),
        place.run(&["kubeconfig", "demo", "--key", "passphrase"]),
        place.run(&["kubeconfig", "demo", "--key", "command:false"]),
        place.run(&["kubeconfig", "demo", "--key", "command:'a"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_second_engine_says_who_works_or_waits() {
    let place = Place::with(&stock());
    let lock = EngineLock::try_acquire(place.state(), "ashlar apply -f other.yaml").unwrap();
    let file = place.file("empty.yaml", &stock()[6].to_string().replace("\"creationTimestamp\"", "\"x\""));
    let class = "apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {name: ctrl}\nspec: {vcpus: 8, memory: 16Gi, rootDisk: 40Gi}\n";
    std::fs::write(&file, class).unwrap();
    let refused = place.run(&["apply", "-f", &file, "--no-wait"]);
    assert!(refused.starts_with("exit 1\n"), "{refused}");
    assert!(refused.contains("`ashlar apply -f other.yaml` (process"), "{refused}");
    let waited = place.run(&["apply", "-f", &file, "--timeout", "300ms"]);
    assert!(waited.starts_with("exit 3\n"), "{waited}");
    assert!(waited.contains("waiting: `ashlar apply -f other.yaml`"), "{waited}");
    // It goes on when the other one is done.
    let child = place
        .command(&["apply", "-f", &file, "--timeout", "60s"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(lock);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("machineclass/ctrl unchanged"), "{said}");
}
