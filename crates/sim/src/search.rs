//! Random worlds: clusters come, go, stop and start; hosts fail; people use virsh; Ashlar is killed.
//!
//! Each seed is one story. In its first part anything may happen, and the invariants must hold. In its second part
//! nothing goes wrong any more, and everything must come to what was asked for within a bound; then nothing may
//! happen at all.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use ashlar_api::{Kind, NamespacedName, ObjectRef};
use ashlar_engine::{EngineError, Goal, Scope};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use sha2::{Digest as _, Sha256};

use crate::executor::Ended;
use crate::guest::power_cut;
use crate::{CrashPoint, Moment, Simulation, error_text, fixtures};

/// Virtual time that one run of a story gets.
const RUN: Duration = Duration::from_secs(5 * 60);
/// How often the engines of a story look: seldom, so that a story is told in a fraction of a second.
const POLL: Duration = Duration::from_secs(10);
/// Virtual time within which everything must have come to rest once nothing goes wrong any more.
const LIVENESS: Duration = Duration::from_secs(30 * 60);
/// Idle runs at the end, none of which may change anything.
const IDLE_RUNS: u32 = 3;

/// What became of one seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The seed.
    pub seed: u64,
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
}

/// A seed that broke a promise.
#[derive(Clone, Debug, thiserror::Error)]
#[error("seed {seed}: {what}\n{}", trace.join("\n"))]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// What does not hold.
    pub what: String,
    /// What happened until then.
    pub trace: Vec<String>,
}

/// Runs all seeds of a range, in order.
///
/// # Errors
/// The first that broke a promise.
pub fn search(seeds: Range<u64>) -> Result<Vec<Story>, Box<Broken>> {
    seeds.map(run_seed).collect()
}

/// Runs one seed.
///
/// # Errors
/// It broke a promise.
pub fn run_seed(seed: u64) -> Result<Story, Box<Broken>> {
    let mut teller = match Teller::new(seed) {
        Ok(teller) => teller,
        Err(what) => return Err(Box::new(Broken { seed, what, trace: Vec::new() })),
    };
    match teller.tell() {
        Ok(()) => Ok(teller.story()),
        Err(what) => {
            Err(Box::new(Broken { seed, what, trace: teller.simulation.world.state().trace.clone() }))
        }
    }
}

/// What was asked for of a cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Up,
    Stopped,
    Gone,
}

struct Teller {
    seed: u64,
    rng: ChaCha12Rng,
    simulation: Simulation,
    wanted: BTreeMap<String, Wanted>,
    hosts: Vec<String>,
    effects: u64,
    crashes: u32,
}

impl Teller {
    fn new(seed: u64) -> Result<Self, String> {
        // The story's dice are others than the world's, so that the engine's draws do not change the story.
        let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x5EED_0F57_0217);
        let hosts = rng.random_range(1..=3);
        let mut simulation = Simulation::with_pool(seed, hosts).map_err(|error| error.0)?;
        simulation.settings_mut().poll_interval = POLL;
        Ok(Teller {
            seed,
            rng,
            simulation,
            wanted: BTreeMap::new(),
            hosts: (1..=hosts).map(|number| format!("h{number}")).collect(),
            effects: 0,
            crashes: 0,
        })
    }

    fn note(&self, line: &str) {
        self.simulation.world.state().note(format!("* {line}"));
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn tell(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(2..=5) {
            self.ask_for_something()?;
            if self.chance(40) {
                self.disturb();
            }
            if self.chance(60) {
                let effect = self.rng.random_range(0..60);
                let moment = if self.chance(50) { Moment::Before } else { Moment::After };
                self.simulation.world.crash_at(Some(CrashPoint { effect, moment }));
                self.note(&format!("Ashlar will be killed at effect {effect}, {moment:?}"));
            }
            self.run(RUN)?;
            self.simulation.world.crash_at(None);
        }
        self.mend();
        self.come_to_rest()?;
        self.judge_end()
    }

    /// What people ask for.
    fn ask_for_something(&mut self) -> Result<(), String> {
        let name = ["blue", "green", "red"][self.rng.random_range(0..3)].to_owned();
        let key = NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, &name);
        let exists = self.exists(&name)?;
        let roll = self.rng.random_range(0..100);
        match self.wanted.get(&name).copied() {
            // Names are free again once everything of the cluster is gone.
            None | Some(Wanted::Gone) if exists => {}
            None | Some(Wanted::Gone) => {
                let control_planes = if roll < 15 && self.hosts.len() == 3 { 3 } else { 1 };
                let workers = self.rng.random_range(1..=2);
                self.note(&format!("somebody asks for cluster {name}: {control_planes} + {workers}"));
                let yaml = fixtures::cluster(&name, control_planes, workers);
                self.simulation.apply(&yaml).map_err(|error| error.0)?;
                self.wanted.insert(name, Wanted::Up);
            }
            Some(Wanted::Up) if roll < 30 => {
                self.note(&format!("somebody stops cluster {name}"));
                self.simulation.set_stopped(&key, true, roll < 10).map_err(|error| error.0)?;
                self.wanted.insert(name, Wanted::Stopped);
            }
            Some(Wanted::Stopped) if roll < 60 => {
                self.note(&format!("somebody starts cluster {name}"));
                self.simulation.set_stopped(&key, false, false).map_err(|error| error.0)?;
                self.wanted.insert(name, Wanted::Up);
            }
            Some(Wanted::Up | Wanted::Stopped) => {
                self.note(&format!("somebody deletes cluster {name}"));
                let cluster = ObjectRef::new(Kind::Cluster, &key.namespace, &key.name);
                self.simulation.delete(&cluster).map_err(|error| error.0)?;
                self.wanted.insert(name, Wanted::Gone);
            }
        }
        Ok(())
    }

    fn exists(&self, name: &str) -> Result<bool, String> {
        let cluster = ObjectRef::new(Kind::Cluster, ashlar_api::DEFAULT_NAMESPACE, name);
        Ok(self.simulation.read(&cluster).map_err(|error| error.0)?.is_some())
    }

    /// What goes wrong.
    fn disturb(&mut self) {
        let host = self.hosts[self.rng.random_range(0..self.hosts.len())].clone();
        let what = self.rng.random_range(0..7);
        let victim: usize = self.rng.random_range(0..16);
        let mut state = self.simulation.world.state();
        let now = state.now;
        let Some(seen) = state.hosts.get_mut(&host) else { return };
        let said = match what {
            0 => {
                seen.reachable = false;
                format!("host {host} does not answer any more")
            }
            1 => {
                seen.reachable = true;
                seen.hung = false;
                format!("host {host} answers")
            }
            2 => {
                seen.hung = true;
                format!("host {host} hangs")
            }
            3 => {
                for pool in seen.pools.values_mut() {
                    pool.active = !pool.active;
                }
                format!("the pool of host {host} is mounted or unmounted")
            }
            4 => {
                power_cut(&mut state, &host);
                format!("host {host} starts anew")
            }
            5 => {
                let count = seen.domains.len().max(1);
                match seen.domains.values_mut().nth(victim % count) {
                    Some(domain) if domain.state.is_active() => {
                        domain.power_off();
                        format!("somebody turns {} off", domain.name)
                    }
                    Some(domain) => {
                        domain.take_definition();
                        domain.state = ashlar_plan::DomainState::Running;
                        domain.started_at = Some(now);
                        format!("somebody turns {} on", domain.name)
                    }
                    None => return,
                }
            }
            _ => {
                let off = seen.domains.iter().filter(|(_, domain)| !domain.state.is_active());
                let off: Vec<_> = off.map(|(uuid, domain)| (*uuid, domain.name.clone())).collect();
                let Some((uuid, name)) = off.get(victim % off.len().max(1)) else { return };
                seen.domains.remove(uuid);
                format!("somebody undefines {name}")
            }
        };
        state.touched();
        state.note(format!("* {said}"));
    }

    /// Nothing goes wrong any more.
    fn mend(&mut self) {
        let mut state = self.simulation.world.state();
        for host in state.hosts.values_mut() {
            host.reachable = true;
            host.hung = false;
            for pool in host.pools.values_mut() {
                pool.active = true;
            }
        }
        state.note("* from here on nothing goes wrong");
    }

    /// One process of Ashlar. That it cannot do what was asked for is no fault while things go wrong.
    fn run(&mut self, deadline: Duration) -> Result<Option<EngineError>, String> {
        let outcome = self.simulation.run(&Scope::All, &Goal::Settled, deadline);
        self.effects += self.simulation.world.effect_count();
        if let [first, ..] = self.simulation.world.state().violations() {
            return Err(first.clone());
        }
        match outcome {
            Ended::Done(Ok(_)) => Ok(None),
            Ended::Done(Err(EngineError::Violations { violations })) => {
                Err(format!("the checker refused a plan: {}", violations.join("; ")))
            }
            Ended::Done(Err(
                error @ (EngineError::Store(_) | EngineError::Plan(_) | EngineError::Contended),
            )) => Err(error_text(&error)),
            Ended::Done(Err(error)) => {
                self.note(&format!("Ashlar gives up: {}", error_text(&error)));
                Ok(Some(error))
            }
            Ended::Crashed => {
                self.crashes += 1;
                self.note("Ashlar is killed");
                Ok(None)
            }
            Ended::Stuck => Err("the engine waits for something that never comes".to_owned()),
            Ended::Violated => Err("an invariant was violated".to_owned()),
        }
    }

    /// What failed for good while things went wrong goes the way that a person has: the machine is deleted.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.simulation.world.crash_at(None);
        let mut replaced = BTreeSet::new();
        for _ in 0..8 {
            match self.run(LIVENESS)? {
                None => return Ok(()),
                Some(EngineError::NodeFailed { machine, .. }) if replaced.insert(machine.clone()) => {
                    let is_control_plane = machine.name.contains("-ctrl-");
                    let cluster = machine.name.split('-').next().unwrap_or_default().to_owned();
                    // A control plane that never came up takes its cluster with it; a worker is made anew.
                    let gone = if is_control_plane {
                        self.wanted.insert(cluster.clone(), Wanted::Gone);
                        ObjectRef::new(Kind::Cluster, &machine.namespace, &cluster)
                    } else {
                        ObjectRef::new(Kind::Machine, &machine.namespace, &machine.name)
                    };
                    self.note(&format!("somebody deletes {gone}, which did not come up"));
                    self.simulation.delete(&gone).map_err(|error| error.0)?;
                }
                // What is left of a cluster that was stopped before it was complete waits until it is started.
                Some(EngineError::Deadline { waiting, .. })
                    if waiting.iter().all(|wait| wait.ends_with(" is stopped")) =>
                {
                    return Ok(());
                }
                Some(error) => return Err(format!("nothing goes wrong, and yet: {}", error_text(&error))),
            }
        }
        Err("it does not come to rest".to_owned())
    }

    fn judge_end(&mut self) -> Result<(), String> {
        for (name, wanted) in self.wanted.clone() {
            let cluster = NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, &name);
            let state = self.simulation.world.state();
            match wanted {
                Wanted::Gone => none(&format!("cluster {name} is gone"), &state.remains(&cluster))?,
                Wanted::Up => {
                    none(&format!("cluster {name} is ready"), &state.leftover_secrets(&cluster))?;
                    if !crate::guest::api_answers(&state, &cluster) {
                        return Err(format!("cluster {name} should be up, and its API does not answer"));
                    }
                }
                Wanted::Stopped => {
                    let domains = state.hosts.values().flat_map(|host| host.domains.values());
                    let on =
                        domains.filter(|domain| domain.state.is_active() && domain.name.starts_with(&name));
                    let on: Vec<String> = on.map(|domain| format!("domain {}", domain.name)).collect();
                    none(&format!("cluster {name} is stopped"), &on)?;
                }
            }
        }
        let calls = self.simulation.world.mutating_call_count();
        let revision = self.simulation.revision().map_err(|error| error.0)?;
        for _ in 0..IDLE_RUNS {
            self.run(LIVENESS)?;
        }
        let calls = self.simulation.world.mutating_call_count() - calls;
        let commits = self.simulation.revision().map_err(|error| error.0)? - revision;
        if calls + commits > 0 {
            return Err(format!("idle runs made {calls} mutating calls and {commits} commits"));
        }
        self.simulation.search_store_for_secrets();
        match self.simulation.world.state().violations() {
            [] => Ok(()),
            [first, ..] => Err(first.clone()),
        }
    }

    fn story(self) -> Story {
        let state = self.simulation.world.state();
        let mut hash = Sha256::new();
        for line in &state.trace {
            hash.update(line);
            hash.update("\n");
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Story {
            seed: self.seed,
            trace: state.trace.clone(),
            digest,
            virtual_s: state.elapsed_s(),
            effects: self.effects,
            crashes: self.crashes,
        }
    }
}

fn none(what: &str, left: &[String]) -> Result<(), String> {
    if left.is_empty() { Ok(()) } else { Err(format!("{what}, and there is still {}", left.join(", "))) }
}
