//! Commands for what falls ill on nodes, while all else there goes on: kubelets, and a cluster's own pods.

use super::command::namespaced;
use crate::State;
use crate::kubelets::{MAY_BE_DOWN, PodTrouble};

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sickness {
    /// A node's kubelet ends, for ever or until it is back.
    Kubelet { machine: String, dead: bool },
    /// So do those of all workers that a cluster has.
    Kubelets(String),
    /// A static pod of a control plane is down, or back.
    StaticPod { machine: String, pod: &'static str, trouble: Option<PodTrouble> },
    /// A cluster's controllers run and do nothing, or do something again.
    Controllers { cluster: String, hang: bool },
}

/// Reads one of them, if it is one.
pub(super) fn parse(words: &[&str]) -> Option<Result<Sickness, String>> {
    Some(match words {
        ["kubelet", "of", machine, "dies"] => {
            Ok(Sickness::Kubelet { machine: (*machine).to_owned(), dead: true })
        }
        ["kubelet", "of", machine, "is", "back"] => {
            Ok(Sickness::Kubelet { machine: (*machine).to_owned(), dead: false })
        }
        ["kubelets", "of", cluster, "die"] => Ok(Sickness::Kubelets((*cluster).to_owned())),
        ["static", "pod", pod, "of", machine, what @ ..] => static_pod(pod, machine, what),
        ["controllers", "of", cluster, "hang"] => {
            Ok(Sickness::Controllers { cluster: (*cluster).to_owned(), hang: true })
        }
        ["controllers", "of", cluster, "work"] => {
            Ok(Sickness::Controllers { cluster: (*cluster).to_owned(), hang: false })
        }
        _ => return None,
    })
}

fn static_pod(pod: &str, machine: &str, what: &[&str]) -> Result<Sickness, String> {
    let trouble = match what {
        ["crashes"] => Some(PodTrouble::Crashes),
        ["is", "gone"] => Some(PodTrouble::Gone),
        ["is", "back"] => None,
        _ => return Err("a static pod `crashes`, `is gone`, or `is back`".to_owned()),
    };
    let known = MAY_BE_DOWN.into_iter().find(|known| *known == pod);
    let pod = known.ok_or_else(|| format!("static pods that may be down: {}", MAY_BE_DOWN.join(", ")))?;
    Ok(Sickness::StaticPod { machine: machine.to_owned(), pod, trouble })
}

impl Sickness {
    pub(super) fn happen(&self, state: &mut State) {
        match self {
            Sickness::Kubelet { machine, dead: true } => {
                state.dead_kubelets.insert(machine.clone());
            }
            Sickness::Kubelet { machine, dead: false } => {
                state.dead_kubelets.remove(machine);
            }
            Sickness::Kubelets(cluster) => {
                let workers = workers(state, cluster);
                state.dead_kubelets.extend(workers);
            }
            Sickness::StaticPod { machine, pod, trouble: Some(trouble) } => {
                state.pods_down.insert((machine.clone(), pod), *trouble);
            }
            Sickness::StaticPod { machine, pod, trouble: None } => {
                state.pods_down.remove(&(machine.clone(), *pod));
            }
            Sickness::Controllers { cluster, hang: true } => {
                state.hung_controllers.insert(namespaced(cluster));
            }
            Sickness::Controllers { cluster, hang: false } => {
                state.hung_controllers.remove(&namespaced(cluster));
            }
        }
    }
}

/// Workers that a cluster's API knows.
pub(crate) fn workers(state: &State, cluster: &str) -> Vec<String> {
    let world = state.clusters.get(&namespaced(cluster));
    let nodes = world.into_iter().flat_map(|world| world.nodes.keys());
    nodes.filter(|node| !node.starts_with(&format!("{cluster}-ctrl-"))).cloned().collect()
}
