//! An upgrade, as a person is told of it: before it begins, in the middle, and why it does not begin or go on.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod common;

use ashlar_api::*;
use ashlar_plan::render::plan_text;
use ashlar_plan::*;
use common::*;

const NEXT: &str = "v1.38.0";

fn key(name: &str) -> NamespacedName {
    NamespacedName::new("default", name)
}

/// Another image beside the one that is there.
fn add_image(snapshot: &mut Snapshot, version: &str) {
    let mut image = snapshot.images.values().next().unwrap().clone();
    image.metadata.name = format!("node-{version}");
    image.metadata.uid = None;
    image.spec.kubernetes_version = version.to_owned();
    image.spec.digest = format!("sha256:{}", version.replace(['v', '.'], "").repeat(16));
    image.spec.tags.coredns = format!("of-{version}");
    insert(snapshot, image);
}

/// Three control planes and five workers on four hosts.
fn living() -> World {
    let mut snapshot = six_machines();
    add_host(&mut snapshot, "host-d", 64, 512, Accelerator::Kvm);
    cluster(&mut snapshot).spec.workers[0].replicas = Some(5);
    add_image(&mut snapshot, NEXT);
    let mut world = World::new(snapshot, 1);
    assert!(world.settle().is_empty());
    world.log.clear();
    world
}

fn cluster(snapshot: &mut Snapshot) -> &mut Cluster {
    snapshot.clusters.get_mut(&key("prod")).unwrap()
}

fn wish(world: &mut World, version: &str) {
    version.clone_into(&mut cluster(&mut world.snapshot).spec.kubernetes_version);
}

fn text(world: &mut World) -> String {
    let plan = world.plan();
    assert_eq!(check::check(&world.snapshot, &plan), Vec::new());
    plan_text(&world.snapshot, &plan)
}

/// Only what an operator reads first: what is blocked or waited for about the cluster, and the notes.
fn told(world: &mut World) -> String {
    let wanted = |line: &&str| {
        ["note:", "BLOCKED", "waits:", "rollout to", "joins (", "is drained", "machine prod-", "in all"]
            .iter()
            .any(|word| line.contains(word))
    };
    let text = text(world);
    text.lines().filter(wanted).collect::<Vec<_>>().join("\n")
}

#[test]
fn three_and_five_are_told_before_anything_happens_and_go_one_by_one() {
    let mut world = living();
    wish(&mut world, NEXT);
    insta::assert_snapshot!("three_and_five", text(&mut world));
    assert!(world.settle().is_empty());
    for machine in world.snapshot.machines.values() {
        assert_eq!(machine.spec.image.kubernetes_version, NEXT, "{}", machine.metadata.name);
    }
    assert_eq!(world.snapshot.machines.len(), 8);
    assert_eq!(world.etcd[&key("prod")].len(), 3);
    let order: Vec<String> = world
        .log
        .iter()
        .filter(|line| {
            ["startDomain", "removeEtcdMember", "destroyDomain", "applyAddon"]
                .iter()
                .any(|it| line.contains(it))
        })
        .cloned()
        .collect();
    insta::assert_snapshot!("order", order.join("\n"));
}

#[test]
fn what_holds_an_upgrade_up_is_said() {
    let mut world = living();
    let mut all = String::new();
    let mut case = |what: &str, world: &mut World| {
        all.push_str(&format!("== {what}\n{}\n\n", told(world)));
    };
    wish(&mut world, "v1.36.9");
    case("a version back", &mut world);
    add_image(&mut world.snapshot, "v1.39.0");
    wish(&mut world, "v1.39.0");
    case("a skipped minor", &mut world);
    wish(&mut world, "v1.38.7");
    case("an image that nobody built", &mut world);

    wish(&mut world, NEXT);
    cluster(&mut world.snapshot).spec.paused = true;
    case("paused before it begins", &mut world);
    cluster(&mut world.snapshot).spec.paused = false;

    if let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) {
        let node = api.nodes.get_mut("prod-wkr-2").unwrap();
        (node.ready, node.message) = (false, "container runtime is down".to_owned());
    }
    case("a node that is not Ready", &mut world);
    if let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) {
        api.nodes.get_mut("prod-wkr-2").unwrap().ready = true;
    }

    if let Some(EtcdSeen::Seen(etcd)) = world.snapshot.observed.etcd.get_mut(&key("prod"))
        && let Some(Ok(status)) = etcd.nodes.get_mut("prod-ctrl-2")
    {
        status.errors = vec!["NOSPACE".to_owned()];
    }
    case("a member of etcd with an alarm", &mut world);
    world.guests();

    let reason = "connection refused".to_owned();
    let seen = world.snapshot.observed.clusters.insert(key("prod"), ClusterSeen::Unreachable { reason });
    case("an API that does not answer", &mut world);
    world.snapshot.observed.clusters.insert(key("prod"), seen.unwrap());

    for class in ["wkr", "ctrl"] {
        let mut small = world.snapshot.classes[class].clone();
        let was = small.clone();
        small.spec.memory = "500Gi".parse().unwrap();
        world.snapshot.classes.insert(class.to_owned(), small);
        case(&format!("no room for one machine more of class {class}"), &mut world);
        world.snapshot.classes.insert(class.to_owned(), was);
    }
    insta::assert_snapshot!("held_up", all);
}

fn api(of: &str, resource: &str, removed: &str) -> DeprecatedApi {
    let (group, version) = of.split_once('/').unwrap_or(("", of));
    let [group, version, resource, removed_release] = [group, version, resource, removed].map(str::to_owned);
    DeprecatedApi { group, version, resource, removed_release, ..DeprecatedApi::default() }
}

#[test]
fn deprecated_apis_in_use_are_told_and_removed_ones_hold_it_up_until_somebody_says_that_they_may_go() {
    let mut world = living();
    wish(&mut world, NEXT);
    let mut all = String::new();
    let mut case = |what: &str, world: &mut World, used: Option<ApiUseSeen>, accepted: Option<&str>| {
        cluster(&mut world.snapshot).spec.accept_removed_apis = accepted.map(str::to_owned);
        world.snapshot.observed.api_use.clear();
        world.snapshot.observed.api_use.extend(used.map(|used| (key("prod"), used)));
        let text = text(world);
        let told: Vec<&str> = text
            .lines()
            .filter(|line| ["BLOCKED", "waits:", "Apis)", "in all"].iter().any(|it| line.contains(it)))
            .collect();
        all.push_str(&format!("== {what}\n{}\n\n", told.join("\n")));
    };
    let seen = |apis: &[DeprecatedApi]| Some(ApiUseSeen::Seen(apis.iter().cloned().collect()));
    let kept = [api("v1", "componentstatuses", ""), api("example.io/v1beta1", "widgets", "1.39")];
    let gone = [
        api("flowcontrol.apiserver.k8s.io/v1beta3", "flowschemas", "1.38"),
        api("storage.k8s.io/v1alpha1", "volumeattributesclasses", "1.36"),
    ];
    let both = [&kept[..], &gone[..]].concat();
    case("nothing", &mut world, seen(&[]), None);
    case("deprecated, and still served", &mut world, seen(&kept), None);
    case("removed", &mut world, seen(&both), None);
    case("said to be of no use, for another release", &mut world, seen(&gone), Some("1.37"));
    case("said to be of no use", &mut world, seen(&both), Some("1.38"));
    let reason = "no answer within 30 s".to_owned();
    case("not told", &mut world, Some(ApiUseSeen::Unknown { reason }), Some("1.38"));
    case("not asked", &mut world, None, None);
    // A patch of the same minor takes nothing away, and nobody is asked.
    add_image(&mut world.snapshot, "v1.37.9");
    wish(&mut world, "v1.37.9");
    case("a patch", &mut world, None, None);
    insta::assert_snapshot!("deprecated_apis", all);
}

#[test]
fn a_worker_whose_pods_may_not_go_holds_the_rollout_up() {
    let mut world = living();
    wish(&mut world, NEXT);
    // Until the first worker goes.
    let mut passes = 0;
    while !world
        .snapshot
        .machines
        .values()
        .any(|machine| machine.spec.role == MachineRole::Worker && machine.metadata.is_deleting())
    {
        let plan = world.plan();
        if plan.decisions.is_empty() {
            world.act(&plan);
        } else {
            world.commit(plan.decisions);
        }
        passes += 1;
        assert!(passes < 500, "no worker ever goes");
    }
    let pod = |name: &str, allowed: u32, desired: u32| PodSeen {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        terminating: false,
        budgets: vec![BudgetSeen {
            name: format!("{name}-budget"),
            disruptions_allowed: allowed,
            desired_healthy: desired,
            expected_pods: 3,
        }],
    };
    if let Some(ClusterSeen::Seen(api)) = world.snapshot.observed.clusters.get_mut(&key("prod")) {
        let pods = vec![pod("cart", 1, 2), pod("db", 0, 3), pod("search", 0, 2)];
        api.pods.insert("prod-wkr-1".to_owned(), pods);
    }
    let mut all =
        format!("== pods of which one may go, one may not now, and one may never\n{}\n\n", told(&mut world));
    cluster(&mut world.snapshot).spec.drain_timeout_s = Some(600);
    all.push_str(&format!("== with a deadline\n{}\n\n", told(&mut world)));
    cluster(&mut world.snapshot).spec.drain_timeout_s = None;
    cluster(&mut world.snapshot).spec.paused = true;
    all.push_str(&format!("== paused in the middle: what has begun is finished\n{}\n", told(&mut world)));
    insta::assert_snapshot!("drain", all);
}

#[test]
fn one_less_at_a_time_where_there_is_no_room_for_one_more() {
    let mut world = living();
    let rollout = Rollout { max_surge: 0, max_unavailable: 2 };
    cluster(&mut world.snapshot).spec.workers[0].rollout = rollout;
    wish(&mut world, NEXT);
    let mut most = 0;
    let mut least = usize::MAX;
    for _ in 0..2000 {
        let plan = world.plan();
        if plan.is_empty() {
            break;
        }
        if plan.decisions.is_empty() {
            world.act(&plan);
        } else {
            world.commit(plan.decisions);
        }
        let workers =
            || world.snapshot.machines.values().filter(|machine| machine.spec.role == MachineRole::Worker);
        let works =
            workers().filter(|machine| machine.record.joined_at.is_some() && !machine.metadata.is_deleting());
        (most, least) = (most.max(workers().count()), least.min(works.count()));
    }
    assert!(world.plan().is_empty());
    assert!(least >= 3, "{least} of 5 worked");
    assert!(most <= 6, "{most} workers were there");
    let old = world.snapshot.machines.values().find(|machine| machine.spec.image.kubernetes_version != NEXT);
    assert_eq!(old.map(|machine| &machine.metadata.name), None);
}
