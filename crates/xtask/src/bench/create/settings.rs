//! Whether both clusters are told the same: kubeadm's, kubelet's and kube-proxy's configuration as the clusters store it,
//! and the arguments and probes that the control plane's pods run with.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Deserializer, Value};

use super::super::program::output_of;
use super::scene::Scene;
use super::sides::{ASHLAR_NAME, SCRIPT_ADDRESSES, SCRIPT_NAME};

/// Lines, free of the cluster's own name and addresses.
pub(super) type Settings = BTreeSet<String>;

pub(super) fn of_ashlar(scene: &Scene) -> Result<Settings> {
    let cluster = scene.lab.json(&["get", "cluster", ASHLAR_NAME])?;
    let machine = scene.lab.json(&["get", "machine", &format!("{ASHLAR_NAME}-ctrl-1")])?;
    let text = |value: &Value, pointer: &str| -> Result<String> {
        let text = value.pointer(pointer).and_then(Value::as_str);
        Ok(text.with_context(|| format!("no {pointer}"))?.to_owned())
    };
    let vip = text(&cluster, "/record/endpoint/address")?;
    let address = text(&machine, "/spec/nics/0/address")?;
    let address = address.split('/').next().unwrap_or_default();
    let kubectl = |words: &[&str]| {
        let mut all = vec!["kubectl", ASHLAR_NAME, "--", "-n", "kube-system", "get"];
        all.extend(words);
        all.extend(["-o", "json"]);
        scene.lab.command(&all)
    };
    let maps = kubectl(&["configmaps/kubeadm-config", "configmaps/kubelet-config", "configmaps/kube-proxy"]);
    let pods = kubectl(&["pods", "-l", "tier=control-plane"]);
    read([maps, pods], &[(&vip, "VIP"), (address, "ADDRESS"), (ASHLAR_NAME, "NAME")])
}

pub(super) fn of_script(scene: &Scene) -> Result<Settings> {
    let variables =
        [("NAME", SCRIPT_NAME.to_owned()), ("KUBECTL", scene.kubectl.to_string_lossy().into_owned())];
    let names =
        [(SCRIPT_ADDRESSES.vip, "VIP"), (SCRIPT_ADDRESSES.control_plane, "ADDRESS"), (SCRIPT_NAME, "NAME")];
    read([scene.script("settings", &variables)], &names)
}

/// Reads what kubectl prints as JSON, one document or several.
fn read<const N: usize>(commands: [Command; N], names: &[(&str, &str)]) -> Result<Settings> {
    let mut settings = Settings::new();
    for mut command in commands {
        let text = output_of(&mut command)?;
        for document in Deserializer::from_str(&text).into_iter::<Value>() {
            lines(&document.context("kubectl printed no JSON")?, names, &mut settings);
        }
    }
    Ok(settings)
}

fn lines(list: &Value, names: &[(&str, &str)], into: &mut Settings) {
    let mut add = |text: String| {
        let text = names.iter().fold(text, |text, (name, word)| text.replace(name, word));
        into.insert(text);
    };
    for item in list["items"].as_array().into_iter().flatten() {
        let title = item["metadata"]["name"].as_str().unwrap_or_default();
        for (key, value) in item["data"].as_object().into_iter().flatten() {
            for line in value.as_str().unwrap_or_default().lines().filter(|line| !line.trim().is_empty()) {
                add(format!("{title} {key}: {}", line.trim_end()));
            }
        }
        for container in item["spec"]["containers"].as_array().into_iter().flatten() {
            for word in container["command"].as_array().into_iter().flatten() {
                add(format!("{title}: {}", word.as_str().unwrap_or_default()));
            }
            add(format!("{title}: image {}", container["image"].as_str().unwrap_or_default()));
            for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
                for field in ["periodSeconds", "failureThreshold", "timeoutSeconds"] {
                    add(format!("{title}: {probe}.{field} {}", container[probe][field]));
                }
            }
        }
    }
}

/// Says what one has and the other has not.
pub(super) fn print_difference(ashlar: &Settings, script: &Settings) {
    let only = |one: &Settings, other: &Settings| -> Vec<String> { one.difference(other).cloned().collect() };
    let (ashlar_only, script_only) = (only(ashlar, script), only(script, ashlar));
    if ashlar_only.is_empty() && script_only.is_empty() {
        println!("settings  the same {} lines on both sides", ashlar.len());
        return;
    }
    println!("settings  of {} lines on Ashlar's side, these differ:", ashlar.len());
    for (side, lines) in [("ashlar", ashlar_only), ("script", script_only)] {
        for line in lines {
            println!("  {side} only: {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_two_clusters_are_told_is_compared_without_their_names() {
        let list = |name: &str, address: &str, period: u32| {
            let mut settings = Settings::new();
            let list = json!({"items": [
                {"metadata": {"name": "kubeadm-config"}, "data": {"ClusterConfiguration": format!("clusterName: {name}\n\nx: 1\n")}},
                {"metadata": {"name": format!("kube-apiserver-{name}-ctrl-1")}, "spec": {"containers": [{
                    "command": ["kube-apiserver", format!("--advertise-address={address}")],
                    "image": "registry.k8s.io/kube-apiserver:v1.37.2",
                    "livenessProbe": {"periodSeconds": period}}]}},
            ]});
            lines(&list, &[(address, "ADDRESS"), (name, "NAME")], &mut settings);
            settings
        };
        let one = list("side-a", "10.88.1.1", 60);
        assert!(one.contains("kubeadm-config ClusterConfiguration: clusterName: NAME"), "{one:?}");
        assert!(one.contains("kube-apiserver-NAME-ctrl-1: --advertise-address=ADDRESS"), "{one:?}");
        assert_eq!(one, list("side-b", "10.88.200.11", 60));
        let other = list("side-b", "10.88.200.11", 10);
        let differing: Vec<&String> = one.difference(&other).collect();
        assert_eq!(differing, ["kube-apiserver-NAME-ctrl-1: livenessProbe.periodSeconds 60"]);
    }
}
