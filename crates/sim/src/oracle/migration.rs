//! Machines that move: recorded before, filtered where they come to, and going on at one place only.

use ashlar_api::NamespacedName;
use ashlar_engine::effects::HostTarget;
use ashlar_plan::DomainSpec;
use uuid::Uuid;

use super::field;
use crate::State;

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

    /// 3: what goes on is all there is of it. Who once went on elsewhere is old here.
    pub(crate) fn judge_resume(&mut self, host: &HostTarget, uuid: Uuid) {
        self.oracle.dirty = true;
        if !self.takes_calls(host) {
            return;
        }
        let here = self.reached(host).to_owned();
        let other = self.hosts.iter().find(|(name, world)| {
            **name != here && world.domains.get(&uuid).is_some_and(|domain| domain.state.is_active())
        });
        if let Some((other, _)) = other {
            let what = format!("domain {uuid} goes on at {here}, and its process is on {other} too");
            self.blame("disks", what);
        }
        self.judge_home(&here, uuid);
        self.oracle.homes.insert(uuid, here);
    }

    /// 3: a guest that has gone on at another host is not started with what it was here.
    pub(super) fn judge_home(&mut self, here: &str, uuid: Uuid) {
        let Some(home) = self.oracle.homes.get(&uuid).filter(|home| *home != here).cloned() else { return };
        let came = self.hosts.get(here).and_then(|host| host.domains.get(&uuid));
        // It comes from there.
        if came.is_some_and(|domain| domain.came_from.as_ref() == Some(&home)) {
            return;
        }
        self.blame(
            "disks",
            format!("domain {uuid} runs on {here} with what it was before it moved to {home}"),
        );
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
