//! What a rollout will do, machine by machine, as far as it can be told before: later steps are decided in their turn, with
//! the hosts as they are then.

use std::fmt::Write as _;

use ashlar_api::*;
use jiff::Timestamp;

use crate::draft::{Draft, machine_order};
use crate::place::{self, Fleet, Request};
use crate::{Decision, Objects, Plan, Snapshot, certificates, names};

/// Steps that are told; of bigger clusters the rest is counted.
const TOLD: usize = 40;

/// Lines about the cluster's rollout, if it has one.
pub(super) fn write(text: &mut String, snapshot: &Snapshot, plan: &Plan, key: &NamespacedName) {
    let Some(mut forecast) = Forecast::new(snapshot, plan, key) else { return };
    let outdated = forecast.outdated();
    if outdated.is_empty() {
        return;
    }
    let to = &forecast.image.spec.kubernetes_version;
    let _ = writeln!(
        text,
        "  rollout to {to}, one after the other (hosts are what they would be if nothing else changed):"
    );
    for (number, machine) in outdated.iter().take(TOLD).enumerate() {
        let line = match machine.spec.role {
            MachineRole::ControlPlane => forecast.control_plane(machine),
            MachineRole::Worker => forecast.worker(machine),
        };
        let _ = writeln!(text, "    {:>3}. {line}", number + 1);
    }
    if outdated.len() > TOLD {
        let _ = writeln!(text, "         and {} more", outdated.len() - TOLD);
    }
}

/// The store as it would be after each step.
struct Forecast {
    world: Snapshot,
    cluster: Cluster,
    image: Image,
    network: Network,
    /// Where what is new in this plan stands.
    coming: Vec<Machine>,
}

impl Forecast {
    fn new(snapshot: &Snapshot, plan: &Plan, key: &NamespacedName) -> Option<Self> {
        let mut cluster = snapshot.clusters.get(key)?.clone();
        for decision in plan.decisions.iter().flatten() {
            if let Decision::Update(Object::Cluster(changed)) = decision
                && changed.key() == *key
            {
                cluster = Cluster::clone(changed);
            }
        }
        if cluster.metadata.is_deleting() || cluster.record.stopped {
            return None;
        }
        let image = snapshot.images.get(&cluster.record.image)?.clone();
        let network = snapshot.networks.get(&cluster.spec.network)?.clone();
        // The store is copied only where there is something to tell.
        let of_cluster = |machine: &&Machine| {
            machine.spec.cluster == key.name && machine.metadata.namespace == key.namespace
        };
        let mut groups = snapshot.groups.clone();
        for decision in plan.decisions.iter().flatten() {
            if let Decision::Create(Object::WorkerGroup(group))
            | Decision::Update(Object::WorkerGroup(group)) = decision
            {
                groups.insert(group.key(), WorkerGroup::clone(group));
            }
        }
        let differs = |machine: &Machine| !is_current(machine, &cluster, &groups, &image, snapshot.now);
        if !snapshot.machines.values().filter(of_cluster).any(differs) {
            return None;
        }
        let mut world = snapshot.clone();
        world.groups = groups;
        for decision in plan.decisions.iter().flatten() {
            match decision {
                Decision::Create(object) | Decision::Update(object) => match object {
                    Object::Machine(object) => {
                        _ = world.machines.insert(object.key(), Machine::clone(object))
                    }
                    Object::Volume(object) => _ = world.volumes.insert(object.key(), Volume::clone(object)),
                    _ => {}
                },
                Decision::Remove { .. } | Decision::Check { .. } => {}
            }
        }
        let coming = world
            .machines
            .values()
            .filter(of_cluster)
            .filter(|machine| {
                machine.record.joined_at.is_none()
                    && is_current(machine, &cluster, &world.groups, &image, world.now)
            })
            .cloned()
            .collect();
        Some(Forecast { world, cluster, image, network, coming })
    }

    /// Those that are replaced, in their order: who goes already comes first.
    fn outdated(&self) -> Vec<Machine> {
        let mut machines: Vec<Machine> = self
            .members()
            .filter(|machine| {
                !is_current(machine, &self.cluster, &self.world.groups, &self.image, self.world.now)
            })
            .filter(|machine| match self.group_of(machine) {
                Some(group) => group.spec.replicas.is_some(),
                None => true,
            })
            .cloned()
            .collect();
        machines.sort_by(|one, other| {
            let rank = |machine: &Machine| (machine.spec.role, !machine.metadata.is_deleting());
            rank(one).cmp(&rank(other)).then_with(|| machine_order(one).cmp(&machine_order(other)))
        });
        machines
    }

    fn members(&self) -> impl Iterator<Item = &Machine> {
        let key = self.cluster.key();
        self.world.machines.values().filter(move |machine| {
            machine.spec.cluster == key.name && machine.metadata.namespace == key.namespace
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
            "control plane {new} joins (etcd: {more} voters, of which {} have to be healthy), then {} on {} is drained, leaves etcd \
             ({voters} voters, of which {} have to be healthy) and goes",
            more / 2 + 1,
            old.metadata.name,
            old.spec.host,
            voters / 2 + 1
        )
    }

    fn worker(&mut self, old: &Machine) -> String {
        if self.is_succeeded(old) {
            return self.goes(old);
        }
        let surge = self.group_of(old).is_none_or(|group| group.spec.rollout.max_surge > 0);
        let new = self.successor(old);
        let (name, host) = (&old.metadata.name, &old.spec.host);
        if surge {
            format!("worker {new} joins, then {name} on {host} is drained and goes")
        } else {
            format!("{name} on {host} is drained and goes, then worker {new} joins")
        }
    }

    /// Puts a machine's successor in its place: the one that is coming already, or the one that would be decided.
    fn successor(&mut self, old: &Machine) -> String {
        let fits = |new: &&Machine| new.spec.role == old.spec.role && new.spec.group == old.spec.group;
        let coming = self.coming.iter().position(|new| fits(&new));
        let (name, host) = match coming {
            Some(index) => {
                let new = self.coming.remove(index);
                (new.metadata.name, Ok(new.spec.host))
            }
            None => self.place(old),
        };
        self.forget(old);
        if coming.is_none()
            && let Ok(host) = &host
        {
            self.put(old, &name, host);
        }
        let class = self.wanted_class(old);
        let size = self
            .world
            .classes
            .get(&class)
            .map(|class| format!(" ({} vCPUs, {})", class.spec.vcpus, class.spec.memory))
            .unwrap_or_default();
        match host {
            Ok(host) => format!("{name} on {host}{size}"),
            Err(help) => format!("{name}{size}, for which there is no room ({help}),"),
        }
    }

    fn wanted_class(&self, old: &Machine) -> String {
        match self.group_of(old) {
            Some(group) => group.spec.class.clone(),
            None => self.cluster.spec.control_plane.class.clone(),
        }
    }

    fn place(&mut self, old: &Machine) -> (String, Result<String, String>) {
        let is_worker = old.spec.role == MachineRole::Worker;
        let prefix = if is_worker {
            old.spec.group.clone()
        } else {
            format!("{}-{}", self.cluster.metadata.name, ashlar_api::names::CONTROL_PLANE_GROUP)
        };
        let last =
            match self.world.groups.get_mut(&NamespacedName::new(&old.metadata.namespace, &old.spec.group)) {
                Some(group) => &mut group.record.last_number,
                None => &mut self.cluster.record.last_control_plane_number,
            };
        *last += 1;
        let name = format!("{prefix}-{last}");
        let class = self.wanted_class(old);
        let Some(class) = self.world.classes.get(&class) else {
            return (name, Err(format!("machine class {class} does not exist")));
        };
        let pool = match place::pool_of(&self.world, class) {
            Ok(pool) => pool,
            Err(message) => return (name, Err(message)),
        };
        let machine = NamespacedName::new(&old.metadata.namespace, &name);
        let others: Vec<String> = self
            .members()
            .filter(|machine| machine.spec.role == MachineRole::ControlPlane && machine.key() != old.key())
            .map(|machine| machine.spec.host.clone())
            .collect();
        let mut request = Request {
            domain_name: names::domain(&machine),
            machine,
            cluster: &self.cluster,
            role: old.spec.role,
            group: &old.spec.group,
            class,
            image: &self.image,
            network: &self.network,
            pool,
            control_plane_hosts: others.clone(),
            own_domain: None,
            moves: None,
        };
        let surge = self.group_of(old).is_none_or(|group| group.spec.rollout.max_surge > 0);
        let draft = Draft::new(&self.world);
        let mut fleet = Fleet::new(&draft, (!surge).then_some(&old.key()));
        if !is_worker && !others.contains(&old.spec.host) {
            // Apart from whom it replaces too, if that can be.
            request.control_plane_hosts.push(old.spec.host.clone());
            let apart = place::place(&draft, &mut fleet, &request).host;
            if let Some(host) = apart.filter(|host| !request.control_plane_hosts.contains(host)) {
                return (name, Ok(host));
            }
            request.control_plane_hosts.pop();
        }
        let placement = place::place(&draft, &mut fleet, &request);
        let help = || place::what_would_help(&fleet, &request, &placement.verdicts);
        let host = placement.host.clone().ok_or_else(help);
        (name, host)
    }

    fn forget(&mut self, old: &Machine) {
        self.world.machines.remove(&old.key());
        for volume in &old.spec.volumes {
            self.world.volumes.remove(&NamespacedName::new(&old.metadata.namespace, &volume.name));
        }
    }

    /// A machine that takes as much as it will, for those that come after it.
    fn put(&mut self, old: &Machine, name: &str, host: &str) {
        let mut new = old.clone();
        name.clone_into(&mut new.metadata.name);
        host.clone_into(&mut new.spec.host);
        new.spec.domain.name = names::domain(&new.key());
        new.metadata.deletion_timestamp = None;
        new.spec.image.name.clone_from(&self.image.metadata.name);
        new.spec.class = self.wanted_class(old);
        if let Some(class) = self.world.classes.get(&new.spec.class) {
            (new.spec.vcpus, new.spec.memory) = (class.spec.vcpus, class.spec.memory);
        }
        self.world.machines.insert(new.key(), new);
    }
}

/// Whether a machine is what it is to be.
fn is_current(
    machine: &Machine,
    cluster: &Cluster,
    groups: &Objects<NamespacedName, WorkerGroup>,
    image: &Image,
    now: Timestamp,
) -> bool {
    let group = NamespacedName::new(&machine.metadata.namespace, &machine.spec.group);
    let class = match groups.get(&group) {
        Some(group) => &group.spec.class,
        None => &cluster.spec.control_plane.class,
    };
    machine.spec.class == *class
        && machine.spec.image.name == image.metadata.name
        && !certificates::are_due(machine, now)
}
