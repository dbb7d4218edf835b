//! Nodes that are made to fail: each must be reported with its phase, the cause and the node's own lines.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::checks::{manifest_of, support_bundle};
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

/// Three nodes that fail at once: a cluster whose Image names an etcd tag that is not inside, one whose control plane has a
/// little less memory than kubeadm asks, and one more worker whose tap is taken out of the bridge by hand as soon as its
/// VM runs. Each is refused by the node itself, long before its deadline.
pub(crate) fn of_nodes(context: &mut Context) -> Result<()> {
    let name = context.name.clone();
    let cut = format!("{name}-cut");
    let objects = [
        vec![more_processors(context)?, one_more_worker(context, &cut)?],
        wrong_tag(context)?,
        too_little_memory(context)?,
    ];
    let manifest = write(context, &objects.concat())?;
    let log = std::env::temp_dir().join(format!("ashlar-e2e-{}-failures.log", std::process::id()));
    let _ = std::fs::remove_file(&log);
    let begin = Instant::now();
    let mut apply = context.spawn(context.command(&["apply", "-f", &manifest]), &log)?;
    let meanwhile = cut_tap(context, &format!("{cut}-1"), &mut apply).and_then(|()| second_is_told(context));
    let status = apply.wait()?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    context.printed.extend_from_slice(said.as_bytes());
    meanwhile.with_context(|| said.clone())?;
    println!("e2e failure: three nodes reported after {:.0} s", begin.elapsed().as_secs_f64());
    ensure!(status.code() == Some(1), "apply ended with {status}:\n{said}");
    let cut_machine = format!("{cut}-1");
    for report in [
        Report { machine: "broken-ctrl-1", words: &["images", "0.0.0-absent"] },
        Report { machine: "little-ctrl-1", words: &["preflight", "ERROR Mem", "too little memory"] },
        Report { machine: &cut_machine, words: &["endpoint", "nobody answers ARP", "no working network"] },
    ] {
        report.check(&said)?;
    }
    // Whoever is sent the bundle finds the cause in it.
    let bundle = String::from_utf8_lossy(&support_bundle(context, "broken")?).into_owned();
    for wanted in ["0.0.0-absent", "images", "is not in this node's containerd"] {
        ensure!(bundle.contains(wanted), "the support bundle of the broken cluster does not say «{wanted}»");
    }
    for object in [["cluster", "broken"], ["cluster", "little"], ["workergroup", cut.as_str()]]
        .into_iter()
        .chain([["image", "broken"], ["machineclass", "small"]])
    {
        context.ok(context.command(&["delete", object[0], object[1], "--yes"]))?;
    }
    Ok(())
}

/// Five machines share two threads here.
fn more_processors(context: &mut Context) -> Result<Value> {
    let mut spec = context.json(&["get", "host", "h1"])?["spec"].clone();
    spec["cpuOvercommit"] = Value::from(16);
    object(context, "Host", "h1", &spec)
}

fn wrong_tag(context: &mut Context) -> Result<Vec<Value>> {
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
    Ok(vec![broken, cluster])
}

fn too_little_memory(context: &mut Context) -> Result<Vec<Value>> {
    let name = context.name.clone();
    let of_cluster = context.json(&["get", "cluster", &name])?;
    let used = of_cluster["spec"]["controlPlane"]["class"].as_str().unwrap_or_default().to_owned();
    let mut class = context.json(&["get", "machineclass", &used])?["spec"].clone();
    // What the kernel keeps for itself is missing from the memory that kubeadm sees.
    class["memory"] = Value::from("1700Mi");
    let small = object(context, "MachineClass", "small", &class)?;
    let cluster =
        second_cluster(context, "little", |spec| spec["controlPlane"]["class"] = Value::from("small"))?;
    Ok(vec![small, cluster])
}

fn one_more_worker(context: &mut Context, group: &str) -> Result<Value> {
    let name = context.name.clone();
    let cluster = context.json(&["get", "cluster", &name])?;
    let class = cluster["spec"]["controlPlane"]["class"].clone();
    object(context, "WorkerGroup", group, &json!({"cluster": name, "replicas": 1, "class": class}))
}

/// While one command works, another one that would change the same says who works.
fn second_is_told(context: &mut Context) -> Result<()> {
    let path = manifest_of(context)?.display().to_string();
    let stderr = context.fails(context.command(&["apply", "-f", &path, "--no-wait"]), 1)?;
    ensure!(stderr.contains("apply -f"), "the second command does not say who works:\n{stderr}");
    Ok(())
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
