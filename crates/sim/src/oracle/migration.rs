//! Machines that move: recorded before, filtered where they come to, and going on at one place only.

use ashlar_api::NamespacedName;
use ashlar_engine::effects::HostTarget;
use ashlar_plan::DomainSpec;
use uuid::Uuid;

use super::{field, is_deleting};
use crate::State;
use crate::host::{Lived, SimDomain};

impl State {
    /// A machine moves where its record says, onto disks that are recorded, behind its filter.
    pub(crate) fn judge_migration(&mut self, from: &HostTarget, to: &HostTarget, spec: &DomainSpec) {
        self.oracle.dirty = true;
        if self.oracle.is_off || !self.takes_calls(from) || !self.takes_calls(to) {
            return;
        }
        let name = &spec.name;
        let machine = spec.mark.machine.as_deref();
        let stored = machine.and_then(|machine| self.stored_object("Machine", &machine.key()));
        let is_recorded = stored.as_ref().is_some_and(|stored| {
            field(stored, "/spec/domain/uuid") == spec.uuid.to_string()
                && field(stored, "/spec/host") == from.name
                && field(stored, "/record/migration/to") == to.name
        });
        if !is_recorded {
            self.blame("intent", format!("domain {name} moves to {}, which is not recorded", to.name));
        }
        let networks = self.host_at(to).map(|host| host.networks.clone()).unwrap_or_default();
        let unfiltered = spec.nics.iter().find(|nic| {
            !networks.values().filter(|network| network.intact).any(|network| {
                let taps = network.applied.iter().flat_map(|network| network.taps.values());
                taps.into_iter().any(|tap| tap.mac == nic.mac)
            })
        });
        let lost_at = self.host_at(to).and_then(|host| host.filters_lost_at);
        if let Some(nic) = unfiltered.filter(|_| lost_at.is_none()) {
            self.blame(
                "filter",
                format!("domain {name} comes to {} without a filter for {}", to.name, nic.mac),
            );
        }
        if let Some(machine) = machine.cloned() {
            self.judge_move_beside(&machine);
            self.judge_images(to, &machine);
        }
    }

    /// 3: what goes on is all there is of it.
    pub(crate) fn judge_resume(&mut self, host: &HostTarget, uuid: Uuid) {
        self.oracle.dirty = true;
        if !self.takes_calls(host) {
            return;
        }
        let here = self.reached(host).to_owned();
        // The half of a move before, which stands still on a host that was silent since, is nobody's process.
        let has_gone_on = |domain: &SimDomain| domain.state.is_active() && !domain.never_went_on;
        let other = self
            .hosts
            .iter()
            .find(|(name, world)| **name != here && world.domains.get(&uuid).is_some_and(has_gone_on));
        if let Some((other, _)) = other {
            let what = format!("domain {uuid} goes on at {here}, and its process is on {other} too");
            self.blame("disks", what);
        }
    }

    /// 3: what goes on, or is started, is all that the machine was, wherever it was last.
    pub(crate) fn judge_goes_on(&mut self, host: &HostTarget, uuid: Uuid) {
        let here = self.reached(host).to_owned();
        let newest = self.oracle.went_on.get(&uuid).copied().unwrap_or_default();
        let disks = self.disks_of(&here, uuid);
        let lived = |path: &String| self.hosts.get(&here)?.volume_at(path)?.lived.map(|lived| lived.times);
        let older: Vec<String> =
            disks.into_iter().filter(|path| lived(path).unwrap_or_default() < newest).collect();
        if !self.oracle.is_off && !older.is_empty() {
            let older = older.join(" and ");
            self.blame(
                "disks",
                format!("domain {uuid} goes on at {here} from {older}, and was newer elsewhere"),
            );
        }
        self.goes_on(&here, uuid);
    }

    /// A guest does something from now on: its disks are the newest that there are of it.
    pub(crate) fn goes_on(&mut self, host: &str, uuid: Uuid) {
        let times = self.oracle.went_on.entry(uuid).or_default();
        *times += 1;
        let lived = Lived { domain: uuid, times: *times };
        for path in self.disks_of(host, uuid) {
            if let Some(file) = self.hosts.get_mut(host).and_then(|host| host.volume_at_mut(&path)) {
                file.lived = Some(lived);
            }
        }
    }

    /// Disks that the definition of a domain of ours names.
    fn disks_of(&self, host: &str, uuid: Uuid) -> Vec<String> {
        let domain = self.hosts.get(host).and_then(|host| host.domains.get(&uuid));
        let disks = domain.and_then(|domain| domain.spec.as_ref()).into_iter().flat_map(|spec| &spec.disks);
        disks.map(|disk| disk.path.clone()).collect()
    }

    /// 3: the newest that there is of a machine that stays is not taken away.
    pub(super) fn judge_newest(&mut self, host: &HostTarget, pool: Uuid, file_name: &str) {
        let file = self.host_at(host).and_then(|host| host.pools.get(&pool)?.volumes.get(file_name));
        let Some(lived) = file.and_then(|file| file.lived) else { return };
        let Some(volume) = self.recorded_volume(host, pool, file_name) else { return };
        let Some(machine) = self.machine_of_volume(&volume) else { return };
        let is_its = lived.domain.to_string() == field(&machine, "/spec/domain/uuid");
        if !is_its || is_deleting(&machine) || self.oracle.went_on.get(&lived.domain) != Some(&lived.times) {
            return;
        }
        let disk = ["-root-", "-etcd-"].into_iter().find(|disk| file_name.contains(disk));
        let files = self.hosts.values().flat_map(|host| host.pools.values()).flat_map(|pool| &pool.volumes);
        let is_kept = files
            .filter(|(name, file)| *name != file_name && file.lived == Some(lived))
            .any(|(name, _)| disk.is_some_and(|disk| name.contains(disk)));
        if !is_kept {
            self.blame(
                "disks",
                format!("{file_name} is taken away, and is the newest that there is of its machine"),
            );
        }
    }

    /// Whether what is on the host is the half of a move that ended in the middle: it never ran there.
    pub(super) fn is_half_moved(&self, host: &str, uuid: Uuid) -> bool {
        let Some(domain) = self.hosts.get(host).and_then(|host| host.domains.get(&uuid)) else {
            return false;
        };
        let stored = domain.machine().and_then(|machine| self.stored_object("Machine", &machine.key()));
        let is_going_there = stored.is_some_and(|stored| field(&stored, "/record/migration/to") == host);
        is_going_there && domain.never_went_on
    }

    /// Whether the volume is a disk at the end of a move: it is made although its machine ran.
    pub(super) fn is_of_a_move(&self, namespace: &str, machine: &str, volume: &str) -> bool {
        let stored = self.stored_object("Machine", &NamespacedName::new(namespace, machine));
        let volumes =
            stored.as_deref().and_then(|stored| stored.pointer("/record/migration/volumes")?.as_array());
        volumes.is_some_and(|volumes| volumes.iter().any(|one| field(one, "/name") == volume))
    }
}
