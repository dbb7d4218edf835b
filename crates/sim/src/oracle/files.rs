//! Files in pools: recorded before they are made, whole before they are used, and never taken from under anybody.

use std::sync::Arc;

use ashlar_api::{Machine, MachineVolumeRole, Mebibytes, NamespacedName, SYSTEM_NAMESPACE};
use ashlar_engine::effects::HostTarget;
use serde_json::Value;
use uuid::Uuid;

use super::{FileOwner, field, is_deleting};
use crate::State;

impl State {
    /// 3: a machine begins with disks as they were asked for: one whose making was cut off is no disk.
    pub(super) fn judge_disks(&mut self, host: &HostTarget, machine: &Machine) {
        for disk in machine.spec.volumes.iter().filter(|disk| disk.role != MachineVolumeRole::Seed) {
            let name = NamespacedName::new(&machine.metadata.namespace, &disk.name);
            let Some(volume) = self.stored_object("Volume", &name) else { continue };
            let wanted: Option<Mebibytes> = volume
                .pointer("/spec/capacity")
                .and_then(|capacity| serde_json::from_value(capacity.clone()).ok());
            let path = format!("{}/{}", field(&volume, "/spec/poolPath"), field(&volume, "/spec/fileName"));
            let found = self.host_at(host).and_then(|host| host.volume_at(&path));
            let found = found.map(|file| file.capacity_bytes);
            if found.is_some() && found != wanted.map(|wanted| wanted.bytes()) {
                self.blame("disks", format!("{} begins on {path}, which is half made", machine.key()));
            }
        }
    }

    /// The Volume that the store has of a file.
    pub(super) fn recorded_volume(
        &self,
        host: &HostTarget,
        pool: Uuid,
        file_name: &str,
    ) -> Option<Arc<Value>> {
        let pool = pool.to_string();
        // Without pointers, which are parsed for each of all Volumes.
        self.oracle.truth.as_ref()?.find("Volume", |volume| {
            let Some(spec) = volume.get("spec") else { return false };
            let is = |name: &str, wanted: &str| spec.get(name).and_then(Value::as_str) == Some(wanted);
            is("fileName", file_name) && is("host", &host.name) && is("poolUuid", &pool)
        })
    }

    /// The stored machine of a Volume, if it is a machine's.
    pub(super) fn machine_of_volume(&self, volume: &Value) -> Option<Arc<Value>> {
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
        if !self.takes_calls(host) {
            return;
        }
        match self.recorded_volume(host, pool, file_name) {
            None => self.blame("identity", format!("file {file_name} is made and no Volume is recorded")),
            Some(volume) if self.was_deleting(&volume) => {
                self.blame("intent", format!("file {file_name} is made although its deletion is recorded"));
            }
            Some(volume) => {
                let Some(machine) = self.machine_of_volume(&volume) else { return };
                let is_seed = field(&volume, "/spec/content/role") == "seed";
                let is_there = self.host_at(host).and_then(|host| host.pools.get(&pool));
                let is_there = is_there.is_some_and(|pool| pool.volumes.contains_key(file_name));
                // What arrives late was right when it was asked for.
                let is_moved = self.is_of_a_move(
                    field(&volume, "/metadata/namespace"),
                    field(&machine, "/metadata/name"),
                    field(&volume, "/metadata/name"),
                );
                let is_anew = !is_there && !self.oracle.forgiving && !is_moved;
                if is_anew && !is_seed && machine.pointer("/record/firstStartedAt").is_some() {
                    self.blame("disks", format!("file {file_name} is made anew although its machine ran"));
                }
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
        if !self.takes_calls(host) {
            return;
        }
        if self.recorded_volume(host, pool, file_name).is_none() {
            self.blame("identity", format!("file {file_name} is written and no Volume is recorded"));
        }
        // A base file that was lost is made again under what stands on it; what was written once is not.
        let file = self.host_at(host).and_then(|host| host.pools.get(&pool));
        let file = file.and_then(|pool| pool.volumes.get(file_name));
        let is_whole = |file: &crate::SimVolume| file.arrived.whole(file.capacity_bytes).is_some();
        let is_seed = file.is_some_and(|file| file.seed.is_some());
        // A seed that was on its way and comes once more is the same, byte by byte.
        if file.is_none_or(is_whole) || is_seed && !self.oracle.forgiving {
            self.judge_unused(host, pool, file_name, "written");
        }
    }

    /// No machine starts on an image file that is not all there, or did not arrive as it should be.
    pub(super) fn judge_images(&mut self, host: &HostTarget, machine: &Machine) {
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
        if !self.takes_calls(host) {
            return;
        }
        match self.recorded_volume(host, pool, file_name) {
            None => self.blame("identity", format!("file {file_name} is wiped and no Volume is recorded")),
            Some(volume) if !self.may_go(&volume) => {
                self.blame("intent", format!("file {file_name} is wiped without recorded intent"));
            }
            Some(_) => {}
        }
        self.judge_newest(host, pool, file_name);
        self.judge_unused(host, pool, file_name, "wiped");
    }

    /// As a wipe, of the file at a path: never one that others stand on.
    pub(crate) fn judge_zero(&mut self, host: &HostTarget, path: &str) {
        let found = self.host_at(host).and_then(|host| {
            host.pools.iter().find_map(|(uuid, pool)| Some((*uuid, pool.file_name(path)?.to_owned())))
        });
        let Some((pool, file_name)) = found else { return };
        self.judge_wipe(host, pool, &file_name);
        let Some(volume) = self.recorded_volume(host, pool, &file_name) else { return };
        let is_asked = volume.pointer("/record/wipe").is_some_and(|asked| asked == true);
        if self.takes_calls(host) && !is_asked {
            self.blame("intent", format!("file {file_name} is overwritten, and nobody asked for that"));
        }
    }

    /// What is to be overwritten before it is deleted is, where a machine ran on it and its host can.
    fn judge_overwritten(&mut self, host: &HostTarget, pool: Uuid, file_name: &str, volume: &Value) {
        let is_asked = volume.pointer("/record/wipe").is_some_and(|asked| asked == true);
        let has_run = self
            .machine_of_volume(volume)
            .is_none_or(|machine| machine.pointer("/record/firstStartedAt").is_some());
        let Some(pool) = self.host_at(host).and_then(|host| host.pools.get(&pool)) else { return };
        let is_whole = pool.volumes.get(file_name).is_some_and(|file| !file.zeroed && !pool.copies_on_write);
        if is_asked && has_run && is_whole {
            self.blame("wipe", format!("file {file_name} is deleted and was to be overwritten first"));
        }
    }

    pub(crate) fn judge_delete_volume(&mut self, host: &HostTarget, pool: Uuid, file_name: &str) {
        self.destructive_calls += u64::from(!file_name.contains("-seed-"));
        self.oracle.dirty = true;
        if !self.takes_calls(host) {
            return;
        }
        match self.recorded_volume(host, pool, file_name) {
            None => self.blame("identity", format!("file {file_name} is deleted and no Volume is recorded")),
            Some(volume) if !self.may_go(&volume) => {
                self.blame("intent", format!("file {file_name} is deleted without recorded intent"));
            }
            Some(volume) => self.judge_overwritten(host, pool, file_name, &volume),
        }
        self.judge_newest(host, pool, file_name);
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
        // Somebody else's domain that is off has its data there all the same.
        let user = seen.domains.values().find(|domain| {
            (domain.state.is_active() || domain.spec.is_none())
                && (domain.disk_paths.contains(&path) || domain.medium_path.as_ref() == Some(&path))
        });
        let overlay = seen
            .pools
            .values()
            .flat_map(|pool| &pool.volumes)
            .find(|(_, volume)| volume.backing_path.as_ref() == Some(&path));
        let mut blames = Vec::new();
        if let Some(user) = user {
            blames.push(format!("file {file_name} is {done} while {} has it", user.name));
        }
        if let Some((overlay, _)) = overlay {
            blames.push(format!("file {file_name} is {done} while {overlay} stands on it"));
        }
        for what in blames {
            self.blame("disks", what);
        }
    }
}
