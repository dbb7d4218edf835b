//! The lab, the cluster in it and the daemon over both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::e2e::context::{Context, wait_for};
use crate::e2e::daemon::Daemon;
use crate::hosts::{self, NodeImage};
use crate::nodes;

const HOSTS: usize = 2;
pub(super) const WORKERS: usize = 2;
/// On a worker.
pub(super) const PING_LOG: &str = "/run/test-ping.log";
const CREATE_TIMEOUT: &str = "40m";
/// As little as is allowed: what is measured is not how long a person is ready to wait.
pub(super) const PATIENCE_S: u32 = 60;

/// A worker with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) name: String,
    pub(super) host: String,
}

/// What all stages share.
pub(super) struct Fleet {
    pub(super) context: Context,
    pub(super) daemon: Option<Daemon>,
    /// The host with the control plane, which nothing happens to.
    pub(super) safe_host: String,
    pub(super) log: PathBuf,
}

impl Fleet {
    pub(super) fn new(ashlar: &Path, name: &str) -> Result<Self> {
        let log = std::env::temp_dir().join(format!("ashlar-test-day-two-{}.log", std::process::id()));
        Ok(Fleet { context: Context::new(ashlar, name)?, daemon: None, safe_host: String::new(), log })
    }

    /// Two hosts, and a cluster with a worker on each.
    pub(super) fn create(&mut self, image: Option<&str>) -> Result<()> {
        hosts::fresh_lab(&mut self.context, HOSTS)?;
        let NodeImage { name: image, kubernetes } = hosts::node_image(&mut self.context, image)?;
        self.context.ok(self.context.command(&["image", "register", &image]))?;
        let public = nodes::public_key(&self.context)?;
        let class =
            |memory: &str| json!({"vcpus": 2, "memory": memory, "rootDisk": "10Gi", "etcdDisk": "2Gi"});
        let objects = [
            ("MachineClass", "ctrl", class("3Gi")),
            ("MachineClass", "wkr", class("2Gi")),
            (
                "Cluster",
                self.context.name.as_str(),
                json!({
                    "kubernetesVersion": kubernetes, "image": image, "sshAuthorizedKeys": [public],
                    "controlPlane": {"replicas": 1, "class": "ctrl"},
                    "workers": [{"name": "wkr", "class": "wkr", "replicas": WORKERS}],
                    "health": {
                        "nodeNotReadyS": PATIENCE_S,
                        "nodeMissingS": PATIENCE_S,
                        "kubeletSilentS": PATIENCE_S,
                        "guestNotUpS": PATIENCE_S,
                        "staticPodNotReadyS": PATIENCE_S,
                        "backoffS": PATIENCE_S,
                    },
                }),
            ),
        ];
        let manifest = std::env::temp_dir().join(format!("ashlar-test-day-two-{}.yaml", self.context.name));
        fs::write(&manifest, hosts::manifest(objects))?;
        let manifest = manifest.to_string_lossy().into_owned();
        let command = self.context.command(&["--timeout", CREATE_TIMEOUT, "apply", "-f", &manifest]);
        self.context.ok(command).map(drop)
    }

    /// Asks for so many workers: the command, which waits for them.
    pub(super) fn scale(&mut self, replicas: usize) -> Result<Child> {
        let name = format!("{}-wkr", self.context.name);
        let stored = self.context.json(&["get", "workergroup", &name])?;
        let mut group = json!({
            "apiVersion": stored["apiVersion"], "kind": "WorkerGroup", "metadata": {"name": name}, "spec": stored["spec"],
        });
        group["spec"]["replicas"] = json!(replicas);
        let manifest = std::env::temp_dir().join(format!("ashlar-test-day-two-{name}-{replicas}.yaml"));
        fs::write(&manifest, group.to_string())?;
        let manifest = manifest.to_string_lossy().into_owned();
        let apply = self.context.command(&["--timeout", "20m", "apply", "-f", &manifest]);
        self.context.spawn(apply, &self.log.with_extension("scale.log"))
    }

    /// Reads where everything is.
    pub(super) fn find(&mut self) -> Result<()> {
        let machines = self.machines()?;
        let control_plane = machines.iter().find(|machine| machine["spec"]["role"] == "control-plane");
        let host = control_plane.and_then(|machine| machine["spec"]["host"].as_str());
        host.context("there is no control plane")?.clone_into(&mut self.safe_host);
        Ok(())
    }

    /// The name of the only control plane, and of its node.
    pub(super) fn control_plane(&mut self) -> Result<String> {
        let machines = self.machines()?;
        let control_plane = machines.iter().find(|machine| machine["spec"]["role"] == "control-plane");
        let name = control_plane.and_then(|machine| machine["metadata"]["name"].as_str());
        name.map(str::to_owned).context("there is no control plane")
    }

    pub(super) fn serve(&mut self) -> Result<()> {
        self.daemon = Some(Daemon::start(&self.context, &self.log)?);
        Ok(())
    }

    /// What tells why it failed, with the daemon's log.
    pub(super) fn keep_evidence(&mut self) {
        println!("test-day-two: the daemon's log is {}", self.log.display());
        self.context.keep_evidence("test-day-two");
    }

    fn machines(&mut self) -> Result<Vec<Value>> {
        let machines = self.context.json(&["get", "machines"])?;
        Ok(machines["items"].as_array().cloned().unwrap_or_default())
    }

    /// The workers that are there, by name.
    pub(super) fn workers(&mut self) -> Result<Vec<Worker>> {
        let text = |machine: &Value, pointer: &str| {
            machine.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
        };
        let machines = self.machines()?;
        let workers = machines.iter().filter(|machine| machine["spec"]["role"] == "worker");
        workers
            .map(|machine| {
                Ok(Worker {
                    name: text(machine, "/metadata/name").context("a machine without a name")?,
                    host: text(machine, "/spec/host").context("a machine without a host")?,
                })
            })
            .collect()
    }

    /// A worker that is on the host with the control plane, or one that is not.
    pub(super) fn worker(&mut self, is_safe: bool) -> Result<Worker> {
        let safe_host = self.safe_host.clone();
        let workers = self.workers()?;
        let found = workers.iter().find(|worker| (worker.host == safe_host) == is_safe).cloned();
        found.with_context(|| format!("there is no such worker: {workers:?}"))
    }

    /// What a domain says of itself on its host: UUID and state.
    pub(super) fn domain(&mut self, worker: &Worker) -> Result<(String, String)> {
        let ask = |fleet: &mut Fleet, verb: &str| {
            let said = fleet
                .context
                .on(&worker.host, &["virsh", "-q", "-c", "qemu:///system", verb, &worker.name])?;
            Ok::<_, anyhow::Error>(said.trim().to_owned())
        };
        Ok((ask(self, "domuuid")?, ask(self, "domstate")?))
    }

    pub(super) fn boot_id(&mut self, worker: &Worker) -> Result<String> {
        let path = "jsonpath={.status.nodeInfo.bootID}";
        self.context.kubectl(&["--request-timeout=20s", "get", "node", &worker.name, "-o", path])
    }

    /// A program on a worker, as root there.
    pub(super) fn inside(&mut self, worker: &Worker, program: &str) -> Result<String> {
        nodes::inside(&mut self.context, &worker.name, program)
    }

    /// Pings an address from a worker until it is ended, each answer a line with its moment in a file there: a session of ours
    /// ends when the worker moves.
    pub(super) fn ping(&mut self, from: &Worker, address: &str, period_ms: u32) -> Result<()> {
        let period = format!("{}.{:03}", period_ms / 1000, period_ms % 1000);
        let ping = format!("setsid -f ping -D -n -i {period} {address} >{PING_LOG} 2>&1 </dev/null");
        self.inside(from, &ping).map(drop)
    }

    /// A machine's own address.
    pub(super) fn address(&mut self, machine: &str) -> Result<String> {
        let machine = self.context.json(&["get", "machine", machine])?;
        let address = machine.pointer("/spec/nics/0/address").and_then(Value::as_str);
        let address = address.and_then(|address| address.split('/').next());
        address.map(str::to_owned).context("the machine has no address")
    }

    /// The node's Ready condition as the API server says it (`True`, `False`, `Unknown`); none if there is no node.
    pub(super) fn ready(&mut self, node: &str) -> Option<String> {
        let path = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
        let said = self.context.kubectl(&["--request-timeout=20s", "get", "node", node, "-o", path]).ok()?;
        Some(said.trim().to_owned())
    }

    pub(super) fn is_ready(&mut self, node: &str) -> bool {
        self.ready(node).as_deref() == Some("True")
    }

    /// Waits for a worker that was not there before, and until it is Ready; how long each took.
    pub(super) fn newcomer(
        &mut self,
        before: &[Worker],
        deadline: Duration,
    ) -> Result<(Worker, Duration, Duration)> {
        let start = Instant::now();
        let mut found = None;
        wait_for("a worker in its place", deadline, || {
            let is_new = |worker: &Worker| !before.iter().any(|other| other.name == worker.name);
            found = self.workers()?.into_iter().find(is_new);
            std::thread::sleep(Duration::from_millis(500));
            Ok(found.is_some())
        })?;
        let worker = found.context("no worker")?;
        let decided = start.elapsed();
        wait_for(&format!("{} is Ready", worker.name), deadline, || {
            std::thread::sleep(Duration::from_secs(1));
            Ok(self.is_ready(&worker.name))
        })?;
        Ok((worker, decided, start.elapsed()))
    }

    /// Waits until a worker is gone, as a node and on its host.
    pub(super) fn gone(&mut self, worker: &Worker, deadline: Duration) -> Result<()> {
        wait_for(&format!("node {} is gone", worker.name), deadline, || {
            std::thread::sleep(Duration::from_secs(1));
            let nodes = self.context.kubectl(&["--request-timeout=20s", "get", "nodes", "-o", "name"]);
            Ok(nodes.is_ok_and(|nodes| !nodes.contains(&format!("node/{}\n", worker.name))))
        })?;
        let domains = self.context.domains_on(&worker.host)?;
        ensure!(!domains.contains(&worker.name), "domain {} is left on {}", worker.name, worker.host);
        Ok(())
    }
}
