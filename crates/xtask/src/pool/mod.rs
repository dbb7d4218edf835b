//! `cargo xtask test-pool`: production and staging on the same three hosts, of two Kubernetes versions where the cache
//! has images of two. All of staging is lost and then deleted, while a client writes to production's API without pause:
//! not one write may fail.
//!
//! Each cluster has the overlay of its own that clusters get which name no network; both have the same addresses.

mod remains;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::e2e::context::{Context, wait_for};
use crate::hosts::{self, NodeImage};
use crate::writer::Writer;

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];
/// Both clusters are made at once, on two emulated cores.
const CREATE_TIMEOUT: &str = "30m";
/// Writes that must come through in each part of the story.
const WRITES: usize = 25;
const WRITES_DEADLINE: Duration = Duration::from_secs(300);

/// `cargo xtask test-pool`
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Binary under test
    #[arg(long, default_value = "target/release/ashlar")]
    ashlar: PathBuf,
    /// Name of the lab
    #[arg(long, default_value = "pool")]
    name: String,
    /// Leave the lab up at the end
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let begin = Instant::now();
    let mut context = Context::new(&options.ashlar, &options.name)?;
    let outcome = play(&mut context, begin);
    if let Err(error) = &outcome {
        println!("test-pool: FAILED after {:.0} s: {error:#}", begin.elapsed().as_secs_f64());
        context.keep_evidence("test-pool");
    }
    if !options.keep {
        context.take_lab_down()?;
    }
    outcome?;
    println!("test-pool: passed in {:.0} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn play(context: &mut Context, begin: Instant) -> Result<()> {
    let tell =
        |what: &str| println!("test-pool {what} ({:.0} s since the start)", begin.elapsed().as_secs_f64());
    hosts::fresh_lab(context, HOSTS.len())?;
    tell("lab: three hosts are enrolled");
    let (newer, older) = two_images(context)?;
    for image in [&newer.name, &older.name] {
        context.ok(context.command(&["image", "register", image]))?;
    }
    let manifest = std::env::temp_dir().join(format!("ashlar-test-pool-{}.yaml", std::process::id()));
    fs::write(&manifest, declare(&newer, &older))?;
    let apply = ["--timeout", CREATE_TIMEOUT, "apply", "-f", &manifest.to_string_lossy()];
    context.ok(context.command(&apply))?;
    tell("clusters: prod and staging are Ready");
    let (prod, staging) = (Address::of(context, "prod")?, Address::of(context, "staging")?);
    println!("test-pool addresses: prod {prod:?}, staging {staging:?}");
    ensure!(prod.network != staging.network, "both clusters are on network {}", prod.network);
    ensure!(
        prod.cidr == staging.cidr,
        "the two overlays were to have the same addresses: {prod:?} {staging:?}"
    );
    for (cluster, image) in [("prod", &newer), ("staging", &older)] {
        let version = ["get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"];
        let version = context.kubectl_of(cluster, &version)?;
        ensure!(version.trim() == image.kubernetes, "{cluster} runs {version}, not {}", image.kubernetes);
    }

    let mut writer = Writer::start(context.kubectl_maker("prod"));
    let written = |writer: &Writer, part: &str| {
        let before = writer.count();
        wait_for(part, WRITES_DEADLINE, || Ok(writer.count() >= before + WRITES))
    };
    written(&writer, "writes beside staging")?;
    lose(context, "staging")?;
    tell("loss: QEMU of all of staging was killed with -9");
    written(&writer, "writes after staging was lost")?;
    context.ok(context.command(&["cluster", "delete", "staging", "--yes"]))?;
    tell("deletion: staging is gone");
    written(&writer, "writes after staging was deleted")?;
    writer.finish();
    let failures = writer.failures();
    println!(
        "test-pool writer: {} acknowledged, {} failed, longest pause {:.1} s",
        writer.count(),
        failures.len(),
        writer.longest_pause().as_secs_f64()
    );
    ensure!(failures.is_empty(), "writes to prod failed:\n{}", failures.join("\n"));
    writer.judge(context, "prod")?;
    remains::nothing_of(context, &HOSTS, "staging", &staging)?;
    remains::something_of(context, &HOSTS, "prod", &prod)?;
    tell("remains: nothing of staging is on any host, and prod is whole");
    Ok(())
}

/// The newest image, and one of another Kubernetes version.
fn two_images(context: &mut Context) -> Result<(NodeImage, NodeImage)> {
    let mut images = hosts::node_images(context)?;
    images.sort_by(|one, other| other.kubernetes.cmp(&one.kubernetes));
    let newer = images.first().context("there is no node image; `ashlar image build` makes one")?.clone();
    let older = images.iter().find(|image| image.kubernetes != newer.kubernetes).with_context(|| {
        format!(
            "there are images of {} only; `ashlar image build --kubernetes v1.36.3` makes another",
            newer.kubernetes
        )
    })?;
    println!("test-pool images: prod {}, staging {}", newer.name, older.name);
    Ok((newer, older.clone()))
}

/// One class, and two clusters that name no network.
fn declare(newer: &NodeImage, older: &NodeImage) -> String {
    let cluster = |image: &NodeImage| {
        json!({
            "kubernetesVersion": image.kubernetes, "image": image.name,
            "controlPlane": {"replicas": 1, "class": "ctrl"},
        })
    };
    let class = json!({"vcpus": 2, "memory": "3Gi", "rootDisk": "10Gi", "etcdDisk": "2Gi"});
    [
        ("MachineClass", "ctrl", class),
        ("Cluster", "prod", cluster(newer)),
        ("Cluster", "staging", cluster(older)),
    ]
    .map(|(kind, name, spec)| {
        json!({"apiVersion": "ashlar.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
            .to_string()
    })
    .join("\n---\n")
}

/// Where a cluster is.
#[derive(Clone, Debug)]
struct Address {
    network: String,
    vni: u64,
    cidr: String,
}

impl Address {
    fn of(context: &mut Context, cluster: &str) -> Result<Self> {
        let object = context.json(&["get", "cluster", cluster])?;
        let network = object["spec"]["network"].as_str().context("the cluster has no network")?.to_owned();
        let object = context.json(&["get", "network", &network])?;
        let vni = object.pointer("/spec/attachment/vxlan/vni").and_then(Value::as_u64);
        let cidr = object.pointer("/spec/cidrs/0").and_then(Value::as_str);
        Ok(Address {
            network,
            vni: vni.context("its network has no VNI")?,
            cidr: cidr.context("its network has no CIDR")?.to_owned(),
        })
    }
}

/// Kills the QEMU of every machine of the cluster.
fn lose(context: &mut Context, cluster: &str) -> Result<()> {
    let machines = context.json(&["get", "machines"])?;
    let mut killed = 0;
    for machine in machines["items"].as_array().into_iter().flatten() {
        if machine["spec"]["cluster"] != *cluster {
            continue;
        }
        let text = |pointer: &str| machine.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let host = text("/spec/host").context("a machine without a host")?;
        let domain = text("/spec/domain/name").context("a machine without a domain")?;
        let pid = hosts::qemu_pid(context, &host, &domain)?;
        context.on(&host, &["kill", "-9", &pid])?;
        killed += 1;
    }
    ensure!(killed > 0, "{cluster} has no machines");
    Ok(())
}
