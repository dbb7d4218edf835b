//! An app of two pods, and how many of them its PodDisruptionBudget wants.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::e2e::context::{Context, wait_for};

pub(crate) const REPLICAS: usize = 2;

/// The app while it runs.
pub(crate) struct App;

/// Starts it, if there is an image that nodes of all these node images hold: nothing is pulled in the lab.
pub(crate) fn start(context: &mut Context, images: &[&str], min_available: usize) -> Result<Option<App>> {
    let tags = images.iter().map(|image| pause_of(context, image)).collect::<Result<Vec<_>>>()?;
    let pause = tags.first().cloned().unwrap_or_default();
    if pause.is_empty() || tags.iter().any(|tag| *tag != pause) {
        println!("app: left out, the images hold no common one (pause {tags:?})");
        return Ok(None);
    }
    let labels = json!({"app": "web"});
    let container = json!({
        "name": "web", "image": format!("registry.k8s.io/pause:{pause}"), "imagePullPolicy": "IfNotPresent",
    });
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": REPLICAS, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "terminationGracePeriodSeconds": 5, "containers": [container],
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": labels},
                    }],
                }},
            },
        },
        {
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"minAvailable": min_available, "selector": {"matchLabels": labels}},
        },
    ]});
    let file = std::env::temp_dir().join(format!("ashlar-test-app-{}.json", context.name));
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

/// The nodes of its pods.
pub(crate) fn nodes(context: &mut Context) -> Result<Vec<String>> {
    let path = "jsonpath={.items[*].spec.nodeName}";
    let nodes = context.kubectl(&["get", "pods", "-l", "app=web", "-o", path])?;
    Ok(nodes.split_whitespace().map(str::to_owned).collect())
}

impl App {
    /// All of it runs, and its pods were really evicted: how often events tell.
    pub(crate) fn judge(&self, context: &mut Context) -> Result<usize> {
        wait_for("the app runs on the nodes that are left", Duration::from_secs(300), || {
            Ok(ready(context)? == REPLICAS)
        })?;
        let nodes = nodes(context)?;
        ensure!(nodes.len() == REPLICAS, "pods of the app are on {nodes:?}");
        let events = context.json(&["events"]).unwrap_or_default();
        Ok(events.to_string().matches("EvictedPod").count())
    }

    /// Its budget wants so many from now on.
    pub(crate) fn wants(&self, context: &mut Context, min_available: usize) -> Result<()> {
        let patch = json!({"spec": {"minAvailable": min_available}}).to_string();
        context.kubectl(&["patch", "pdb", "web", "--type", "merge", "-p", &patch]).map(drop)
    }

    pub(crate) fn end(self, context: &mut Context) -> Result<()> {
        context.kubectl(&["delete", "deployment/web", "pdb/web", "--wait=false"]).map(drop)
    }
}
