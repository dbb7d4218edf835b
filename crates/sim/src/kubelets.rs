//! What an API server says of kubelets: whether their nodes are Ready, their leases, and the static pods of control planes.
//!
//! A kubelet that ends says nothing any more: that its node is not Ready then, somebody else has to say
//! (kube-controller-manager), and does so at once, as long as one works.

use std::collections::BTreeMap;

use ashlar_api::NamespacedName;
use ashlar_plan::{KubeletSeen, NodeSeen, StaticPodSeen};
use jiff::Timestamp;

use crate::{State, guest};

const CONTROLLERS: &str = "kube-controller-manager";
const STATIC_PODS: [&str; 4] = ["etcd", "kube-apiserver", CONTROLLERS, "kube-scheduler"];
/// Static pods that may be down while all else on the node goes on.
pub(crate) const MAY_BE_DOWN: [&str; 2] = [CONTROLLERS, "kube-scheduler"];
/// Seconds after which a kubelet renews its lease.
const RENEWAL_S: i64 = 10;

/// How a static pod is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodTrouble {
    /// It ends again and again.
    Crashes,
    /// Its file was taken away.
    Gone,
}

impl State {
    /// A cluster's nodes, and when each kubelet renewed its lease.
    pub(crate) fn see_nodes(
        &mut self,
        cluster: &NamespacedName,
    ) -> (BTreeMap<String, NodeSeen>, BTreeMap<String, Timestamp>) {
        let names: Vec<String> =
            self.clusters.get(cluster).map(|world| world.nodes.keys().cloned().collect()).unwrap_or_default();
        let runs: Vec<bool> = names.iter().map(|name| guest::is_node(self, cluster, name)).collect();
        let static_pods: Vec<_> = names.iter().map(|name| self.static_pods_of(cluster, name)).collect();
        let controllers_work = self.controllers_work(cluster);
        let renewed = self.now.as_second() / RENEWAL_S * RENEWAL_S;
        let renewed = Timestamp::from_second(renewed).unwrap_or(self.now);
        let (mut nodes, mut leases) = (BTreeMap::new(), BTreeMap::new());
        let Some(world) = self.clusters.get_mut(cluster) else { return (nodes, leases) };
        let has_cni = world.objects.keys().any(|object| object.starts_with("DaemonSet/kube-flannel"));
        for ((name, runs), static_pods) in names.into_iter().zip(runs).zip(static_pods) {
            let Some(node) = world.nodes.get_mut(&name) else { continue };
            if runs {
                node.renewed_at = Some(renewed);
            }
            let ready = has_cni && (runs || node.was_ready && !controllers_work);
            node.was_ready = ready;
            let message = match (ready, has_cni) {
                (true, _) => "",
                (false, true) => "Kubelet stopped posting node status.",
                (false, false) => "network plugin is not ready",
            };
            leases.extend(node.renewed_at.map(|at| (name.clone(), at)));
            let seen = NodeSeen {
                ready,
                message: message.to_owned(),
                provider_id: node.provider_id.clone(),
                kubelet_version: node.kubelet_version.clone(),
                labels: node.labels.clone(),
                taints: node.taints.clone(),
                unschedulable: node.unschedulable,
                troubles: BTreeMap::new(),
                kubelet: KubeletSeen::Unknown,
                static_pods,
            };
            nodes.insert(name, seen);
        }
        (nodes, leases)
    }

    /// Whether somebody says of nodes that they are not Ready.
    fn controllers_work(&self, cluster: &NamespacedName) -> bool {
        let is_down = |machine: &str| self.pods_down.contains_key(&(machine.to_owned(), CONTROLLERS));
        let works = || guest::any_serving(self, cluster, |machine| !is_down(&machine.metadata.name));
        !self.hung_controllers.contains(cluster) && (self.pods_down.is_empty() || works())
    }

    fn static_pods_of(&self, cluster: &NamespacedName, node: &str) -> BTreeMap<String, StaticPodSeen> {
        let world = self.clusters.get(cluster);
        let is_control_plane =
            world.is_some_and(|world| world.etcd.members.values().any(|member| member.name == node));
        if !is_control_plane {
            return BTreeMap::new();
        }
        let pod = |name: &'static str| {
            let pod = match self.pods_down.get(&(node.to_owned(), name)) {
                Some(PodTrouble::Gone) => return None,
                Some(PodTrouble::Crashes) => {
                    StaticPodSeen { ready: false, reason: "CrashLoopBackOff, exit code 1".to_owned() }
                }
                None => StaticPodSeen { ready: true, reason: String::new() },
            };
            Some((name.to_owned(), pod))
        };
        STATIC_PODS.into_iter().filter_map(pod).collect()
    }
}
