//! `search`: many seeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use ashlar_sim::HostLosses;
use ashlar_sim::adversary::{Broken, Coverage, Options, run_seed, shrink};
use ashlar_sim::fleet::thread_processor_s;
use clap::Args;

use crate::seeds::{BrokenSeed, Done};
use crate::{SizeName, ThemeName, commit, options, tell_broken};

/// Broken seeds after which a search ends.
const ENOUGH: usize = 20;
/// How often the file of seeds done is written, and how far the search is told.
const REPORT: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Seeds, `A..B`; those that an earlier search did are left out
    #[arg(long, default_value = "0..1000000", value_parser = range)]
    seeds: Range<u64>,
    /// Minutes after which it ends
    #[arg(long)]
    minutes: Option<f64>,
    /// Seeds at a time; as many as there are cores if not given
    #[arg(long)]
    jobs: Option<usize>,
    /// File of the seeds done
    #[arg(long, default_value = "/var/cache/ashlar/simulated-seeds.json")]
    state: PathBuf,
    /// All of the seeds, whoever did them before; the file of seeds done is not touched
    #[arg(long)]
    fresh: bool,
    /// Size of all worlds, instead of the one that each seed draws
    #[arg(long)]
    size: Option<SizeName>,
    /// What all stories are about, besides what their seeds draw; the file of seeds done is not touched
    #[arg(long)]
    about: Vec<ThemeName>,
}

impl Arguments {
    fn leaves_file_alone(&self) -> bool {
        self.fresh || !self.about.is_empty()
    }
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let bad = || format!("`{text}` is no range of seeds (`0..2000`)");
    let (first, last) = text.split_once("..").ok_or_else(bad)?;
    Ok(first.parse().map_err(|_| bad())?..last.parse().map_err(|_| bad())?)
}

/// What one search has done.
#[derive(Default)]
struct Tally {
    done: Done,
    seeds: u64,
    virtual_s: u64,
    effects: u64,
    kills: u64,
    idle_ticks: u64,
    idle_passes: u64,
    busy_s: f64,
    most_hosts: usize,
    most_machines: usize,
    coverage: Coverage,
    losses: HostLosses,
    broken: Vec<Broken>,
}

pub(crate) fn search(arguments: &Arguments) -> anyhow::Result<()> {
    let options = options(arguments.size, &arguments.about);
    let began = Instant::now();
    let ends = arguments.minutes.map(|minutes| began + Duration::from_secs_f64(minutes * 60.0));
    let done = if arguments.leaves_file_alone() { Done::default() } else { Done::read(&arguments.state)? };
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let before = done.clone();
    let tally = Mutex::new(Tally { done, ..Tally::default() });
    let next = AtomicU64::new(arguments.seeds.start);
    let stop = AtomicBool::new(false);
    let work = || {
        while !stop.load(Ordering::Relaxed) && ends.is_none_or(|ends| Instant::now() < ends) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= arguments.seeds.end {
                break;
            }
            if before.has(seed) {
                continue;
            }
            let started_s = thread_processor_s();
            let told = run_seed(seed, &options);
            let took_s = thread_processor_s() - started_s;
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.note(seed, told, took_s);
            if tally.broken.len() >= ENOUGH {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let mut told = Instant::now();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::park_timeout(Duration::from_millis(200));
            if told.elapsed() >= REPORT {
                told = Instant::now();
                let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                println!(
                    "{} seeds, {} broken, {:.0} s",
                    tally.seeds,
                    tally.broken.len(),
                    began.elapsed().as_secs_f64()
                );
                if !arguments.leaves_file_alone() {
                    tally.done.write(&arguments.state)?;
                }
            }
        }
        anyhow::Ok(())
    })?;
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !arguments.leaves_file_alone() {
        tally.done.write(&arguments.state)?;
    }
    tally.report(began.elapsed(), jobs, (!arguments.leaves_file_alone()).then_some(&arguments.state));
    tally.tell_broken(&options)
}

impl Tally {
    fn note(&mut self, seed: u64, told: Result<ashlar_sim::adversary::Story, Box<Broken>>, took_s: f64) {
        self.seeds += 1;
        self.busy_s += took_s;
        self.done.core_s += took_s;
        match told {
            Ok(story) => {
                let virtual_s = u64::try_from(story.virtual_s).unwrap_or_default();
                self.virtual_s += virtual_s;
                self.effects += story.effects;
                self.kills += u64::from(story.crashes);
                self.idle_ticks += u64::from(story.idle_ticks);
                self.idle_passes += u64::from(story.idle_passes);
                self.most_hosts = self.most_hosts.max(story.hosts);
                self.most_machines = self.most_machines.max(story.machines);
                self.coverage.add(&story.coverage);
                self.losses.add(&story.losses);
                self.done.virtual_s += virtual_s;
                self.done.add(seed);
            }
            Err(broken) => {
                let what = broken.what.lines().next().unwrap_or_default().to_owned();
                println!("seed {seed}: {what}");
                self.done.add_broken(BrokenSeed { seed, commit: commit(), what });
                self.broken.push(*broken);
            }
        }
    }

    fn report(&self, took: Duration, jobs: usize, state: Option<&PathBuf>) {
        let busy = self.busy_s.max(0.001);
        let good = self.seeds - self.broken.len() as u64;
        println!("{}", self.coverage);
        let holes = self.coverage.holes();
        match holes.as_slice() {
            [] => println!("no holes: Ashlar was killed before and after every action"),
            holes => println!("holes: {}", holes.join("; ")),
        }
        match self.coverage.untried().as_slice() {
            [] => println!("every fault met every action"),
            untried => println!("never met: {}", untried.join("; ")),
        }
        println!(
            "{} seeds on {jobs} cores in {:.1} s: {good} kept every promise, {} broke one",
            self.seeds,
            took.as_secs_f64(),
            self.broken.len()
        );
        println!(
            "worlds of up to {} hosts and {} machines; {} calls and commits, {} kills; {} idle ticks, {} of them passes",
            self.most_hosts, self.most_machines, self.effects, self.kills, self.idle_ticks, self.idle_passes
        );
        println!(
            "hosts fell silent {} times; {} were proved off by who turned them off, {} by people; {} machines were given up for that",
            self.losses.silences, self.losses.proofs, self.losses.confirmed, self.losses.given_up
        );
        println!(
            "{:.1} virtual h; {:.0} virtual s per s and {:.1} seeds per s, of one core",
            self.virtual_s as f64 / 3600.0,
            self.virtual_s as f64 / busy,
            self.seeds as f64 / busy
        );
        if let Some(state) = state {
            println!(
                "all searches so far: {} seeds, {:.1} virtual h, {:.1} core h, {} broken ({})",
                self.done.seeds,
                self.done.virtual_s as f64 / 3600.0,
                self.done.core_s / 3600.0,
                self.done.broken.len(),
                state.display()
            );
        }
    }

    /// The shortest story for each promise that was broken.
    fn tell_broken(&self, options: &Options) -> anyhow::Result<()> {
        let mut first: BTreeMap<String, &Broken> = BTreeMap::new();
        for broken in &self.broken {
            let kept = first.entry(broken.invariant()).or_insert(broken);
            if broken.script.len() < kept.script.len() {
                *kept = broken;
            }
        }
        for broken in first.values() {
            println!();
            tell_broken(&shrink(broken, options));
        }
        match self.broken.as_slice() {
            [] => Ok(()),
            broken => {
                let mut seeds: Vec<u64> = broken.iter().map(|broken| broken.seed).collect();
                seeds.sort_unstable();
                bail!("broken seeds: {seeds:?}")
            }
        }
    }
}
