//! apply, plan, cluster, delete, as far as they go without a host.

use crate::harness::Place;
use crate::seed::{demo, stock};

const FIGURE_ONE: &str = "\
apiVersion: ashlar.dev/v1alpha1
kind: Cluster
metadata:
  name: prod
spec:
  kubernetesVersion: v1.37.2
  network: lan
  controlPlane: {replicas: 3, class: ctrl}
  workers:
  - {name: wkr, class: wkr, replicas: 3}
";

#[test]
fn status_is_a_tree() {
    let place = Place::with(&[stock(), demo()].concat());
    insta::assert_snapshot!(place.run(&["cluster", "status", "demo"]));
}

#[test]
fn the_six_machines_of_the_first_figure_are_planned_offline() {
    let place = Place::with(&stock());
    let file = place.file("prod.yaml", FIGURE_ONE);
    let text = place.run(&["plan", "--offline", "-f", &file]);
    insta::assert_snapshot!(text);
    // Planning wrote nothing.
    assert_eq!(place.run(&["get", "clusters,machines", "-o", "name"]), "exit 0\n");
}

#[test]
fn store_only_declares_and_repeats_without_change() {
    let place = Place::with(&stock());
    let file = place.file("prod.yaml", FIGURE_ONE);
    let changed = place.file("changed.yaml", &FIGURE_ONE.replace("replicas: 3}\n", "replicas: 4}\n"));
    let all = [
        place.run(&["apply", "--store-only", "-f", &file]),
        place.run(&["apply", "--store-only", "-f", &file]),
        place.run(&["apply", "--store-only", "-f", &changed]),
        place.run(&["delete", "-f", &file, "--store-only"]),
        place.run(&["delete", "-f", &file, "--store-only", "--yes"]),
        place.run(&["get", "clusters", "-o", "name"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn create_completes_what_leaves_no_choice_and_refuses_to_change() {
    let place = Place::with(&[stock(), demo()].concat());
    // Keys are made by ssh-keygen, and differ.
    let key = place.path().join(".config/ashlar");
    std::fs::create_dir_all(&key).unwrap();
    std::fs::write(key.join("id_ed25519"), "private").unwrap();
    std::fs::write(
        key.join("id_ed25519.pub"),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAMLtGz+RFDcRysO96Ul/gvkexRG6lG671M1O48MsEdD ashlar\n",
    )
    .unwrap();
    let all = [
        place.run(&["cluster", "create", "two", "--workers", "many:wkr"]),
        place.run(&["cluster", "create", "two", "--control-plane-class", "ctrl", "--admission", "n-1"]),
        place.run(&["cluster", "create", "two"]),
        place.run(&[
            "cluster",
            "create",
            "two",
            "--control-plane-class",
            "ctrl",
            "--control-planes",
            "2",
            "--dry-run",
        ]),
        place.run(&["cluster", "create", "demo", "--control-planes", "3"]),
        place.run(&["cluster", "create", "two", "--control-plane-class", "ctrl", "--kubernetes", "v1.20.0"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn deleting_says_what_goes_and_asks() {
    let place = Place::with(&[stock(), demo()].concat());
    let all = [
        place.run(&["delete", "cluster", "demo"]),
        place.run(&["cluster", "delete", "demo"]),
        place.run(&["delete", "cluster"]),
        place.run(&["delete", "host", "h1", "--yes"]),
        place.run(&["delete", "machine", "demo-wkr-7", "--yes"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn a_wish_that_nobody_had_is_not_taken_back() {
    let place = Place::with(&[stock(), demo()].concat());
    let all = [
        place.run(&["machine", "replace", "demo-wkr-1", "--cancel"]),
        place.run(&["machine", "replace", "demo-wkr-7", "--cancel"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}
