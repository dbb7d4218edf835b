//! What tests of several hosts start from: a fresh lab with its hosts enrolled, and the node images of the cache.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::e2e::context::Context;

/// A fresh lab, its hosts enrolled.
pub(crate) fn fresh_lab(context: &mut Context, hosts: &[&str]) -> Result<()> {
    context.fresh_lab_of(hosts.len())?;
    let description = context.description()?;
    for (index, host) in hosts.iter().enumerate() {
        let fact = |field: &str| -> Result<String> {
            let value = &description["hosts"][index][field];
            let text = value.as_str().map(str::to_owned).or_else(|| value.as_u64().map(|n| n.to_string()));
            text.with_context(|| format!("lab.json says no {field} of {host}"))
        };
        let uri =
            format!("qemu+ssh://{}@{}:{}/system", fact("ssh_user")?, fact("ssh_address")?, fact("ssh_port")?);
        let line = fact("known_hosts_line")?;
        let (_, host_key) = line.split_once(' ').context("lab.json has no host key")?;
        let key = description["client_key"].as_str().context("lab.json names no key")?;
        let pool = fact("pool_name")?;
        context.ok(context.command(&[
            "host",
            "add",
            host,
            "--uri",
            &uri,
            "--ssh-host-key",
            host_key,
            "--ssh-key",
            key,
            "--pool",
            &pool,
        ]))?;
    }
    Ok(())
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
