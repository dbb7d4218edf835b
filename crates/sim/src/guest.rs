//! Guests: what happens inside running domains, by virtual time.
//!
//! A guest boots, reads its seed, runs the phases of first boot, and becomes a node. That it has joined is kept on
//! its root disk: a reboot of a joined node comes back by itself, one in the middle of first boot starts it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_api::{Bootstrap, Machine, MachineRole, NamespacedName};
use ashlar_plan::DomainState;
use uuid::Uuid;

use crate::SimMember;
use crate::etcd::member_id;
use crate::seed::SeedFacts;
use crate::whereabouts::live_machine;
use crate::world::{SimCluster, SimNode, State};

/// Seconds from power-on to the first-boot script, and to a kubelet that was there before.
const BOOT_S: i64 = 10;
/// Seconds that `kubeadm init` takes after that.
const INIT_S: i64 = 40;
/// Seconds that a join takes once the API answers.
const JOIN_S: i64 = 20;
/// Seconds of a control plane's join after which etcd takes it in as a learner, and after which it has a vote.
const LEARNER_S: i64 = 10;
const VOTER_S: i64 = 16;
/// The phase of first boot in which that happens.
const ETCD_JOIN: &str = "kubeadm-etcd-join";
/// The phase of a kernel that panics, and the reason of one that does so only once.
const KERNEL: &str = "kernel";
const ONCE: &str = "once";
/// On a slow disk everything takes so many times as long.
const SLOW_DISK: i64 = 4;
/// Seconds that a guest takes to power off.
pub(crate) const OFF_S: i64 = 5;

/// Phases of first boot in which a control plane's etcd and API server run already: they go on running when such a
/// phase fails.
const AFTER_INIT_SERVES: [&str; 6] = [
    "kubeadm-upload-config",
    "kubeadm-mark-control-plane",
    "kubeadm-bootstrap-token",
    "kubeadm-kubelet-finalize",
    "kubeadm-addon",
    "finish",
];
const AFTER_JOIN_SERVES: [&str; 4] =
    ["kubeadm-kubelet-wait-bootstrap", "kubeadm-control-plane-join", "kubeadm-wait-control-plane", "finish"];

fn is_after_serving(machine: &Machine, phase: &str) -> bool {
    let is_control_plane = machine.spec.role == MachineRole::ControlPlane;
    let phases: &[&str] = match machine.spec.bootstrap {
        Bootstrap::Init => &AFTER_INIT_SERVES,
        Bootstrap::Join => &AFTER_JOIN_SERVES,
    };
    is_control_plane && phases.contains(&phase)
}

/// What a guest has in memory: gone when it is powered off.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guest {
    stage: Stage,
    /// Seconds of kubeadm's work done in this boot.
    work_s: i64,
    /// Its etcd runs.
    etcd: bool,
    /// Its API server runs: it does on when a later phase of first boot fails.
    serves: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Firmware,
    Kernel,
    Script,
    /// etcd and the API server run, first boot goes on.
    Serving,
    /// First boot ended badly.
    Failed,
    /// The kubelet runs.
    Node,
}

impl Guest {
    /// Whether it listens to the power button.
    pub(crate) fn is_up(&self) -> bool {
        !matches!(self.stage, Stage::Firmware | Stage::Kernel)
    }

    fn serves(&self) -> bool {
        self.serves || matches!(self.stage, Stage::Serving | Stage::Node)
    }

    fn is_node(&self) -> bool {
        self.stage == Stage::Node
    }
}

/// Lets every running guest do what it does in one second, those that wait for something only if `all` is asked for.
/// Says whether any of them will do more by itself.
pub(crate) fn run_guests(state: &mut State, all: bool) -> bool {
    let now = state.now;
    let at_work: Vec<(String, Uuid, bool)> = state
        .hosts
        .iter()
        .filter(|(_, world)| !world.frozen)
        .flat_map(|(host, world)| {
            let slack_s = if world.disk_slow_s > 0 { SLOW_DISK } else { 0 };
            world
                .domains
                .iter()
                .filter(|(_, domain)| domain.is_alive() && domain.spec.is_some())
                .filter(move |(_, domain)| {
                    all && domain.guest.stage == Stage::Kernel || domain.is_busy(now, slack_s)
                })
                .map(move |(uuid, domain)| (host.clone(), *uuid, domain.is_busy(now, slack_s)))
        })
        .collect();
    for (host, domain, _) in &at_work {
        let is_slow = state.hosts.get(host).is_some_and(|host| host.disk_slow_s > 0);
        if !is_slow || now.as_second() % SLOW_DISK == 0 {
            run_guest(state, host, *domain);
        }
    }
    at_work.iter().any(|(.., is_busy)| *is_busy)
}

impl crate::SimDomain {
    /// Whether its guest does anything by itself. One that waits for a seed that is not there does so until somebody
    /// changes something, and is looked at then.
    fn is_busy(&self, now: jiff::Timestamp, slack_s: i64) -> bool {
        self.off_at.is_some()
            || match self.guest.stage {
                Stage::Firmware | Stage::Script | Stage::Serving => true,
                Stage::Kernel => {
                    self.started_at.is_some_and(|at| now.duration_since(at).as_secs() <= BOOT_S + slack_s)
                }
                Stage::Failed | Stage::Node => false,
            }
    }
}

/// Whether the machine's etcd runs, as one of its cluster's members: one that was removed is refused.
pub(crate) fn runs_etcd(state: &State, machine: Uuid) -> bool {
    any_running(state, Among::Machine(machine), |found, guest| {
        found.metadata.uid == Some(machine) && guest.etcd && is_member(state, found, false)
    })
}

/// Whether the machine is one of its etcd's members, with a vote if asked so.
fn is_member(state: &State, machine: &Machine, votes: bool) -> bool {
    let world = state.clusters.get(&cluster_of(machine));
    machine
        .metadata
        .uid
        .and_then(|uid| world?.etcd.members.get(&member_id(uid)))
        .is_some_and(|member| !votes || !member.is_learner)
}

/// Whether a control plane of the cluster for which `fits` holds serves the API.
pub(crate) fn any_serving(state: &State, cluster: &NamespacedName, fits: impl Fn(&Machine) -> bool) -> bool {
    any_running(state, Among::Cluster(cluster), |machine, guest| {
        guest.serves()
            && machine.spec.role == MachineRole::ControlPlane
            && cluster_of(machine) == *cluster
            && is_member(state, machine, true)
            && state.hears_leader(cluster, machine.metadata.uid)
            && fits(machine)
    })
}

/// Whether a node's kubelet runs, and can talk to an API server: a control plane's talks to its own.
pub(crate) fn is_node(state: &State, cluster: &NamespacedName, node: &str) -> bool {
    any_running(state, Among::Cluster(cluster), |machine, guest| {
        guest.is_node()
            && machine.spec.node.name == node
            && !state.dead_kubelets.contains(&machine.metadata.name)
            && cluster_of(machine) == *cluster
            && match machine.spec.role {
                MachineRole::Worker => machine.metadata.uid.is_some_and(|uid| hears_api(state, cluster, uid)),
                MachineRole::ControlPlane => {
                    is_member(state, machine, true) && state.hears_leader(cluster, machine.metadata.uid)
                }
            }
    })
}

fn hears_api(state: &State, cluster: &NamespacedName, machine: Uuid) -> bool {
    state.broken_links.is_empty()
        || any_serving(state, cluster, |api| {
            api.metadata.uid.is_some_and(|api| state.hear_each_other(api, machine))
        })
}

/// Whether a guest has the address, or the virtual one of its cluster, on the bridge's segment.
pub(crate) fn answers_at(state: &State, bridge: &str, address: std::net::Ipv4Addr) -> bool {
    any_running(state, Among::Address(address), |machine, guest| {
        let nics = machine.spec.nics.iter().filter(|nic| nic.bridge == bridge);
        let mut addresses = nics.map(|nic| nic.address.addr());
        guest.is_up()
            && addresses
                .any(|own| own == address || guest.serves() && machine.spec.node.endpoint.address == address)
    })
}

/// Nodes whose kubelets run and can talk to an API server, by cluster.
pub(crate) fn running_nodes(state: &State) -> BTreeMap<NamespacedName, BTreeSet<&str>> {
    let mut nodes: BTreeMap<NamespacedName, BTreeSet<&str>> = BTreeMap::new();
    let hosts = state.hosts.values().filter(|host| !host.frozen);
    for domain in hosts.flat_map(|host| host.domains.values()).filter(|domain| domain.is_alive()) {
        let Some(machine) = live_machine(domain) else { continue };
        let can_talk = machine.spec.role == MachineRole::Worker || is_member(state, machine, true);
        let is_dead = state.dead_kubelets.contains(&machine.metadata.name);
        if domain.guest.is_node() && can_talk && !is_dead {
            nodes.entry(cluster_of(machine)).or_default().insert(&machine.spec.node.name);
        }
    }
    nodes
}

/// Which domains are worth a look.
enum Among<'a> {
    Machine(Uuid),
    Cluster(&'a NamespacedName),
    Address(std::net::Ipv4Addr),
}

fn any_running(state: &State, among: Among<'_>, fits: impl Fn(&Machine, &Guest) -> bool) -> bool {
    let places = {
        let mut whereabouts = state.whereabouts.lock();
        whereabouts.catch_up(&state.hosts);
        match among {
            Among::Machine(machine) => whereabouts.of_machine(machine).to_vec(),
            Among::Cluster(cluster) => whereabouts.of_cluster(cluster).to_vec(),
            Among::Address(address) => whereabouts.of_address(address).to_vec(),
        }
    };
    places.iter().any(|(host, domain)| {
        let host = state.hosts.get(host).filter(|host| !host.frozen);
        let domain = host.and_then(|host| host.domains.get(domain));
        domain
            .filter(|domain| domain.is_alive())
            .is_some_and(|domain| live_machine(domain).is_some_and(|machine| fits(machine, &domain.guest)))
    })
}

/// Whether an API server of the cluster can answer: a majority of etcd's voters run.
pub(crate) fn api_answers(state: &State, cluster: &NamespacedName) -> bool {
    state.has_quorum(cluster)
}

pub(crate) fn cluster_of(machine: &Machine) -> NamespacedName {
    NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster)
}

fn run_guest(state: &mut State, host: &str, uuid: Uuid) {
    let now = state.now;
    let Some(world) = state.hosts.get(host) else { return };
    let Some(domain) = world.domains.get(&uuid) else { return };
    if domain.off_at.is_some_and(|at| at <= now) {
        let name = domain.name.clone();
        if let Some(domain) = state.hosts.get_mut(host).and_then(|host| host.domains.get_mut(&uuid)) {
            domain.power_off();
        }
        state.touched_by_hand(host, uuid);
        state.note(format!("{host}: domain {name} powered off"));
        return;
    }
    let Some(machine) = live_machine(domain).cloned() else { return };
    let up_s = domain.started_at.map_or(0, |at| now.duration_since(at).as_secs());
    let root = domain.disk_paths.iter().find(|path| path.contains("-root-")).cloned();
    let machine_uid = machine.metadata.uid;
    let joined = root
        .as_ref()
        .and_then(|path| world.volume_at(path))
        .is_some_and(|volume| volume.joined.is_some() && volume.joined == machine_uid);
    let seed = domain
        .medium_path
        .as_ref()
        .and_then(|path| world.volume_at(path)?.seed.clone())
        .filter(|seed| machine_uid.is_some_and(|uid| seed.instance_id == uid.to_string()));
    let cluster = cluster_of(&machine);
    let clock = now.saturating_add(jiff::SignedDuration::from_secs(world.clock_error_s)).unwrap_or(now);
    let can_join = seed.as_ref().is_some_and(|seed| can_join(state, &cluster, seed, clock))
        && state.api_is_heard_on(host, &cluster);
    let failing = state.failing_boots.get(&machine.metadata.name).cloned();
    let hangs = state.hanging_boots.contains(&machine.metadata.name);
    let mut guest = domain.guest.clone();
    let mut said = Vec::new();
    let mut event = None;
    let panics = guest.stage == Stage::Kernel && failing.as_ref().is_some_and(|(phase, _)| phase == KERNEL);
    match guest.stage {
        Stage::Kernel if panics => {
            said.push("[    1.665999] Kernel panic - not syncing: it was made to".to_owned());
        }
        Stage::Firmware if up_s >= 1 => {
            guest.stage = Stage::Kernel;
            said.push("[    0.000000] Linux version 6.12 (simulated)".to_owned());
        }
        Stage::Kernel if up_s >= BOOT_S && joined && !hangs => {
            guest.stage = Stage::Node;
            guest.etcd = machine.spec.role == MachineRole::ControlPlane;
        }
        // Without its seed there is nothing to do: as on a real node, the bootstrap unit finds no medium.
        Stage::Kernel if up_s >= BOOT_S && seed.is_some() && !hangs => {
            guest.stage = Stage::Script;
            // The kubelet starts what an earlier boot had got to.
            guest.etcd = is_member(state, &machine, false);
            said.push("ASHLAR-PHASE node-setup start".to_owned());
            said.push("ASHLAR-PHASE node-setup ok".to_owned());
        }
        Stage::Script | Stage::Serving => {
            let fails_later = failing.as_ref().is_some_and(|(phase, _)| {
                phase == ETCD_JOIN && !guest.etcd
                    || guest.stage == Stage::Script && is_after_serving(&machine, phase)
            });
            if let Some((phase, reason)) = failing.filter(|_| !fails_later) {
                guest.stage = Stage::Failed;
                said.push(format!("ASHLAR-PHASE {phase} start"));
                said.push(format!("ASHLAR-PHASE {phase} fail exit=1"));
                said.push(format!("ASHLAR-LOG {phase}: it was made to fail"));
                said.push(format!("ASHLAR-FAILED phase={phase} reason={reason}"));
            } else if machine.spec.bootstrap == Bootstrap::Init {
                guest.work_s += 1;
                match guest.work_s {
                    1 => said.push("ASHLAR-PHASE kubeadm-control-plane start".to_owned()),
                    work if work == INIT_S / 2 => {
                        guest.stage = Stage::Serving;
                        (guest.etcd, guest.serves) = (true, true);
                        event = Some(Reached::Serving);
                    }
                    INIT_S => event = Some(Reached::Node),
                    _ => {}
                }
            } else if can_join && !is_of_minor(state, &cluster, &machine) {
                guest.stage = Stage::Failed;
                said.push("ASHLAR-PHASE kubeadm-preflight start".to_owned());
                said.push("ASHLAR-PHASE kubeadm-preflight fail exit=1".to_owned());
                said.push("ASHLAR-LOG kubeadm-preflight: the cluster is of another minor version".to_owned());
                said.push("ASHLAR-FAILED phase=kubeadm-preflight reason=kubeadm".to_owned());
            } else if can_join {
                let is_control_plane = machine.spec.role == MachineRole::ControlPlane;
                let id = machine_uid.map(member_id).unwrap_or_default();
                match guest.work_s + 1 {
                    LEARNER_S if is_control_plane => {
                        said.push(format!("ASHLAR-PHASE {ETCD_JOIN} start"));
                        guest.etcd = state.add_learner(&cluster, &machine);
                        guest.work_s += i64::from(guest.etcd);
                    }
                    VOTER_S if is_control_plane => match state.promote(&cluster, id) {
                        Some(done) => {
                            guest.work_s += i64::from(done);
                            guest.stage = if done { Stage::Serving } else { guest.stage };
                            guest.serves |= done;
                        }
                        None => {
                            guest.stage = Stage::Failed;
                            said.push(format!("ASHLAR-PHASE {ETCD_JOIN} fail exit=1"));
                            said.push(format!("ASHLAR-LOG {ETCD_JOIN}: etcdserver: member not found"));
                            said.push(format!("ASHLAR-FAILED phase={ETCD_JOIN} reason=kubeadm"));
                        }
                    },
                    work => {
                        guest.work_s = work;
                        match work {
                            1 => said.push("ASHLAR-PHASE kubeadm-kubelet-start start".to_owned()),
                            JOIN_S => event = Some(Reached::Node),
                            _ => {}
                        }
                    }
                }
            }
            if event == Some(Reached::Node) {
                guest.stage = Stage::Node;
                said.push(format!("ASHLAR-PHASE ready ok {up_s}"));
            }
        }
        Stage::Firmware | Stage::Kernel | Stage::Failed | Stage::Node => {}
    }
    let Some(world) = state.hosts.get_mut(host) else { return };
    if event == Some(Reached::Node)
        && let Some(volume) = root.and_then(|path| world.volume_at_mut(&path))
    {
        volume.joined = machine_uid;
    }
    // What it does changes nothing of where it is.
    if let Some(domain) = world.domains.quietly().get_mut(&uuid) {
        domain.guest = guest;
        domain.console.extend(said.iter().flat_map(|line| format!("{line}\r\n").into_bytes()));
    }
    if panics {
        panic(state, host, uuid, &machine.metadata.name);
    }
    if let Some(reached) = event {
        reach(state, &machine, &cluster, seed.as_ref(), reached);
    }
}

/// Whether a machine's kernel panics whenever it boots.
pub(crate) fn panics(state: &State, machine: &str) -> bool {
    state.failing_boots.get(machine).is_some_and(|(phase, _)| phase == KERNEL)
}

/// What libvirt does with a domain whose panic device was told of a panic: `on_crash` says `destroy`.
fn panic(state: &mut State, host: &str, uuid: Uuid, machine: &str) {
    if state.failing_boots.get(machine).is_some_and(|(_, reason)| reason == ONCE) {
        state.failing_boots.remove(machine);
    }
    if let Some(domain) = state.hosts.get_mut(host).and_then(|host| host.domains.get_mut(&uuid)) {
        domain.power_off();
    }
    state.touched_by_hand(host, uuid);
    state.note(format!("{host}: the kernel of {machine} panicked"));
}

/// kubeadm joins only clusters of its own minor version.
fn is_of_minor(state: &State, cluster: &NamespacedName, machine: &Machine) -> bool {
    let minor =
        |version: &str| ashlar_api::validate::parse_version(version).map(|(major, minor, _)| (major, minor));
    let wanted = state.clusters.get(cluster).map(|world| minor(&world.kubernetes_version));
    wanted == Some(minor(&machine.spec.image.kubernetes_version))
}

/// A node joins with its own token, as long as that is valid, and only the cluster whose CA its seed pins.
fn can_join(state: &State, cluster: &NamespacedName, seed: &SeedFacts, clock: jiff::Timestamp) -> bool {
    let Some(world) = state.clusters.get(cluster) else { return false };
    let Some((id, secret)) = &seed.token else { return false };
    let valid = world.tokens.get(id).is_some_and(|token| token.expires > clock && token.secret == *secret);
    let pinned = seed.pinned_ca.as_ref().is_some_and(|ca| world.certificates.contains(ca));
    valid && pinned && api_answers(state, cluster)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Serving,
    Node,
}

/// A node registers itself; the first control plane is a voter from then on.
fn reach(
    state: &mut State,
    machine: &Machine,
    cluster: &NamespacedName,
    seed: Option<&Arc<SeedFacts>>,
    reached: Reached,
) {
    let node = machine.spec.node.name.clone();
    if machine.spec.bootstrap == Bootstrap::Init && reached == Reached::Serving {
        // A new etcd, with nothing of an earlier cluster of the name in it.
        let certificates = seed.map(|seed| seed.certificates.clone()).unwrap_or_default();
        let again = state.clusters.get(cluster).is_some_and(|world| {
            world.initialized_by == machine.metadata.uid && world.certificates == certificates
        });
        if !again {
            let world = SimCluster {
                initialized_by: machine.metadata.uid,
                certificates,
                kubernetes_version: machine.spec.image.kubernetes_version.clone(),
                ..SimCluster::default()
            };
            state.clusters.insert(cluster.clone(), world);
        }
    }
    let world = state.clusters.entry(cluster.clone()).or_default();
    if machine.spec.bootstrap == Bootstrap::Init
        && reached == Reached::Serving
        && world.etcd.members.is_empty()
        && let (Some(uid), Some(address)) = (machine.metadata.uid, machine.spec.node_address())
    {
        let member = SimMember { name: node.clone(), machine: uid, address, is_learner: false };
        world.etcd.members.insert(member_id(uid), member);
    }
    if reached == Reached::Node {
        world.nodes.insert(
            node.clone(),
            SimNode {
                provider_id: machine.spec.node.provider_id.clone(),
                kubelet_version: machine.spec.image.kubernetes_version.clone(),
                labels: machine.spec.node.labels.clone(),
                taints: machine.spec.node.taints.clone(),
                ..SimNode::default()
            },
        );
        state.etcd_write(cluster);
        state.kubelet_asks_first(machine);
        state.note(format!("guest {node}: joined cluster {cluster}"));
    } else {
        state.note(format!("guest {node}: the API of cluster {cluster} answers"));
    }
}

/// A host loses its power: every domain on it is off.
pub(crate) fn power_cut(state: &mut State, host: &str) {
    let Some(world) = state.hosts.get_mut(host) else { return };
    let mut off = Vec::new();
    // What was arriving was defined nowhere.
    world.domains.retain(|_, domain| !domain.arriving);
    for (uuid, domain) in world.domains.iter_mut() {
        domain.left_by_migration = false;
        if domain.state != DomainState::ShutOff {
            domain.power_off();
            off.push(*uuid);
        }
        domain.left_by_migration = false;
    }
    // Nothing of a network is on a disk, and nothing that was sent to it.
    world.networks.clear();
    world.filters_lost_at = Some(state.now);
    world.frozen = false;
    world.power_cuts += 1;
    state.late.retain(|late| late.host != host);
    off.into_iter().for_each(|uuid| state.touched_by_hand(host, uuid));
    state.touched();
}
