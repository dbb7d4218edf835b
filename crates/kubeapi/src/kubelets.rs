//! What says whether kubelets do their work: their leases, the pods that they run from files, their nodes' conditions.

use std::collections::BTreeMap;

use ashlar_plan::StaticPodSeen;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::ResourceExt as _;

/// Where kubelets keep their leases, one named as its node.
pub(crate) const LEASE_NAMESPACE: &str = "kube-node-lease";
/// The kubelet's mark on what mirrors a pod that it runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Conditions of a node that are not as they should be while they are True.
const TROUBLES: [&str; 4] = ["DiskPressure", "MemoryPressure", "NetworkUnavailable", "PIDPressure"];

/// When each node's kubelet last renewed its lease, by that node's clock.
pub(crate) fn leases(leases: &[Lease]) -> BTreeMap<String, Timestamp> {
    let renewed = |lease: &Lease| Some((lease.name_any(), lease.spec.as_ref()?.renew_time.as_ref()?.0));
    leases.iter().filter_map(renewed).collect()
}

/// Conditions that a node should not have, with their messages.
pub(crate) fn troubles(node: &Node) -> BTreeMap<String, String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let conditions = conditions.into_iter().flatten();
    conditions
        .filter(|condition| TROUBLES.contains(&condition.type_.as_str()) && condition.status == "True")
        .map(|condition| (condition.type_.clone(), condition.message.clone().unwrap_or_default()))
        .collect()
}

/// Static pods by node, and by their names without the node's.
pub(crate) fn static_pods(pods: &[Pod]) -> BTreeMap<String, BTreeMap<String, StaticPodSeen>> {
    let mut nodes: BTreeMap<String, BTreeMap<String, StaticPodSeen>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.annotations().contains_key(MIRROR)) {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) else { continue };
        let name = pod.name_any();
        let Some(name) = name.strip_suffix(node).and_then(|name| name.strip_suffix('-')) else { continue };
        nodes.entry(node.clone()).or_default().insert(name.to_owned(), static_pod(pod));
    }
    nodes
}

fn static_pod(pod: &Pod) -> StaticPodSeen {
    let ready = is_ready(pod);
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let reason = statuses.into_iter().flatten().find(|status| !status.ready).map(reason);
    StaticPodSeen { ready, reason: reason.filter(|_| !ready).unwrap_or_default() }
}

/// Why a container is not ready: in words that stay the same while it is tried again, so without pauses and counts.
fn reason(status: &ContainerStatus) -> String {
    let exit = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
        let terminated = state?.terminated.as_ref()?;
        Some(match terminated.reason.as_deref() {
            None | Some("" | "Error") => format!("exit code {}", terminated.exit_code),
            Some(reason) => format!("{reason}, exit code {}", terminated.exit_code),
        })
    };
    let state = status.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.clone());
    let ended = exit(state).or_else(|| exit(status.last_state.as_ref()));
    match (waiting, ended) {
        (Some(waiting), Some(ended)) => format!("{waiting}, {ended}"),
        (Some(words), None) | (None, Some(words)) => words,
        (None, None) => String::new(),
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|conditions| conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
        serde_json::from_str(text).expect("it is what an API server says")
    }

    /// The second one is just being made.
    const LEASES: &str = r#"[
        {"apiVersion":"coordination.k8s.io/v1","kind":"Lease",
         "metadata":{"name":"demo-ctrl-1","namespace":"kube-node-lease","resourceVersion":"1207",
          "ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"demo-ctrl-1","uid":"0f4c7a5e-4a55-4b60-8d3c-2a2f1d3d7c11"}]},
         "spec":{"holderIdentity":"demo-ctrl-1","leaseDurationSeconds":40,"renewTime":"2026-11-28T20:05:31.482913Z"}},
        {"metadata":{"name":"demo-wkr-1"},"spec":{"holderIdentity":"demo-wkr-1","leaseDurationSeconds":40}}]"#;

    #[test]
    fn a_lease_says_when_its_kubelet_renewed_it() {
        let renewed = leases(&read::<Vec<Lease>>(LEASES));
        let told: Vec<String> = renewed.iter().map(|(node, at)| format!("{node} {at}")).collect();
        assert_eq!(told, ["demo-ctrl-1 2026-11-28T20:05:31.482913Z"]);
    }

    #[test]
    fn conditions_that_a_node_should_not_have_are_told() {
        let node: Node = read(
            r#"{"metadata":{"name":"demo-wkr-1"},"status":{"conditions":[
            {"type":"NetworkUnavailable","status":"False","reason":"FlannelIsUp","message":"Flannel is running on this node"},
            {"type":"MemoryPressure","status":"Unknown","reason":"NodeStatusUnknown","message":"Kubelet stopped posting node status."},
            {"type":"DiskPressure","status":"True","reason":"KubeletHasDiskPressure","message":"kubelet has disk pressure"},
            {"type":"PIDPressure","status":"False","message":"kubelet has sufficient PID available"},
            {"type":"Ready","status":"True","message":"kubelet is posting ready status"}]}}"#,
        );
        let told = troubles(&node);
        let told: Vec<_> = told.iter().map(|(kind, message)| (kind.as_str(), message.as_str())).collect();
        assert_eq!(told, [("DiskPressure", "kubelet has disk pressure")]);
    }

    const MIRRORS: &str = r#"[
        {"metadata":{"name":"etcd-demo-ctrl-1","annotations":{"kubernetes.io/config.mirror":"a1"}},"spec":{"nodeName":"demo-ctrl-1","containers":[]},
         "status":{"conditions":[{"type":"Ready","status":"True"}],
          "containerStatuses":[{"name":"etcd","ready":true,"restartCount":3,"image":"","imageID":"",
           "state":{"running":{"startedAt":"2026-11-28T20:00:00Z"}},"lastState":{"terminated":{"exitCode":2,"reason":"Error"}}}]}},
        {"metadata":{"name":"kube-scheduler-demo-ctrl-1","annotations":{"kubernetes.io/config.mirror":"a2"}},"spec":{"nodeName":"demo-ctrl-1","containers":[]},
         "status":{"conditions":[{"type":"Ready","status":"False","reason":"ContainersNotReady"}],
          "containerStatuses":[{"name":"kube-scheduler","ready":false,"restartCount":7,"image":"","imageID":"",
           "state":{"waiting":{"reason":"CrashLoopBackOff","message":"back-off 5m0s restarting failed container"}},
           "lastState":{"terminated":{"exitCode":1,"reason":"Error"}}}]}},
        {"metadata":{"name":"kube-apiserver-demo-ctrl-1","annotations":{"kubernetes.io/config.mirror":"a3"}},"spec":{"nodeName":"demo-ctrl-1","containers":[]},
         "status":{"phase":"Pending"}},
        {"metadata":{"name":"coredns-demo-ctrl-1"},"spec":{"nodeName":"demo-ctrl-1","containers":[]}},
        {"metadata":{"name":"mine","annotations":{"kubernetes.io/config.mirror":"a4"}},"spec":{"nodeName":"demo-ctrl-1","containers":[]}}]"#;

    #[test]
    fn static_pods_are_found_by_their_mirrors() {
        let pods = static_pods(&read::<Vec<Pod>>(MIRRORS));
        let told: Vec<String> = pods["demo-ctrl-1"]
            .iter()
            .map(|(name, pod)| format!("{name} {} {:?}", pod.ready, pod.reason))
            .collect();
        assert_eq!(
            told,
            [
                r#"etcd true """#,
                r#"kube-apiserver false """#,
                r#"kube-scheduler false "CrashLoopBackOff, exit code 1""#,
            ]
        );
    }

    #[test]
    fn a_container_that_is_tried_again_has_the_same_reason_each_time() {
        let told = |text: &str| reason(&read::<ContainerStatus>(text));
        let rest = r#""name":"a","ready":false,"restartCount":1,"image":"","imageID":"""#;
        let killed = r#"{"terminated":{"exitCode":137,"reason":"OOMKilled"}}"#;
        assert_eq!(told(&format!(r#"{{{rest},"state":{killed}}}"#)), "OOMKilled, exit code 137");
        let runs = r#"{"running":{"startedAt":"2026-11-28T20:00:00Z"}}"#;
        let again = format!(r#"{{{rest},"state":{runs},"lastState":{killed}}}"#);
        assert_eq!(told(&again), "OOMKilled, exit code 137");
        assert_eq!(
            told(&format!(r#"{{{rest},"state":{{"waiting":{{"reason":"ErrImageNeverPull"}}}}}}"#)),
            "ErrImageNeverPull"
        );
        assert_eq!(told(&format!("{{{rest}}}")), "");
    }
}
