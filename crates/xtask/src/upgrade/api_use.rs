//! An API that the wanted version does not serve any more, and somebody who asks for it: the upgrade does not begin.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{declare, kubelets};
use crate::e2e::context::{Context, wait_for};
use crate::hosts::NodeImage;
use crate::nodes;

/// Beta APIs are off unless they are asked for: this one ends with v1.37 (`APILifecycleRemoved` of networking/v1beta1).
const OLD: (&str, &str) = ("v1.36.", "v1.37.");
const API: &str = "networking.k8s.io/v1beta1";
const MANIFEST: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
const KEPT: &str = "/root/kube-apiserver.kept";
/// An API server ends and another one starts, emulated.
const RESTART_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// Asks for it and sees what the plan says; then the API server serves it no more and has forgotten who asked.
pub(super) fn judge(context: &mut Context, old: &NodeImage, new: &NodeImage) -> Result<()> {
    if !old.kubernetes.starts_with(OLD.0) || !new.kubernetes.starts_with(OLD.1) {
        println!("test-upgrade api use: left out, it needs an API that goes with {}", new.kubernetes);
        return Ok(());
    }
    let begin = Instant::now();
    let machines = context.json(&["get", "machines"])?;
    let machines = machines["items"].as_array().cloned().unwrap_or_default();
    let control_plane = machines.iter().find(|machine| machine["spec"]["role"] == "control-plane");
    let control_plane = control_plane.and_then(|machine| machine["metadata"]["name"].as_str()).unwrap_or("?");
    let path = format!("/apis/{API}/ipaddresses");
    let serves =
        |context: &mut Context| context.kubectl(&["--request-timeout=20s", "get", "--raw", &path]).is_ok();

    // Not in the directory that the kubelet reads, until it is whole.
    let serve = format!(
        "cp {MANIFEST} {KEPT} && sed 's,^    - kube-apiserver$,&\\n    - --runtime-config={API}=true,' {KEPT} >{KEPT}.new && mv {KEPT}.new {MANIFEST}"
    );
    nodes::inside(context, control_plane, &serve)?;
    wait_for("the API server serves the old API", RESTART_DEADLINE, || {
        std::thread::sleep(Duration::from_secs(2));
        Ok(serves(context))
    })?;
    // Deprecated since v1.19 and served for ever: it is only named.
    context.kubectl(&["get", "--raw", "/api/v1/componentstatuses"])?;
    let held = plan(context, new, None)?;
    let release = OLD.1.trim_start_matches('v').trim_end_matches('.');
    for part in ["does not serve any more", "ipaddresses", "componentstatuses", "acceptRemovedApis"] {
        ensure!(held.contains(part), "the plan does not say `{part}`:\n{held}");
    }
    let accepted = plan(context, new, Some(release))?;
    ensure!(
        accepted.contains("as acceptRemovedApis says") && !accepted.contains("change those clients first"),
        "acceptRemovedApis does not let it begin:\n{accepted}"
    );

    nodes::inside(context, control_plane, &format!("mv {KEPT} {MANIFEST}"))?;
    wait_for("the API server is as before", RESTART_DEADLINE, || {
        std::thread::sleep(Duration::from_secs(2));
        Ok(kubelets(context).is_ok() && !serves(context))
    })?;
    println!(
        "test-upgrade api use: `{API}` was asked for, and the upgrade did not begin ({:.0} s)",
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What `plan` says of the wanted version.
fn plan(context: &mut Context, new: &NodeImage, accept: Option<&str>) -> Result<String> {
    let path = declare(context, &new.kubernetes, Some(&new.name))?;
    if let Some(release) = accept {
        let objects = fs::read_to_string(&path)?;
        let objects: Vec<String> =
            objects.split("\n---\n").map(|text| accepting(text, release)).collect::<Result<_>>()?;
        fs::write(&path, objects.join("\n---\n"))?;
    }
    context.ok(context.command(&["plan", "-f", &path.to_string_lossy()]))
}

fn accepting(object: &str, release: &str) -> Result<String> {
    let mut object: Value = serde_json::from_str(object)?;
    if object["kind"] == "Cluster" {
        object["spec"]["acceptRemovedApis"] = json!(release);
    }
    Ok(object.to_string())
}
