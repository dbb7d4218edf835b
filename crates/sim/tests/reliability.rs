//! The reliability bars, one test each, with its volume; R5 stands in `claims.rs`, R6 in `two_daemons.rs`, R8 in `scenarios.rs`.
//!
//! An optimized build does all of it; a debug build, which is ten times slower, a part.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_api::{Kind, ObjectRef};
use ashlar_engine::Goal;
use ashlar_sim::adversary::{Options, Size, Story, Theme, run_seed};
use ashlar_sim::{CallFault, HostLosses, Record, Simulation, executor::Ended, fixtures};
use common::{DEADLINE, cluster_ref, demo, each, must_run};

const IS_QUICK: bool = cfg!(debug_assertions);

/// Runs seeds; the first that breaks a promise fails the test.
fn stories(seeds: std::ops::Range<u64>, options: &Options) -> Vec<Story> {
    let seeds: Vec<u64> = seeds.collect();
    let stories: Mutex<Vec<Story>> = Mutex::default();
    let broken = Mutex::new(Vec::new());
    each(&seeds, |seed| match run_seed(*seed, options) {
        Ok(story) => stories.lock().unwrap().push(story),
        Err(error) => broken.lock().unwrap().push(error),
    });
    let mut broken = broken.into_inner().unwrap();
    broken.sort_by_key(|error| error.seed);
    let list: Vec<String> =
        broken.iter().map(|error| format!("seed {}: {}", error.seed, error.what)).collect();
    if let Some(first) = broken.first() {
        panic!("{first}\n\n{} broken seeds:\n{}", broken.len(), list.join("\n"));
    }
    stories.into_inner().unwrap()
}

/// R1, and with it every invariant, after every effect.
#[test]
fn r1_a_disk_never_runs_twice_whatever_goes_wrong() {
    let seeds = if IS_QUICK { 0..8 } else { 0..400 };
    let stories = stories(seeds, &Options { size: Some(Size::Tiny), ..Options::default() });
    let virtual_s: i64 = stories.iter().map(|story| story.virtual_s).sum();
    let effects: u64 = stories.iter().map(|story| story.effects).sum();
    let kills: u32 = stories.iter().map(|story| story.crashes).sum();
    println!(
        "R1: {} worlds, {} h of virtual time, {effects} calls and commits judged, {kills} kills, 0 violations",
        stories.len(),
        virtual_s / 3600
    );
}

/// A workflow: what it begins with, what somebody asks for, and when it is done.
struct Workflow {
    name: &'static str,
    hosts: u32,
    /// Control planes and workers that are there before; none if there is no cluster.
    from: Option<(u32, u32)>,
    ask: fn(&Simulation),
    goal: fn() -> Goal,
}

fn ready() -> Goal {
    Goal::ClusterReady(demo())
}

fn gone() -> Goal {
    Goal::ClusterGone(demo())
}

fn apply(simulation: &Simulation, control_planes: u32, workers: u32) {
    simulation.apply(&fixtures::cluster("demo", control_planes, workers)).unwrap();
}

const WORKFLOWS: [Workflow; 13] = [
    Workflow { name: "create", hosts: 1, from: None, ask: |world| apply(world, 1, 1), goal: ready },
    Workflow { name: "create, three", hosts: 3, from: None, ask: |world| apply(world, 3, 1), goal: ready },
    Workflow {
        name: "create on an overlay",
        hosts: 2,
        from: None,
        ask: |world| {
            world.apply(fixtures::OVERLAY).unwrap();
            let cluster = fixtures::cluster("demo", 1, 1).replace("network: lab", "network: overlay");
            world.apply(&cluster).unwrap();
        },
        goal: ready,
    },
    Workflow {
        name: "more workers",
        hosts: 2,
        from: Some((1, 1)),
        ask: |world| apply(world, 1, 3),
        goal: ready,
    },
    Workflow {
        name: "fewer workers",
        hosts: 2,
        from: Some((1, 2)),
        ask: |world| apply(world, 1, 0),
        goal: ready,
    },
    Workflow {
        name: "one to three",
        hosts: 3,
        from: Some((1, 0)),
        ask: |world| apply(world, 3, 0),
        goal: ready,
    },
    Workflow {
        name: "three to one",
        hosts: 3,
        from: Some((3, 0)),
        ask: |world| apply(world, 1, 0),
        goal: ready,
    },
    Workflow {
        name: "labels",
        hosts: 1,
        from: Some((1, 1)),
        ask: |world| {
            let cluster =
                fixtures::cluster("demo", 1, 1).replace("replicas: 1}", "replicas: 1, labels: {a: b}}");
            world.apply(&cluster).unwrap();
        },
        goal: ready,
    },
    Workflow {
        name: "another class",
        hosts: 1,
        from: Some((1, 2)),
        ask: |world| {
            let cluster = fixtures::cluster("demo", 1, 2);
            world.apply(&cluster.replace("wkr, class: small", "wkr, class: worker")).unwrap();
        },
        goal: ready,
    },
    Workflow {
        name: "replace a worker",
        hosts: 1,
        from: Some((1, 1)),
        ask: |world| world.delete(&ObjectRef::new(Kind::Machine, "default", "demo-wkr-1")).unwrap(),
        goal: ready,
    },
    Workflow {
        name: "replace a control plane",
        hosts: 3,
        from: Some((3, 0)),
        ask: |world| world.delete(&ObjectRef::new(Kind::Machine, "default", "demo-ctrl-1")).unwrap(),
        goal: ready,
    },
    Workflow {
        name: "stop",
        hosts: 1,
        from: Some((1, 1)),
        ask: |world| world.set_stopped(&demo(), true, false).unwrap(),
        goal: || Goal::ClusterStopped(demo()),
    },
    Workflow {
        name: "delete",
        hosts: 1,
        from: Some((1, 1)),
        ask: |world| world.delete(&cluster_ref()).unwrap(),
        goal: gone,
    },
];

impl Workflow {
    /// Whether its hosts have the image already. After an upload that failed the engine looks for the image's file on
    /// the machine that runs it, where the simulated images are not.
    fn has_images(&self) -> bool {
        self.from.is_some() && self.hosts == 1
    }

    fn begin(&self) -> Simulation {
        let simulation = Simulation::with_pool(1, self.hosts).unwrap();
        if let Some((control_planes, workers)) = self.from {
            apply(&simulation, control_planes, workers);
            must_run(&simulation, ready());
        }
        (self.ask)(&simulation);
        simulation
    }

    /// Nothing is left to do, and the world is what it is without any trouble.
    fn must_end_as(&self, simulation: &Simulation, undisturbed: &str, at: &str) {
        must_run(simulation, (self.goal)());
        must_run(simulation, Goal::Settled);
        let at = format!("{}, {at}", self.name);
        assert_eq!(simulation.canonical().unwrap(), undisturbed, "{at}");
        if simulation.read(&cluster_ref()).unwrap().is_some() {
            assert_eq!(simulation.world.state().leftover_secrets(&demo()), Vec::<String>::new(), "{at}");
        } else {
            assert_eq!(simulation.world.state().remains(&demo()), Vec::<String>::new(), "{at}");
        }
    }

    fn undisturbed(&self) -> String {
        let simulation = self.begin();
        must_run(&simulation, (self.goal)());
        must_run(&simulation, Goal::Settled);
        simulation.canonical().unwrap()
    }
}

/// R2: killed before and after every call that changes something and every commit, in every workflow.
#[test]
fn r2_a_kill_at_every_effect_of_every_workflow_ends_where_none_does() {
    let points = AtomicU64::new(0);
    for workflow in &WORKFLOWS {
        let undisturbed = workflow.undisturbed();
        let simulation = workflow.begin();
        simulation.record();
        must_run(&simulation, (workflow.goal)());
        let records = simulation.take_records();
        let every = if IS_QUICK { 25 } else { 1 };
        let records: Vec<&Record> = records.iter().step_by(every).collect();
        each(&records, |record| {
            points.fetch_add(1, Ordering::Relaxed);
            let next = simulation.resume(record).unwrap();
            workflow.must_end_as(&next, &undisturbed, &format!("killed at {:?}", record.point));
        });
    }
    println!(
        "R2: {} workflows, killed at {} points, each ended as the undisturbed run does",
        WORKFLOWS.len(),
        points.into_inner()
    );
}

/// R3: every call arrives twice.
#[test]
fn r3_every_step_twice_ends_where_once_does() {
    let mut calls = 0;
    for workflow in &WORKFLOWS {
        let undisturbed = workflow.undisturbed();
        let simulation = workflow.begin();
        let before = simulation.world.mutating_call_count();
        simulation.world.disturb_all_calls(Some(CallFault::Twice));
        workflow.must_end_as(&simulation, &undisturbed, "every call twice");
        calls += simulation.world.mutating_call_count() - before;
    }
    println!("R3: {} workflows, {calls} calls, each made twice", WORKFLOWS.len());
}

/// R3: calls take times of all kinds, so that what is independent comes in another order.
#[test]
fn r3_steps_in_another_order_end_where_the_usual_one_does() {
    let rounds = if IS_QUICK { 1 } else { 12 };
    for workflow in &WORKFLOWS {
        let undisturbed = workflow.undisturbed();
        let rounds: Vec<u32> = (0..rounds).collect();
        each(&rounds, |round| {
            let simulation = workflow.begin();
            // Any numbers that differ from call to call.
            let slow = |number: u64| CallFault::Slow((number as u32 * 7 + round * 13) % 23);
            simulation.world.disturb_calls((0..2000).map(|number| (number, slow(number))));
            workflow.must_end_as(&simulation, &undisturbed, &format!("order {round}"));
        });
    }
    println!("R3: {} workflows in {rounds} other orders each", WORKFLOWS.len());
}

/// R3: every second call takes effect and says that it failed.
#[test]
fn r3_calls_that_fail_and_took_effect_end_where_good_ones_do() {
    let mut workflows = 0;
    for workflow in WORKFLOWS.iter().filter(|workflow| workflow.has_images()) {
        workflows += 1;
        let undisturbed = workflow.undisturbed();
        let simulation = workflow.begin();
        let faults = (0..2000).step_by(2).map(|number| (number, CallFault::Failed));
        simulation.world.disturb_calls(faults);
        workflow.must_end_as(&simulation, &undisturbed, "every second call fails and took effect");
    }
    println!("R3: {workflows} workflows in which every second call took effect and said that it failed");
}

/// R7: hosts fall silent in every way that there is, and run on in some of them; BMCs answer, lie, refuse and are silent; people
/// confirm what they have seen. Nothing of a lost host is given up before it is proved off, by the world's own truth.
#[test]
fn r7_host_loss_is_acted_on_only_with_proof() {
    let seeds = if IS_QUICK { 0..12 } else { 0..400 };
    let options = Options {
        size: Some(Size::Tiny),
        themes: vec![Theme::HostLoss],
        idle_ticks: 100,
        ..Options::default()
    };
    let stories = stories(seeds, &options);
    let mut all = HostLosses::default();
    for story in &stories {
        assert!(story.losses.silences > 0, "no host is lost in seed {}", story.seed);
        all.add(&story.losses);
    }
    let with_proof = stories.iter().filter(|story| story.losses.given_up > 0).count();
    println!(
        "R7: {} worlds, hosts fell silent {} times; proved off {} times by who turned them off and {} by people; {} machines in \
         {with_proof} worlds were replaced for that, {} nodes called out of service, 0 violations",
        stories.len(),
        all.silences,
        all.proofs,
        all.confirmed,
        all.given_up,
        all.out_of_service
    );
    assert!(all.proofs > 0 && all.confirmed > 0 && all.given_up > 0 && all.out_of_service > 0, "{all:?}");
}

/// R9: from the drifted states of random worlds, everything settles, and then a thousand passes change nothing.
#[test]
fn r9_a_thousand_idle_passes_change_nothing() {
    let (counted, passed) = if IS_QUICK { (0..0, 16..17) } else { (1000..1200, 16..40) };
    let tiny = Options { size: Some(Size::Tiny), ..Options::default() };
    let every =
        Options { passes_every_tick: true, idle_ticks: if IS_QUICK { 300 } else { 1000 }, ..tiny.clone() };
    let mut all = stories(passed, &every);
    let passes: u32 = all.iter().map(|story| story.idle_passes).sum();
    all.extend(stories(counted, &tiny));
    let ticks: u32 = all.iter().map(|story| story.idle_ticks).sum();
    println!(
        "R9: {} worlds came to rest; {ticks} idle ticks, {passes} of them passes one after the other: no mutating call, no commit",
        all.len()
    );
}

/// A deadline that a stuck run would miss: the tests above would say so, and not hang.
#[test]
fn a_call_that_is_never_answered_ends_by_its_deadline() {
    for fault in [CallFault::Lost, CallFault::Unanswered] {
        let simulation = Simulation::with_pool(1, 1).unwrap();
        apply(&simulation, 1, 1);
        must_run(&simulation, ready());
        apply(&simulation, 1, 3);
        simulation.world.disturb_calls((0..40).step_by(3).map(|number| (number, fault)));
        let ended = simulation.run(&ashlar_engine::Scope::All, &ready(), DEADLINE);
        assert!(matches!(ended, Ended::Done(Ok(_))), "{fault:?}: {ended:?}");
    }
}
