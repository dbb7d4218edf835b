//! What a rollout will do, machine by machine, as far as it can be told before: later steps are decided in their turn, with
//! the hosts as they are then.

mod places;

use ashlar_api::*;

use crate::draft::machine_order;
use crate::etcd::Etcd;
use crate::{Decision, Objects, Plan, Snapshot, certificates, fence, migration};

/// The store as it would be after each step.
pub(crate) struct Forecast {
    world: Snapshot,
    cluster: Cluster,
    image: Image,
    network: Network,
    /// Where what is new in this plan stands.
    coming: Vec<Machine>,
    /// Why the last successor that was looked for has no host.
    no_room: Option<String>,
}

/// The store as it will be once the plan's decisions are committed, as far as a forecast looks at it.
pub(crate) fn after(snapshot: &Snapshot, plan: &Plan) -> Snapshot {
    let mut world = snapshot.clone();
    for decision in plan.decisions.iter().flatten() {
        let (Decision::Create(object) | Decision::Update(object)) = decision else { continue };
        match object {
            Object::Cluster(new) => _ = world.clusters.insert(new.key(), Cluster::clone(new)),
            Object::WorkerGroup(new) => _ = world.groups.insert(new.key(), WorkerGroup::clone(new)),
            Object::Machine(new) => _ = world.machines.insert(new.key(), Machine::clone(new)),
            Object::Volume(new) => _ = world.volumes.insert(new.key(), Volume::clone(new)),
            _ => {}
        }
    }
    world
}

/// A cluster, and the groups of all, as they will be once the plan's decisions are committed.
fn decided(
    snapshot: &Snapshot,
    plan: &Plan,
    key: &NamespacedName,
) -> Option<(Cluster, Objects<NamespacedName, WorkerGroup>)> {
    let mut cluster = snapshot.clusters.get(key)?.clone();
    let mut groups = snapshot.groups.clone();
    for decision in plan.decisions.iter().flatten() {
        match decision {
            Decision::Update(Object::Cluster(changed)) if changed.key() == *key => {
                cluster = Cluster::clone(changed);
            }
            Decision::Create(Object::WorkerGroup(group)) | Decision::Update(Object::WorkerGroup(group)) => {
                groups.insert(group.key(), WorkerGroup::clone(group));
            }
            _ => {}
        }
    }
    Some((cluster, groups))
}

impl Forecast {
    /// That of a cluster, if some of its machines are replaced. The store is copied only where there is something to tell.
    pub(crate) fn new(snapshot: &Snapshot, plan: &Plan, key: &NamespacedName) -> Option<Self> {
        let (cluster, groups) = decided(snapshot, plan, key)?;
        let image = snapshot.images.get(&cluster.record.image)?;
        let goes = |machine: &Machine| {
            is_replaced_by_wish(snapshot, machine) || !is_current(snapshot, machine, &cluster, &groups, image)
        };
        let mut of_cluster = snapshot.machines.values().filter(|machine| {
            machine.spec.cluster == key.name
                && machine.metadata.namespace == key.namespace
                && !machine.record.disks_only
        });
        of_cluster.any(goes).then(|| Self::over(after(snapshot, plan), key)).flatten()
    }

    /// That of a cluster in a store in which a plan's decisions are committed.
    pub(crate) fn over(world: Snapshot, key: &NamespacedName) -> Option<Self> {
        let cluster = world.clusters.get(key)?.clone();
        if cluster.metadata.is_deleting() || cluster.record.stopped {
            return None;
        }
        let image = world.images.get(&cluster.record.image)?.clone();
        let network = world.networks.get(&cluster.spec.network)?.clone();
        let coming = world
            .machines
            .values()
            .filter(|machine| {
                machine.spec.cluster == key.name
                    && machine.metadata.namespace == key.namespace
                    && machine.record.joined_at.is_none()
                    && !machine.metadata.is_deleting()
                    && is_current(&world, machine, &cluster, &world.groups, &image)
            })
            .cloned()
            .collect();
        Some(Forecast { world, cluster, image, network, coming, no_room: None })
    }

    /// Whether a machine is of the class and image that are asked for, and on a host that it may stay on.
    pub(crate) fn is_current(&self, machine: &Machine) -> bool {
        is_current(&self.world, machine, &self.cluster, &self.world.groups, &self.image)
    }

    /// What is done to replace a machine, and takes its place for those that come after it.
    pub(crate) fn replaced(&mut self, machine: &Machine) -> String {
        self.no_room = None;
        match machine.spec.role {
            MachineRole::ControlPlane => self.control_plane(machine),
            MachineRole::Worker => self.worker(machine),
        }
    }

    /// Whether the machine of the last forecast has to wait for room: another one joins before it goes.
    pub(crate) fn waits_for_room(&self, machine: &Machine) -> Option<&str> {
        let joins_first = self.group_of(machine).is_none_or(|group| group.spec.rollout.max_surge > 0);
        self.no_room.as_deref().filter(|_| joins_first)
    }

    /// The store as it is after all that was forecast.
    pub(crate) fn into_world(self) -> Snapshot {
        self.world
    }

    /// Whether the rollout is one to another version.
    pub(crate) fn version(&self, outdated: &[Machine]) -> Option<&str> {
        let to = self.image.spec.kubernetes_version.as_str();
        outdated.iter().any(|machine| machine.spec.image.kubernetes_version != to).then_some(to)
    }

    /// Those that are replaced, in their order: who goes already comes first.
    pub(crate) fn outdated(&self) -> Vec<Machine> {
        let mut machines: Vec<Machine> = self
            .members()
            .filter(|machine| {
                if self.is_current(machine) {
                    is_replaced_by_wish(&self.world, machine) && !self.is_succeeded(machine)
                } else {
                    true
                }
            })
            .filter(|machine| match self.group_of(machine) {
                Some(group) => group.spec.replicas.is_some() && !group.metadata.is_deleting(),
                None => machine.spec.role == MachineRole::ControlPlane,
            })
            .cloned()
            .collect();
        machines.sort_by(|one, other| {
            let rank = |machine: &Machine| (machine.spec.role, !machine.metadata.is_deleting());
            rank(one).cmp(&rank(other)).then_with(|| machine_order(one).cmp(&machine_order(other)))
        });
        machines
    }

    /// Without those of which only disks are left.
    fn members(&self) -> impl Iterator<Item = &Machine> {
        let key = self.cluster.key();
        self.world.machines.values().filter(move |machine| {
            machine.spec.cluster == key.name
                && machine.metadata.namespace == key.namespace
                && !machine.record.disks_only
        })
    }

    fn group_of(&self, machine: &Machine) -> Option<&WorkerGroup> {
        self.world.groups.get(&NamespacedName::new(&machine.metadata.namespace, &machine.spec.group))
    }

    /// Whether a machine that goes has a successor already, which has joined.
    fn is_succeeded(&self, old: &Machine) -> bool {
        let wanted = match self.group_of(old) {
            Some(group) => group.spec.replicas.unwrap_or_default(),
            None => self.cluster.spec.control_plane.replicas,
        };
        let stays = |machine: &&Machine| {
            machine.spec.role == old.spec.role
                && machine.spec.group == old.spec.group
                && !machine.metadata.is_deleting()
                && machine.record.joined_at.is_some()
        };
        old.metadata.is_deleting() && self.members().filter(stays).count() >= wanted as usize
    }

    fn goes(&mut self, old: &Machine) -> String {
        self.forget(old);
        let (name, host) = (&old.metadata.name, &old.spec.host);
        let how = if old.spec.role == MachineRole::ControlPlane { "leaves etcd and goes" } else { "goes" };
        format!("{name} on {host} is drained and {how}: another has its place")
    }

    fn control_plane(&mut self, old: &Machine) -> String {
        if self.is_succeeded(old) {
            return self.goes(old);
        }
        let voters = self.members().filter(|machine| machine.spec.role == MachineRole::ControlPlane).count();
        let voters =
            voters - self.coming.iter().filter(|new| new.spec.role == MachineRole::ControlPlane).count();
        let (new, more) = (self.successor(old), voters + 1);
        format!(
            "control plane {new} joins (etcd: {}), then {} on {} is drained, leaves etcd ({}) and goes",
            majority(more),
            old.metadata.name,
            old.spec.host,
            majority(voters)
        )
    }

    fn worker(&mut self, old: &Machine) -> String {
        if self.is_succeeded(old) {
            return self.goes(old);
        }
        let surge = self.group_of(old).is_none_or(|group| group.spec.rollout.max_surge > 0);
        let asked_for = self.group_of(old).and_then(|group| group.spec.replicas).unwrap_or_default();
        let new = self.successor(old);
        let (name, host) = (&old.metadata.name, &old.spec.host);
        if old.metadata.is_deleting() {
            // Nothing that goes waits for who comes.
            let less = asked_for.saturating_sub(1);
            format!(
                "{name} on {host} is drained and goes, while worker {new} joins ({less} of {asked_for} workers until it has)"
            )
        } else if surge {
            let more = asked_for + 1;
            format!(
                "worker {new} joins ({more} workers for {asked_for} meanwhile), then {name} on {host} is drained and goes"
            )
        } else {
            let less = asked_for.saturating_sub(1);
            format!(
                "{name} on {host} is drained and goes ({less} of {asked_for} workers meanwhile), then worker {new} joins"
            )
        }
    }
}

/// How many vote, and how many of them etcd needs.
fn majority(voters: usize) -> String {
    match voters {
        1 => "1 voter".to_owned(),
        _ => format!("{voters} voters, of which {} have to be healthy", voters / 2 + 1),
    }
}

/// Whether a machine is what it is to be, and may stay where it is.
fn is_current(
    snapshot: &Snapshot,
    machine: &Machine,
    cluster: &Cluster,
    groups: &Objects<NamespacedName, WorkerGroup>,
    image: &Image,
) -> bool {
    let group = NamespacedName::new(&machine.metadata.namespace, &machine.spec.group);
    let class = match groups.get(&group) {
        Some(group) => &group.spec.class,
        None => &cluster.spec.control_plane.class,
    };
    machine.spec.class == *class
        && machine.spec.image.name == image.metadata.name
        && !migration::is_replaced(snapshot, machine)
        && !certificates::are_due(machine, snapshot.now)
        && machine.record.replacement_asked_at.is_none()
}

/// Whether a machine that is well goes because somebody asked for that; of a control plane another one comes first.
/// One of too many goes too, and has no successor: that is for whoever asks to find out.
fn is_replaced_by_wish(snapshot: &Snapshot, machine: &Machine) -> bool {
    let is_well = || match machine.spec.role {
        MachineRole::Worker => true,
        MachineRole::ControlPlane => {
            let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
            Etcd::of(snapshot, &cluster).is_ok_and(|etcd| {
                etcd.member_of(machine).is_some_and(|member| etcd.ailment(member).is_none())
            })
        }
    };
    machine.metadata.is_deleting()
        && machine.record.joined_at.is_some()
        && machine.record.ailment.is_none()
        && machine.record.failure.is_none()
        && fence::proof(snapshot, &machine.spec.host).is_none()
        && is_well()
}
