//! One host's answer, indexed, and what is ours on it.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use uuid::Uuid;

use super::chain::{block, wait};
use crate::{DomainSeen, Guard, HostSeen, HostWorld, PoolSeen, Snapshot, StepState, VolumeSeen};

/// Hosts that answered, indexed once a plan.
pub(super) struct HostViews<'s> {
    snapshot: &'s Snapshot,
    views: BTreeMap<&'s str, HostView<'s>>,
}

/// A host that answered.
pub(super) struct HostView<'s> {
    world: &'s HostWorld,
    /// All hosts, as they answered.
    all: &'s BTreeMap<String, HostSeen>,
    by_name: BTreeMap<&'s str, Uuid>,
    /// Paths of disks, each with the domains that have it.
    disk_users: BTreeSet<(&'s str, Uuid)>,
}

impl<'s> HostViews<'s> {
    pub(super) fn new(snapshot: &'s Snapshot) -> Self {
        let views = snapshot
            .observed
            .hosts
            .iter()
            .filter_map(|(name, seen)| match seen {
                HostSeen::Seen(world) => {
                    Some((name.as_str(), HostView::new(world, &snapshot.observed.hosts)))
                }
                HostSeen::Unreachable { .. } | HostSeen::NotOurs { .. } | HostSeen::Fenced { .. } => None,
            })
            .collect();
        HostViews { snapshot, views }
    }

    /// The host's answer, or why nothing can be concluded about it.
    pub(super) fn get(&self, host: &str) -> Result<&HostView<'s>, StepState> {
        if let Some(view) = self.views.get(host) {
            return Ok(view);
        }
        Err(match self.snapshot.observed.hosts.get(host) {
            Some(HostSeen::Unreachable { reason }) => wait(
                "HostUnreachable",
                format!("host {host} does not answer: {reason}; nothing is assumed about what runs there"),
            ),
            Some(HostSeen::NotOurs { reason }) => block(
                "HostNotOurs",
                format!(
                    "host {host} is not the one that was enrolled: {reason}; see `ashlar host check {host}`"
                ),
            ),
            Some(HostSeen::Fenced { reason, .. }) => block(
                "HostTakenOver",
                format!(
                    "{reason}: this process leaves the host alone from here on; when the other one is done, run the \
                     same command again. If nobody else should be at work here, look for a second state directory \
                     with a copy of this store"
                ),
            ),
            None if !self.snapshot.hosts.contains_key(host) => {
                let lost = crate::lost::host(host);
                block(lost.reason, lost.message)
            }
            Some(HostSeen::Seen(_)) | None => {
                wait("HostNotObserved", format!("host {host} was not asked in this pass"))
            }
        })
    }

    /// Whether the host was not even asked, and could be.
    pub(super) fn was_not_asked(&self, host: &str) -> bool {
        !self.snapshot.observed.hosts.contains_key(host) && self.snapshot.hosts.contains_key(host)
    }
}

/// A machine's domain on its host.
pub(super) enum DomainView<'s> {
    /// Seen to be absent.
    Absent,
    /// It is ours.
    Ours(&'s DomainSeen),
}

impl<'s> HostView<'s> {
    fn new(world: &'s HostWorld, all: &'s BTreeMap<String, HostSeen>) -> Self {
        let mut view = HostView { world, all, by_name: BTreeMap::new(), disk_users: BTreeSet::new() };
        for domain in world.domains.values() {
            view.by_name.insert(&domain.name, domain.uuid);
            for path in &domain.disk_paths {
                view.disk_users.insert((path, domain.uuid));
            }
        }
        view
    }

    /// The machine's domain: ours only if UUID and mark say so. Anything else is never touched.
    pub(super) fn domain(&self, installation: Uuid, machine: &Machine) -> Result<DomainView<'s>, StepState> {
        let identity = &machine.spec.domain;
        let (host, name) = (&machine.spec.host, &identity.name);
        if let Some(domain) = self.world.domains.get(&identity.uuid) {
            let ours = !Guard::DomainMark.stands()
                || domain.mark.as_ref().is_some_and(|mark| {
                    mark.installation == installation && Some(mark.machine_uid) == machine.metadata.uid
                });
            return match (ours, domain.name == *name) {
                (true, true) => Ok(DomainView::Ours(domain)),
                (true, false) => Err(block(
                    "DomainRenamed",
                    format!(
                        "domain {} on {host} was renamed from {name}: rename it back (`virsh domrename {} {name}`)",
                        domain.name, domain.name
                    ),
                )),
                (false, _) => Err(block(
                    "NotOurs",
                    format!(
                        "domain {} on {host} has the UUID {} of {}, but not its mark: it is left alone; find out who made it",
                        domain.name,
                        identity.uuid,
                        machine.object_ref()
                    ),
                )),
            };
        }
        if !Guard::DomainUuid.stands()
            && let Some(domain) =
                self.by_name.get(name.as_str()).and_then(|uuid| self.world.domains.get(uuid))
        {
            return Ok(DomainView::Ours(domain));
        }
        self.not_elsewhere(machine)?;
        match self.by_name.get(name.as_str()) {
            Some(_) if machine.metadata.is_deleting() => Ok(DomainView::Absent),
            Some(uuid) => Err(block(
                "NameTaken",
                format!(
                    "a domain called {name} that is not Ashlar's is on {host} (UUID {uuid}): it is left alone; \
                     rename or remove it, or delete {} to have another made",
                    machine.object_ref()
                ),
            )),
            None => Ok(DomainView::Absent),
        }
    }

    /// The domain of a UUID, whosever it is.
    pub(super) fn domain_seen(&self, uuid: Uuid) -> Option<&'s DomainSeen> {
        self.world.domains.get(&uuid)
    }

    /// Refuses when the domain is on another host: who migrated it by hand moved its disks too, or a copy of them. It
    /// must not run here as well, and nothing of it is deleted as long as nobody knows which copy counts.
    fn not_elsewhere(&self, machine: &Machine) -> Result<(), StepState> {
        // What never ran cannot have been migrated.
        if machine.record.first_started_at.is_none() {
            return Ok(());
        }
        let (uuid, name) = (machine.spec.domain.uuid, &machine.spec.domain.name);
        let holds =
            |seen: &HostSeen| matches!(seen, HostSeen::Seen(world) if world.domains.contains_key(&uuid));
        match self.all.iter().find(|(_, seen)| holds(seen)) {
            None => Ok(()),
            Some((elsewhere, _)) => Err(block(
                "DomainElsewhere",
                format!(
                    "domain {name} of {} is on host {elsewhere}, and was made on {}: somebody migrated it. It is neither \
                     started nor deleted here; move it back with its disks (`virsh migrate`), or undefine it on {elsewhere}",
                    machine.object_ref(),
                    machine.spec.host
                ),
            )),
        }
    }

    /// The pool of a volume, or what is being waited for. A pool that is not there says nothing about its volumes.
    fn pool(&self, volume: &Volume) -> Result<&'s PoolSeen, StepState> {
        if let Some(reason) = self.world.distrusted_pools.get(&volume.spec.pool_uuid) {
            return Err(block("PoolNotMounted", reason.clone()));
        }
        self.world.pools.get(&volume.spec.pool_uuid).ok_or_else(|| {
            wait(
                "PoolNotActive",
                format!(
                    "storage pool {} is not active on {} (not mounted, not started, or another of that name): \
                     nothing is assumed about its volumes",
                    volume.spec.pool, volume.spec.host
                ),
            )
        })
    }

    /// A volume's file; none if it was seen to be absent.
    pub(super) fn volume(&self, volume: &Volume) -> Result<Option<&'s VolumeSeen>, StepState> {
        Ok(self.pool(volume)?.volumes.get(&volume.spec.file_name))
    }

    /// Refuses when another domain has the volume as a disk: a disk never runs twice, and is not deleted under a guest.
    pub(super) fn unused_by_others(&self, volume: &Volume, owner: Uuid) -> Result<(), StepState> {
        if !Guard::FileInUse.stands() {
            return Ok(());
        }
        let path = volume.spec.path();
        let mut users = self.disk_users.range((path.as_str(), Uuid::nil())..=(path.as_str(), Uuid::max()));
        match users.find(|(_, user)| *user != owner) {
            None => Ok(()),
            Some((_, user)) => Err(block(
                "DiskInUse",
                format!(
                    "{} is a disk of the domain with UUID {user} on {}, which is not Ashlar's: detach it there first",
                    volume.spec.path(),
                    volume.spec.host
                ),
            )),
        }
    }
}
