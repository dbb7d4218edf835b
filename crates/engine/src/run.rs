//! A run: passes until the goal is met.

use std::time::Duration;

use ashlar_plan::{Plan, Snapshot, StepState};
use jiff::Timestamp;

use crate::{
    Engine, EngineError, Goal, RunSummary, Scope, belongs::Belongings, goal::Verdict, lanes::RunMemory,
    pass::Worker, progress::Progress,
};

impl Engine {
    pub(crate) async fn run_to(
        &self,
        scope: &Scope,
        goal: &Goal,
        deadline: Duration,
    ) -> Result<RunSummary, EngineError> {
        let clock = self.world.clock.as_ref();
        let started = clock.now();
        let ends = started.checked_add(deadline).unwrap_or(Timestamp::MAX);
        self.leases.clear();
        let memory = RunMemory::default();
        let mut worker = Worker::new(self, scope, &memory);
        let mut progress = Progress::new(started);
        loop {
            let pass = worker.look().await?;
            let belongings = Belongings::new(pass.snapshot(), scope);
            if pass.has_decided {
                if clock.now() >= ends {
                    return Err(self.too_late(&belongings, &pass.plan, None, deadline));
                }
                continue;
            }
            progress.look(pass.snapshot(), &pass.plan, clock.now());
            let is_idle = worker.lanes.is_idle() && pass.withheld.is_empty();
            let lack = match goal.judge(pass.snapshot(), &pass.plan, &belongings, is_idle) {
                Verdict::Met => {
                    return Ok(RunSummary {
                        passes: worker.passes,
                        actions: worker.lanes.actions,
                        commits: worker.commits,
                        elapsed: clock.now().duration_since(started).unsigned_abs(),
                        snapshot: pass.view.snapshot,
                    });
                }
                Verdict::Failed(error) => return Err(error),
                Verdict::Open(found) => {
                    self.tell_lack(goal, found.as_deref());
                    found
                }
            };
            if is_idle && let Some(error) = self.stuck(&belongings, &pass.plan, &progress) {
                return Err(error);
            }
            if clock.now() >= ends {
                return Err(self.too_late(&belongings, &pass.plan, lack, deadline));
            }
            let pause = self.pause(&memory, self.settings.poll_interval, ends);
            drop(worker.start(pass));
            worker.lanes.wait(clock.sleep(pause)).await?;
        }
    }

    /// Plans and checks.
    pub(crate) fn make_plan(&self, snapshot: &Snapshot) -> Result<Plan, EngineError> {
        let mut ids = crate::ids::RandomIds::new(self.world.entropy.as_ref());
        let plan = (self.planner.plan)(snapshot, &mut ids)?;
        let violations = (self.planner.check)(snapshot, &plan);
        if violations.is_empty() { Ok(plan) } else { Err(EngineError::Violations { violations }) }
    }

    /// How long to wait for news.
    pub(crate) fn pause(&self, memory: &RunMemory, interval: Duration, ends: Timestamp) -> Duration {
        let now = self.world.clock.now();
        let until = |time: Timestamp| time.duration_since(now).unsigned_abs();
        let retry = memory.retries.next(now).map_or(Duration::MAX, until);
        interval.min(retry).min(until(ends.max(now)))
    }

    pub(crate) fn too_late(
        &self,
        belongings: &Belongings<'_>,
        plan: &Plan,
        lack: Option<String>,
        deadline: Duration,
    ) -> EngineError {
        let mut waiting: Vec<String> = lack.into_iter().collect();
        for step in belongings.steps(plan) {
            let told = match &step.state {
                StepState::Waiting(wait) if wait.reason != "EarlierStep" => {
                    format!("{}: {}", step.object, wait.message)
                }
                StepState::Blocked(block) => format!("{}: {}", step.object, block.message),
                StepState::Waiting(_) | StepState::Ready => continue,
            };
            if !waiting.contains(&told) {
                waiting.push(told);
            }
        }
        EngineError::Deadline { deadline, waiting }
    }
}
