//! Hosts and pools that answer and show none of what is theirs.
//!
//! A pool does that over the directory below a file system that is not mounted: libvirt goes on calling such a pool active, and lists files that it remembers, empty, or none at all. From that
//! nothing may be concluded: neither that a disk is lost, nor that it is gone and its record may go, nor that there is
//! room for new ones.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;
use uuid::Uuid;

use crate::{Guard, HostSeen, HostWorld, Snapshot};

/// A Host whose domains are lost for good has this annotation: a person says so.
pub const DOMAINS_LOST_ANNOTATION: &str = "ashlar.dev/domains-lost";

/// How many of our domains a host has to lack before it is not believed: one is undefined by a person easily.
const MISSED_DOMAINS: usize = 2;

/// A host that answers and shows none of several domains that joined there is not believed: it is asked through another
/// libvirtd (another driver, another container, one that lost its configuration), or it is not that host. Their disks
/// may well be in use.
pub fn distrust_emptied_hosts(snapshot: &mut Snapshot) {
    let mut missed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut shown = BTreeSet::new();
    for machine in snapshot.machines.values() {
        let (host, domain) = (machine.spec.host.as_str(), &machine.spec.domain);
        let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(host) else { continue };
        if world.domains.contains_key(&domain.uuid) {
            shown.insert(host);
        } else if machine.record.joined_at.is_some()
            && !machine.metadata.is_deleting()
            && machine.record.migration.is_none()
        {
            missed.entry(host).or_default().push(&domain.name);
        }
    }
    let is_given_up = |host: &str| {
        let host = snapshot.hosts.get(host);
        host.is_some_and(|host| host.metadata.annotations.contains_key(DOMAINS_LOST_ANNOTATION))
    };
    missed.retain(|host, names| names.len() >= MISSED_DOMAINS && !shown.contains(host) && !is_given_up(host));
    let doubted: Vec<(String, String)> = missed
        .into_iter()
        .map(|(host, names)| {
            let reason = format!(
                "it answers and shows none of the domains that Ashlar made there ({}): is it asked through its own \
                 system libvirtd (`virsh -c qemu:///system list --all` there)? Nothing is done on it. If they are lost \
                 for good, say so with the annotation {DOMAINS_LOST_ANNOTATION} on host {host}",
                names.join(", ")
            );
            (host.to_owned(), reason)
        })
        .collect();
    for (host, reason) in doubted {
        snapshot.observed.hosts.insert(host, HostSeen::NotOurs { reason });
    }
}

/// Hosts (joined by commas) of a StoragePool whose files are lost for good: a person says so with this annotation.
pub const FILES_LOST_ANNOTATION: &str = "ashlar.dev/files-lost";

/// Takes such pools out of what was seen, and puts down why.
pub fn distrust_emptied_pools(snapshot: &mut Snapshot) {
    if !Guard::PoolDistrust.stands() {
        return;
    }
    let emptied = emptied(snapshot);
    for ((host, uuid), (pool, path)) in emptied {
        let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get_mut(&host) else { continue };
        let Some(seen) = world.pools.remove(&uuid) else { continue };
        let found = if seen.is_at(&path) {
            format!("is its file system mounted there (`findmnt -T {path}`)?")
        } else {
            format!(
                "it is over {} now. Machines have their disks' paths in their definitions: define the pool over {path} again, or \
                 have that path lead to where the files are (a bind mount, say).",
                seen.path
            )
        };
        let reason = format!(
            "storage pool {pool} on {host} shows none of the files that Ashlar made in {path}: {found} Nothing is assumed \
             about its volumes, and none is made. If they are lost for good, say so with the annotation {FILES_LOST_ANNOTATION}: {host} on storagepool {pool}",
        );
        world.distrusted_pools.insert(uuid, reason);
    }
}

/// (host, pool UUID) → pool's name, and where its files are.
fn emptied(snapshot: &Snapshot) -> BTreeMap<(String, Uuid), (String, String)> {
    let mut shown: BTreeSet<(&str, Uuid)> = BTreeSet::new();
    let mut missed: BTreeMap<(&str, Uuid), (&str, &str)> = BTreeMap::new();
    for volume in snapshot.volumes.values() {
        let spec = &volume.spec;
        let place = (spec.host.as_str(), spec.pool_uuid);
        if shown.contains(&place) {
            continue;
        }
        let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(&spec.host) else { continue };
        if is_there(world, spec) {
            shown.insert(place);
        } else if !volume.metadata.is_deleting() && (is_used_disk(snapshot, volume) || is_image_file(volume))
        {
            missed.insert(place, (&spec.pool, &spec.pool_path));
        }
    }
    let is_given_up = |host: &str, pool: &str| {
        let annotations = snapshot.pools.get(pool).map(|pool| &pool.metadata.annotations);
        let hosts = annotations.and_then(|annotations| annotations.get(FILES_LOST_ANNOTATION));
        hosts.is_some_and(|hosts| hosts.split(',').any(|lost| lost.trim() == host))
    };
    missed.retain(|place, (pool, _)| !shown.contains(place) && !is_given_up(place.0, pool));
    let owned = |(pool, path): (&str, &str)| (pool.to_owned(), path.to_owned());
    missed.into_iter().map(|((host, uuid), found)| ((host.to_owned(), uuid), owned(found))).collect()
}

fn is_there(world: &HostWorld, volume: &VolumeSpec) -> bool {
    let pool = world.pools.get(&volume.pool_uuid).filter(|pool| pool.is_at(&volume.pool_path));
    // A file that went away behind libvirt's back is listed without a size.
    pool.and_then(|pool| pool.volumes.get(&volume.file_name)).is_some_and(|seen| seen.capacity_bytes > 0)
}

fn is_image_file(volume: &Volume) -> bool {
    volume.record.filled && matches!(volume.spec.content, VolumeContent::ImageFile { .. })
}

/// A disk of a machine that was started: its file was there.
fn is_used_disk(snapshot: &Snapshot, volume: &Volume) -> bool {
    let VolumeContent::MachineDisk { machine, role, .. } = &volume.spec.content else { return false };
    let machine = snapshot.machines.get(&NamespacedName::new(&volume.metadata.namespace, machine));
    // What it is to have on the host that it is on its way to may not be there yet.
    *role != MachineVolumeRole::Seed
        && machine.is_some_and(|machine| {
            machine.record.first_started_at.is_some() && machine.spec.host == volume.spec.host
        })
}
