//! A host whose libvirtd hangs slows nobody: what is to be done on the other one is done as soon as before.

use std::time::{Duration, Instant};

use ashlar_lab::Lab;

use crate::oracle::wait;
use crate::trials::in_a_world;
use crate::world::World;

const ROUNDS: usize = 12;
const FILES: usize = 2;

/// Files are declared to be gone, again and again; how long until they are.
fn latencies(world: &World<'_>, from: usize) -> Vec<Duration> {
    let one = |round| {
        let files = world.give_work(round, FILES);
        let began = Instant::now();
        wait("no file goes", || files.iter().all(|file| !world.oracle.is_there(file)).then_some(()));
        let took = began.elapsed();
        world.wait_until_done();
        took
    };
    (from..from + ROUNDS).map(one).collect()
}

fn shown(what: &str, mut times: Vec<Duration>) -> Duration {
    let first = times[0];
    times.sort_unstable();
    println!("{what}: first {first:?}, median {:?}, max {:?}", times[ROUNDS / 2], times[ROUNDS - 1]);
    times[ROUNDS - 1]
}

fn measure(world: &mut World<'_>, lab: &Lab) {
    world.give_work(0, FILES);
    world.wait_until_done();
    shown("both hosts answer", latencies(world, 1));
    let libvirtd = lab.hypervisor_daemon();
    lab.pause_daemon("h2", libvirtd).unwrap();
    // Half of what a host is given to answer.
    let longest = shown("the other one hangs", latencies(world, 1 + ROUNDS));
    lab.resume_daemon("h2", libvirtd).unwrap();
    assert!(longest < Duration::from_secs(10), "who hangs holds up the others for {longest:?}");
    let leader = world.leader();
    wait("the host that hung is not seen again", || {
        world.daemons[leader].log().contains("answers again").then_some(())
    });
}

#[test]
#[ignore = "needs a lab and etcd's binary: `cargo xtask ci daemons`"]
fn a_host_that_hangs_slows_nobody() {
    in_a_world(2, measure);
}
