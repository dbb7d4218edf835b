//! An app of two pods of which one may be missing: drained by its PodDisruptionBudget, pod by pod.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::e2e::context::{Context, wait_for};
use crate::hosts::NodeImage;

const REPLICAS: usize = 2;

/// The app while it runs.
pub(super) struct App;

/// Starts it, if there is an image that nodes of both versions hold: nothing is pulled in the lab.
pub(super) fn start(context: &mut Context, old: &NodeImage, new: &NodeImage) -> Result<Option<App>> {
    let (before, after) = (pause_of(context, &old.name)?, pause_of(context, &new.name)?);
    if before.is_empty() || before != after {
        println!(
            "test-upgrade app: left out, the images hold no common one (pause {before:?} and {after:?})"
        );
        return Ok(None);
    }
    let labels = json!({"app": "web"});
    let container = json!({
        "name": "web", "image": format!("registry.k8s.io/pause:{before}"), "imagePullPolicy": "IfNotPresent",
    });
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": REPLICAS, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "terminationGracePeriodSeconds": 5, "containers": [container],
                }},
            },
        },
        {
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"minAvailable": REPLICAS - 1, "selector": {"matchLabels": labels}},
        },
    ]});
    let file = std::env::temp_dir().join(format!("ashlar-test-upgrade-app-{}.json", context.name));
    fs::write(&file, objects.to_string())?;
    context.kubectl(&["apply", "-f", &file.to_string_lossy()])?;
    wait_for("the app runs", Duration::from_secs(300), || Ok(ready(context)? == REPLICAS))?;
    Ok(Some(App))
}

/// The tag of the pause image in a node image.
fn pause_of(context: &mut Context, image: &str) -> Result<String> {
    let object = context.json(&["get", "image", image])?;
    let tag = object.pointer("/spec/tags/pause").and_then(Value::as_str);
    Ok(tag.unwrap_or_default().to_owned())
}

fn ready(context: &mut Context) -> Result<usize> {
    let Ok(text) = context.kubectl(&["get", "deployment", "web", "-o", "json"]) else { return Ok(0) };
    let object: Value = serde_json::from_str(&text).context("kubectl printed no JSON")?;
    let count = object.pointer("/status/readyReplicas").and_then(Value::as_u64).unwrap_or(0);
    Ok(usize::try_from(count)?)
}

impl App {
    /// All of it runs, and its pods were really evicted.
    pub(super) fn judge(self, context: &mut Context) -> Result<()> {
        wait_for("the app runs on the new node", Duration::from_secs(300), || {
            Ok(ready(context)? == REPLICAS)
        })?;
        let events = context.json(&["events"]).unwrap_or_default();
        let evictions = events.to_string().matches("EvictedPod").count();
        println!("test-upgrade app: {REPLICAS} pods run; {evictions} events tell of evictions");
        let pods =
            context.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.nodeName}"])?;
        ensure!(pods.split_whitespace().count() == REPLICAS, "pods of the app are on {pods}");
        Ok(())
    }
}
