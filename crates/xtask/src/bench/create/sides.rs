//! One run of each side: from the start of its command to its end, with both nodes Ready.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::super::pool::{CTRL_MEMORY_MIB, ETCD_MIB, ROOT_MIB, VCPUS, WKR_MEMORY_MIB};
use super::WorkerStart;
use super::marks::Node;
use super::scene::{Scene, create_arguments};
use super::watch::{Marks, Watch};

/// Name of Ashlar's cluster.
pub(super) const ASHLAR_NAME: &str = "side-a";
/// Name of the script's cluster, which is as long.
pub(super) const SCRIPT_NAME: &str = "side-b";

/// One run.
pub(super) struct Run {
    /// From the start of the command until both nodes were Ready, as far as the side itself knows.
    pub(super) nodes_ready: Duration,
    /// From start to end of the command: all pods of kube-system are Ready, too.
    pub(super) total: Duration,
    /// What was seen on the host.
    pub(super) marks: Marks,
    /// What the command said, when.
    pub(super) lines: Vec<Line>,
}

/// A line of output.
pub(super) struct Line {
    pub(super) at: Duration,
    pub(super) text: String,
}

/// `ashlar cluster create`.
pub(super) fn create_with_ashlar(scene: &Scene) -> Result<Run> {
    let arguments = create_arguments(&scene.image.kubernetes, scene.timeout_min);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let began = Timestamp::now();
    let mut run = watched(scene, scene.lab.command(&arguments), "ashlar")?;
    for node in Node::ALL {
        let machine = scene.lab.json(&["get", "machine", &format!("{ASHLAR_NAME}{}", node.infix())])?;
        let joined = machine.pointer("/record/joinedAt").and_then(Value::as_str);
        let joined: Timestamp = joined.context("a machine without record.joinedAt")?.parse()?;
        run.nodes_ready = run.nodes_ready.max(Duration::try_from(joined.duration_since(began))?);
    }
    Ok(run)
}

/// `ashlar cluster delete`.
pub(super) fn delete_with_ashlar(scene: &Scene) -> Result<Duration> {
    let begin = Instant::now();
    scene.lab.ok(&["cluster", "delete", ASHLAR_NAME, "--yes"])?;
    Ok(begin.elapsed())
}

/// `create.sh create`.
pub(super) fn create_with_script(scene: &Scene) -> Result<Run> {
    let command = scene.script("create", &variables(scene)?);
    let mut run = watched(scene, command, "script")?;
    let next = run.lines.iter().find(|line| line.text == "STAGE wait-for-system-pods");
    run.nodes_ready = next.context("the script did not say when the nodes were Ready")?.at;
    Ok(run)
}

/// `create.sh delete`.
pub(super) fn delete_with_script(scene: &Scene) -> Result<Duration> {
    let begin = Instant::now();
    super::super::program::output_of(&mut scene.script("delete", &[("NAME", SCRIPT_NAME.to_owned())]))?;
    Ok(begin.elapsed())
}

/// The addresses that the script uses: of the nodes' network, outside of the ranges that Ashlar takes addresses from.
pub(super) struct ScriptAddresses {
    pub(super) vip: &'static str,
    pub(super) control_plane: &'static str,
    pub(super) worker: &'static str,
}

pub(super) const SCRIPT_ADDRESSES: ScriptAddresses =
    ScriptAddresses { vip: "10.88.200.10", control_plane: "10.88.200.11", worker: "10.88.200.12" };

fn variables(scene: &Scene) -> Result<Vec<(&'static str, String)>> {
    let lab = &scene.lab;
    let cidr = lab.text("/nodes/cidr")?;
    ensure!(
        cidr == "10.88.0.0/16",
        "the script's addresses are of 10.88.0.0/16, and the lab's network is {cidr}"
    );
    let image = &scene.image;
    let tag = |name: &str| {
        let tag = image.tags.get(name).and_then(Value::as_str);
        Ok::<_, anyhow::Error>(
            tag.with_context(|| format!("image {} has no {name} tag", image.name))?.to_owned(),
        )
    };
    let [disk, kernel, initrd] = image.files.clone();
    let start = if scene.worker_start == WorkerStart::Now { "now" } else { "api" };
    Ok(vec![
        ("NAME", SCRIPT_NAME.to_owned()),
        ("POOL_DIR", lab.text("/hosts/0/pool_path")?.to_owned()),
        ("BRIDGE", lab.text("/nodes/bridge")?.to_owned()),
        ("MTU", lab.value("/nodes/mtu")?.to_string()),
        ("ACCELERATOR", scene.accelerator.clone()),
        ("WORKER_START", start.to_owned()),
        ("KUBECTL", scene.kubectl.to_string_lossy().into_owned()),
        ("TIMEOUT_S", (scene.timeout_min * 60).to_string()),
        ("DISK", disk),
        ("KERNEL", kernel),
        ("INITRD", initrd),
        ("KERNEL_ARGUMENTS", image.kernel_arguments.clone()),
        ("KUBERNETES", image.kubernetes.clone()),
        ("ETCD_TAG", tag("etcd")?),
        ("COREDNS_TAG", tag("coredns")?),
        ("FLANNEL_TAG", tag("flannel")?),
        ("CTRL_ADDRESS", SCRIPT_ADDRESSES.control_plane.to_owned()),
        ("WKR_ADDRESS", SCRIPT_ADDRESSES.worker.to_owned()),
        ("VIP", SCRIPT_ADDRESSES.vip.to_owned()),
        ("VRRP_ID", "250".to_owned()),
        ("PREFIX_LENGTH", "16".to_owned()),
        ("GATEWAY", lab.text("/nodes/gateway")?.to_owned()),
        ("CTRL_VCPUS", VCPUS.to_string()),
        ("CTRL_MEMORY_MIB", CTRL_MEMORY_MIB.to_string()),
        ("CTRL_ROOT_MIB", ROOT_MIB.to_string()),
        ("CTRL_ETCD_MIB", ETCD_MIB.to_string()),
        ("WKR_VCPUS", VCPUS.to_string()),
        ("WKR_MEMORY_MIB", WKR_MEMORY_MIB.to_string()),
        ("WKR_ROOT_MIB", ROOT_MIB.to_string()),
    ])
}

/// Runs a command to its end under a watch. Both of its outputs are one stream, as on a terminal.
fn watched(scene: &Scene, mut command: Command, title: &str) -> Result<Run> {
    let (reader, writer) = std::io::pipe()?;
    let log_path = scene.directory.path().join(format!("{title}.log"));
    let mut log = File::create(&log_path)?;
    let begin = Instant::now();
    let watch = Watch::start(&scene.places, begin);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("could not run {command:?}"))?;
    // The command holds the writing end, and reading would never end while it does.
    drop(command);
    let mut lines = Vec::new();
    for text in BufReader::new(reader).split(b'\n') {
        let line = Line { at: begin.elapsed(), text: String::from_utf8_lossy(&text?).trim_end().to_owned() };
        writeln!(log, "{:8.1} {}", line.at.as_secs_f64(), line.text)?;
        lines.push(line);
    }
    let status = child.wait()?;
    let total = begin.elapsed();
    let marks = watch.finish()?;
    if !status.success() {
        let text = fs::read_to_string(&log_path)?;
        let from = lines.len().saturating_sub(40);
        let end = text.lines().skip(from).collect::<Vec<_>>().join("\n");
        bail!("{title}: {status} after {:.0} s\n{end}\n{}", total.as_secs_f64(), scene.evidence());
    }
    Ok(Run { nodes_ready: Duration::ZERO, total, marks, lines })
}
