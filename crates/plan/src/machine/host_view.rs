//! One host's answer, indexed, and what is ours on it.

use std::collections::BTreeMap;

use ashlar_api::*;
use uuid::Uuid;

use super::chain::{block, wait};
use crate::{DomainSeen, HostSeen, HostWorld, PoolSeen, Snapshot, StepState, VolumeSeen};

/// Hosts that answered, indexed once a plan.
pub(super) struct HostViews<'s> {
    snapshot: &'s Snapshot,
    views: BTreeMap<&'s str, HostView<'s>>,
}

/// A host that answered.
pub(super) struct HostView<'s> {
    world: &'s HostWorld,
    by_name: BTreeMap<&'s str, Uuid>,
    disk_users: BTreeMap<&'s str, Uuid>,
}

impl<'s> HostViews<'s> {
    pub(super) fn new(snapshot: &'s Snapshot) -> Self {
        let views = snapshot
            .observed
            .hosts
            .iter()
            .filter_map(|(name, seen)| match seen {
                HostSeen::Seen(world) => Some((name.as_str(), HostView::new(world))),
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
            Some(HostSeen::Fenced { reason }) => block(
                "HostTakenOver",
                format!(
                    "{reason}: this process leaves the host alone from here on; when the other one is done, run the \
                     same command again. If nobody else should be at work here, look for a second state directory \
                     with a copy of this store"
                ),
            ),
            Some(HostSeen::Seen(_)) | None => {
                wait("HostNotObserved", format!("host {host} was not asked in this pass"))
            }
        })
    }

    /// Whether the host was not even asked.
    pub(super) fn was_not_asked(&self, host: &str) -> bool {
        !self.snapshot.observed.hosts.contains_key(host)
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
    fn new(world: &'s HostWorld) -> Self {
        let mut view = HostView { world, by_name: BTreeMap::new(), disk_users: BTreeMap::new() };
        for domain in world.domains.values() {
            view.by_name.insert(&domain.name, domain.uuid);
            for path in &domain.disk_paths {
                view.disk_users.insert(path, domain.uuid);
            }
        }
        view
    }

    /// The machine's domain: ours only if UUID and mark say so. Anything else is never touched.
    pub(super) fn domain(&self, installation: Uuid, machine: &Machine) -> Result<DomainView<'s>, StepState> {
        let identity = &machine.spec.domain;
        let (host, name) = (&machine.spec.host, &identity.name);
        if let Some(domain) = self.world.domains.get(&identity.uuid) {
            let ours = domain.mark.as_ref().is_some_and(|mark| {
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
        match self.disk_users.get(volume.spec.path().as_str()).filter(|user| **user != owner) {
            None => Ok(()),
            Some(user) => Err(block(
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
