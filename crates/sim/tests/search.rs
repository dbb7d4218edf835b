//! Random worlds. `ASHLAR_SIM_SEEDS=5000..6000` chooses other seeds than the usual ones.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ops::Range;
use std::sync::Mutex;

use ashlar_sim::search::{Story, run_seed};
use common::each;

/// Seeds of an ordinary run: a debug build tells a story in about two seconds, an optimized one in a tenth of that.
const SEEDS: Range<u64> = if cfg!(debug_assertions) { 0..24 } else { 0..400 };

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("ASHLAR_SIM_SEEDS") else { return SEEDS };
    let (first, last) = text.split_once("..").unwrap();
    first.parse().unwrap()..last.parse().unwrap()
}

#[test]
fn random_worlds_keep_every_promise() {
    let seeds: Vec<u64> = seeds().collect();
    let stories: Mutex<Vec<Story>> = Mutex::default();
    let broken = Mutex::new(Vec::new());
    each(&seeds, |seed| match run_seed(*seed) {
        Ok(story) => stories.lock().unwrap().push(story),
        Err(error) => broken.lock().unwrap().push(error),
    });
    let stories = stories.into_inner().unwrap();
    let virtual_s: i64 = stories.iter().map(|story| story.virtual_s).sum();
    let effects: u64 = stories.iter().map(|story| story.effects).sum();
    let crashes: u32 = stories.iter().map(|story| story.crashes).sum();
    println!(
        "{} seeds, {} h of virtual time, {effects} calls and commits, {crashes} crashes",
        stories.len(),
        virtual_s / 3600
    );
    let mut broken = broken.into_inner().unwrap();
    broken.sort_by_key(|error| error.seed);
    let list: Vec<String> =
        broken.iter().map(|error| format!("seed {}: {}", error.seed, error.what)).collect();
    if let Some(first) = broken.first() {
        panic!("{first}\n\n{} broken seeds:\n{}", broken.len(), list.join("\n"));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 17] {
        let (one, other) = (run_seed(seed).unwrap(), run_seed(seed).unwrap());
        assert_eq!(one.trace, other.trace);
        assert_eq!(one, other);
    }
    assert_ne!(run_seed(3).unwrap().digest, run_seed(4).unwrap().digest);
}
