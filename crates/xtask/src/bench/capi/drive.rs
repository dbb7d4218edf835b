//! Clusters are submitted as others become available, and watched.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Options;
use super::build::KUBERNETES;
use super::servers::Kubectl;

/// Clusters in one call of kubectl: starting it costs a tenth of a second of a core.
const BATCH: usize = 10;

/// How far it came.
pub(super) struct Driven {
    pub(super) submitted: usize,
    /// When each cluster became Available, since the first was submitted.
    pub(super) available: Vec<Duration>,
    pub(super) elapsed: Duration,
}

/// Brings up clusters until all are Available or the time is over.
pub(super) fn drive(kubectl: &Kubectl, options: &Options) -> Result<Driven> {
    let (send, receive) = channel();
    let column = r#"custom-columns=N:.metadata.name,A:.status.conditions[?(@.type=="Available")].status"#;
    let mut watch = kubectl
        .command(&["get", "clusters", "-n", "default", "-w", "--no-headers", "-o", column])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = BufReader::new(watch.stdout.take().context("kubectl's output")?).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let mut words = line.split_whitespace();
            if let (Some(name), Some("True")) = (words.next(), words.next()) {
                // Nobody listens once the time is over.
                let _ = send.send(name.to_owned());
            }
        }
    });
    let begin = Instant::now();
    let ends = begin + Duration::from_secs_f64(options.minutes * 60.0);
    let mut seen = std::collections::BTreeSet::new();
    let mut available = Vec::new();
    let mut submitted = 0;
    let mut told = begin;
    while seen.len() < options.clusters && Instant::now() < ends {
        let room = (options.in_flight + seen.len()).saturating_sub(submitted);
        let wanted = room.min(options.clusters - submitted);
        if wanted >= BATCH.min(options.in_flight) || (wanted > 0 && submitted + wanted == options.clusters) {
            let items: Vec<Value> = (submitted..submitted + wanted).map(cluster).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
            kubectl.ok_with(&["create", "-f", "-"], &list.to_string())?;
            submitted += wanted;
        }
        match receive.recv_timeout(Duration::from_millis(200)) {
            Ok(name) => {
                if seen.insert(name) {
                    available.push(begin.elapsed());
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the watch of clusters broke off"),
        }
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            println!(
                "          {:>3} s: {submitted} clusters submitted, {} available",
                begin.elapsed().as_secs(),
                seen.len()
            );
        }
    }
    let elapsed = begin.elapsed();
    watch.kill()?;
    watch.wait()?;
    Ok(Driven { submitted, available, elapsed })
}

fn cluster(number: usize) -> Value {
    json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster",
        "metadata": {"name": format!("c{number:04}"), "namespace": "default"},
        "spec": {
            "clusterNetwork": {
                "services": {"cidrBlocks": ["10.128.0.0/12"]},
                "pods": {"cidrBlocks": ["192.168.0.0/16"]},
                "serviceDomain": "cluster.local",
            },
            "topology": {
                "classRef": {"name": "in-memory", "namespace": "default"},
                "version": KUBERNETES,
                "controlPlane": {"replicas": 1},
                "workers": {"machineDeployments": [{"class": "default-worker", "name": "md-0", "replicas": 2}]},
            },
        },
    })
}

/// Machines whose nodes are there.
pub(super) fn machines_running(kubectl: &Kubectl) -> Result<usize> {
    let phases =
        kubectl.ok(&["get", "machines", "-n", "default", "-o", "jsonpath={.items[*].status.phase}"])?;
    Ok(phases.split_whitespace().filter(|phase| *phase == "Running").count())
}
