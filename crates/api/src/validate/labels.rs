//! Labels and taints, by Kubernetes' rules, and by the kubelet's for those that a node gives itself.

use std::collections::{BTreeMap, BTreeSet};

use super::Report;
use crate::{
    Taint,
    names::{dns_name_problem, quoted},
};

/// Labels in Kubernetes' own domains that a kubelet may set on its node; all others there it refuses to start with
/// (`kubelet --node-labels`).
const NODE_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Labels that Ashlar sets on each node from what it knows.
const OWN_LABELS: [&str; 5] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
];

/// A name as in a label's key: letters, digits, `-`, `_`, `.`, beginning and ending with a letter or digit.
fn qualified_part_problem(text: &str) -> Option<String> {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.len() > 63 {
        Some(format!("has {} characters; at most 63 are possible", text.len()))
    } else if let Some(bad) = text.chars().find(|c| !is_inner(*c)) {
        Some(format!("contains {bad:?}; only letters, digits, `-`, `_` and `.` are possible"))
    } else if !text.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !text.ends_with(|c: char| c.is_ascii_alphanumeric())
    {
        Some("must begin and end with a letter or digit".to_owned())
    } else {
        None
    }
}

/// Says what is wrong with a label's key (`example.com/name` or `name`).
pub(crate) fn label_key_problem(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if name.is_empty() {
        return Some(format!("key {} has no name", quoted(key)));
    }
    if let Some(problem) = prefix.and_then(dns_name_problem) {
        return Some(format!("the prefix of key {} {problem}", quoted(key)));
    }
    qualified_part_problem(name).map(|problem| format!("key {} {problem}", quoted(key)))
}

/// Says what is wrong with a label's value.
pub(crate) fn label_value_problem(value: &str) -> Option<String> {
    if value.is_empty() { None } else { qualified_part_problem(value) }
        .map(|p| format!("value {} {p}", quoted(value)))
}

pub(crate) fn check_labels(report: &mut Report<'_>, path: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        for problem in [label_key_problem(key), label_value_problem(value)].into_iter().flatten() {
            report.add(format!("{path}.{key}"), problem);
        }
    }
}

pub(crate) fn check_annotations(report: &mut Report<'_>, path: &str, annotations: &BTreeMap<String, String>) {
    /// Kubernetes' limit, of all annotations together.
    const MOST_BYTES: usize = 256 << 10;
    for key in annotations.keys() {
        if let Some(problem) = label_key_problem(key) {
            report.add(format!("{path}.{key}"), problem);
        }
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MOST_BYTES {
        report.add(path, format!("has {size} bytes; at most {MOST_BYTES} are possible"));
    }
}

pub(crate) fn check_node_labels(report: &mut Report<'_>, path: &str, labels: &BTreeMap<String, String>) {
    check_labels(report, path, labels);
    for key in labels.keys() {
        let Some((prefix, _)) = key.split_once('/') else { continue };
        let in_domain = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
        let is_free = ["kubelet.kubernetes.io", "node.kubernetes.io"].into_iter().any(in_domain);
        if OWN_LABELS.contains(&key.as_str()) {
            report.add(format!("{path}.{key}"), "is set by Ashlar from host and class: remove it");
        } else if ["kubernetes.io", "k8s.io"].into_iter().any(in_domain)
            && !is_free
            && !NODE_LABELS.contains(&key.as_str())
        {
            let message = "a kubelet may not give its node this label, and does not start with it: choose a name \
                           outside of kubernetes.io and k8s.io";
            report.add(format!("{path}.{key}"), message);
        }
    }
}

pub(crate) fn check_taints(report: &mut Report<'_>, path: &str, taints: &[Taint]) {
    let mut seen = BTreeSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(problem) = label_key_problem(&taint.key) {
            report.add(format!("{path}.key"), problem);
        }
        if let Some(problem) = label_value_problem(&taint.value) {
            report.add(format!("{path}.value"), problem);
        }
        if !seen.insert((&taint.key, taint.effect)) {
            let message =
                format!("taint {} with effect {:?} is there twice", quoted(&taint.key), taint.effect);
            report.add(path, message);
        }
    }
}
