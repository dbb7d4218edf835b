//! What `clusterctl init` would install: definitions, webhooks, and the class of in-memory clusters.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::build::{MANAGERS, Programs};
use super::servers::{Kubectl, Servers, webhook_port};

/// Until the managers answer as webhooks.
const WEBHOOKS: Duration = Duration::from_secs(120);

/// The custom resource definitions, labelled as Cluster API's own manifests label them.
pub(super) fn definitions(kubectl: &Kubectl, programs: &Programs) -> Result<()> {
    for manager in &MANAGERS {
        let bases = programs.config(manager, "crd/bases");
        kubectl.ok(&["apply", "--server-side", "-f", &bases.to_string_lossy()])?;
    }
    let labels = ["cluster.x-k8s.io/v1beta1=v1beta1", "cluster.x-k8s.io/v1beta2=v1beta2"];
    kubectl.ok(&[&["label", "crd", "--all"], labels.as_slice()].concat())?;
    kubectl.ok(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=120s"]).map(drop)
}

/// The webhooks, at the managers' ports on loopback in the place of services.
pub(super) fn webhooks(kubectl: &Kubectl, programs: &Programs, servers: &Servers) -> Result<()> {
    let ca = STANDARD.encode(servers.ca()?);
    for (index, manager) in (0_u16..).zip(&MANAGERS) {
        let file = programs.config(manager, "webhook/manifests.yaml");
        let text =
            kubectl.ok(&["create", "--dry-run=client", "-o", "json", "-f", &file.to_string_lossy()])?;
        // One document after the other.
        for document in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
            let document = point_to_loopback(document?, manager.name, webhook_port(index), &ca)
                .with_context(|| format!("webhooks of the {manager} manager"))?;
            kubectl.ok_with(&["apply", "--server-side", "-f", "-"], &document.to_string())?;
        }
    }
    Ok(())
}

fn point_to_loopback(mut document: Value, manager: &str, port: u16, ca: &str) -> Result<Value> {
    let objects = match document.get_mut("items") {
        Some(Value::Array(items)) => items.iter_mut().collect(),
        _ => vec![&mut document],
    };
    for object in objects {
        let name = object["metadata"]["name"].as_str().context("a webhook configuration has a name")?;
        let name = format!("{manager}-{name}");
        object["metadata"]["name"] = Value::from(name);
        for webhook in object["webhooks"].as_array_mut().context("it has webhooks")? {
            let path = webhook["clientConfig"]["service"]["path"].as_str().context("a webhook has a path")?;
            let url = format!("https://127.0.0.1:{port}{path}");
            webhook["clientConfig"] = serde_json::json!({"url": url, "caBundle": ca});
        }
    }
    Ok(document)
}

/// The class, once the webhooks let it pass.
pub(super) fn cluster_class(kubectl: &Kubectl, programs: &Programs) -> Result<()> {
    let file = programs.cluster_class();
    let until = Instant::now() + WEBHOOKS;
    loop {
        match kubectl.ok(&["apply", "-n", "default", "-f", &file.to_string_lossy()]) {
            Ok(_) => return Ok(()),
            Err(error) => ensure!(Instant::now() < until, "the class is not accepted: {error:#}"),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_becomes_an_address_on_loopback() -> Result<()> {
        let document = serde_json::json!({"kind": "ValidatingWebhookConfiguration", "metadata": {"name": "v"},
            "webhooks": [{"name": "w", "clientConfig": {"service": {"name": "s", "path": "/validate-x"}}}]});
        let document = point_to_loopback(document, "core", 9540, "Q0E=")?;
        assert_eq!(document["metadata"]["name"], "core-v");
        let wanted = serde_json::json!({"url": "https://127.0.0.1:9540/validate-x", "caBundle": "Q0E="});
        assert_eq!(document["webhooks"][0]["clientConfig"], wanted);
        assert!(point_to_loopback(serde_json::json!({"metadata": {"name": "v"}}), "core", 1, "").is_err());
        Ok(())
    }
}
