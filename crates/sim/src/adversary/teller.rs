//! Tells a story: line by line, then what a person does until everything is as it was asked for, then nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ashlar_api::{Kind, NamespacedName, Object, ObjectRef};
use ashlar_engine::{EngineError, Goal, Scope};
use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};

use super::script::MEND;
use super::{Broken, Coverage, LIVENESS, Options, Story};
use crate::executor::Ended;
use crate::scenario::{self, Command, Sickness, Trouble, Verb, WorkerWord};
use crate::{Simulation, error_text};

/// What was asked for of a cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Up,
    Stopped,
    Gone,
}

/// A cluster as somebody wants it.
pub(super) struct Asked {
    pub(super) wanted: Wanted,
    pub(super) control_planes: usize,
    pub(super) workers: usize,
    /// Of Kubernetes.
    pub(super) version: String,
}

pub(super) struct Teller<'a> {
    pub(super) options: &'a Options,
    pub(super) simulation: Simulation,
    pub(super) asked: BTreeMap<String, Asked>,
    /// Machines that something was done to from which they do not come back by themselves.
    pub(super) hurt: BTreeSet<String>,
    /// Clusters of which a part belongs to somebody else now: they need not come to rest.
    pub(super) spoiled: BTreeSet<String>,
    /// An old store was put back: what came of it need not come to rest.
    pub(super) lost: bool,
    prepared: bool,
    /// Lines that took effect.
    script: Vec<String>,
    pub(super) crashes: u32,
    machines: usize,
    pub(super) idle_ticks: u32,
    pub(super) idle_passes: u32,
}

pub(super) fn tell(seed: u64, script: &[String], options: &Options) -> Result<Story, Box<Broken>> {
    let mut teller = Teller {
        options,
        simulation: Simulation::new(seed),
        asked: BTreeMap::new(),
        hurt: BTreeSet::new(),
        spoiled: BTreeSet::new(),
        lost: false,
        prepared: false,
        script: Vec::new(),
        crashes: 0,
        machines: 0,
        idle_ticks: 0,
        idle_passes: 0,
    };
    let told = teller.tell(script);
    let trace = std::mem::take(&mut teller.simulation.world.state().trace);
    match told {
        Ok(()) => Ok(teller.story(seed, trace)),
        Err(what) => Err(Box::new(Broken { seed, what, script: teller.script, trace })),
    }
}

impl Teller<'_> {
    fn tell(&mut self, script: &[String]) -> Result<(), String> {
        self.simulation.world.state().oracle.searches_late = true;
        for text in script {
            let commands = scenario::parse(text).map_err(|error| format!("no scenario: {text}: {error}"))?;
            for line in commands {
                self.take(text, &line.command)?;
            }
        }
        if !script.iter().any(|line| is_mend(line)) {
            scenario::act(&mut self.simulation.world.state(), &Command::Trouble(Trouble::Mend));
            self.keep(MEND);
        }
        if !self.lost {
            self.come_to_rest()?;
        }
        if self.is_beyond_help() {
            // Whatever there is to be done with an old store, or beside what is somebody else's: it ends some time, too.
            // (A machine that failed is seen to for four such runs before another one takes its place, and that one may fail.)
            for _ in 0..12 {
                self.run(&[Scope::All], LIVENESS)?;
                self.simulation.world.state().advance(SignedDuration::from_mins(30));
            }
        }
        self.stay_idle()?;
        self.simulation.search_store_for_secrets();
        self.judge()
    }

    /// Whether something is as no engine can mend it: it stays blocked, and says so in every run.
    pub(super) fn is_beyond_help(&self) -> bool {
        self.lost || !self.spoiled.is_empty()
    }

    pub(super) fn note(&self, line: &str) {
        self.simulation.world.state().note(format!("* {line}"));
    }

    /// What took effect belongs to the story.
    pub(super) fn keep(&mut self, line: &str) {
        self.script.push(line.to_owned());
    }

    pub(super) fn judge(&self) -> Result<(), String> {
        match self.simulation.world.state().violations() {
            [] => Ok(()),
            [first, ..] => Err(first.clone()),
        }
    }

    fn take(&mut self, text: &str, command: &Command) -> Result<(), String> {
        // What cannot be done is not done: the machine is not there (yet), the name is taken.
        let done = match command {
            Command::Run { cluster, other, deadline, worker, .. } => {
                self.keep(text);
                let scope = |cluster: &Option<NamespacedName>| {
                    cluster.as_ref().map_or(Scope::All, |cluster| Scope::Cluster(cluster.clone()))
                };
                let scopes = [scope(cluster), scope(if other.is_some() { other } else { cluster })];
                let is_alone = *worker != WorkerWord::TwoCommands;
                self.run(if is_alone { &scopes[..1] } else { &scopes }, *deadline)?;
                return Ok(());
            }
            Command::ServeByTwo { time, faults } => {
                self.keep(text);
                return self.serve_by_two(*time, faults);
            }
            Command::Seed(_) => true,
            Command::Poll(interval) => {
                self.simulation.settings_mut().poll_interval = *interval;
                true
            }
            Command::Gather(moment) => {
                self.simulation.settings_mut().gather = *moment;
                true
            }
            Command::Host(options) => self.simulation.add_host(options).is_ok(),
            Command::Image(version) => self.simulation.add_image(version).is_ok(),
            Command::Apply(yaml) => self.apply(text, yaml),
            Command::Delete { kind, name } => self.delete(text, kind, name),
            Command::SetStopped { cluster, stopped, force } => {
                let done = self.simulation.set_stopped(cluster, *stopped, *force).is_ok();
                if let (true, Some(asked)) = (done, self.asked.get_mut(&cluster.name)) {
                    asked.wanted = if *stopped { Wanted::Stopped } else { Wanted::Up };
                    self.note(text);
                }
                done
            }
            Command::ReplaceMachine(machine) => {
                let done = self.simulation.replace_machine(machine).is_ok();
                if done {
                    self.note(text);
                }
                done
            }
            Command::Maintain { host, verb } => {
                let done = self.simulation.maintain(host, *verb).is_ok();
                if done {
                    self.note(text);
                }
                done
            }
            Command::Crash(point) => {
                self.simulation.world.crash_at(Some(*point));
                true
            }
            Command::Edit { kind, name, pointer, value } => scenario::object_named(kind, name)
                .is_ok_and(|object| self.simulation.edit(&object, pointer, value).is_ok()),
            Command::KeepStore => self.simulation.keep_store().is_ok(),
            Command::RestoreStore => {
                self.lost = true;
                self.note(text);
                self.simulation.restore_store().is_ok()
            }
            Command::After(time, hand) => {
                self.foresee(hand.command());
                self.simulation.plan_hand(*time, scenario::Hand::clone(hand));
                true
            }
            other => {
                self.foresee(other);
                let mut state = self.simulation.world.state();
                let done = scenario::act(&mut state, other).is_some_and(|done| done.is_ok());
                if done {
                    state.note(format!("* {text}"));
                }
                done
            }
        };
        if done {
            self.keep(text);
        }
        Ok(())
    }

    /// What a person will have to look after.
    fn foresee(&mut self, command: &Command) {
        match command {
            Command::Trouble(
                Trouble::DisksDie(machine) | Trouble::Sickness(Sickness::Kubelet { machine, dead: true }),
            ) => {
                self.hurt.insert(machine.clone());
            }
            Command::Trouble(Trouble::Sickness(Sickness::Kubelets(cluster))) => {
                let workers = scenario::workers(&self.simulation.world.state(), cluster);
                self.hurt.extend(workers);
            }
            Command::Trouble(Trouble::Virsh {
                verb: Verb::StripMark | Verb::Replace | Verb::TakeDisk,
                domain,
            }) => {
                self.spoiled.insert(cluster_of(domain).to_owned());
            }
            _ => {}
        }
    }

    fn apply(&mut self, text: &str, yaml: &str) -> bool {
        if let Err(error) = self.simulation.apply(yaml) {
            self.note(&format!("{text}: {error}"));
            return false;
        }
        for object in ashlar_api::manifest::read(yaml, "story").unwrap_or_default() {
            if let Object::Cluster(cluster) = object {
                self.note(text);
                let name = cluster.metadata.name.clone();
                let before = self.asked.get(&name).map(|asked| asked.wanted);
                let wanted = if before == Some(Wanted::Stopped) { Wanted::Stopped } else { Wanted::Up };
                let spec = &cluster.spec;
                let workers = spec.workers.iter().map(|group| group.replicas.unwrap_or(0) as usize).sum();
                let control_planes = spec.control_plane.replicas as usize;
                let version = spec.kubernetes_version.clone();
                self.asked.insert(name, Asked { wanted, control_planes, workers, version });
            }
        }
        true
    }

    pub(super) fn delete(&mut self, text: &str, kind: &str, name: &NamespacedName) -> bool {
        let Some(kind) = Kind::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(kind)) else {
            return false;
        };
        match self.simulation.delete(&ObjectRef::new(kind, &name.namespace, &name.name)) {
            Ok(()) => {
                self.note(text);
                if let (Kind::Cluster, Some(asked)) = (kind, self.asked.get_mut(&name.name)) {
                    asked.wanted = Wanted::Gone;
                }
                true
            }
            Err(error) => {
                self.note(&format!("{text}: {error}"));
                false
            }
        }
    }

    /// Ashlar works for a while. That it cannot do what was asked for is no fault while things go wrong.
    pub(super) fn run(
        &mut self,
        scopes: &[Scope],
        deadline: Duration,
    ) -> Result<Option<EngineError>, String> {
        self.prepare();
        let engines = scopes.len();
        let outcomes = if let [one, another] = scopes {
            match self.simulation.run_two([one, another], &Goal::Settled, deadline) {
                Ended::Done(both) => Ended::Done(Vec::from(both)),
                Ended::Crashed => Ended::Crashed,
                Ended::Stuck => Ended::Stuck,
                Ended::Violated => Ended::Violated,
            }
        } else {
            let scope = scopes.first().unwrap_or(&Scope::All);
            match self.simulation.run(scope, &Goal::Settled, deadline) {
                Ended::Done(outcome) => Ended::Done(vec![Some(outcome)]),
                Ended::Crashed => Ended::Done(vec![None]),
                Ended::Stuck => Ended::Stuck,
                Ended::Violated => Ended::Violated,
            }
        };
        self.after_run()?;
        let outcomes = match outcomes {
            Ended::Done(outcomes) => outcomes,
            Ended::Stuck => return Err("the engine waits for something that never comes".to_owned()),
            Ended::Crashed | Ended::Violated => return Err("an invariant was violated".to_owned()),
        };
        let mut last = None;
        for outcome in outcomes {
            match outcome {
                None => {
                    self.crashes += 1;
                    self.note("Ashlar is killed");
                }
                Some(Ok(_)) => last = None,
                Some(Err(EngineError::Violations { violations })) => {
                    return Err(format!("the checker refused a plan: {}", violations.join("; ")));
                }
                Some(Err(EngineError::Contended)) if engines == 2 => {
                    self.note("Ashlar gives up: somebody else writes all the time");
                }
                Some(Err(
                    error @ (EngineError::Store(_)
                    | EngineError::Unreadable { .. }
                    | EngineError::Plan(_)
                    | EngineError::Contended
                    | EngineError::Vault(_)
                    | EngineError::Pki(_)),
                )) => return Err(error_text(&error)),
                Some(Err(error)) => {
                    self.note(&format!("Ashlar gives up: {}", error_text(&error)));
                    last = Some(error);
                }
            }
        }
        Ok(last)
    }

    /// What the test that tells stories wants of all of them, once its hosts are there.
    pub(super) fn prepare(&mut self) {
        if let Some(prepare) =
            self.options.prepare.as_ref().filter(|_| !std::mem::replace(&mut self.prepared, true))
        {
            prepare(&mut self.simulation);
        }
    }

    /// Judges, and counts.
    pub(super) fn after_run(&mut self) -> Result<(), String> {
        self.judge()?;
        let there = self.simulation.world.state().hosts.values().map(|host| host.domains.len()).sum();
        self.machines = self.machines.max(there);
        Ok(())
    }

    fn story(self, seed: u64, trace: Vec<String>) -> Story {
        let mut hash = Sha256::new();
        for line in &trace {
            hash.update(line);
            hash.update("\n");
        }
        let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut state = self.simulation.world.state();
        let coverage = Coverage::from(std::mem::take(&mut state.coverage));
        Story {
            seed,
            script: self.script,
            trace,
            digest,
            virtual_s: state.elapsed_s(),
            effects: state.effects,
            crashes: self.crashes,
            idle_ticks: self.idle_ticks,
            idle_passes: self.idle_passes,
            hosts: state.hosts.len(),
            machines: self.machines,
            coverage,
            losses: state.host_losses(),
        }
    }
}

/// The cluster of a machine in a story, by its name.
pub(super) fn cluster_of(machine: &str) -> &str {
    machine.split('-').next().unwrap_or_default()
}

/// Whether a line is the one after which nothing goes wrong.
pub(super) fn is_mend(line: &str) -> bool {
    line == MEND
}
