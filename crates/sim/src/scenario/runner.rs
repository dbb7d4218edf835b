//! Running a scenario.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ashlar_api::{DrainBy, Kind, NamespacedName, ObjectRef};
use ashlar_engine::declare::{self, Declared};
use ashlar_engine::effects::Clock as _;
use ashlar_engine::{CopyPolicy, EngineError, Goal, RunSummary, Scope, Upkeep};
use ashlar_plan::fates;
use ashlar_plan::render::{fates_text, plan_text};

use super::command::{Command, Expectation, Foreign, GoalWord, WorkerWord};
use super::{Failed, Hand, Line, hands};
use crate::canonical::scrub_text;
use crate::executor::Ended;
use crate::{DaemonFault, SimCopies, Simulation, SimulationError, error_text};

/// How long a run may take that must find nothing to do.
const IDLE_DEADLINE: Duration = Duration::from_secs(60);

/// How often a daemon copies etcd that looks after it.
const COPY_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

struct Runner {
    simulation: Simulation,
    transcript: String,
    /// Lines of the world's trace that are written down.
    told: usize,
    traces: bool,
    last_error: String,
    foreign: u128,
    /// Destructive calls until the last `watch`.
    destroyed: u64,
}

pub(super) fn run(lines: &[Line]) -> Result<String, Failed> {
    let mut runner = Runner {
        simulation: Simulation::new(1),
        transcript: String::new(),
        told: 0,
        traces: true,
        last_error: String::new(),
        foreign: 0,
        destroyed: 0,
    };
    for line in lines {
        runner.say(&format!("> {}", line.text));
        let done = runner.take(&line.command).and_then(|()| runner.judge());
        runner.tell();
        if let Err(error) = done {
            let error = format!("line {}: {error}", line.number);
            return Err(Failed { transcript: runner.transcript, error });
        }
    }
    runner.simulation.search_store_for_secrets();
    match runner.judge() {
        Ok(()) => Ok(runner.transcript),
        Err(error) => Err(Failed { transcript: runner.transcript, error }),
    }
}

fn plain(error: SimulationError) -> String {
    error.0
}

impl Runner {
    fn say(&mut self, text: &str) {
        // Writing to a String cannot fail.
        writeln!(self.transcript, "{}", scrub_text(text.trim_end())).ok();
    }

    /// Writes down what happened in the world since it was last done.
    fn tell(&mut self) {
        let trace = self.simulation.world.state().trace.clone();
        let new = trace.iter().skip(self.told);
        if self.traces {
            for line in new {
                self.transcript.push_str("  ");
                self.say(line);
            }
        }
        self.told = trace.len();
    }

    fn judge(&self) -> Result<(), String> {
        let state = self.simulation.world.state();
        match state.violations() {
            [] => Ok(()),
            violations => Err(format!("an invariant was violated:\n  {}", violations.join("\n  "))),
        }
    }

    fn take(&mut self, command: &Command) -> Result<(), String> {
        let simulation = &self.simulation;
        match command {
            Command::Host(options) => simulation.add_host(options).map_err(plain)?,
            Command::HostIs { host, state } => hands::set_host(&mut simulation.world.state(), host, *state)?,
            Command::Pool { host, state } => hands::set_pool(&mut simulation.world.state(), host, *state)?,
            Command::Lose { host, word } => hands::lose(&mut simulation.world.state(), host, word)?,
            Command::Image(version) => simulation.add_image(version).map_err(plain)?,
            Command::Chunks(mib) => self.simulation.settings_mut().upload_chunk_bytes = mib << 20,
            Command::UploadFault { host, fault } => {
                simulation.world.state().upload_faults.insert(host.clone(), fault.clone());
            }
            Command::Apply(yaml) => match simulation.apply(yaml) {
                Ok(declared) => self.say(&applied(&declared)),
                Err(error) => self.refused(&error.0),
            },
            Command::Plan(yaml) => self.plan(yaml.as_deref())?,
            Command::PreviewDrain { host, by } => self.preview_drain(host, *by)?,
            Command::Run { goal, cluster, other, deadline, worker } => {
                let goal = goal_of(*goal, cluster.as_ref());
                self.run(&goal, (cluster.as_ref(), other.as_ref()), *deadline, *worker)?;
            }
            Command::ServeByTwo { time, faults } => self.serve_by_two(*time, faults)?,
            Command::Serve(time) => self.serve(*time, false)?,
            Command::ServeAndKeep(time) => self.serve(*time, true)?,
            Command::Etcd { cluster, is } => hands::set_etcd(&mut simulation.world.state(), cluster, *is)?,
            Command::Delete { kind, name } => match simulation.delete(&object_named(kind, name)?) {
                Ok(()) => {}
                Err(error) => self.refused(&error.0),
            },
            Command::SetStopped { cluster, stopped, force } => {
                if let Err(error) = simulation.set_stopped(cluster, *stopped, *force) {
                    self.refused(&error.0);
                }
            }
            Command::SetPaused { cluster, paused } => {
                simulation.set_paused(cluster, *paused).map_err(plain)?;
            }
            Command::ReplaceMachine(machine) => {
                if let Err(error) = simulation.replace_machine(machine) {
                    self.refused(&error.0);
                }
            }
            Command::KeepMachine(machine) => match simulation.keep_machine(machine) {
                Ok(true) => {}
                Ok(false) => self.refused(&format!("nobody asked to replace {machine}")),
                Err(error) => self.refused(&error.0),
            },
            Command::Maintain { host, verb } => {
                if let Err(error) = simulation.maintain(host, *verb) {
                    self.refused(&error.0);
                }
            }
            Command::Status => self.status()?,
            Command::Foreign(Foreign::Part { host, network }) => {
                let uid = self.network(network)?;
                hands::add_part(&mut self.simulation.world.state(), host, uid)?;
            }
            Command::BreakNetwork { host, network, whole } => {
                let uid = self.network(network)?;
                hands::break_network(&mut self.simulation.world.state(), host, uid, *whole)?;
            }
            Command::Foreign(foreign) => {
                self.foreign += 1;
                hands::add_foreign(&mut self.simulation.world.state(), foreign, self.foreign)?;
            }
            Command::Virsh { host, verb, domain } => {
                hands::virsh(&mut simulation.world.state(), host, *verb, domain)?;
            }
            Command::ByHand(edit) => edit.happen(&mut simulation.world.state())?,
            Command::Lie(lie) => lie.happen(&mut simulation.world.state())?,
            Command::LoseObjects { kind, name } => {
                let kind = kind_named(kind)?;
                let lost = simulation.lose_objects(kind, name.as_ref()).map_err(plain)?;
                self.say(&format!("  {lost} lost"));
            }
            Command::Edit { kind, name, pointer, value } => {
                let object = object_named(kind, name)?;
                simulation.edit(&object, pointer, value).map_err(plain)?;
            }
            Command::Watch => self.destroyed = simulation.world.state().destructive_calls,
            Command::App { cluster, name, replicas, min_available, volumes } => {
                let mut state = simulation.world.state();
                hands::run_app(&mut state, cluster, name, *replicas, *min_available, *volumes)?;
            }
            Command::FailBoot { machine, phase, reason } => {
                let failure = (phase.clone(), reason.clone());
                simulation.world.state().failing_boots.insert(machine.clone(), failure);
            }
            Command::HangBoot(machine) => {
                simulation.world.state().hanging_boots.insert(machine.clone());
            }
            Command::MendBoot(machine) => {
                let mut state = simulation.world.state();
                state.failing_boots.remove(machine);
                state.hanging_boots.remove(machine);
            }
            Command::Crash(point) => simulation.world.crash_at(Some(*point)),
            Command::Expect(expectation) => self.expect(expectation)?,
            Command::Trace(on) => self.traces = *on,
            Command::Seed(seed) => {
                self.simulation = Simulation::new(*seed);
                self.told = 0;
            }
            Command::Poll(interval) => self.simulation.settings_mut().poll_interval = *interval,
            Command::Gather(moment) => self.simulation.settings_mut().gather = *moment,
            Command::KeepStore => self.simulation.keep_store().map_err(plain)?,
            Command::RestoreStore => self.simulation.restore_store().map_err(plain)?,
            Command::Trouble(trouble) => trouble.happen(&mut simulation.world.state())?,
            Command::After(time, hand) => simulation.plan_hand(*time, Hand::clone(hand)),
            Command::Wait(time) => {
                let time = jiff::SignedDuration::try_from(*time).map_err(|error| error.to_string())?;
                simulation.world.state().advance(time);
            }
        }
        Ok(())
    }

    /// The uid of a network.
    fn network(&self, name: &str) -> Result<uuid::Uuid, String> {
        let stored = self.simulation.read(&ObjectRef::new(Kind::Network, "", name)).map_err(plain)?;
        let uid =
            stored.as_ref().and_then(|network| network.pointer("/metadata/uid")?.as_str()?.parse().ok());
        uid.ok_or_else(|| format!("there is no network {name}"))
    }

    fn refused(&mut self, error: &str) {
        self.last_error = error.to_owned();
        for line in error.lines() {
            self.say(&format!("  error: {line}"));
        }
    }

    fn plan(&mut self, yaml: Option<&str>) -> Result<(), String> {
        let planned = match yaml {
            None => self.simulation.plan(&Scope::All),
            Some(yaml) => match self.simulation.plan_with(yaml, &Scope::All) {
                Ok(planned) => planned,
                Err(error) => {
                    self.refused(&error.0);
                    return Ok(());
                }
            },
        };
        match planned {
            Ended::Done(Ok((snapshot, plan))) => {
                let text = plan_text(&snapshot, &plan);
                self.simulation.world.state().hear_plan(&text);
                for line in text.lines() {
                    self.say(&format!("  {line}"));
                }
            }
            Ended::Done(Err(error)) => self.refused(&error_text(&error)),
            other => return Err(format!("the plan ended with {other:?}")),
        }
        Ok(())
    }

    fn preview_drain(&mut self, host: &str, by: DrainBy) -> Result<(), String> {
        match self.simulation.plan_drain(host, by) {
            Ok(Ended::Done(Ok((snapshot, plan)))) => {
                let text = fates_text(&snapshot, host, &fates(&snapshot, &plan, host));
                self.simulation.world.state().hear_plan(&text);
                for line in text.lines() {
                    self.say(&format!("  {line}"));
                }
            }
            Ok(Ended::Done(Err(error))) => self.refused(&error_text(&error)),
            Ok(other) => return Err(format!("the preview ended with {other:?}")),
            Err(error) => self.refused(&error.0),
        }
        Ok(())
    }

    fn run(
        &mut self,
        goal: &Goal,
        (cluster, other): (Option<&NamespacedName>, Option<&NamespacedName>),
        deadline: Duration,
        worker: WorkerWord,
    ) -> Result<(), String> {
        // As the commands do: `ashlar cluster create` is about one cluster, `ashlar apply` about all.
        let scope = cluster.map_or(Scope::All, |cluster| Scope::Cluster(cluster.clone()));
        if worker == WorkerWord::TwoCommands {
            let other = other.map_or_else(|| scope.clone(), |other| Scope::Cluster(other.clone()));
            let ended = self.simulation.run_two([&scope, &other], goal, deadline);
            self.tell();
            let Ended::Done(both) = ended else { return self.not_done(&ended) };
            for (name, outcome) in ["first", "second"].iter().zip(both) {
                self.say(&format!("  the {name} engine:"));
                match outcome {
                    Some(outcome) => self.summarize(outcome),
                    None => self.say("  Ashlar was killed here"),
                }
            }
            return Ok(());
        }
        let ended = match worker {
            WorkerWord::Daemon => self.simulation.run_by_daemon(&scope, goal, deadline),
            _ => self.simulation.run(&scope, goal, deadline),
        };
        self.tell();
        match ended {
            Ended::Done(outcome) => {
                self.summarize(outcome);
                Ok(())
            }
            other => self.not_done(&other),
        }
    }

    fn serve(&mut self, time: Duration, keeps: bool) -> Result<(), String> {
        let simulation = &self.simulation;
        let ended = if keeps {
            // Each finds an empty place for its copies.
            let policy = CopyPolicy { every: COPY_EVERY, keep: 3, keep_for: None };
            let upkeep = Upkeep::new(policy, Arc::new(SimCopies::default()));
            simulation.serve_and_keep(&upkeep, async || simulation.world.sleep(time).await)
        } else {
            simulation.serve(time)
        };
        self.tell();
        let Ended::Done(served) = ended else { return self.not_done(&ended) };
        if let Some(failure) = &served.first_failure {
            self.say(&format!("  {} passes failed, the first of them: {failure}", served.failures));
        }
        self.say(&format!(
            "  stopped after {} passes, busy until pass {}",
            served.passes, served.last_busy_pass
        ));
        Ok(())
    }

    fn serve_by_two(
        &mut self,
        time: std::time::Duration,
        faults: &[(usize, DaemonFault)],
    ) -> Result<(), String> {
        let ended = self.simulation.serve_by_two(time, faults);
        self.tell();
        let Ended::Done(served) = ended else { return self.not_done(&ended) };
        let led = super::daemons::told(&served, &self.simulation.world.state());
        self.say(&format!("  {led}"));
        served.broken.map_or(Ok(()), Err)
    }

    fn summarize(&mut self, outcome: Result<RunSummary, EngineError>) {
        match outcome {
            Ok(summary) => {
                self.last_error.clear();
                let changed = if summary.is_unchanged() { ", nothing was changed" } else { "" };
                self.say(&format!("  done after {} s{changed}", summary.elapsed.as_secs()));
            }
            Err(error) => {
                self.refused(&error_text(&error));
                if let EngineError::NodesFailed { nodes, .. } = &error {
                    for (node, line) in
                        nodes.iter().flat_map(|node| node.log_lines.iter().map(move |line| (node, line)))
                    {
                        self.say(&format!("    {} | {line}", node.machine));
                    }
                }
            }
        }
    }

    fn not_done<T>(&mut self, ended: &Ended<T>) -> Result<(), String> {
        match ended {
            Ended::Crashed => {
                self.say("  Ashlar was killed here");
                Ok(())
            }
            Ended::Stuck => Err("the engine waits for something that never comes".to_owned()),
            // What was violated is told right after.
            Ended::Violated | Ended::Done(_) => Ok(()),
        }
    }

    fn status(&mut self) -> Result<(), String> {
        let mut lines = Vec::new();
        for (key, value) in self.simulation.stored().map_err(plain)? {
            let text =
                |pointer: &str| value.pointer(pointer).and_then(|value| value.as_str()).unwrap_or_default();
            if key.starts_with("Machine/") {
                let (phase, host) = (text("/status/phase"), text("/spec/host"));
                lines.push(format!("  machine {} on {host}: {phase}", text("/metadata/name")));
                if let Some(message) = value.pointer("/record/failure/message").and_then(|text| text.as_str())
                {
                    lines.push(format!("    {}: {message}", text("/record/failure/phase")));
                }
            }
            if key.starts_with("Cluster/") {
                let deleting =
                    if text("/metadata/deletionTimestamp").is_empty() { "" } else { ", being deleted" };
                lines.push(format!("  cluster {}{deleting}", text("/metadata/name")));
            }
        }
        let state = self.simulation.world.state();
        for (name, host) in &state.hosts {
            for domain in host.domains.values() {
                lines.push(format!("  domain {} on {name}: {:?}", domain.name, domain.state));
            }
            let files = host.pools.values().map(|pool| pool.volumes.len()).sum::<usize>();
            lines.push(format!("  host {name}: {files} files in its pools"));
        }
        drop(state);
        for line in lines {
            self.say(&line);
        }
        Ok(())
    }

    fn expect(&mut self, expectation: &Expectation) -> Result<(), String> {
        match expectation {
            Expectation::Idle => self.expect_idle(),
            Expectation::Gone(cluster) => nothing(&self.simulation.world.state().remains(cluster)),
            Expectation::Ready(cluster) => {
                let state = self.simulation.world.state();
                nothing(&state.leftover_secrets(cluster))?;
                let nodes = state.clusters.get(cluster).map(|world| world.nodes.len()).unwrap_or_default();
                if nodes == 0 { Err(format!("cluster {cluster} has no node")) } else { Ok(()) }
            }
            Expectation::Domains { host, count } => {
                let state = self.simulation.world.state();
                let found = state.hosts.get(host).map(|host| host.domains.len()).unwrap_or_default();
                if found == *count { Ok(()) } else { Err(format!("there are {found} domains on {host}")) }
            }
            Expectation::Networks { host, count } => {
                let state = self.simulation.world.state();
                let found = state.hosts.get(host).map(|host| host.networks.len()).unwrap_or_default();
                if found == *count { Ok(()) } else { Err(format!("there are {found} networks on {host}")) }
            }
            Expectation::Voters { cluster, count } => {
                let state = self.simulation.world.state();
                let (living, voters) = state.etcd_votes(cluster);
                let learners = state.clusters.get(cluster).map(|world| world.etcd.learners().len());
                match (living, voters, learners.unwrap_or_default()) {
                    (living, voters, 0) if living == *count && voters == *count => Ok(()),
                    (living, voters, learners) => {
                        Err(format!("{living} of {voters} voters live, and there are {learners} learners"))
                    }
                }
            }
            Expectation::Csrs { cluster, counts } => {
                let state = self.simulation.world.state();
                let is = state.clusters.get(cluster).map(crate::SimCluster::csr_counts).unwrap_or_default();
                let told =
                    |(approved, denied, open)| format!("approved {approved} denied {denied} open {open}");
                if is == *counts { Ok(()) } else { Err(format!("it has {}", told(is))) }
            }
            Expectation::Api { cluster, answers } => {
                let state = self.simulation.world.state();
                let vip = state.endpoint_answers(cluster);
                if vip == *answers { Ok(()) } else { Err(format!("the endpoint answers: {vip}")) }
            }
            Expectation::NoDestruction => {
                let made = self.simulation.world.state().destructive_calls - self.destroyed;
                if made == 0 { Ok(()) } else { Err(format!("there were {made} destructive calls")) }
            }
            Expectation::NoOrphans => {
                let orphans = self.simulation.world.state().orphans();
                nothing(&orphans.into_iter().map(|(_, what)| what).collect::<Vec<_>>())
            }
            Expectation::Condition { reason, kind, name } => {
                let object = object_named(kind, name)?;
                let stored = self.simulation.read(&object).map_err(plain)?;
                let conditions = stored.as_ref().and_then(|object| object.pointer("/status/conditions"));
                let conditions = conditions.and_then(|conditions| conditions.as_array()).cloned();
                let conditions = conditions.unwrap_or_default();
                let is_it = |condition: &serde_json::Value| {
                    condition["reason"] == reason.as_str() && condition["status"] != "True"
                };
                match conditions.iter().find(|condition| is_it(condition)) {
                    Some(found) => {
                        let message = found["message"].as_str().unwrap_or_default().to_owned();
                        self.say(&format!("  {message}"));
                        if message.is_empty() {
                            Err("the condition does not say more".to_owned())
                        } else {
                            Ok(())
                        }
                    }
                    None => {
                        let all: Vec<String> = conditions.iter().map(ToString::to_string).collect();
                        Err(format!("{object} has no condition {reason}:\n  {}", all.join("\n  ")))
                    }
                }
            }
            Expectation::Error(words) if self.last_error.contains(words.as_str()) => Ok(()),
            Expectation::Error(words) => {
                Err(format!("the last error does not say `{words}`: {}", self.last_error))
            }
        }
    }

    /// 8: another run makes no mutating call, writes nothing, and plans nothing.
    fn expect_idle(&mut self) -> Result<(), String> {
        let calls = self.simulation.world.mutating_call_count();
        let revision = self.simulation.revision().map_err(plain)?;
        match self.simulation.run(&Scope::All, &Goal::Settled, IDLE_DEADLINE) {
            Ended::Done(Ok(_)) => {}
            Ended::Done(Err(error)) => return Err(format!("it is not settled: {}", error_text(&error))),
            other => return Err(format!("the run ended with {other:?}")),
        }
        match self.simulation.plan(&Scope::All) {
            Ended::Done(Ok((_, plan))) if plan.is_empty() => {}
            Ended::Done(Ok((snapshot, plan))) => {
                return Err(format!("the plan is not empty:\n{}", plan_text(&snapshot, &plan)));
            }
            other => return Err(format!("the plan ended with {other:?}")),
        }
        let made = self.simulation.world.mutating_call_count() - calls;
        let written = self.simulation.revision().map_err(plain)? - revision;
        if made != 0 || written != 0 {
            return Err(format!("an idle pass made {made} mutating calls and {written} commits"));
        }
        Ok(())
    }
}

fn nothing(left: &[String]) -> Result<(), String> {
    if left.is_empty() { Ok(()) } else { Err(format!("there is still\n  {}", left.join("\n  "))) }
}

fn applied(declared: &Declared) -> String {
    let lines: Vec<String> = declared
        .applied
        .iter()
        .map(|applied| {
            let outcome = match applied.outcome {
                declare::Outcome::Created => "created",
                declare::Outcome::Configured => "configured",
                declare::Outcome::Unchanged => "unchanged",
            };
            format!("  {} {outcome}", applied.object.object_ref())
        })
        .collect();
    lines.join("\n")
}

fn goal_of(word: GoalWord, cluster: Option<&NamespacedName>) -> Goal {
    let Some(cluster) = cluster.cloned() else { return Goal::Settled };
    match word {
        GoalWord::Settled => Goal::Settled,
        GoalWord::Ready => Goal::ClusterReady(cluster),
        GoalWord::Gone => Goal::ClusterGone(cluster),
        GoalWord::Stopped => Goal::ClusterStopped(cluster),
        GoalWord::Started => Goal::ClusterStarted(cluster),
    }
}

fn kind_named(name: &str) -> Result<Kind, String> {
    let kind = Kind::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name));
    kind.ok_or_else(|| format!("there is no kind {name}"))
}

pub(crate) fn object_named(kind: &str, name: &NamespacedName) -> Result<ObjectRef, String> {
    let kind = kind_named(kind)?;
    let namespace = if kind.is_namespaced() { name.namespace.as_str() } else { "" };
    Ok(ObjectRef::new(kind, namespace, &name.name))
}
