//! What must stand in the store before a call changes the world.

use std::sync::Arc;

use ashlar_api::{Bootstrap, Machine, MachineRole, NamespacedName, SYSTEM_NAMESPACE};
use ashlar_engine::effects::HostTarget;
use ashlar_plan::DomainSpec;
use ashlar_store::Key;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::{FileOwner, field, is_deleting};
use crate::etcd::member_id;
use crate::guest::cluster_of;
use crate::{SimDomain, State};

/// Longest life of a join token.
const TOKEN_LIFE: SignedDuration = SignedDuration::from_mins(15);

impl State {
    fn blame(&mut self, invariant: &str, what: String) {
        if self.oracle.forgiving && invariant != "disks" {
            return;
        }
        self.oracle.violated(invariant, what);
    }

    fn stored_object(&self, kind: &str, name: &NamespacedName) -> Option<Arc<Value>> {
        self.oracle.truth.as_ref()?.peek(&Key::new(kind, &name.namespace, &name.name))
    }

    fn domain_there(&self, host: &HostTarget, domain: Uuid) -> Option<&SimDomain> {
        // A host that does not answer is not changed.
        self.host_at(host).filter(|host| host.reachable)?.domains.get(&domain)
    }

    /// The stored Machine of a domain, if the domain is the one that was recorded.
    fn recorded_machine(&self, domain: &SimDomain, uuid: Uuid) -> Option<Arc<Value>> {
        let machine = domain.machine()?;
        let stored = self.stored_object("Machine", &machine.key())?;
        let same = field(&stored, "/spec/domain/uuid") == uuid.to_string();
        same.then_some(stored)
    }

    fn cluster_is(&self, cluster: &NamespacedName, fits: impl Fn(&Value) -> bool) -> bool {
        self.stored_object("Cluster", cluster).is_some_and(|cluster| fits(&cluster))
    }

    pub(crate) fn judge_define(&mut self, host: &HostTarget, spec: &DomainSpec) {
        self.oracle.dirty = true;
        let name = &spec.name;
        let stored =
            spec.mark.machine.as_ref().and_then(|machine| self.stored_object("Machine", &machine.key()));
        let recorded = stored.is_some_and(|stored| {
            field(&stored, "/spec/domain/uuid") == spec.uuid.to_string()
                && field(&stored, "/spec/host") == host.name
                && !is_deleting(&stored)
        });
        if !recorded {
            self.blame("identity", format!("domain {name} is defined and no such Machine is recorded"));
        }
    }

    pub(crate) fn judge_start(&mut self, host: &HostTarget, uuid: Uuid) {
        self.oracle.dirty = true;
        let Some(domain) = self.domain_there(host, uuid) else { return };
        let (name, machine) = (domain.name.clone(), domain.machine().cloned());
        let domain_ran = !domain.console.is_empty();
        let stored = self.recorded_machine(domain, uuid);
        let Some(stored) = stored else {
            return self.blame("identity", format!("domain {name} is started and is not the recorded one"));
        };
        if is_deleting(&stored) {
            self.blame("intent", format!("domain {name} is started although its deletion is recorded"));
        }
        if stored.pointer("/record/firstStartedAt").is_none() {
            self.blame("crash", format!("domain {name} is started before its start is recorded"));
        }
        let Some(machine) = machine else { return };
        let networks = self.host_at(host).map(|host| host.networks.clone()).unwrap_or_default();
        for nic in &machine.spec.nics {
            let filtered = networks.values().filter(|network| network.intact).any(|network| {
                let taps = network.applied.iter().flat_map(|network| network.taps.values());
                taps.into_iter().any(|tap| tap.mac == nic.mac && tap.addresses.contains(&nic.address.addr()))
            });
            if !filtered {
                self.blame("filter", format!("domain {name} is started without a filter for {}", nic.mac));
            }
        }
        let is_new = stored.pointer("/record/joinedAt").is_none() && !domain_ran;
        if is_new
            && machine.spec.role == MachineRole::ControlPlane
            && machine.spec.bootstrap == Bootstrap::Join
        {
            self.judge_join(&cluster_of(&machine), &name);
        }
        self.judge_images(host, &machine);
        let taken: Vec<_> = machine
            .spec
            .nics
            .iter()
            .filter(|nic| self.foreign_addresses.contains(&(nic.bridge.clone(), nic.address.addr())))
            .map(|nic| nic.address.addr().to_string())
            .collect();
        // One that was in use already when the domain ran first; who comes later is the intruder.
        if stored.pointer("/record/joinedAt").is_none() && !taken.is_empty() {
            self.blame(
                "uniqueness",
                format!("domain {name} starts with {}, which others use", taken.join(", ")),
            );
        }
    }

    /// Shutdown or destroy.
    pub(crate) fn judge_stop(&mut self, host: &HostTarget, uuid: Uuid, call: &str) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        let Some(domain) = self.domain_there(host, uuid) else { return };
        let (name, was_running) = (domain.name.clone(), domain.state.is_active());
        let Some(machine) = domain.machine().cloned() else {
            return self.blame("identity", format!("{call} of the foreign domain {name}"));
        };
        let cluster = cluster_of(&machine);
        let Some(stored) = self.recorded_machine(domain, uuid) else {
            return self.blame("identity", format!("{call} of {name}, which is not the recorded domain"));
        };
        let stopped = self.cluster_is(&cluster, |cluster| {
            cluster.pointer("/record/stopped").and_then(Value::as_bool) == Some(true)
        });
        if !is_deleting(&stored) && !stopped {
            self.blame("intent", format!("{call} of {name} without recorded intent"));
        }
        let whole = stopped || self.cluster_is(&cluster, is_deleting);
        if was_running && !whole && machine.spec.role == MachineRole::ControlPlane {
            self.judge_quorum(&cluster, machine.metadata.uid, call);
        }
    }

    /// 4: taking this member away must leave a majority, unless there was none before.
    fn judge_quorum(&mut self, cluster: &NamespacedName, machine: Option<Uuid>, call: &str) {
        let Some(world) = self.clusters.get(cluster) else { return };
        let Some(id) = machine.map(member_id) else { return };
        let Some(name) = world.etcd.members.get(&id).map(|member| member.name.clone()) else { return };
        let voters = world.etcd.voters().len();
        let left = self.living_voters(cluster).iter().filter(|voter| **voter != id).count();
        if self.has_quorum(cluster) && left <= voters / 2 {
            self.blame("quorum", format!("{call} of {name} leaves {left} of {voters} voters of {cluster}"));
        }
    }

    /// 4: a member goes only with the recorded intent to delete its machine, or after its join failed; and its going
    /// leaves a majority of those who are left, unless there was none before.
    pub(crate) fn judge_remove_member(&mut self, cluster: &NamespacedName, id: u64) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        let Some(member) = self.clusters.get(cluster).and_then(|world| world.etcd.members.get(&id)) else {
            return;
        };
        let (name, is_learner) = (member.name.clone(), member.is_learner);
        let stored = self.stored_object("Machine", &NamespacedName::new(&cluster.namespace, &name));
        let wished = stored.as_ref().is_some_and(|stored| {
            is_deleting(stored) || is_learner && stored.pointer("/record/failure").is_some()
        });
        if !wished {
            self.blame(
                "intent",
                format!("etcd member {name} of {cluster} is removed without recorded intent"),
            );
        }
        if is_learner {
            return;
        }
        let (living, voters) = self.etcd_votes(cluster);
        let left = self.living_voters(cluster).iter().filter(|voter| **voter != id).count();
        if living > voters / 2 && left <= (voters - 1) / 2 {
            self.blame(
                "quorum",
                format!("the removal of {name} leaves {left} living of {} voters of {cluster}", voters - 1),
            );
        }
    }

    /// 4: a control plane that joins brings a vote before anybody knows whether it is healthy: together with those that
    /// are dead it must leave a majority. And a dead one is removed before its replacement comes.
    fn judge_join(&mut self, cluster: &NamespacedName, name: &str) {
        let (living, voters) = self.etcd_votes(cluster);
        if voters > 1 && living <= voters.div_ceil(2) {
            self.blame("quorum", format!("{name} joins {living} living of {voters} voters of {cluster}"));
        }
        let learners =
            self.clusters.get(cluster).map(|world| world.etcd.learners().len()).unwrap_or_default();
        if learners > 0 {
            self.blame("quorum", format!("{name} joins {cluster} beside another learner"));
        }
    }

    pub(crate) fn judge_undefine(&mut self, host: &HostTarget, uuid: Uuid) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        let Some(domain) = self.domain_there(host, uuid) else { return };
        let name = domain.name.clone();
        match self.recorded_machine(domain, uuid) {
            None => self.blame("identity", format!("undefine of {name}, which is not the recorded domain")),
            Some(stored) if !is_deleting(&stored) => {
                self.blame("intent", format!("undefine of {name} without recorded intent"));
            }
            Some(_) => {}
        }
    }

    pub(crate) fn judge_eject(&mut self, host: &HostTarget, uuid: Uuid) {
        self.oracle.dirty = true;
        let Some(domain) = self.domain_there(host, uuid) else { return };
        let name = domain.name.clone();
        let allowed = self
            .recorded_machine(domain, uuid)
            .is_some_and(|stored| is_deleting(&stored) || stored.pointer("/record/joinedAt").is_some());
        if !allowed {
            self.blame("intent", format!("the seed of {name} is ejected before it has joined"));
        }
    }

    /// The Volume that the store has of a file.
    fn recorded_volume(&self, host: &HostTarget, pool: Uuid, file_name: &str) -> Option<Arc<Value>> {
        self.oracle.stored("Volume").into_iter().map(|(_, volume)| volume).find(|volume| {
            field(volume, "/spec/host") == host.name
                && field(volume, "/spec/poolUuid") == pool.to_string()
                && field(volume, "/spec/fileName") == file_name
        })
    }

    /// The stored machine of a Volume, if it is a machine's.
    fn machine_of_volume(&self, volume: &Value) -> Option<Arc<Value>> {
        let machine = volume.pointer("/spec/content/machine").and_then(Value::as_str)?;
        self.stored_object("Machine", &NamespacedName::new(field(volume, "/metadata/namespace"), machine))
    }

    /// Whether a file may be taken away: by intent, or a seed that has done its work, or what never counted: an image
    /// file that was not verified, a disk whose making was cut off before its machine ever ran.
    fn may_go(&self, volume: &Value) -> bool {
        let machine = self.machine_of_volume(volume);
        let joined = || machine.as_ref().is_some_and(|machine| machine.pointer("/record/joinedAt").is_some());
        let image = field(volume, "/spec/content/type") == "imageFile";
        let filled = volume.pointer("/record/filled").and_then(Value::as_bool) == Some(true);
        let started =
            machine.as_ref().is_some_and(|machine| machine.pointer("/record/firstStartedAt").is_some());
        let never_counted = !filled && (image || machine.is_some() && !started);
        is_deleting(volume)
            || never_counted
            || machine.as_deref().is_some_and(is_deleting)
            || field(volume, "/spec/content/role") == "seed" && joined()
    }

    pub(crate) fn judge_create_volume(&mut self, host: &HostTarget, pool: Uuid, file_name: &str) {
        self.oracle.dirty = true;
        match self.recorded_volume(host, pool, file_name) {
            None => self.blame("identity", format!("file {file_name} is made and no Volume is recorded")),
            Some(volume) if is_deleting(&volume) => {
                self.blame("intent", format!("file {file_name} is made although its deletion is recorded"));
            }
            Some(volume) => {
                let Some(machine) = self.machine_of_volume(&volume) else { return };
                let namespace = field(&machine, "/metadata/namespace");
                let owner = FileOwner {
                    machine: field(&machine, "/metadata/name").to_owned(),
                    cluster: NamespacedName::new(namespace, field(&machine, "/spec/cluster")),
                };
                self.oracle.created.insert((host.name.clone(), pool, file_name.to_owned()), owner);
            }
        }
    }

    pub(crate) fn judge_upload(&mut self, host: &HostTarget, pool: Uuid, file_name: &str) {
        self.oracle.dirty = true;
        if self.recorded_volume(host, pool, file_name).is_none() {
            self.blame("identity", format!("file {file_name} is written and no Volume is recorded"));
        }
        // A base file that was lost is made again under what stands on it; what was written once is not.
        let file = self.host_at(host).and_then(|host| host.pools.get(&pool));
        let file = file.and_then(|pool| pool.volumes.get(file_name));
        let is_whole = |file: &crate::SimVolume| file.arrived.whole(file.capacity_bytes).is_some();
        if file.is_none_or(|file| is_whole(file) || file.seed.is_some()) {
            self.judge_unused(host, pool, file_name, "written");
        }
    }

    /// No machine starts on an image file that is not all there, or did not arrive as it should be.
    fn judge_images(&mut self, host: &HostTarget, machine: &Machine) {
        let image = &machine.spec.image;
        for name in [&image.disk_volume, &image.kernel_volume, &image.initrd_volume] {
            let volume = self.stored_object("Volume", &NamespacedName::new(SYSTEM_NAMESPACE, name));
            let Some(volume) = volume else { continue };
            let path = format!("{}/{}", field(&volume, "/spec/poolPath"), field(&volume, "/spec/fileName"));
            let file = self.host_at(host).and_then(|host| host.volume_at(&path));
            let Some(found) = file.map(|file| file.arrived.sha256(file.capacity_bytes)) else { continue };
            // One that went bad after it had been verified is nobody's mistake.
            if found != crate::image::ROTTEN && found != field(&volume, "/spec/content/sha256") {
                let machine = machine.key();
                self.blame("image", format!("{machine} is started from {path}, which holds {found}"));
            }
        }
    }

    pub(crate) fn judge_wipe(&mut self, host: &HostTarget, pool: Uuid, file_name: &str) {
        self.destructive_calls += u64::from(!file_name.contains("-seed-"));
        self.oracle.dirty = true;
        match self.recorded_volume(host, pool, file_name) {
            None => self.blame("identity", format!("file {file_name} is wiped and no Volume is recorded")),
            Some(volume) if !self.may_go(&volume) => {
                self.blame("intent", format!("file {file_name} is wiped without recorded intent"));
            }
            Some(_) => {}
        }
        self.judge_unused(host, pool, file_name, "wiped");
    }

    pub(crate) fn judge_delete_volume(&mut self, host: &HostTarget, pool: Uuid, file_name: &str) {
        self.destructive_calls += u64::from(!file_name.contains("-seed-"));
        self.oracle.dirty = true;
        match self.recorded_volume(host, pool, file_name) {
            None => self.blame("identity", format!("file {file_name} is deleted and no Volume is recorded")),
            Some(volume) if !self.may_go(&volume) => {
                self.blame("intent", format!("file {file_name} is deleted without recorded intent"));
            }
            Some(_) => {}
        }
        let file = self.host_at(host).filter(|host| host.reachable);
        let file = file.and_then(|host| host.pools.get(&pool)).and_then(|pool| pool.volumes.get(file_name));
        if file.is_some_and(|file| file.seed.is_some()) {
            self.blame("secrets", format!("the seed {file_name} is deleted and was not wiped"));
        }
        self.judge_unused(host, pool, file_name, "deleted");
    }

    /// No running domain uses the file, and for what takes it away: no overlay stands on it.
    fn judge_unused(&mut self, host: &HostTarget, pool: Uuid, file_name: &str, done: &str) {
        let Some(seen) = self.host_at(host).filter(|host| host.reachable) else { return };
        let Some(pool) = seen.pools.get(&pool) else { return };
        let path = format!("{}/{file_name}", pool.path);
        let user = seen.domains.values().find(|domain| {
            domain.state.is_active()
                && (domain.disk_paths.contains(&path) || domain.medium_path.as_ref() == Some(&path))
        });
        let overlay = seen
            .pools
            .values()
            .flat_map(|pool| &pool.volumes)
            .find(|(_, volume)| volume.backing_path.as_ref() == Some(&path));
        let mut blames = Vec::new();
        if let Some(user) = user {
            blames.push(format!("file {file_name} is {done} while {} runs with it", user.name));
        }
        if let Some((overlay, _)) = overlay {
            blames.push(format!("file {file_name} is {done} while {overlay} stands on it"));
        }
        for what in blames {
            self.blame("disks", what);
        }
    }

    /// 4: what was acknowledged stays.
    pub(crate) fn judge_lost_writes(&mut self, cluster: &NamespacedName, count: usize) {
        let what = format!("{count} writes that the etcd of {cluster} has acknowledged are gone");
        self.blame("durability", what);
    }

    pub(crate) fn judge_token(&mut self, cluster: &NamespacedName, expires: Timestamp, secret: &str) {
        self.oracle.dirty = true;
        self.oracle.learn_secret("a join token", secret.as_bytes());
        // By the clock of whoever gives it: that is wrong at times, and nobody can know.
        if expires.duration_since(self.now) - self.clock_error > TOKEN_LIFE {
            self.blame("secrets", format!("a join token of {cluster} lives longer than 15 minutes"));
        }
    }

    pub(crate) fn judge_delete_node(&mut self, cluster: &NamespacedName, node: &str) {
        self.destructive_calls += 1;
        self.oracle.dirty = true;
        let machine = self.stored_object("Machine", &NamespacedName::new(&cluster.namespace, node));
        if machine.is_none_or(|machine| !is_deleting(&machine)) {
            self.blame("intent", format!("node {node} of {cluster} is deleted without recorded intent"));
        }
    }
}
