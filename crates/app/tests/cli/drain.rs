//! Emptying a host, as far as it is said and refused before anything happens. Needs root, for a network namespace without network.

use crate::harness::Place;
use crate::seed::{demo, stock};

fn run(place: &Place, args: &[&str]) -> String {
    let text = place.shown(&place.command_without_network(args).output().unwrap());
    // That the other hosts do not answer is told in any order.
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("warning: host") && !line.starts_with("note:"))
        .collect();
    format!("$ ashlar {}\n{}\n", args.join(" "), lines.join("\n"))
}

#[test]
fn the_fate_of_each_machine_is_told_before_it_is_asked_for() {
    let place = Place::with(&[stock(), demo()].concat());
    let before = place.run(&["get", "hosts", "-o", "yaml"]);
    let all = [
        run(&place, &["host", "drain", "h7"]),
        run(&place, &["host", "drain", "h1"]),
        run(&place, &["host", "drain", "h1", "--replace"]),
        run(&place, &["host", "drain", "h1", "--dry-run", "--yes"]),
        run(&place, &["host", "drain", "h2", "--dry-run"]),
    ];
    assert_eq!(place.run(&["get", "hosts", "-o", "yaml"]), before, "nothing was written");
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn fates_are_data_too() {
    let place = Place::with(&[stock(), demo()].concat());
    let args = ["host", "drain", "h1", "--dry-run", "-o", "json"];
    let output = place.command_without_network(&args).output().unwrap();
    assert!(output.status.success(), "{}", place.shown(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(told["steps"].is_array() && told["decisions"].is_array(), "{told}");
    let fates: Vec<_> = told["fates"].as_array().unwrap().iter().map(|one| &one["fate"]["is"]).collect();
    assert_eq!(fates, ["held", "held"]);
}

#[test]
fn the_last_host_is_not_emptied() {
    let place = Place::with(&[stock(), demo()].concat());
    let all = [
        run(&place, &["host", "cordon", "h2"]),
        run(&place, &["host", "cordon", "h3"]),
        run(&place, &["host", "drain", "h1", "--dry-run"]),
        run(&place, &["host", "drain", "h1", "--yes"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}
