//! Image files on hosts: kept while anything needs them, and for a grace time after.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::check::check;
use ashlar_plan::*;
use common::*;
use jiff::SignedDuration;

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

fn is_image_file(volume: &Volume) -> bool {
    matches!(volume.spec.content, VolumeContent::ImageFile { .. })
}

fn files(world: &World) -> Vec<Volume> {
    world.snapshot.volumes.values().filter(|volume| is_image_file(volume)).cloned().collect()
}

/// A cluster came, and went again; its image's three files are left.
fn left_over() -> World {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    assert!(files(&world).iter().all(|file| file.record.unused_since.is_none()));
    delete_cluster(&mut world.snapshot, "demo");
    assert!(world.settle().is_empty());
    world.log.clear();
    assert_eq!(files(&world).len(), 3);
    world
}

fn pass(world: &mut World, time: SignedDuration) {
    world.snapshot.now += time;
    assert!(world.settle().is_empty());
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

#[test]
fn an_unused_file_goes_when_its_grace_is_over() {
    let mut world = left_over();
    let since: Vec<_> = files(&world).iter().map(|file| file.record.unused_since.unwrap()).collect();
    pass(&mut world, hours(23));
    assert_eq!(files(&world).len(), 3, "a day is not over");
    let same: Vec<_> = files(&world).iter().map(|file| file.record.unused_since.unwrap()).collect();
    assert_eq!(same, since, "recorded once");
    pass(&mut world, hours(1));
    assert!(files(&world).is_empty(), "{:?}", world.log);
    assert_eq!(world.log.iter().filter(|line| line.contains("deleteVolume")).count(), 3, "{:?}", world.log);
}

#[test]
fn the_image_says_how_long() {
    for (grace_s, image_is_there, kept) in [
        (Some(3600), true, false),
        (Some(0), true, false),
        (Some(3 * 86400), true, true),
        (Some(3600), false, true),
    ] {
        let mut world = left_over();
        for image in world.snapshot.images.values_mut() {
            image.spec.unused_grace_s = grace_s;
        }
        if !image_is_there {
            world.snapshot.images = Objects::default();
        }
        pass(&mut world, hours(2));
        assert_eq!(
            files(&world).len(),
            if kept { 3 } else { 0 },
            "{grace_s:?}, image there: {image_is_there}"
        );
    }
}

#[test]
fn a_file_that_is_wanted_again_is_kept() {
    let mut world = left_over();
    world.snapshot.now += hours(30);
    add_cluster(&mut world.snapshot, "demo", 1, 1);
    assert!(world.settle().is_empty());
    assert_eq!(files(&world).len(), 3);
    assert!(files(&world).iter().all(|file| file.record.unused_since.is_none()));
    let uploads = world.log.iter().filter(|line| line.contains("verifyVolume")).count();
    assert_eq!(uploads, 0, "nothing was sent again: {:?}", world.log);
}

#[test]
fn a_machine_that_is_planned_comes_after_a_file_that_is_going() {
    let mut world = left_over();
    world.snapshot.now += hours(30);
    let plan = world.plan();
    world.commit(plan.decisions);
    assert!(files(&world).iter().all(|file| file.metadata.is_deleting()));
    add_cluster(&mut world.snapshot, "demo", 1, 1);
    let plan = world.plan();
    assert!(world.snapshot.machines.is_empty());
    let refused = plan
        .report
        .placements
        .iter()
        .flat_map(|placement| &placement.verdicts)
        .any(|verdict| verdict.refused.as_ref().is_some_and(|refusal| refusal.rule == "ImageLeaving"));
    assert!(refused, "{:#?}", plan.report.placements);
    assert!(world.settle().is_empty());
    assert_eq!(world.snapshot.machines.len(), 2);
    assert_eq!(files(&world).len(), 3, "made anew");
}

#[test]
fn a_file_that_an_overlay_stands_on_is_used() {
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    world.snapshot.volumes.get_mut(&key("demo-wkr-1-root")).unwrap().spec.reclaim = ReclaimPolicy::Retain;
    delete_cluster(&mut world.snapshot, "demo");
    assert!(world.settle().is_empty());
    assert!(world.snapshot.machines.is_empty());
    pass(&mut world, hours(48));
    let kept: Vec<_> = files(&world).into_iter().map(|file| file.spec.content).collect();
    assert!(
        matches!(&kept[..], [VolumeContent::ImageFile { part: ImagePart::Disk, .. }]),
        "the disk that the kept overlay stands on: {kept:?}"
    );
}

#[test]
fn an_upload_that_nobody_needs_any_more_is_not_begun() {
    let mut world = World::new(one_plus_one(), 1);
    let plan = world.plan();
    world.commit(plan.decisions);
    delete_cluster(&mut world.snapshot, "demo");
    assert!(world.settle().is_empty());
    assert!(!world.log.iter().any(|line| line.contains("fillVolume")), "{:?}", world.log);
}

#[test]
fn the_checker_knows_when_a_file_may_go() {
    let retire = |world: &World| {
        let mut file = files(world).remove(0);
        file.metadata.deletion_timestamp = Some(world.snapshot.now);
        vec![vec![Decision::Update(file.into())]]
    };
    let rules = |world: &World, plan: &Plan| -> Vec<&'static str> {
        let mut rules: Vec<_> = check(&world.snapshot, plan).iter().map(|violation| violation.rule).collect();
        rules.dedup();
        rules
    };
    // Needed.
    let mut world = World::new(one_plus_one(), 1);
    assert!(world.settle().is_empty());
    let mut plan = world.plan();
    plan.decisions = retire(&world);
    assert_eq!(rules(&world, &plan), ["ImageGrace", "InUse"]);
    // Too early, and in time.
    let mut world = left_over();
    let mut plan = world.plan();
    plan.decisions = retire(&world);
    assert_eq!(rules(&world, &plan), ["ImageGrace"]);
    world.snapshot.now += hours(25);
    plan.decisions = retire(&world);
    assert_eq!(rules(&world, &plan), Vec::<&str>::new());
    // A claim that leaves no trace on the file.
    add_cluster(&mut world.snapshot, "demo", 1, 1);
    let mut plan = world.plan();
    for commit in &mut plan.decisions {
        commit.retain(|decision| !matches!(decision, Decision::Update(Object::Volume(_))));
    }
    assert_eq!(rules(&world, &plan), ["ImageClaim"]);
}
