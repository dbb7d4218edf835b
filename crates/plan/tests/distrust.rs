//! Hosts and pools that answer and show nothing of what is theirs.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_plan::*;
use common::*;

const HOST: &str = "lab-1";

fn settled() -> World {
    let mut world = World::new(one_plus_one(), 1);
    let _ = world.settle();
    world
}

fn seen(snapshot: &mut Snapshot) -> &mut HostWorld {
    match snapshot.observed.hosts.get_mut(HOST) {
        Some(HostSeen::Seen(world)) => world,
        other => panic!("{other:?}"),
    }
}

/// Why the one pool is not believed; none if it is.
fn doubt_of_pool(mut snapshot: Snapshot) -> Option<String> {
    distrust_emptied_pools(&mut snapshot);
    let world = seen(&mut snapshot);
    let reasons: Vec<String> = world.distrusted_pools.values().cloned().collect();
    // What is not believed is not looked at, and nothing else is lost.
    assert_eq!(world.pools.len() + reasons.len(), 1);
    reasons.first().cloned()
}

fn pool(snapshot: &mut Snapshot) -> &mut PoolSeen {
    seen(snapshot).pools.values_mut().next().unwrap()
}

#[test]
fn a_pool_that_shows_none_of_our_files_is_not_believed() {
    let world = settled();
    assert_eq!(doubt_of_pool(world.snapshot.clone()), None);

    let mut emptied = world.snapshot.clone();
    pool(&mut emptied).volumes.clear();
    let reason = doubt_of_pool(emptied.clone()).unwrap();
    assert!(reason.contains("shows none of the files"), "{reason}");

    let mut hidden = world.snapshot.clone();
    pool(&mut hidden).volumes.values_mut().for_each(|file| file.capacity_bytes = 0);
    assert!(doubt_of_pool(hidden).is_some(), "files that are listed without a size are not there");

    // All of them, in another directory: those that machines have open are not these.
    let mut copied = world.snapshot.clone();
    pool(&mut copied).path = "/srv/big".to_owned();
    let reason = doubt_of_pool(copied).unwrap();
    assert!(reason.contains("it is over /srv/big now"), "{reason}");

    let mut given_up = emptied.clone();
    let annotations = &mut given_up.pools.values_mut().next().unwrap().metadata.annotations;
    annotations.insert(FILES_LOST_ANNOTATION.to_owned(), format!("other, {HOST}"));
    assert_eq!(doubt_of_pool(given_up.clone()), None, "a person said that they are lost");
    let annotations = &mut given_up.pools.values_mut().next().unwrap().metadata.annotations;
    annotations.insert(FILES_LOST_ANNOTATION.to_owned(), "other".to_owned());
    assert!(doubt_of_pool(given_up).is_some(), "they said so of another host");
}

#[test]
fn one_file_of_ours_is_enough_to_believe_a_pool() {
    let mut snapshot = settled().snapshot;
    let keep = pool(&mut snapshot).volumes.keys().find(|file| file.contains("root")).unwrap().clone();
    pool(&mut snapshot).volumes.retain(|file, _| *file == keep);
    assert_eq!(doubt_of_pool(snapshot), None);
}

#[test]
fn a_pool_in_which_everything_is_to_go_may_be_empty() {
    let mut snapshot = settled().snapshot;
    let now = snapshot.now;
    snapshot.volumes.values_mut().for_each(|volume| volume.metadata.deletion_timestamp = Some(now));
    pool(&mut snapshot).volumes.clear();
    assert_eq!(doubt_of_pool(snapshot), None);
}

#[test]
fn disks_of_machines_that_never_started_are_no_witnesses_and_image_files_are() {
    let mut snapshot = settled().snapshot;
    snapshot.machines.values_mut().for_each(|machine| machine.record.first_started_at = None);
    pool(&mut snapshot).volumes.clear();
    assert!(doubt_of_pool(snapshot.clone()).is_some(), "an image was filled and verified there");
    let images = snapshot.volumes.values_mut();
    let images =
        images.filter(|volume| matches!(volume.spec.content, ashlar_api::VolumeContent::ImageFile { .. }));
    images.for_each(|volume| volume.record.filled = false);
    assert_eq!(doubt_of_pool(snapshot), None);
}

/// Why the host is not believed; none if it is.
fn doubt_of_host(mut snapshot: Snapshot) -> Option<String> {
    distrust_emptied_hosts(&mut snapshot);
    match snapshot.observed.hosts.remove(HOST) {
        Some(HostSeen::NotOurs { reason }) => Some(reason),
        Some(HostSeen::Seen(_)) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_host_that_shows_none_of_several_domains_is_not_believed() {
    let world = settled();
    assert_eq!(doubt_of_host(world.snapshot.clone()), None);

    let mut emptied = world.snapshot.clone();
    seen(&mut emptied).domains.clear();
    let reason = doubt_of_host(emptied.clone()).unwrap();
    assert!(reason.contains("demo-ctrl-1") && reason.contains("demo-wkr-1"), "{reason}");

    let mut one_left = world.snapshot.clone();
    let first = *seen(&mut one_left).domains.keys().next().unwrap();
    seen(&mut one_left).domains.remove(&first);
    assert_eq!(doubt_of_host(one_left), None, "one is undefined by a person easily");

    // All of them, in another directory: those that machines have open are not these.
    let mut copied = world.snapshot.clone();
    pool(&mut copied).path = "/srv/big".to_owned();
    let reason = doubt_of_pool(copied).unwrap();
    assert!(reason.contains("it is over /srv/big now"), "{reason}");

    let mut given_up = emptied.clone();
    let annotations = &mut given_up.hosts.get_mut(HOST).unwrap().metadata.annotations;
    annotations.insert(DOMAINS_LOST_ANNOTATION.to_owned(), "yes".to_owned());
    assert_eq!(doubt_of_host(given_up), None, "a person said that they are lost");

    let mut going = emptied.clone();
    let now = going.now;
    going.machines.values_mut().for_each(|machine| machine.metadata.deletion_timestamp = Some(now));
    assert_eq!(doubt_of_host(going), None, "they are to go");

    let mut new = emptied;
    new.machines.values_mut().for_each(|machine| machine.record.joined_at = None);
    assert_eq!(doubt_of_host(new), None, "they never joined");
}
