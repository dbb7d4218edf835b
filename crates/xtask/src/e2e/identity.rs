//! What a node is known by, and what changes whenever it boots.

use std::collections::BTreeMap;

use anyhow::Result;

use super::context::Context;

/// Addresses, machine id and host key of each node.
pub(crate) type Identity = BTreeMap<String, (String, String, String)>;

pub(crate) fn identity(context: &mut Context) -> Result<Identity> {
    let nodes: serde_json::Value = serde_json::from_str(&context.kubectl(&["get", "nodes", "-o", "json"])?)?;
    let mut identities = Identity::new();
    for node in nodes["items"].as_array().into_iter().flatten() {
        let text =
            |pointer: &str| node.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let name = text("/metadata/name");
        let addresses = node["status"]["addresses"].to_string();
        let machine_id = text("/status/nodeInfo/machineID");
        let key =
            context.ok(context.command(&["ssh", &name, "--", "cat", "/etc/ssh/ssh_host_ed25519_key.pub"]))?;
        identities.insert(name, (addresses, machine_id, key));
    }
    Ok(identities)
}

pub(crate) fn boot_ids(context: &mut Context) -> Result<Vec<String>> {
    let name = context.name.clone();
    ["ctrl-1", "wkr-1"]
        .iter()
        .map(|machine| {
            let machine = format!("{name}-{machine}");
            context.ok(context.command(&["ssh", &machine, "--", "cat", "/proc/sys/kernel/random/boot_id"]))
        })
        .collect()
}
