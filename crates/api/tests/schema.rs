//! JSON Schemas and field docs.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write;

use ashlar_api::{
    Kind,
    schema::{FieldDoc, explain, full_schema, schema},
};
use serde_json::Value;

#[test]
fn schemas_of_what_people_write() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_user_written()) {
        insta::assert_snapshot!(
            format!("schema_{kind}"),
            serde_json::to_string_pretty(schema(kind)).unwrap()
        );
    }
}

#[test]
fn no_schema_lets_people_write_what_is_managed() {
    for kind in Kind::ALL {
        let schema = schema(kind);
        let fields: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["apiVersion", "kind", "metadata", "spec"], "{kind}");
        let metadata: Vec<&String> =
            schema["$defs"]["ObjectMeta"]["properties"].as_object().unwrap().keys().collect();
        let expected: &[&str] = if kind.is_namespaced() {
            &["name", "namespace", "labels", "annotations"]
        } else {
            &["name", "labels", "annotations"]
        };
        assert_eq!(metadata, expected, "{kind}");
        assert_eq!(schema["readOnly"] == Value::Bool(true), !kind.is_user_written(), "{kind}");
        assert_eq!(schema["additionalProperties"], Value::Bool(false), "{kind}");
    }
}

/// Every object in every schema refuses unknown fields, and every field has a description.
#[test]
fn schemas_are_closed_and_documented() {
    fn walk(path: &str, value: &Value, problems: &mut Vec<String>) {
        let Some(fields) = value.as_object() else { return };
        if let Some(Value::Object(properties)) = fields.get("properties") {
            if fields.get("additionalProperties") != Some(&Value::Bool(false)) {
                problems.push(format!("{path} is open"));
            }
            for (name, field) in properties {
                let is_documented = field.get("description").is_some() || field.get("const").is_some();
                if !is_documented {
                    problems.push(format!("{path}.{name} has no description"));
                }
            }
        }
        for (name, field) in fields {
            walk(&format!("{path}/{name}"), field, problems);
        }
        for option in fields.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            walk(&format!("{path}/oneOf"), option, problems);
        }
    }
    let mut problems = Vec::new();
    for kind in Kind::ALL {
        walk(kind.name(), full_schema(kind), &mut problems);
    }
    assert_eq!(problems, Vec::<String>::new());
}

fn show(doc: &FieldDoc, out: &mut String) {
    let FieldDoc { path, name, type_name, description, .. } = doc;
    let default = doc.default.as_ref().map(|value| format!(", default {value}")).unwrap_or_default();
    let required = if doc.required { ", required" } else { "" };
    let read_only = if doc.read_only { ", read only" } else { "" };
    writeln!(out, "{path} ({name}): {type_name}{required}{read_only}{default}: {description}").unwrap();
    for value in &doc.values {
        writeln!(out, "    = {}: {}", value.value, value.description).unwrap();
    }
    for child in &doc.children {
        out.push_str("  ");
        show(child, out);
    }
}

#[test]
fn fields_are_explained() {
    let mut golden = String::new();
    for (kind, path) in [
        (Kind::Cluster, ""),
        (Kind::Cluster, "spec"),
        (Kind::Cluster, "spec.controlPlane.replicas"),
        (Kind::Cluster, "spec.controlPlane.spread"),
        (Kind::Cluster, "spec.workers"),
        (Kind::Cluster, "spec.workers[0].taints.effect"),
        (Kind::Cluster, "spec.workers.labels.anything"),
        (Kind::Cluster, "metadata"),
        (Kind::Cluster, "status.conditions"),
        (Kind::MachineClass, "spec"),
        (Kind::Network, "spec.ranges"),
        (Kind::Host, "record.capacity.numa"),
        (Kind::Machine, "spec.nics"),
    ] {
        writeln!(golden, "=== explain {kind} {path}").unwrap();
        show(&explain(kind, path).unwrap(), &mut golden);
    }
    for (kind, path) in [
        (Kind::Cluster, "spec.controlplane.replica"),
        (Kind::Cluster, "spec.controlPlane.replica"),
        (Kind::Cluster, "spec.controlPlane.replicas.x"),
        (Kind::Host, "spec.nothing"),
    ] {
        writeln!(golden, "=== explain {kind} {path}\n{}", explain(kind, path).unwrap_err()).unwrap();
    }
    insta::assert_snapshot!("explain", golden);
}

#[test]
fn every_path_of_every_schema_can_be_explained() {
    fn walk(kind: Kind, doc: &FieldDoc, count: &mut usize) {
        *count += 1;
        for child in &doc.children {
            assert!(!child.type_name.is_empty() && !child.description.is_empty(), "{kind} {}", child.path);
            walk(kind, &explain(kind, &child.path).unwrap(), count);
        }
    }
    let mut count = 0;
    for kind in Kind::ALL {
        walk(kind, &explain(kind, "").unwrap(), &mut count);
    }
    assert!(count > 300, "{count}");
}
