//! Nodes that are made to fail: each must be reported with its phase, the cause and the node's own lines.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::context::{Context, wait_for};

/// What `ashlar apply` must have said when it gave the machine up.
struct Report<'a> {
    machine: &'a str,
    words: &'a [&'a str],
}

impl Report<'_> {
    fn check(&self, stderr: &str) -> Result<()> {
        for wanted in std::iter::once(&self.machine).chain(self.words) {
            ensure!(stderr.contains(wanted), "the report does not name «{wanted}»:\n{stderr}");
        }
        Ok(())
    }
}

/// A cluster whose Image names an etcd tag that is not inside, and one whose control plane has a little less memory than
/// kubeadm asks. Both are refused by the node itself, long before its deadline.
pub(crate) fn of_the_node(context: &mut Context) -> Result<()> {
    let images = context.json(&["get", "images"])?;
    let image = images["items"]
        .as_array()
        .and_then(|items| items.iter().find(|item| item["spec"]["kubernetesVersion"] != Value::Null))
        .cloned()
        .context("there is no node image")?;
    let mut spec = image["spec"].clone();
    spec["tags"]["etcd"] = Value::from("0.0.0-absent");
    let broken = object(context, "Image", "broken", &spec)?;
    let cluster = second_cluster(context, "broken", |spec| {
        spec["image"] = Value::from("broken");
        spec["kubernetesVersion"] = image["spec"]["kubernetesVersion"].clone();
    })?;
    let report = Report { machine: "broken-ctrl-1", words: &["images", "0.0.0-absent"] };
    refused(context, "a wrong image tag", &[broken, cluster], &report)?;
    context.ok(context.command(&["cluster", "delete", "broken", "--yes"]))?;
    context.ok(context.command(&["delete", "image", "broken", "--yes"]))?;

    let name = context.name.clone();
    let of_cluster = context.json(&["get", "cluster", &name])?;
    let used = of_cluster["spec"]["controlPlane"]["class"].as_str().unwrap_or_default().to_owned();
    let mut class = context.json(&["get", "machineclass", &used])?["spec"].clone();
    // What the kernel keeps for itself is missing from the memory that kubeadm sees.
    class["memory"] = Value::from("1700Mi");
    let small = object(context, "MachineClass", "small", &class)?;
    let cluster =
        second_cluster(context, "little", |spec| spec["controlPlane"]["class"] = Value::from("small"))?;
    let report = Report { machine: "little-ctrl-1", words: &["preflight", "ERROR Mem", "too little memory"] };
    refused(context, "too little memory", &[small, cluster], &report)?;
    context.ok(context.command(&["cluster", "delete", "little", "--yes"]))?;
    context.ok(context.command(&["delete", "machineclass", "small", "--yes"])).map(drop)
}

/// One more worker, whose tap is taken out of the bridge by hand as soon as its VM runs.
pub(crate) fn of_the_network(context: &mut Context) -> Result<()> {
    let name = context.name.clone();
    let cluster = context.json(&["get", "cluster", &name])?;
    let class = cluster["spec"]["controlPlane"]["class"].clone();
    let group = format!("{name}-cut");
    let machine = format!("{group}-1");
    let spec = json!({"cluster": name, "replicas": 1, "class": class});
    let more = object(context, "WorkerGroup", &group, &spec)?;
    let manifest = write(context, &[more])?;
    let log = std::env::temp_dir().join(format!("ashlar-e2e-{}-cut.log", std::process::id()));
    let _ = std::fs::remove_file(&log);
    let begin = Instant::now();
    let mut apply = context.spawn(context.command(&["apply", "-f", &manifest]), &log)?;
    let cut = cut_tap(context, &machine, &mut apply);
    let status = apply.wait()?;
    cut?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    context.printed.extend_from_slice(said.as_bytes());
    ensure!(status.code() == Some(1), "apply ended with {status}:\n{said}");
    Report { machine: &machine, words: &["endpoint", "nobody answers ARP", "no working network"] }
        .check(&said)?;
    println!("e2e network-failure: reported after {:.0} s", begin.elapsed().as_secs_f64());
    context.ok(context.command(&["delete", "workergroup", &group, "--yes"])).map(drop)
}

/// Takes the machine's tap out of its bridge, as soon as it is in it: the tap's name is known before.
fn cut_tap(context: &mut Context, machine: &str, apply: &mut Child) -> Result<()> {
    let script = format!(
        "tap=$(virsh -q -c qemu:///system domiflist {machine} | awk 'NF {{print $1; exit}}') && [ -n \"$tap\" ] && \
         [ -e /sys/class/net/$tap/master ] && ip link set dev $tap nomaster && [ ! -e /sys/class/net/$tap/master ]"
    );
    wait_for("the domain's tap in its bridge", Duration::from_secs(180), || {
        ensure!(apply.try_wait()?.is_none(), "apply ended before the domain ran");
        Ok(context.on_host(&["bash", "-c", &script]).is_ok())
    })
}

/// Applies what must end with the report.
fn refused(context: &mut Context, what: &str, objects: &[Value], report: &Report<'_>) -> Result<()> {
    let manifest = write(context, objects)?;
    let begin = Instant::now();
    let stderr = context.fails(context.command(&["apply", "-f", &manifest]), 1)?;
    println!("e2e failure: {what}: reported after {:.0} s", begin.elapsed().as_secs_f64());
    report.check(&stderr)
}

/// The test's cluster once more, under another name and without workers.
fn second_cluster(context: &mut Context, name: &str, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let ours = context.name.clone();
    let mut spec = context.json(&["get", "cluster", &ours])?["spec"].clone();
    spec["workers"] = json!([]);
    spec["endpoint"] = json!({});
    change(&mut spec);
    object(context, "Cluster", name, &spec)
}

fn object(context: &mut Context, kind: &str, name: &str, spec: &Value) -> Result<Value> {
    let ours = context.name.clone();
    let version = context.json(&["get", "cluster", &ours])?["apiVersion"].clone();
    Ok(json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}))
}

fn write(context: &Context, objects: &[Value]) -> Result<String> {
    let path = std::env::temp_dir().join(format!("ashlar-e2e-{}-{}.yaml", std::process::id(), context.name));
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    std::fs::write(&path, documents.join("\n---\n"))?;
    Ok(path.display().to_string())
}
