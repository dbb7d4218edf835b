//! Guests: what happens inside running domains, by virtual time.
//!
//! A guest boots, reads its seed, runs the phases of first boot, and becomes a node. What it has reached is kept
//! on its disk: a reboot of a joined node comes back by itself, one in the middle of first boot starts it again.

use ashlar_api::{Bootstrap, Machine, MachineRole};
use ashlar_plan::DomainState;
use uuid::Uuid;

use crate::world::{SimNode, State};

/// Seconds after power-on at which a guest starts its first-boot script.
const BOOT_S: i64 = 10;
/// Seconds that `kubeadm init` takes after that.
const INIT_S: i64 = 40;
/// Seconds that a join takes once the API answers.
const JOIN_S: i64 = 20;

/// What lies on a guest's disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guest {
    /// First boot is done.
    pub(crate) joined: bool,
    /// What was said on the console in this boot.
    said: u8,
    /// Seconds of kubeadm's work done in this boot.
    work_s: i64,
    failed: bool,
}

/// Lets every running guest do what it does in one second.
pub(crate) fn run_guests(state: &mut State) {
    let running: Vec<(String, Uuid)> = state
        .hosts
        .iter()
        .flat_map(|(host, world)| {
            world
                .domains
                .iter()
                .filter(|(_, domain)| domain.state == DomainState::Running && domain.spec.is_some())
                .map(|(uuid, _)| (host.clone(), *uuid))
        })
        .collect();
    for (host, domain) in running {
        run_guest(state, &host, domain);
    }
}

/// Starts a boot anew: what was only in memory is gone.
pub(crate) fn power_on(guest: &mut Guest) {
    *guest = Guest { joined: guest.joined, ..Guest::default() };
}

/// Whether an API server of the cluster can answer: a control plane of it runs, and a majority of etcd's voters do.
pub(crate) fn api_answers(state: &State, cluster: &ashlar_api::NamespacedName) -> bool {
    let Some(world) = state.clusters.get(cluster) else { return false };
    let alive = |node: &String| {
        state.hosts.values().flat_map(|host| host.domains.values()).any(|domain| {
            domain.state == DomainState::Running
                && domain.guest.joined_or_serving()
                && domain.started_at.is_some()
                && machine_of(domain)
                    .is_some_and(|machine| machine.spec.node.name == *node && cluster_of(machine) == *cluster)
        })
    };
    let voters = world.voters.len();
    voters > 0 && world.voters.iter().filter(|voter| alive(voter)).count() > voters / 2
}

impl Guest {
    fn joined_or_serving(&self) -> bool {
        self.joined || self.said >= 3
    }
}

fn machine_of(domain: &crate::SimDomain) -> Option<&Machine> {
    domain.mark.as_ref()?.machine.as_deref()
}

fn cluster_of(machine: &Machine) -> ashlar_api::NamespacedName {
    ashlar_api::NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster)
}

fn run_guest(state: &mut State, host: &str, uuid: Uuid) {
    let now = state.now;
    let Some(domain) = state.hosts.get(host).and_then(|host| host.domains.get(&uuid)) else { return };
    let Some(machine) = machine_of(domain).cloned() else { return };
    let up_s = domain.started_at.map_or(0, |at| now.duration_since(at).as_secs());
    let seed_inside = domain
        .medium_path
        .as_ref()
        .and_then(|path| state.hosts.get(host)?.volume_at(path))
        .is_some_and(|volume| volume.holds_seed);
    let cluster = cluster_of(&machine);
    let failing = state.failing_boots.get(&machine.metadata.name).cloned();
    let api = api_answers(state, &cluster);
    let token_valid =
        state.clusters.get(&cluster).is_some_and(|world| world.tokens.values().any(|expiry| *expiry > now));
    let mut said = Vec::new();
    let mut became = None;
    let Some(domain) = state.hosts.get_mut(host).and_then(|host| host.domains.get_mut(&uuid)) else { return };
    let guest = &mut domain.guest;
    if guest.said == 0 && up_s >= 1 {
        guest.said = 1;
        said.push("[    0.000000] Linux version 6.12 (simulated)".to_owned());
    }
    if guest.joined || guest.failed || up_s < BOOT_S {
        domain.console.extend(said.iter().flat_map(|line| format!("{line}\r\n").into_bytes()));
        return;
    }
    if !seed_inside && guest.work_s == 0 {
        // No seed, nothing to do: as on a real node, the bootstrap unit finds no medium.
        return;
    }
    if guest.said == 1 {
        guest.said = 2;
        said.push("ASHLAR-PHASE node-setup start".to_owned());
        said.push("ASHLAR-PHASE node-setup ok".to_owned());
    }
    if let Some((phase, reason)) = failing {
        guest.failed = true;
        said.push(format!("ASHLAR-PHASE {phase} start"));
        said.push(format!("ASHLAR-PHASE {phase} fail exit=1"));
        said.push(format!("ASHLAR-LOG {phase}: it was made to fail"));
        said.push(format!("ASHLAR-FAILED phase={phase} reason={reason}"));
    } else if machine.spec.bootstrap == Bootstrap::Init {
        guest.work_s += 1;
        if guest.work_s == 1 {
            said.push("ASHLAR-PHASE kubeadm-control-plane start".to_owned());
        }
        if guest.work_s == INIT_S / 2 {
            guest.said = 3;
            became = Some(false);
        }
        if guest.work_s == INIT_S {
            guest.joined = true;
            became = Some(true);
            said.push("ASHLAR-PHASE ready ok 50".to_owned());
        }
    } else if api && token_valid {
        guest.work_s += 1;
        if guest.work_s == 1 {
            said.push("ASHLAR-PHASE kubeadm-kubelet-start start".to_owned());
        }
        if guest.work_s == JOIN_S {
            guest.joined = true;
            became = Some(true);
            said.push("ASHLAR-PHASE ready ok 30".to_owned());
        }
    }
    domain.console.extend(said.iter().flat_map(|line| format!("{line}\r\n").into_bytes()));
    if let Some(finished) = became {
        joined(state, &machine, &cluster, finished);
    }
}

/// A node registers itself; a control plane is a voter from then on.
fn joined(state: &mut State, machine: &Machine, cluster: &ashlar_api::NamespacedName, finished: bool) {
    let node = machine.spec.node.name.clone();
    let world = state.clusters.entry(cluster.clone()).or_default();
    if machine.spec.role == MachineRole::ControlPlane {
        world.voters.insert(node.clone());
    }
    if finished {
        world.nodes.insert(
            node.clone(),
            SimNode {
                provider_id: machine.spec.node.provider_id.clone(),
                kubelet_version: machine.spec.image.kubernetes_version.clone(),
            },
        );
        state.note(format!("guest {node}: joined cluster {cluster}"));
    } else {
        state.note(format!("guest {node}: the API of cluster {cluster} answers"));
    }
}
