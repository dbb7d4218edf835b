//! Updates, deletions and what people are shown of a change.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod world;

use std::fmt::Write;

use ashlar_api::{
    Kind, Object, ObjectRef, diff, manifest,
    validate::{Violation, validate_apply, validate_delete, validate_object, validate_update},
};
use serde_json::json;

fn lines(violations: &[Violation]) -> String {
    violations.iter().fold(String::new(), |mut out, violation| {
        writeln!(out, "  {violation}").unwrap();
        out
    })
}

#[test]
fn the_stored_world_is_good_and_may_be_applied_again() {
    let stored = world::stored();
    for object in stored.values() {
        assert_eq!(validate_object(object), []);
        if !object.metadata().is_deleting() {
            assert_eq!(validate_update(object, object), []);
        }
    }
    let again: Vec<Object> = stored
        .values()
        .filter(|o| o.kind().is_user_written() && !o.metadata().is_deleting())
        .cloned()
        .collect();
    assert_eq!(validate_apply(&again, &stored), []);
    let from_file = manifest::read(include_str!("data/world.yaml"), "world.yaml").unwrap();
    assert_eq!(validate_apply(&from_file, &stored), []);
    assert_eq!(validate_apply(&from_file, &ashlar_api::expand::ObjectMap::new()), []);
}

#[test]
fn the_demo_is_good_on_an_empty_store() {
    let demo = manifest::read(include_str!("data/good/demo.yaml"), "demo.yaml").unwrap();
    assert_eq!(lines(&validate_apply(&demo, &ashlar_api::expand::ObjectMap::new())), "");
    let expanded = ashlar_api::expand::expand(demo);
    assert_eq!(lines(&validate_apply(&expanded, &ashlar_api::expand::ObjectMap::new())), "");
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let stored = world::stored();
    let mut golden = String::new();
    let names = stored.keys().cloned().chain([ObjectRef::new(Kind::Network, "", "nosuch")]);
    for name in names {
        writeln!(golden, "delete {name}").unwrap();
        let violations = validate_delete(&name, &stored);
        golden.push_str(&if violations.is_empty() { "  allowed\n".to_owned() } else { lines(&violations) });
    }
    insta::assert_snapshot!("deletions", golden);
}

#[test]
fn after_the_clusters_are_gone_everything_may_be_deleted() {
    let mut stored = world::stored();
    stored.retain(|name, object| {
        !matches!(name.kind, Kind::Cluster | Kind::WorkerGroup | Kind::Machine)
            && !matches!(object, Object::Volume(v) if v.metadata.name.starts_with("demo"))
    });
    for kind in [Kind::Network, Kind::Image, Kind::Host, Kind::MachineClass, Kind::StoragePool] {
        let names: Vec<ObjectRef> = stored.keys().filter(|name| name.kind == kind).cloned().collect();
        assert!(!names.is_empty());
        for name in names {
            assert_eq!(lines(&validate_delete(&name, &stored)), "");
            stored.remove(&name);
        }
    }
}

#[test]
fn an_update_takes_what_people_write_and_keeps_the_rest() {
    let stored = world::stored();
    let old = &stored[&ObjectRef::new(Kind::WorkerGroup, "default", "demo-wkr")];
    let text = "apiVersion: ashlar.dev/v1alpha1\nkind: WorkerGroup\nmetadata: {name: demo-wkr, labels: {a: b}}\n\
                spec: {cluster: demo, class: tiny}\n";
    let written = manifest::read(text, "f.yaml").unwrap().remove(0);
    let mut old = old.clone();
    old.metadata_mut().generation = 7;
    old.metadata_mut().finalizers.push("f".to_owned());
    let new = written.clone().updating(&old).unwrap();
    assert_eq!((new.metadata().generation, new.metadata().finalizers.len()), (7, 1));
    let changes: Vec<_> = diff::diff_objects(&old, &new).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "metadata.annotations: {\"ashlar.dev/inline-in\":\"demo\"} removed",
            "metadata.labels: set to {\"a\":\"b\"}",
            "spec.class: small → tiny",
        ]
    );
    let host = &stored[&ObjectRef::new(Kind::Host, "", "host-1")];
    assert_eq!(written.updating(host), None);
}

#[test]
fn the_address_that_was_chosen_may_be_written_down() {
    let stored = world::stored();
    let old = &stored[&ObjectRef::new(Kind::Cluster, "default", "demo")];
    let mut new = old.clone();
    let Object::Cluster(cluster) = &mut new else { panic!("{new:?}") };
    cluster.spec.endpoint.address = Some("192.168.100.10".parse().unwrap());
    assert_eq!(validate_apply(std::slice::from_ref(&new), &stored), []);
}

#[test]
fn changes_are_named_by_path_and_list_items_by_name() {
    let old = json!({"a": 1, "gone": true, "same": [1, 2], "text": "x", "list": [1, 2], "scalars": ["a", "b"],
        "named": [{"name": "a", "n": 1}, {"name": "b", "n": 1}]});
    let new = json!({"a": 2, "same": [1, 2], "text": "", "list": [1, 2, 3], "scalars": ["a", "c"], "come": null,
        "named": [{"name": "b", "n": 2}, {"name": "c", "n": 3}]});
    let changes: Vec<_> = diff::diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "a: 1 → 2",
            "gone: true removed",
            "text: x → \"\"",
            "list: [1,2] → [1,2,3]",
            "scalars[1]: b → c",
            "named[a]: {\"name\":\"a\",\"n\":1} removed",
            "named[b].n: 1 → 2",
            "named[c]: set to {\"name\":\"c\",\"n\":3}",
            "come: set to null",
        ]
    );
    assert_eq!(diff::diff(&old, &old), []);
}

#[test]
fn what_does_not_fit_names_object_and_field() {
    let mut value =
        world::stored()[&ObjectRef::new(Kind::Machine, "default", "demo-ctrl-1")].to_value().unwrap();
    value["spec"]["nics"][0]["mtu"] = json!("big");
    let error = Object::from_value(Kind::Machine, value.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "machine demo-ctrl-1: spec.nics[0].mtu: invalid type: string \"big\", expected u16"
    );
    value["spec"]["nics"][0]["mtu"] = json!(1500);
    value["kind"] = json!("Volume");
    let error = Object::from_value(Kind::Machine, value).unwrap_err();
    assert_eq!(error.to_string(), "machine demo-ctrl-1: kind: it is a Volume, not a Machine");
}

proptest::proptest! {
    #[test]
    fn a_value_differs_from_another_exactly_where_they_are_not_equal(
        old in proptest::collection::btree_map("[a-c]", 0..3, 0..4), new in proptest::collection::btree_map("[a-c]", 0..3, 0..4),
    ) {
        let changes = diff::diff(&json!(old), &json!(new));
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let expected = keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).count();
        proptest::prop_assert_eq!(changes.len(), expected);
    }
}
