//! A cold reboot: both machines are stopped and started again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::context::Context;

/// What must be the same afterwards.
type Identity = BTreeMap<String, (String, String, String)>;

fn identity(context: &mut Context) -> Result<Identity> {
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

pub(crate) fn cold_reboot(context: &mut Context) -> Result<()> {
    let name = context.name.clone();
    let before = identity(context)?;
    ensure!(before.len() == 2, "expected two nodes, got {before:?}");
    ensure!(before.values().all(|(_, machine_id, key)| !machine_id.is_empty() && key.starts_with("ssh-")));
    let boots_before = boot_ids(context)?;
    context.ok(context.command(&["cluster", "stop", &name]))?;
    let running = context.on_host(&["virsh", "-q", "-c", "qemu:///system", "list", "--name"])?;
    ensure!(running.trim().is_empty(), "domains still run after `cluster stop`: {running}");
    two_at_once(context)?;
    super::context::wait_for("nodes Ready after the reboot", Duration::from_secs(600), || {
        let ready = context.kubectl(&[
            "get",
            "nodes",
            "-o",
            r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status} {end}"#,
        ]);
        Ok(ready.is_ok_and(|ready| ready.split_whitespace().eq(["True", "True"])))
    })?;
    let after = identity(context)?;
    ensure!(before == after, "not the same after a cold reboot:\nbefore {before:?}\nafter  {after:?}");
    let boots_after = boot_ids(context)?;
    ensure!(
        boots_before.iter().all(|boot| !boots_after.contains(boot)),
        "a node was not rebooted: {boots_before:?} {boots_after:?}"
    );
    Ok(())
}

/// While one command works, another one that would change the same says who works, and waits if it may.
fn two_at_once(context: &mut Context) -> Result<()> {
    let name = context.name.clone();
    let path = manifest_of(context)?.display().to_string();
    let log = std::env::temp_dir().join(format!("ashlar-e2e-{}-start.log", std::process::id()));
    let mut first = context.spawn(context.command(&["cluster", "start", &name]), &log)?;
    let refused =
        super::context::wait_for("a second command that says who works", Duration::from_secs(60), || {
            let output = context.output(context.command(&["apply", "-f", &path, "--no-wait"]))?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            Ok(output.status.code() == Some(1) && stderr.contains("cluster start"))
        });
    let second = context.output(context.command(&["apply", "-f", &path]))?;
    let status = first.wait()?;
    refused?;
    let stderr = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(
        status.success(),
        "cluster start: {status}\n{}",
        std::fs::read_to_string(&log).unwrap_or_default()
    );
    ensure!(second.status.success(), "the second command: {}\n{stderr}", second.status);
    let domains = context.domains()?;
    ensure!(domains.len() == 2, "something was doubled: {domains:?}");
    Ok(())
}

/// A file that declares the cluster as it is.
pub(crate) fn manifest_of(context: &mut Context) -> Result<std::path::PathBuf> {
    let name = context.name.clone();
    let cluster = context.json(&["get", "cluster", &name])?;
    let object = serde_json::json!({
        "apiVersion": cluster["apiVersion"], "kind": "Cluster",
        "metadata": {"name": name}, "spec": cluster["spec"],
    });
    let path = std::env::temp_dir().join(format!("ashlar-e2e-{}-cluster.yaml", std::process::id()));
    std::fs::write(&path, object.to_string())?;
    Ok(path)
}

fn boot_ids(context: &mut Context) -> Result<Vec<String>> {
    let name = context.name.clone();
    ["ctrl-1", "wkr-1"]
        .iter()
        .map(|machine| {
            let machine = format!("{name}-{machine}");
            context.ok(context.command(&["ssh", &machine, "--", "cat", "/proc/sys/kernel/random/boot_id"]))
        })
        .collect()
}
