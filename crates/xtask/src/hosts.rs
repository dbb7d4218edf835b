//! What tests of several hosts start from: a fresh lab with its hosts enrolled, and the node images of the cache.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::e2e::context::Context;

/// A fresh lab of so many hosts (`h1`, `h2`, …), enrolled.
pub(crate) fn fresh_lab(context: &mut Context, hosts: usize) -> Result<()> {
    context.fresh_lab_of(hosts)?;
    context.ok(context.command(&["host", "add-lab"])).map(drop)
}

/// A node image of the cache.
#[derive(Clone, Debug)]
pub(crate) struct NodeImage {
    pub(crate) name: String,
    pub(crate) kubernetes: String,
}

/// The node images of the cache, the newest build first.
pub(crate) fn node_images(context: &mut Context) -> Result<Vec<NodeImage>> {
    let images = context.json(&["image", "list"])?;
    let text = |image: &Value, field: &str| image[field].as_str().unwrap_or_default().to_owned();
    let mut nodes: Vec<&Value> =
        images.as_array().into_iter().flatten().filter(|image| text(image, "purpose") == "node").collect();
    nodes.sort_by_key(|image| std::cmp::Reverse(text(image, "created")));
    Ok(nodes
        .into_iter()
        .map(|image| NodeImage { name: text(image, "name"), kubernetes: text(image, "kubernetesVersion") })
        .collect())
}

/// The image of that name, or the newest.
pub(crate) fn node_image(context: &mut Context, wanted: Option<&str>) -> Result<NodeImage> {
    let images = node_images(context)?;
    let chosen = match wanted {
        Some(name) => images.into_iter().find(|image| image.name == name),
        None => images.into_iter().next(),
    };
    chosen.context("there is no such node image in the cache; `ashlar image build` makes one")
}

/// The process that runs a domain, as its host sees it: libvirt's own note, checked against its command line.
pub(crate) fn qemu_pid(context: &mut Context, host: &str, domain: &str) -> Result<String> {
    let pid = context.on(host, &["cat", &format!("/run/libvirt/qemu/{domain}.pid")])?.trim().to_owned();
    // Hosts of a lab number their processes themselves.
    let command_line = context.on(host, &["cat", &format!("/proc/{pid}/cmdline")])?;
    ensure!(
        command_line.contains(&format!("guest={domain}")),
        "process {pid} on {host} is not the QEMU of {domain}"
    );
    Ok(pid)
}

/// A manifest of objects: kind, name and spec of each.
pub(crate) fn manifest<'o>(objects: impl IntoIterator<Item = (&'o str, &'o str, Value)>) -> String {
    let documents = objects.into_iter().map(|(kind, name, spec)| {
        json!({"apiVersion": "ashlar.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
            .to_string()
    });
    documents.collect::<Vec<_>>().join("\n---\n")
}
