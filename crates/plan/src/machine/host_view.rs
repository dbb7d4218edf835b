//! One host's answer, indexed, and what is ours on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_api::*;
use uuid::Uuid;

use super::chain::{block, wait};
use crate::{DomainSeen, Guard, HostSeen, HostWorld, PoolSeen, Snapshot, StepState, VolumeSeen, elsewhere};

/// Hosts that answered, indexed once a plan.
pub(super) struct HostViews<'s> {
    snapshot: &'s Snapshot,
    views: BTreeMap<&'s str, HostView<'s>>,
}

/// A host that answered.
pub(super) struct HostView<'s> {
    world: &'s HostWorld,
    snapshot: &'s Snapshot,
    /// Domains that any host shows, in order, each as often as it is shown.
    shown: Arc<[Uuid]>,
    by_name: BTreeMap<&'s str, Uuid>,
    /// Paths of disks, each with the domains that have it.
    disk_users: BTreeSet<(&'s str, Uuid)>,
}

impl<'s> HostViews<'s> {
    pub(super) fn new(snapshot: &'s Snapshot) -> Self {
        let shown = shown(snapshot);
        let views = snapshot
            .observed
            .hosts
            .iter()
            .filter_map(|(name, seen)| match seen {
                HostSeen::Seen(world) => {
                    Some((name.as_str(), HostView::new(world, snapshot, Arc::clone(&shown))))
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

fn shown(snapshot: &Snapshot) -> Arc<[Uuid]> {
    let worlds = snapshot.observed.hosts.values().filter_map(|seen| match seen {
        HostSeen::Seen(world) => Some(world),
        _ => None,
    });
    let mut all: Vec<Uuid> = worlds.flat_map(|world| world.domains.keys().copied()).collect();
    all.sort_unstable();
    all.into()
}

/// A machine's domain on its host.
pub(super) enum DomainView<'s> {
    /// Seen to be absent.
    Absent,
    /// It is ours.
    Ours(&'s DomainSeen),
}

impl<'s> HostView<'s> {
    fn new(world: &'s HostWorld, snapshot: &'s Snapshot, shown: Arc<[Uuid]>) -> Self {
        let mut view =
            HostView { world, snapshot, shown, by_name: BTreeMap::new(), disk_users: BTreeSet::new() };
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
                // What runs here is not started again.
                (true, true) if domain.state.is_active() => Ok(DomainView::Ours(domain)),
                (true, true) => self.not_elsewhere(machine).map(|()| DomainView::Ours(domain)),
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

    /// Refuses when the domain is on another host, or was seen there before that host fell silent: who migrated it by hand moved
    /// its disks too, or a copy of them. It must not run here as well, and nothing of it is deleted as long as nobody knows
    /// which copy counts.
    pub(super) fn not_elsewhere(&self, machine: &Machine) -> Result<(), StepState> {
        let (goes, snapshot) = (machine.metadata.is_deleting(), self.snapshot);
        // What never ran and is not wanted is no loss.
        if goes && machine.record.first_started_at.is_none() {
            return Ok(());
        }
        let here = self.world.domains.get(&machine.spec.domain.uuid);
        // Most are off because their clusters are, or not made yet: not all hosts are looked at for each of them.
        let (uuid, shown) = (machine.spec.domain.uuid, &self.shown);
        let times = shown.partition_point(|one| *one <= uuid) - shown.partition_point(|one| *one < uuid);
        if times == usize::from(here.is_some())
            && machine.record.seen_elsewhere.is_empty()
            && here.is_none_or(|here| !here.left_by_migration)
        {
            return Ok(());
        }
        if let Some(elsewhere) = elsewhere::of(snapshot, machine) {
            return Err(elsewhere.hold(machine));
        }
        if let Some(hold) =
            here.filter(|_| !goes).and_then(|here| elsewhere::went_away(snapshot, machine, here))
        {
            return Err(hold);
        }
        let Some((host, rest)) = elsewhere::rest(snapshot, machine) else { return Ok(()) };
        // It goes by itself once the domain was seen here.
        match here.is_some() {
            true if goes => Ok(()),
            true if !rest.state.is_active() => {
                let message =
                    format!("what is left of {} on {host} since it moved is removed first", machine.key());
                Err(wait("LeftFirst", message))
            }
            _ => Err(elsewhere::shows(host).hold(machine)),
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
