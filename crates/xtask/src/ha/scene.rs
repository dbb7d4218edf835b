//! The lab, the cluster in it, and what it says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::e2e::context::{Context, wait_for};
use crate::hosts::{self, NodeImage};

const HOSTS: usize = 3;
const CONTROL_PLANES: usize = 3;
const WORKERS: usize = 1;
/// By hand it took 13 minutes for the control planes alone.
const CREATE_TIMEOUT: &str = "30m";
/// A machine that was killed boots, and its node becomes Ready.
const HEAL_TIMEOUT: &str = "12m";

/// What all stages share.
pub(super) struct Scene {
    pub(super) context: Context,
    /// The API's address.
    pub(super) endpoint: String,
    /// Control planes by the MAC of their first interface: name, host.
    pub(super) by_mac: BTreeMap<String, (String, String)>,
}

impl Scene {
    pub(super) fn new(ashlar: &Path, name: &str) -> Result<Self> {
        let context = Context::new(ashlar, name)?;
        Ok(Scene { context, endpoint: String::new(), by_mac: BTreeMap::new() })
    }

    /// A fresh lab of three enrolled hosts, with an image registered and a network and classes declared.
    pub(super) fn lab(&mut self, image: Option<&str>) -> Result<()> {
        hosts::fresh_lab(&mut self.context, HOSTS)?;
        let description = self.context.description()?;
        let NodeImage { name, kubernetes: version } = hosts::node_image(&mut self.context, image)?;
        self.context.ok(self.context.command(&["image", "register", &name]))?;
        let nodes = &description["nodes"];
        let cluster = self.context.name.clone();
        // One vCPU each: the instruction counter that makes virtual time needs that.
        let class =
            |memory: &str| json!({"vcpus": 1, "memory": memory, "rootDisk": "10Gi", "etcdDisk": "2Gi"});
        let objects = [
            (
                "Network",
                "lab",
                json!({
                    "attachment": {"bridge": nodes["bridge"]}, "cidrs": [nodes["cidr"]], "gateway": nodes["gateway"],
                    "mtu": nodes["mtu"], "ranges": nodes["ranges"],
                }),
            ),
            ("MachineClass", "ctrl", class("3Gi")),
            ("MachineClass", "wkr", class("2Gi")),
            (
                "Cluster",
                cluster.as_str(),
                json!({
                    "kubernetesVersion": version, "image": name, "network": "lab", "virtualTime": true,
                    "nodeStartupTimeoutS": 1800,
                    "controlPlane": {"replicas": CONTROL_PLANES, "class": "ctrl", "spread": "required"},
                    "workers": [{"name": "wkr", "class": "wkr", "replicas": WORKERS}],
                }),
            ),
        ];
        fs::write(self.manifest(), hosts::manifest(objects))?;
        Ok(())
    }

    fn manifest(&self) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("ashlar-test-ha-{}.yaml", self.context.name))
    }

    pub(super) fn create(&mut self) -> Result<()> {
        self.apply(CREATE_TIMEOUT)?;
        self.find()?;
        let mut starts: Vec<(String, String, String)> = self
            .machines()?
            .iter()
            .map(|machine| {
                let text = |pointer: &str| {
                    machine.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned()
                };
                (text("/record/firstStartedAt"), text("/record/joinedAt"), text("/metadata/name"))
            })
            .collect();
        starts.sort();
        for (started, joined, name) in starts {
            println!("test-ha cluster: {name} powered on {started}, Ready {joined}");
        }
        Ok(())
    }

    /// Killed or not, a second `apply` brings everything back.
    pub(super) fn heal(&mut self) -> Result<()> {
        self.apply(HEAL_TIMEOUT)
    }

    fn apply(&mut self, timeout: &str) -> Result<()> {
        let manifest = self.manifest();
        let command =
            self.context.command(&["--timeout", timeout, "apply", "-f", &manifest.to_string_lossy()]);
        self.context.ok(command).map(drop)
    }

    fn machines(&mut self) -> Result<Vec<Value>> {
        let machines = self.context.json(&["get", "machines"])?;
        Ok(machines["items"].as_array().cloned().unwrap_or_default())
    }

    /// Reads where everything is.
    pub(super) fn find(&mut self) -> Result<()> {
        let name = self.context.name.clone();
        let cluster = self.context.json(&["get", "cluster", &name])?;
        let endpoint = cluster["record"]["endpoint"]["address"].as_str();
        endpoint.context("the cluster has no endpoint on record")?.clone_into(&mut self.endpoint);
        for machine in self.machines()? {
            let text = |pointer: &str| machine.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            if text("/spec/role").as_deref() != Some("control-plane") {
                continue;
            }
            let (name, host) = (text("/metadata/name"), text("/spec/host"));
            let mac = text("/spec/nics/0/mac").context("a machine without a MAC")?;
            self.by_mac.insert(mac, (name.context("no name")?, host.context("no host")?));
        }
        let hosts: std::collections::BTreeSet<&String> = self.by_mac.values().map(|(_, host)| host).collect();
        ensure!(
            self.by_mac.len() == CONTROL_PLANES && hosts.len() == CONTROL_PLANES,
            "three control planes on three hosts are expected: {:?}",
            self.by_mac
        );
        Ok(())
    }

    /// Four Ready nodes, three voters that are all healthy, and every system pod Ready.
    pub(super) fn all_ready(&mut self) -> Result<()> {
        wait_for("all nodes are Ready", Duration::from_secs(300), || Ok(self.ready_nodes()? == 4))?;
        let members = self.etcd(&["member", "list", "-w", "json"])?;
        let members: Value = serde_json::from_str(&members).context("etcdctl printed no JSON")?;
        let voters = members["members"].as_array().into_iter().flatten();
        let voters = voters.filter(|member| member["isLearner"] != Value::Bool(true)).count();
        ensure!(voters == CONTROL_PLANES, "etcd has {voters} voters: {members}");
        self.etcd(&["endpoint", "health", "--cluster"])?;
        Ok(())
    }

    fn ready_nodes(&mut self) -> Result<usize> {
        let Ok(text) = self.context.kubectl(&["--request-timeout=20s", "get", "nodes", "-o", "json"]) else {
            return Ok(0);
        };
        let nodes: Value = serde_json::from_str(&text)?;
        let is_ready = |node: &&Value| {
            let conditions = node["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        Ok(nodes["items"].as_array().into_iter().flatten().filter(is_ready).count())
    }

    /// etcdctl inside an etcd pod whose node is Ready.
    fn etcd(&mut self, arguments: &[&str]) -> Result<String> {
        let pods = self.context.kubectl(&[
            "-n",
            "kube-system",
            "get",
            "pods",
            "-l",
            "component=etcd",
            "-o",
            "name",
        ])?;
        let mut last = None;
        for pod in pods.lines().map(str::trim).filter(|pod| !pod.is_empty()) {
            let pki = "/etc/kubernetes/pki/etcd";
            let flags = [
                "--endpoints=https://127.0.0.1:2379".to_owned(),
                format!("--cacert={pki}/ca.crt"),
                format!("--cert={pki}/server.crt"),
                format!("--key={pki}/server.key"),
                "--command-timeout=30s".to_owned(),
            ];
            let mut all = vec!["-n", "kube-system", "exec", pod, "--", "etcdctl"];
            all.extend(flags.iter().map(String::as_str));
            all.extend(arguments);
            match self.context.kubectl(&all) {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("there is no etcd pod")?)
    }

    /// Who holds the API's address just now, as a host of the network learns it by ARP.
    pub(super) fn holder(&mut self, asked_on: &str) -> Result<Option<(String, String)>> {
        // A guest in virtual time may take seconds to answer: it is asked until it does.
        let script = format!(
            "ip neigh flush to {0}; for try in $(seq 15); do ping -c 1 -W 1 {0} >/dev/null 2>&1; \
             ip neigh show to {0} | grep lladdr && break; done; true",
            self.endpoint
        );
        let told = self.context.on(asked_on, &["bash", "-c", &script])?;
        let mac = told.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).map(str::to_owned);
        Ok(mac.and_then(|mac| self.by_mac.get(&mac).cloned()))
    }
}
