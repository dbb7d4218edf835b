//! What is gathered: a file in the bundle, and the command that prints it.

use std::time::Duration;

use ashlar_api::{Cluster, Machine};

/// Longest time for a part that reads the store.
const READ: Duration = Duration::from_secs(60);
/// Longest time for one that asks hosts or nodes.
const ASK: Duration = Duration::from_secs(90);
/// Longest time for one that asks the cluster's API, which a broken cluster may not have.
const ASK_API: Duration = Duration::from_secs(45);
/// Lines of the audit log that are kept.
const AUDIT_LINES: &str = "1000";

/// What a node is asked, as root: state of the system, of the kubelet and of its static pods.
const NODE_SCRIPT: &str = "\
say() { echo; echo \"== $*\"; \"$@\" 2>&1; }
say uptime; say free -m; say df -h; say ip -brief address; say ip route
say systemctl --failed --no-pager
say journalctl --no-pager -b -p warning -n 200
say journalctl --no-pager -b -u kubelet -n 400
say journalctl --no-pager -b -u containerd -n 100
say ctr -n k8s.io containers list
say ctr -n k8s.io tasks list
for log in /var/log/pods/kube-system_*/*/*.log; do [ -f \"$log\" ] && say tail -n 80 \"$log\"; done; true";

/// One file of the bundle.
pub(super) struct Part {
    pub(super) file: String,
    /// Arguments of `ashlar`.
    pub(super) arguments: Vec<String>,
    pub(super) deadline: Duration,
}

fn part(file: impl Into<String>, deadline: Duration, arguments: &[&str]) -> Part {
    Part {
        file: file.into(),
        deadline,
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
    }
}

/// All parts about a cluster.
pub(super) fn of(cluster: &Cluster, machines: &[Machine]) -> Vec<Part> {
    let name = cluster.metadata.name.as_str();
    let mut parts = vec![
        part("status.txt", READ, &["cluster", "status", name]),
        part("cluster.txt", READ, &["describe", "cluster", name]),
        part("events.txt", READ, &["events"]),
        // Secrets are shown without their values.
        part("objects.yaml", READ, &["get", "all", "-o", "yaml"]),
        part("hosts.txt", READ, &["host", "list"]),
        part("network.txt", READ, &["network", "describe", &cluster.spec.network]),
        part("audit.txt", READ, &["audit", "list", "--last", AUDIT_LINES]),
        part("plan.txt", ASK, &["plan"]),
    ];
    let kube = |file: &str, arguments: &[&str]| {
        let all = [&["kubectl", name, "--", "--request-timeout=30s"], arguments].concat();
        part(format!("kubernetes/{file}"), ASK_API, &all)
    };
    parts.extend([
        kube("readyz.txt", &["get", "--raw", "/readyz?verbose"]),
        kube("nodes.txt", &["describe", "nodes"]),
        kube("pods.txt", &["get", "pods", "-A", "-o", "wide"]),
        kube("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"]),
        kube("csr.txt", &["get", "csr"]),
        kube("budgets.txt", &["get", "pdb", "-A"]),
        kube("volumes.txt", &["get", "pv,pvc,volumeattachments", "-A"]),
        kube(
            "webhooks.txt",
            &["get", "apiservices,validatingwebhookconfigurations,mutatingwebhookconfigurations"],
        ),
    ]);
    for machine in machines {
        let machine_name = machine.metadata.name.as_str();
        parts.push(part(
            format!("machines/{machine_name}.txt"),
            READ,
            &["describe", "machine", machine_name],
        ));
        if machine.record.first_started_at.is_some() {
            parts.push(part(format!("machines/{machine_name}.console.log"), ASK, &["console", machine_name]));
            let node = part(
                format!("machines/{machine_name}.node.txt"),
                ASK,
                &["ssh", machine_name, "--", NODE_SCRIPT],
            );
            parts.push(node);
        }
    }
    parts
}
