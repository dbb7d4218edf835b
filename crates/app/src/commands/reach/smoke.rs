//! The smoke test: a pod on a worker looks a Service up by name and reaches what is behind it.
//!
//! It needs no image beside those of the cluster itself: the pod runs the node's own curl, by the node's own loader,
//! with its files mounted read-only. What it asks is CoreDNS's metrics, through the Service `kube-dns`: the name is
//! resolved by the cluster's DNS, the Service's address is translated on the worker, and the answer comes from a pod.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ashlar_api::{Kind, MachineRole, Object};
use serde_json::{Value, json};

use super::{find_cluster, kubectl::Kubectl};
use crate::failure::{Context, Exit, Failure, Result};
use crate::objects::Reader;
use crate::output::elapsed;
use crate::settings::Settings;

/// Under software emulation a pod takes tens of seconds to start, more while the node still settles.
const DEADLINE: Duration = Duration::from_secs(300);
const POD: &str = "ashlar-smoke-test";
const URL: &str = "http://kube-dns.kube-system.svc.cluster.local:9153/metrics";

/// Runs the test; the pod is removed in any case.
pub(crate) fn smoke(settings: &Settings, cluster: &str) -> Result {
    let began = Instant::now();
    let reader = Reader::open(settings)?;
    let object = find_cluster(settings, &reader, cluster)?;
    let mut machines = Vec::new();
    for machine in reader.objects(Kind::Machine, Some(&settings.namespace))? {
        if let Object::Machine(machine) = machine
            && machine.spec.cluster == cluster
        {
            machines.push(machine);
        }
    }
    machines.sort_by_key(|machine| std::cmp::Reverse(machine.spec.role == MachineRole::Worker));
    let machine =
        machines.first().ok_or_else(|| Failure::new(format!("cluster {cluster} has no machine")))?;
    let image = format!("registry.k8s.io/pause:{}", machine.spec.image.tags.pause);
    let url = URL.replace("cluster.local", &object.spec.dns_domain);
    let kubectl = Kubectl::open(settings, cluster, None)?;
    remove(&kubectl)?;
    let outcome = create(&kubectl, &pod(&machine.spec.node.name, &image, &url))
        .and_then(|()| wait(&kubectl, &machine.spec.node.name, &url));
    remove(&kubectl)?;
    outcome?;
    settings.printer.note(format!(
        "a pod on {} reached {url} ({})",
        machine.spec.node.name,
        elapsed(began.elapsed())
    ));
    Ok(Exit::Success)
}

fn pod(node: &str, image: &str, url: &str) -> Value {
    let lib = "/host/usr/lib/x86_64-linux-gnu";
    let curl = [
        // /usr/lib64's is a link to an absolute path, which leads nowhere in here.
        "/host/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "--library-path",
        lib,
        "/host/usr/bin/curl",
        // A pod's network and the Service's rules may be moments younger than the node is Ready.
        "--silent",
        "--show-error",
        "--fail",
        "--retry",
        "30",
        "--retry-delay",
        "3",
        "--retry-all-errors",
        "--connect-timeout",
        "15",
        "--output",
        "/dev/null",
        "--write-out",
        "%{remote_ip} %{http_code}",
        url,
    ];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "volumes": [{"name": "node", "hostPath": {"path": "/usr", "type": "Directory"}}],
            "containers": [{
                "name": "curl",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": curl,
                "volumeMounts": [{"name": "node", "mountPath": "/host/usr", "readOnly": true}],
            }],
        },
    })
}

fn run(mut command: Command, doing: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context(format!("cannot {doing}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(said.trim()).because_of(format!("cannot {doing}")))
}

fn create(kubectl: &Kubectl, pod: &Value) -> Result<()> {
    let mut command = kubectl.command();
    let mut child = command
        .args(["create", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run kubectl")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(pod.to_string().as_bytes()).context("cannot give kubectl a pod")?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(said.trim()).because_of(format!("cannot create pod {POD}")))
}

/// Waits until the pod has ended.
fn wait(kubectl: &Kubectl, node: &str, url: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let mut command = kubectl.command();
        command.args(["get", "pod", POD, "-o", "json"]);
        let pod: Value = serde_json::from_str(&run(command, "look at the pod")?)?;
        let phase = pod["status"]["phase"].as_str().unwrap_or("Unknown").to_owned();
        if phase == "Succeeded" {
            return Ok(());
        }
        let is_late = began.elapsed() > DEADLINE;
        if phase == "Failed" || is_late {
            let mut command = kubectl.command();
            command.args(["logs", POD, "--tail=5"]);
            let logs = run(command, "read the pod's log").unwrap_or_else(|failure| failure.chain.join(": "));
            let mut failure = Failure::new(format!("the pod's log: {}", logs.trim()))
                .because_of(format!("the smoke test failed: a pod on {node} ({phase}) could not reach {url}"))
                .hint("look at the pods: `ashlar kubectl CLUSTER -- -n kube-system get pods -o wide`");
            if is_late {
                failure.exit = Exit::Timeout;
                failure.chain.push(format!("its state: {}", pod["status"]));
            }
            return Err(failure);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn remove(kubectl: &Kubectl) -> Result<()> {
    let mut command = kubectl.command();
    command.args(["delete", "pod", POD, "--ignore-not-found", "--grace-period=0", "--force", "--wait=true"]);
    run(command, "remove the smoke test's pod").map(drop)
}
