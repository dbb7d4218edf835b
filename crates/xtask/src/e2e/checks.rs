//! The smaller checks.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::context::Context;

const VIRSH: [&str; 4] = ["virsh", "-q", "-c", "qemu:///system"];

fn virsh(context: &mut Context, arguments: &[&str]) -> Result<String> {
    context.on_host(&[&VIRSH, arguments].concat())
}

/// Somebody's domain has the name that our control plane would get: Ashlar says so, and leaves it alone.
pub(crate) fn foreign_things(context: &mut Context) -> Result<()> {
    let domain = format!("{}-ctrl-1", context.name);
    let xml = format!(
        "<domain type='qemu'><name>{domain}</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os></domain>"
    );
    let path = context.host_dir()?.join("tmp/foreign.xml");
    std::fs::write(&path, xml)?;
    virsh(context, &["define", "/tmp/foreign.xml"])?;
    let before = virsh(context, &["dumpxml", &domain])?;
    let name = context.name.clone();
    let stderr = context.fails(context.outside(&["demo", "up", "--name", &name]), 1)?;
    ensure!(stderr.contains(&domain), "the message does not name the domain:\n{stderr}");
    ensure!(before == virsh(context, &["dumpxml", &domain])?, "the foreign domain was changed");
    virsh(context, &["undefine", &domain])?;
    context.ok(context.command(&["cluster", "delete", &name, "--yes"]))?;
    let left: Vec<String> =
        context.pool_files()?.into_iter().filter(|f| f.contains(&format!("{name}-"))).collect();
    ensure!(left.is_empty(), "left after delete: {left:?}");
    Ok(())
}

pub(crate) fn kubernetes(context: &mut Context) -> Result<()> {
    let nodes: Value = serde_json::from_str(&context.kubectl(&["get", "nodes", "-o", "json"])?)?;
    let nodes = nodes["items"].as_array().map(Vec::len);
    ensure!(nodes == Some(2), "expected two nodes, the API server has {nodes:?}");
    context.kubectl(&["wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s"])?;
    context.kubectl(&[
        "-n",
        "kube-system",
        "wait",
        "--for=condition=Ready",
        "pods",
        "--all",
        "--timeout=600s",
    ])?;
    let wrong = context.kubectl(&[
        "get",
        "pods",
        "-A",
        "-o",
        r#"jsonpath={range .items[?(@.status.phase!="Running")]}{.metadata.namespace}/{.metadata.name}={.status.phase} {end}"#,
    ])?;
    println!("e2e kubernetes: pods that are not Running: [{}]", wrong.trim());
    let name = context.name.clone();
    context.ok(context.command(&["internal", "smoke", &name])).map(drop)
}

pub(crate) fn fixpoint(context: &mut Context) -> Result<()> {
    let name = context.name.clone();
    let begin = Instant::now();
    let output = context.output(context.outside(&["demo", "up", "--name", &name]))?;
    let took = begin.elapsed();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{text}");
    ensure!(
        text.contains("nothing to do") || text.contains("unchanged"),
        "it does not say that nothing changed:\n{text}"
    );
    println!("e2e fixpoint: second run took {:.1} s", took.as_secs_f64());
    ensure!(took < Duration::from_secs(5), "it took {:.1} s", took.as_secs_f64());
    let plan = context.ok(context.command(&["plan"]))?;
    ensure!(
        plan.contains("nothing to do") || plan.contains("No changes"),
        "planning again is not empty:\n{plan}"
    );
    // The count is kept where libvirt's functions are called, and told with -v.
    let manifest = manifest_of(context)?;
    let output = context.output(context.command(&["-v", "apply", "-f", &manifest.display().to_string()]))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{stderr}");
    ensure!(
        stderr.contains(" 0 changing"),
        "an idle pass made changing calls, or does not say how many:\n{stderr}"
    );
    Ok(())
}

pub(crate) fn no_seed_left(context: &mut Context) -> Result<()> {
    let seeds: Vec<String> =
        context.pool_files()?.into_iter().filter(|name| name.ends_with(".iso")).collect();
    ensure!(seeds.is_empty(), "seeds left in the pool: {seeds:?}");
    for domain in context.domains()? {
        let xml = virsh(context, &["dumpxml", &domain])?;
        ensure!(!xml.contains(".iso"), "domain {domain} still refers to its seed");
    }
    let tokens = context.kubectl(&[
        "-n",
        "kube-system",
        "get",
        "secrets",
        "--field-selector=type=bootstrap.kubernetes.io/token",
        "-o",
        "name",
    ])?;
    ensure!(tokens.trim().is_empty(), "join tokens left: {tokens}");
    Ok(())
}

/// Judged from libvirt and the pool's directory, not from our store.
pub(crate) fn delete(context: &mut Context) -> Result<()> {
    let name = context.name.clone();
    let cluster = context.json(&["get", "cluster", &name])?;
    let endpoint = cluster["record"]["endpoint"]["address"].as_str().unwrap_or_default().to_owned();
    ensure!(!endpoint.is_empty(), "the cluster has no endpoint on record");
    let ping =
        format!("for try in $(seq 15); do ping -c 1 -W 1 {endpoint} >/dev/null && exit 0; done; exit 1");
    // The twin of the question below, which proves nothing unless it can be answered with yes.
    context.on_host(&["sh", "-c", &ping])?;
    context.ok(context.command(&["cluster", "delete", &name, "--yes"]))?;
    let domains = context.domains()?;
    ensure!(domains.is_empty(), "domains left: {domains:?}");
    let files = context.pool_files()?;
    let left: Vec<&String> = files.iter().filter(|file| file.contains(&format!("-{name}-"))).collect();
    ensure!(left.is_empty(), "volumes left: {left:?}");
    let answer = context.on_host(&["sh", "-c", &ping]);
    ensure!(answer.is_err(), "the endpoint {endpoint} still answers");
    for kind in ["clusters", "machines", "volumes", "secrets", "workergroups"] {
        let list = context.json(&["get", kind])?;
        let names: Vec<&Value> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| &item["metadata"]["name"])
            .filter(|object| object.as_str().is_some_and(|object| object.starts_with(&name)))
            .collect();
        ensure!(names.is_empty(), "{kind} left in the store: {names:?}");
    }
    Ok(())
}

/// A file that declares the cluster as it is.
pub(crate) fn manifest_of(context: &mut Context) -> Result<PathBuf> {
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

/// The support bundle of a cluster, as it is.
pub(crate) fn support_bundle(context: &mut Context, cluster: &str) -> Result<Vec<u8>> {
    let path = std::env::temp_dir().join(format!("ashlar-e2e-{}-support-{cluster}.tar", std::process::id()));
    let _ = std::fs::remove_file(&path);
    context.ok(context.command(&["support-bundle", cluster, "--file", &path.display().to_string()]))?;
    let bundle = std::fs::read(&path)?;
    std::fs::remove_file(&path)?;
    Ok(bundle)
}
