//! The adversary: random worlds in which everything goes wrong that can.
//!
//! Each seed is one story, and a story is a scenario: lines of text, drawn from the seed before anything runs. In its
//! first part anything may happen, and the invariants must hold after every step. In its second part nothing goes
//! wrong any more, and everything must come to what was asked for within a bound; then nothing may happen at all.

mod controllers;
mod coverage;
mod daemons;
mod draining;
mod drifting;
mod fencing;
mod idle;
mod judge;
mod losing;
mod mix;
mod moving;
mod person;
mod power;
mod replacing;
mod script;
mod serving;
mod shrink;
mod sickness;
mod story;
mod teller;
mod unheard;
mod upgrading;
mod weaving;
mod wiping;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use coverage::Coverage;
pub use mix::Size;
pub use shrink::shrink;

use crate::{HostLosses, Simulation};

/// Virtual time within which everything must have come to rest once nothing goes wrong any more, and again after
/// each thing that only a person can do.
pub const LIVENESS: Duration = Duration::from_secs(30 * 60);

/// How it is told that Ashlar does not come to rest.
const UNSETTLED: &str = "nothing goes wrong, and yet:";

/// Changes a simulation once its hosts are there, before Ashlar first runs.
pub type Prepare = Arc<dyn Fn(&mut Simulation) + Send + Sync>;

/// What a story may be about, whatever its dice say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Hosts that are lost in one way or another, and how it is known that they are off.
    HostLoss,
    /// Two daemons that share the store.
    TwoDaemons,
}

/// How stories are told.
#[derive(Clone)]
pub struct Options {
    /// Done to every simulation before Ashlar first runs in it: a test takes a guard away with it, say.
    pub prepare: Option<Prepare>,
    /// Size of all worlds; drawn by each seed if not given.
    pub size: Option<Size>,
    /// Lines that a story has besides its own: each seed takes some of them, at moments of its own.
    pub also: Vec<String>,
    /// What all of them are about, besides what each draws.
    pub themes: Vec<Theme>,
    /// Ticks at the end in which nothing may change any more.
    pub idle_ticks: u32,
    /// Every idle tick is a pass of the engine; otherwise those are counted in which the world did not change.
    pub passes_every_tick: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            prepare: None,
            size: None,
            also: Vec::new(),
            themes: Vec::new(),
            idle_ticks: 1000,
            passes_every_tick: false,
        }
    }
}

/// What became of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The seed.
    pub seed: u64,
    /// The lines that took effect, as a scenario.
    pub script: Vec<String>,
    /// What happened, in order: what people and fate did (`*`), and the world's trace.
    pub trace: Vec<String>,
    /// SHA-256 (hex) of the trace: the same for the same seed.
    pub digest: String,
    /// Virtual seconds that passed.
    pub virtual_s: i64,
    /// Mutating calls and commits.
    pub effects: u64,
    /// Kills of Ashlar that took place.
    pub crashes: u32,
    /// Idle ticks, and how many of them were passes of the engine.
    pub idle_ticks: u32,
    /// See [`Self::idle_ticks`].
    pub idle_passes: u32,
    /// Hosts, and most machines at a time.
    pub hosts: usize,
    /// See [`Self::hosts`].
    pub machines: usize,
    /// What went wrong with which action.
    pub coverage: Coverage,
    /// What became of hosts that were lost.
    pub losses: HostLosses,
}

/// A seed that broke a promise.
#[derive(Clone, Debug, thiserror::Error)]
#[error("seed {seed}: {what}\n{}", trace.join("\n"))]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// What does not hold.
    pub what: String,
    /// The lines that took effect until then.
    pub script: Vec<String>,
    /// What happened until then.
    pub trace: Vec<String>,
}

impl Broken {
    /// What does not hold, without what differs from story to story.
    pub fn invariant(&self) -> String {
        let Some((_, why)) = self.what.split_once(UNSETTLED) else {
            return self.what.split(':').next().unwrap_or_default().to_owned();
        };
        // How Ashlar ends has no name: its words without those of this story are it.
        let is_name = |word: &&str| {
            word.contains(|letter: char| letter.is_ascii_digit() || letter == '-') || script::is_cluster(word)
        };
        let words: Vec<&str> = why.split_whitespace().filter(|word| !is_name(word)).take(16).collect();
        format!("{UNSETTLED} {}", words.join(" "))
    }

    /// The story as a scenario file.
    pub fn scenario(&self) -> String {
        let mut text = format!("# Seed {}: {}\n", self.seed, self.what.lines().next().unwrap_or_default());
        for line in &self.script {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Runs all seeds of a range, in order.
///
/// # Errors
/// The first that broke a promise.
pub fn search(seeds: Range<u64>, options: &Options) -> Result<Vec<Story>, Box<Broken>> {
    seeds.map(|seed| run_seed(seed, options)).collect()
}

/// Runs one seed.
///
/// # Errors
/// It broke a promise.
pub fn run_seed(seed: u64, options: &Options) -> Result<Story, Box<Broken>> {
    let mut lines = script::of_seed(seed, options.size, &options.themes);
    weaving::also(&mut lines, seed, &options.also);
    teller::tell(seed, &lines, options)
}
