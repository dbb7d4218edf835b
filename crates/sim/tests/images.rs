//! Ashlar is killed at every outside call and every commit while a host gets an image in chunks, with links that are cut
//! and chunks that arrive damaged: nothing is booted that is not whole, and nothing is sent that is there.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use ashlar_engine::Goal;
use ashlar_sim::{HostOptions, Record, Simulation, fixtures};
use common::{demo, each, must_run};

const CHUNK: u64 = 128 << 20;
/// Chunks of an image of 1 GiB with an empty quarter, its kernel and its initrd.
const CHUNKS: u64 = 6 + 2;

fn uploads(simulation: &Simulation) -> u64 {
    simulation.world.state().mutating_calls.get("upload_volume").copied().unwrap_or_default()
}

/// A cluster on one host; then a second one, which gets the image for a second worker.
fn scene() -> Simulation {
    let mut simulation = Simulation::with_pool(1, 1).unwrap();
    simulation.settings_mut().upload_chunk_bytes = CHUNK;
    simulation.apply(&fixtures::cluster("demo", 1, 1)).unwrap();
    must_run(&simulation, Goal::ClusterReady(demo()));
    simulation.add_host(&HostOptions::big("h2")).unwrap();
    simulation.apply(&fixtures::cluster("demo", 1, 2)).unwrap();
    simulation
}

#[test]
fn a_crash_at_any_chunk_sends_none_of_them_twice() {
    let simulation = scene();
    let before = uploads(&simulation);
    simulation.record();
    must_run(&simulation, Goal::ClusterReady(demo()));
    let records = simulation.take_records();
    let end = simulation.canonical().unwrap();
    // Another for the worker's seed.
    assert_eq!(uploads(&simulation) - before, CHUNKS + 1);
    println!("{} copies while a host got an image", records.len());
    let records: Vec<&Record> = records.iter().collect();
    each(&records, |record| {
        let next = simulation.resume(record).unwrap();
        must_run(&next, Goal::ClusterReady(demo()));
        assert_eq!(next.canonical().unwrap(), end, "{:?}", record.point);
        // A seed may be sent again: whether all of it arrived is not asked.
        let sent = uploads(&next) - before;
        assert!(sent <= CHUNKS + 2, "{:?}: {sent} uploads", record.point);
    });
}

#[test]
fn a_cut_or_damage_at_any_chunk_costs_that_chunk_and_survives_a_crash() {
    let faults: Vec<(&str, u64)> = ["damage upload N to h1", "cut upload N to h1 for 30s"]
        .into_iter()
        .flat_map(|what| (1..=CHUNKS).map(move |number| (what, number)))
        .collect();
    each(&faults, |(what, number)| {
        let fault = what.replace('N', &number.to_string());
        // Crashes around the fault: the effects before the first upload are the same for all.
        for crash in
            ["", "crash at effect 12 before", "crash at effect 15 after", "crash at effect 19 before"]
        {
            let again = if crash.is_empty() { "" } else { "run until cluster demo ready\n" };
            let scenario = format!(
                "host h1\nimage v1.37.2\nstandard objects\nchunks of 128Mi\n{fault}\n\
                 cluster demo control-planes 1 workers 0\n{crash}\nrun until cluster demo ready\n{again}\
                 expect ready cluster demo\nexpect idle\n"
            );
            let transcript = ashlar_sim::scenario::run(&scenario)
                .unwrap_or_else(|failed| panic!("{fault}, {crash}: {failed}"));
            let sent = transcript.lines().filter(|line| line.contains("upload_volume")).count() as u64;
            // The file's chunks, the one with the fault again, the seed, and the seed again after a crash.
            let most = CHUNKS + 1 + 2;
            assert!(sent <= most, "{fault}, {crash}: {sent} uploads\n{transcript}");
        }
    });
}
