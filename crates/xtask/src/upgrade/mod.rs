//! `cargo xtask test-upgrade`: one control plane and one worker go to the next minor version, one more of each meanwhile, on
//! one lab host, while a client writes to the API without pause. No acknowledged write may be lost.
//!
//! Real libvirt, kubeadm, etcd and kubelets, emulated. Judged by what the API server says, not by Ashlar's own store.

mod api_use;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::app;
use crate::e2e::context::{Context, wait_for};
use crate::hosts::{self, NodeImage};
use crate::nodes;
use crate::writer::Writer;

const CREATE_TIMEOUT: &str = "30m";
/// Two machines boot, one after the other, beside two that run.
const UPGRADE_TIMEOUT: &str = "60m";
/// Writes that must come through before and after.
const WRITES: usize = 15;
const WRITES_DEADLINE: Duration = Duration::from_secs(300);
/// System pods settle on nodes that just came.
const SETTLE_DEADLINE: Duration = Duration::from_secs(600);

/// `cargo xtask test-upgrade`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Binary under test
    #[arg(long, default_value = "target/release/ashlar")]
    ashlar: PathBuf,
    /// Name of the lab and of the cluster
    #[arg(long, default_value = "upgrade")]
    name: String,
    /// Version to begin with [default: the oldest of which there is an image]
    #[arg(long)]
    from: Option<String>,
    /// Version to go to [default: the newest]
    #[arg(long)]
    to: Option<String>,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
    /// Upgrade the cluster that an earlier run with --keep left
    #[arg(long)]
    reuse: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mut context = Context::new(&options.ashlar, &options.name)?;
    let outcome = play(&mut context, options, begin);
    if let Err(error) = &outcome {
        println!("test-upgrade: FAILED after {:.0} s: {error:#}", begin.elapsed().as_secs_f64());
        context.keep_evidence("test-upgrade");
    }
    if !options.keep {
        context.take_lab_down()?;
    }
    outcome?;
    println!("test-upgrade: passed in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn play(context: &mut Context, options: &Options, begin: Instant) -> Result<()> {
    let tell =
        |what: &str| println!("test-upgrade {what} ({:.0} s since the start)", begin.elapsed().as_secs_f64());
    let cluster = context.name.clone();
    let (old, new) = versions(context, options)?;
    println!("test-upgrade images: from {} to {}", old.name, new.name);
    if !options.reuse {
        hosts::fresh_lab(context, 1)?;
        for image in [&old.name, &new.name] {
            context.ok(context.command(&["image", "register", image]))?;
        }
        apply(context, &old, CREATE_TIMEOUT)?;
        tell("cluster: it is Ready");
    }
    let app = app::start(context, &[&old.name, &new.name], app::REPLICAS - 1)?;
    let before = kubelets(context)?;
    ensure!(before.iter().all(|(_, version)| *version == old.kubernetes), "not yet upgraded: {before:?}");

    refusals(context, &old, &new)?;
    tell("refusals: a version back and a skipped minor are refused before anything happens");
    api_use::judge(context, &old, &new)?;
    let plan = manifest(context, &new)?;
    print!("{}", context.ok(context.command(&["plan", "-f", &plan.to_string_lossy()]))?);

    let mut writer = Writer::start(context.kubectl_maker(&cluster));
    let written = |writer: &Writer, part: &str| {
        let before = writer.count();
        wait_for(part, WRITES_DEADLINE, || Ok(writer.count() >= before + WRITES))
    };
    written(&writer, "writes before the upgrade")?;
    let start = Instant::now();
    apply(context, &new, UPGRADE_TIMEOUT)?;
    println!("test-upgrade upgrade: took {:.0} s", start.elapsed().as_secs_f64());
    written(&writer, "writes after the upgrade")?;
    writer.finish();

    let failures = writer.failures();
    println!(
        "test-upgrade writer: {} acknowledged, {} attempts failed, longest pause {:.1} s",
        writer.count(),
        failures.len(),
        writer.longest_pause().as_secs_f64()
    );
    writer.judge(context, &cluster)?;
    judge_versions(context, &before, &new)?;
    judge_system(context, &new)?;
    if let Some(app) = app {
        let evictions = app.judge(context)?;
        println!("test-upgrade app: its pods run; {evictions} events tell of evictions");
    }
    // Nothing is left to do.
    apply(context, &new, "5m")?;
    tell("cluster: it is whole, and of the new version");
    Ok(())
}

/// The two images: of the versions that were named, or the oldest and the newest that there are.
fn versions(context: &mut Context, options: &Options) -> Result<(NodeImage, NodeImage)> {
    let mut images = hosts::node_images(context)?;
    // The newest build of a version stays in front of older ones.
    images.sort_by(|one, other| one.kubernetes.cmp(&other.kubernetes));
    let first = images.first().map(|image| image.kubernetes.clone()).unwrap_or_default();
    let last = images.last().map(|image| image.kubernetes.clone()).unwrap_or_default();
    let find = |wanted: &str| {
        images.iter().find(|image| image.kubernetes == wanted).cloned().with_context(|| {
            format!(
                "there is no node image of {wanted}; `ashlar image build --kubernetes {wanted}` makes one"
            )
        })
    };
    let old = find(options.from.as_deref().unwrap_or(&first))?;
    let new = find(options.to.as_deref().unwrap_or(&last))?;
    ensure!(
        old.kubernetes != new.kubernetes,
        "there are images of {} only; `ashlar image build --kubernetes v1.36.3` makes another",
        new.kubernetes
    );
    Ok((old, new))
}

/// The cluster's file, of an image.
fn manifest(context: &Context, image: &NodeImage) -> Result<PathBuf> {
    declare(context, &image.kubernetes, Some(&image.name))
}

fn declare(context: &Context, version: &str, image: Option<&str>) -> Result<PathBuf> {
    let class = |memory: &str| json!({"vcpus": 2, "memory": memory, "rootDisk": "10Gi", "etcdDisk": "2Gi"});
    let mut cluster = json!({
        "kubernetesVersion": version, "sshAuthorizedKeys": [nodes::public_key(context)?],
        "controlPlane": {"replicas": 1, "class": "ctrl"},
        "workers": [{"name": "wkr", "class": "wkr", "replicas": 1}],
    });
    if let Some(image) = image {
        cluster["image"] = json!(image);
    }
    let objects = [
        ("MachineClass", "ctrl", class("3Gi")),
        ("MachineClass", "wkr", class("2Gi")),
        ("Cluster", context.name.as_str(), cluster),
    ];
    let path = std::env::temp_dir().join(format!("ashlar-test-upgrade-{}-{version}.yaml", context.name));
    fs::write(&path, hosts::manifest(objects))?;
    Ok(path)
}

fn apply(context: &mut Context, image: &NodeImage, timeout: &str) -> Result<()> {
    let file = manifest(context, image)?;
    let command = context.command(&["--timeout", timeout, "apply", "-f", &file.to_string_lossy()]);
    context.ok(command).map(drop)
}

/// What Kubernetes does not allow is refused as wrong input, by `plan` and by `apply`.
fn refusals(context: &mut Context, old: &NodeImage, new: &NodeImage) -> Result<()> {
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let (from, to) = (minor(&old.kubernetes), minor(&new.kubernetes));
    let (from, to) = (from.context("a version without a minor")?, to.context("a version without a minor")?);
    for (version, why) in [
        (format!("v1.{}.0", from - 1), "cannot go back"),
        (format!("v1.{}.0", to + 1), "skips a minor version"),
    ] {
        let file = declare(context, &version, None)?;
        for verb in ["plan", "apply"] {
            let command = context.command(&[verb, "-f", &file.to_string_lossy()]);
            let said = context.fails(command, 1)?;
            ensure!(said.contains(why), "{verb} of {version} does not say `{why}`: {said}");
        }
    }
    Ok(())
}

/// Nodes with the versions of their kubelets.
fn kubelets(context: &mut Context) -> Result<Vec<(String, String)>> {
    let text = context.kubectl(&["get", "nodes", "-o", "json"])?;
    let nodes: Value = serde_json::from_str(&text)?;
    let text =
        |node: &Value, pointer: &str| node.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned();
    let nodes = nodes["items"].as_array().into_iter().flatten();
    Ok(nodes
        .map(|node| (text(node, "/metadata/name"), text(node, "/status/nodeInfo/kubeletVersion")))
        .collect())
}

/// Two nodes under new names, of the new version, and an API server of it.
fn judge_versions(context: &mut Context, before: &[(String, String)], new: &NodeImage) -> Result<()> {
    let after = kubelets(context)?;
    ensure!(after.len() == 2, "two nodes are expected: {after:?}");
    ensure!(after.iter().all(|(_, version)| *version == new.kubernetes), "not all are upgraded: {after:?}");
    let kept = after.iter().find(|(name, _)| before.iter().any(|(old, _)| old == name));
    ensure!(kept.is_none(), "a node kept its name: {after:?}");
    let version = context.kubectl(&["get", "--raw", "/version"])?;
    let version: Value = serde_json::from_str(&version)?;
    ensure!(
        version["gitVersion"] == new.kubernetes.as_str(),
        "the API server is of another version: {version}"
    );
    Ok(())
}

/// What `kubeadm upgrade` would have done was done: kubeadm's own configuration, kube-proxy, CoreDNS; and logs are readable
/// through the API, which needs the binding that newer kubeadms count on.
fn judge_system(context: &mut Context, new: &NodeImage) -> Result<()> {
    let system = |context: &mut Context, arguments: &[&str]| {
        let mut all = vec!["-n", "kube-system"];
        all.extend(arguments);
        context.kubectl(&all)
    };
    let configuration = system(context, &["get", "configmap", "kubeadm-config", "-o", "yaml"])?;
    ensure!(configuration.contains(&new.kubernetes), "kubeadm-config is of another version: {configuration}");
    let corefile = system(context, &["get", "configmap", "coredns", "-o", "jsonpath={.data.Corefile}"])?;
    ensure!(corefile.contains("kubernetes cluster.local"), "the Corefile is another one: {corefile}");
    wait_for("system pods are Ready and of the new version", SETTLE_DEADLINE, || {
        let Ok(text) = system(context, &["get", "pods", "-o", "json"]) else { return Ok(false) };
        let pods: Value = serde_json::from_str(&text)?;
        Ok(pods["items"].as_array().is_some_and(|pods| !pods.is_empty() && pods.iter().all(is_ready)))
    })?;
    // Pods of nodes that are gone are in the API until Kubernetes collects them.
    let path = "jsonpath={.items[*].spec.containers[*].image}";
    let mut images = String::new();
    wait_for("kube-proxy runs on two nodes, of the new version", SETTLE_DEADLINE, || {
        images = system(context, &["get", "pods", "-l", "k8s-app=kube-proxy", "-o", path])?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(images.split_whitespace().count() == 2
            && images.split_whitespace().all(|image| image.ends_with(&new.kubernetes)))
    })
    .with_context(|| format!("kube-proxy runs as {images}"))?;
    let pod = system(context, &["get", "pods", "-l", "k8s-app=kube-proxy", "-o", "name"])?;
    let pod = pod.lines().next().context("no kube-proxy")?.trim().to_owned();
    system(context, &["logs", "--tail=1", &pod]).map(drop)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}
