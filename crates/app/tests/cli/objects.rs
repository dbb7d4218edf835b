//! get, describe, explain, events, wait: what is in the store, shown.

use crate::harness::Place;
use crate::seed::{demo, host, machine, stock};

fn demo_place() -> Place {
    Place::with(&[stock(), demo()].concat())
}

#[test]
fn get_shows_every_kind() {
    let place = demo_place();
    insta::assert_snapshot!("get_all", place.run(&["get", "all"]));
    insta::assert_snapshot!("get_all_wide", place.run(&["get", "all", "-A", "-o", "wide"]));
    insta::assert_snapshot!("get_events", place.run(&["get", "ev"]));
}

#[test]
fn get_formats() {
    let place = demo_place();
    insta::assert_snapshot!("get_yaml", place.run(&["get", "machine", "demo-ctrl-1", "-o", "yaml"]));
    insta::assert_snapshot!("get_json", place.run(&["get", "classes", "-o", "json"]));
    insta::assert_snapshot!("get_name", place.run(&["get", "m,hosts", "-o", "name"]));
    insta::assert_snapshot!("get_secret_hides", place.run(&["get", "secret/demo-pki", "-o", "yaml"]));
}

#[test]
fn get_selects_by_label_and_namespace() {
    let place = demo_place();
    let mut other = machine("far-1", 103, "worker", None);
    other["metadata"]["namespace"] = "other".into();
    place.put(&[other]);
    let all = [
        place.run(&["get", "machines", "-l", "role=worker"]),
        place.run(&["get", "machines", "-l", "role!=worker", "--no-headers"]),
        place.run(&["get", "machines", "-l", "!role"]),
        place.run(&["get", "machines", "-A"]),
        place.run(&["get", "machines", "-n", "other", "-o", "name"]),
        place.run(&["get", "machine", "far-1"]),
        place.run(&["get", "machines", "-l", "a b"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn networks_show_who_holds_what() {
    let place = demo_place();
    insta::assert_snapshot!("network_list", place.run(&["network", "list"]));
    insta::assert_snapshot!("network_describe", place.run(&["network", "describe", "lan"]));
    insta::assert_snapshot!("network_json", place.run(&["network", "describe", "lan", "-o", "json"]));
    insta::assert_snapshot!("network_missing", place.run(&["network", "describe", "lam"]));
}

#[test]
fn describe_shows_fields_conditions_and_events() {
    let place = demo_place();
    insta::assert_snapshot!("describe_machine", place.run(&["describe", "machine", "demo-wkr-1"]));
    insta::assert_snapshot!("describe_host", place.run(&["describe", "host/h1"]));
    insta::assert_snapshot!("describe_secret", place.run(&["describe", "secret", "demo-pki"]));
}

#[test]
fn explain_documents_fields_and_machines() {
    let place = demo_place();
    insta::assert_snapshot!("explain_kind", place.run(&["explain", "machineclass"]));
    insta::assert_snapshot!("explain_field", place.run(&["explain", "cluster.spec.controlPlane.spread"]));
    insta::assert_snapshot!("explain_machine", place.run(&["explain", "machine", "demo-wkr-1"]));
}

#[test]
fn events_and_wait_read_the_store_only() {
    let place = demo_place();
    // The local time zone is the machine's.
    let events = place.run(&["events", "--warnings", "--about", "machine/demo-wkr-1"]);
    assert!(events.contains("first boot failed in phase kubeadm join: preflight (2 times)"), "{events}");
    let all = [
        place.run(&["wait", "machine/demo-ctrl-1", "--for", "ready"]),
        place.run(&["wait", "cluster/demo", "--timeout", "50ms"]),
        place.run(&["wait", "machine", "no-such", "--for", "gone"]),
        place.run(&["wait", "machine", "demo-ctrl-1", "--for", "soon"]),
    ];
    insta::assert_snapshot!("wait", all.join("\n"));
    assert!(!place.state().join("vault.json").exists(), "reading opened the vault");
}

#[test]
fn an_empty_place_is_no_error() {
    let place = Place::new();
    insta::assert_snapshot!([place.run(&["get", "machines"]), place.run(&["cluster", "status"])].join("\n"));
    assert!(!place.state().exists(), "reading made a state directory");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let hosts: Vec<_> = (1..200).map(|number| host(&format!("host-{number}"), number)).collect();
    let place = Place::with(&hosts);
    let mut child = place
        .command(&["get", "hosts", "-o", "yaml"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
