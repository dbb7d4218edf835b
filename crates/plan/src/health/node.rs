//! What the API says of a machine's node: its kubelet, and what that runs from files.

use ashlar_api::*;
use jiff::Timestamp;

use super::Health;
use crate::{ClusterWorld, KubeletSeen, NodeSeen, Snapshot};

/// What kubeadm has the kubelet of each control plane run.
const CONTROLLERS: &str = "kube-controller-manager";
const STATIC_PODS: [&str; 4] = ["etcd", "kube-apiserver", CONTROLLERS, "kube-scheduler"];

/// Judges the kubelet of a machine whose VM runs. Well is who is Ready, as far as its lease does not say otherwise.
pub(super) fn kubelet(snapshot: &Snapshot, api: &ClusterWorld, machine: &Machine, node: &NodeSeen) -> Health {
    let suffers = |kind| machine.record.ailment.as_ref().is_some_and(|ailment| ailment.kind == kind);
    // Only what was Ready since it was started again can cease to be.
    let sick = |kind, message: String| match suffers(AilmentKind::GuestNotUp) {
        true => {
            Health::Sick(AilmentKind::GuestNotUp, format!("its VM was off and runs again, and {message}"))
        }
        false => Health::Sick(kind, format!("its VM runs, and {message}")),
    };
    if !node.ready && machine.spec.node.cni != Cni::None {
        let message = format!("its node is not Ready: {}", node.message.trim_end_matches('.'));
        return sick(AilmentKind::NodeNotReady, message);
    }
    match (&node.kubelet, silence(snapshot, api, node)) {
        (_, Some(since)) => {
            let message = format!(
                "its kubelet has not renewed its lease since {since}, while others do: what the API says of the node is old"
            );
            sick(AilmentKind::KubeletSilent, message)
        }
        // Nobody renews any lease: that is the API's fault, or the clock's here.
        (KubeletSeen::Silent { .. }, None) => Health::Unknown,
        (KubeletSeen::Unknown, None) if suffers(AilmentKind::KubeletSilent) => Health::Unknown,
        (KubeletSeen::Unknown | KubeletSeen::Heard, None) => Health::Well,
    }
}

/// Since when a node's kubelet is silent; believed only while another one of ours is heard, so that the API takes what
/// kubelets write.
pub(crate) fn silence(snapshot: &Snapshot, api: &ClusterWorld, node: &NodeSeen) -> Option<Timestamp> {
    let KubeletSeen::Silent { since } = node.kubelet else { return None };
    let prefix = format!("ashlar://{}/", snapshot.installation);
    let is_heard =
        |other: &NodeSeen| other.kubelet == KubeletSeen::Heard && other.provider_id.starts_with(&prefix);
    api.nodes.values().any(is_heard).then_some(since)
}

/// Which static pod of a control plane is not well, and why. Where the API mirrors none of them, it says nothing of any.
pub(super) fn static_pods(machine: &Machine, node: &NodeSeen) -> Option<String> {
    if machine.spec.role != MachineRole::ControlPlane || node.static_pods.is_empty() {
        return None;
    }
    STATIC_PODS.into_iter().find_map(|name| match node.static_pods.get(name) {
        None => Some(format!("its static pod {name} is gone from the API, which shows others of it")),
        Some(pod) if pod.ready => None,
        Some(pod) if pod.reason.is_empty() => Some(format!("its static pod {name} is not Ready")),
        Some(pod) => Some(format!("its static pod {name} is not Ready: {}", pod.reason)),
    })
}

/// Whether the API shows what control planes run from files, and no controller manager of theirs that is Ready (it may be gone
/// from all of them): pods that go come back nowhere, and no node can join.
pub(crate) fn no_controllers(api: &ClusterWorld) -> bool {
    let is_control_plane =
        |node: &&NodeSeen| STATIC_PODS.iter().any(|pod| node.static_pods.contains_key(*pod));
    let mut seen = api.nodes.values().filter(is_control_plane).peekable();
    seen.peek().is_some() && !seen.any(|node| node.static_pods.get(CONTROLLERS).is_some_and(|pod| pod.ready))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StaticPodSeen;

    fn with_controllers(ready: &[bool]) -> ClusterWorld {
        let mut api = ClusterWorld::default();
        for (number, ready) in ready.iter().enumerate() {
            let pod = StaticPodSeen { ready: *ready, reason: String::new() };
            let static_pods = [(CONTROLLERS.to_owned(), pod)].into();
            api.nodes.insert(format!("node-{number}"), NodeSeen { static_pods, ..NodeSeen::default() });
        }
        api
    }

    #[test]
    fn controllers_are_missed_only_where_none_of_those_that_are_seen_is_ready() {
        assert!(!no_controllers(&with_controllers(&[])), "nobody can tell");
        assert!(no_controllers(&with_controllers(&[false])));
        assert!(no_controllers(&with_controllers(&[false, false, false])));
        assert!(!no_controllers(&with_controllers(&[false, true, false])));
    }

    #[test]
    fn controllers_that_are_gone_are_missed_where_others_of_their_node_are_shown() {
        let with = |pod: &str| {
            let static_pods = [(pod.to_owned(), StaticPodSeen { ready: true, reason: String::new() })].into();
            let mut api = ClusterWorld::default();
            api.nodes.insert("node-1".to_owned(), NodeSeen { static_pods, ..NodeSeen::default() });
            api
        };
        assert!(no_controllers(&with("kube-apiserver")));
        assert!(!no_controllers(&with("somebody-elses")), "what a worker runs from a file says nothing");
    }
}
