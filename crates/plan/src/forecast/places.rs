//! Where machines will be: those that move, and the successors of those that go.

use ashlar_api::*;

use super::Forecast;
use crate::draft::Draft;
use crate::place::{self, Fleet, Request};
use crate::{HostSeen, names};

impl Forecast {
    /// Where the machine is on its way to, or will be once the plan's decisions are committed.
    pub(crate) fn target(&self, machine: &Machine) -> Option<String> {
        let migration = self.world.machines.get(&machine.key())?.record.migration.as_ref()?;
        Some(migration.to.clone())
    }

    /// Where the machine would go on alive, and takes it there for those that come after it.
    ///
    /// # Errors
    /// What would help, if no host takes it.
    pub(crate) fn moved(&mut self, machine: &Machine) -> Result<String, String> {
        let class = self.world.classes.get(&machine.spec.class).ok_or("its class is not there")?;
        let root = machine
            .spec
            .volume(MachineVolumeRole::Root)
            .and_then(|root| self.world.volumes.get(&NamespacedName::new(&machine.metadata.namespace, root)));
        let pool = root.and_then(|root| self.world.pools.get(&root.spec.pool));
        let pool = pool.ok_or("the storage pool of its disks is not in the store")?;
        let is_other =
            |other: &&Machine| other.spec.role == MachineRole::ControlPlane && other.key() != machine.key();
        let others: Vec<String> =
            self.members().filter(is_other).map(|other| other.spec.host.clone()).collect();
        let request = Request {
            machine: machine.key(),
            domain_name: machine.spec.domain.name.clone(),
            cluster: &self.cluster,
            role: machine.spec.role,
            group: &machine.spec.group,
            class,
            image: &self.image,
            network: &self.network,
            pool,
            control_plane_hosts: match machine.spec.role {
                MachineRole::ControlPlane => others,
                MachineRole::Worker => Vec::new(),
            },
            own_domain: Some(machine.spec.domain.uuid),
            moves: Some(machine),
        };
        let draft = Draft::new(&self.world);
        let mut fleet = Fleet::new(&draft, None);
        let placement = place::place(&draft, &mut fleet, &request);
        let help = || place::what_would_help(&fleet, &request, &placement.verdicts);
        let host = placement.host.clone().ok_or_else(help)?;
        let mut moved = machine.clone();
        moved.spec.host.clone_from(&host);
        for own in &machine.spec.volumes {
            let key = NamespacedName::new(&machine.metadata.namespace, &own.name);
            if let Some(volume) = self.world.volumes.get_mut(&key) {
                volume.spec.host.clone_from(&host);
            }
        }
        self.world.machines.insert(moved.key(), moved);
        Ok(host)
    }

    /// Puts a machine's successor in its place: the one that is coming already, or the one that would be decided.
    pub(super) fn successor(&mut self, old: &Machine) -> String {
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
            Err(help) => {
                let text = format!("{name}{size}, for which there is no room ({help}),");
                self.no_room = Some(help);
                text
            }
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

    pub(super) fn forget(&mut self, old: &Machine) {
        self.world.machines.remove(&old.key());
        for host in old.hosts() {
            if let Some(HostSeen::Seen(world)) = self.world.observed.hosts.get_mut(host) {
                world.domains.remove(&old.spec.domain.uuid);
            }
        }
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
