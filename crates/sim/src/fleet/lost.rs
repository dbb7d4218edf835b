//! A fleet that is up: a pass with nothing to do, and hosts that are lost.

use std::time::{Duration, Instant};

use ashlar_api::{Kind, ObjectRef};
use ashlar_engine::{Engine, EngineError, Scope, declare};
use ashlar_plan::{Decision, Ids, Snapshot};

use super::{Fleet, Measured};
use crate::{SimulationError, error_text};

/// What a pass costs with nothing to do.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// The first pass of a process: everything is read and asked for.
    pub first: Measured,
    /// A later one.
    pub again: Measured,
    /// Planning and checking alone.
    pub planning: Duration,
    /// Transactions of both passes.
    pub commits: u64,
}

/// What the loss of hosts costs.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Machines there.
    pub machines: usize,
    /// The pass that finds them silent, with what it writes for people.
    pub silence: Measured,
    /// Transactions of that pass.
    pub silence_commits: u64,
    /// Planning alone, with nothing decided: silence proves nothing.
    pub silence_planning: Duration,
    /// Planning alone where all their machines are given up, and each gets another on another host.
    pub planning: Duration,
    /// The independent check of that plan.
    pub check: Duration,
    /// Machines that the plan makes.
    pub placed: usize,
    /// The pass that plans, checks and commits all that.
    pub durable: Measured,
    /// Its transactions.
    pub commits: u64,
}

/// Ids for plans that nobody commits.
struct Throwaway(u128);

impl Ids for Throwaway {
    fn bits(&mut self, _: &str) -> u128 {
        self.0 += 1;
        self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
    }
}

/// The best of so many.
const TIMES: u32 = 3;

impl Fleet {
    /// Passes with nothing to do.
    ///
    /// # Errors
    /// There is something to do.
    pub fn steady(&self, engine: &Engine) -> Result<Steady, SimulationError> {
        let before = self.spent().commits;
        let pass = |engine: &Engine| {
            let (done, measured) = Measured::of(|| self.work(engine, Duration::ZERO));
            match done?.map_err(|error| SimulationError(error_text(&error)))? {
                summary if summary.is_unchanged() && summary.passes == 1 => Ok(measured),
                summary => Err(SimulationError(format!(
                    "something was left to do: {} passes, {} actions, {} commits",
                    summary.passes, summary.actions, summary.commits
                ))),
            }
        };
        let first = pass(&self.engine())?;
        // Its first pass asks for what an engine remembers.
        pass(engine)?;
        let again = pass(engine)?;
        let planning = self.planning(&self.snapshot(engine)?)?.0;
        Ok(Steady { first, again, planning, commits: self.spent().commits - before })
    }

    fn snapshot(&self, engine: &Engine) -> Result<Snapshot, SimulationError> {
        self.run(engine.snapshot(&Scope::All))?.map_err(|error| SimulationError(error_text(&error)))
    }

    /// Best times of planning and of checking, and machines that are made.
    fn planning(&self, snapshot: &Snapshot) -> Result<(Duration, Duration, usize), SimulationError> {
        let mut best = (Duration::MAX, Duration::MAX, 0);
        for _ in 0..TIMES {
            let began = Instant::now();
            let plan = ashlar_plan::plan(snapshot, &mut Throwaway(1));
            let took = began.elapsed();
            let plan = plan.map_err(|error| SimulationError(error.to_string()))?;
            let began = Instant::now();
            let violations = ashlar_plan::check::check(snapshot, &plan);
            let checked = began.elapsed();
            if let Some(first) = violations.first() {
                return Err(SimulationError(format!("{}: {}", first.rule, first.message)));
            }
            let made = |decision: &&Decision| matches!(decision, Decision::Create(object) if object.kind() == Kind::Machine);
            let placed = plan.decisions.iter().flatten().filter(made).count();
            best = (best.0.min(took), best.1.min(checked), placed);
        }
        Ok(best)
    }

    /// So many hosts, the first ones, do not answer any more; then their machines are given up.
    ///
    /// # Errors
    /// The engine does something else than it should.
    pub fn lose(&self, engine: &Engine, hosts: usize) -> Result<Loss, SimulationError> {
        let lost: Vec<String> = (1..=hosts).map(|number| format!("h{number}")).collect();
        for name in &lost {
            if let Some(host) = self.simulation.world.state().hosts.get_mut(name) {
                host.reachable = false;
            }
        }
        let before = self.spent().commits;
        let silence = self.pass(engine)?;
        let silence_commits = self.spent().commits - before;
        let snapshot = self.snapshot(engine)?;
        let (silence_planning, _, decided) = self.planning(&snapshot)?;
        if decided > 0 {
            return Err(SimulationError(format!(
                "{decided} machines are made for hosts that are only silent"
            )));
        }
        let theirs: Vec<ObjectRef> = snapshot
            .machines
            .values()
            .filter(|machine| {
                lost.contains(&machine.spec.host) && machine.spec.role == ashlar_api::MachineRole::Worker
            })
            .map(|machine| machine.object_ref())
            .collect();
        let given_up = self.run(declare::delete(self.store.as_ref(), &self.simulation.world, &theirs))?;
        given_up.map_err(|error| SimulationError(error_text(&error)))?;
        let (planning, check, placed) = self.planning(&self.snapshot(engine)?)?;
        let before = self.spent().commits;
        let durable = self.pass(engine)?;
        let commits = self.spent().commits - before;
        Ok(Loss {
            machines: theirs.len(),
            silence,
            silence_commits,
            silence_planning,
            planning,
            check,
            placed,
            durable,
            commits,
        })
    }

    /// One pass of what cannot be done in one.
    fn pass(&self, engine: &Engine) -> Result<Measured, SimulationError> {
        let (done, measured) = Measured::of(|| self.work(engine, Duration::ZERO));
        match done? {
            Ok(_) | Err(EngineError::Deadline { .. } | EngineError::Blocked { .. }) => Ok(measured),
            Err(error) => Err(SimulationError(error_text(&error))),
        }
    }
}
