//! The pass loop: observe, plan, check, commit, act, until the goal is met.

use std::{sync::Arc, time::Duration};

use ashlar_plan::{Plan, Snapshot, StepState};
use jiff::Timestamp;

use crate::{
    BlockedStep, Engine, EngineError, Goal, RunSummary, Scope,
    belongs::Belongings,
    commit::Committed,
    goal::Verdict,
    lanes::{Lanes, RunMemory},
    progress::Progress,
};

/// Passes in a row that may decide something new. A plan decides all that it can at once, so that a handful suffices:
/// more means that it never comes to rest.
const DECIDING_PASSES: u32 = 50;

/// Passes in a row that may lose against other writers. One other writer writes once per command; losing so often
/// means that somebody works in the store without its lock.
const CONFLICTS: u32 = 10;

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
        let mut lanes = Lanes::new(self, &memory);
        let mut progress = Progress::new(started);
        let mut passes = 0;
        let mut commits = 0;
        let mut conflicts = 0;
        let mut deciding = 0;
        loop {
            passes += 1;
            lanes.begin_pass();
            let mut view = lanes.alongside(self.view(scope)).await??;
            let mut plan =
                lanes.alongside(self.plan_with_free_addresses(&mut view.snapshot, scope)).await??;
            memory.retries.hold(&mut plan, clock.now());
            let belongings = Belongings::new(&view.snapshot, scope);
            let decisions = std::mem::take(&mut plan.decisions);
            let in_scope = decisions.into_iter().filter(|commit| belongings.has_commit(commit));
            let (withheld, wanted): (Vec<_>, Vec<_>) =
                in_scope.partition(|commit| belongings.takes_away(commit, |object| lanes.is_touched(object)));
            let held = belongings.subjects(&withheld);
            let undecided = !wanted.is_empty();
            match lanes.alongside(self.commit(&view.snapshot, wanted)).await?? {
                Committed::Nothing => conflicts = 0,
                Committed::Some(count) => {
                    commits += count;
                    conflicts = 0;
                }
                Committed::Conflict(count) => {
                    commits += count;
                    conflicts = if count == 0 { conflicts + 1 } else { 0 };
                    if conflicts >= CONFLICTS {
                        return Err(EngineError::Contended);
                    }
                }
            }
            deciding = if undecided { deciding + 1 } else { 0 };
            if deciding > DECIDING_PASSES {
                let violations = vec!["the rule that a plan comes to rest (Fixpoint)".to_owned()];
                return Err(EngineError::Violations { violations });
            }
            if undecided {
                if clock.now() >= ends {
                    return Err(self.too_late(&belongings, &plan, None, deadline));
                }
                continue;
            }
            lanes.alongside(self.write_statuses(&mut view.snapshot, &plan)).await??;
            let belongings = Belongings::new(&view.snapshot, scope);
            lanes.alongside(self.publish(&memory, &view, &plan, &belongings)).await?;
            progress.look(&view.snapshot, &plan, clock.now());
            let is_idle = lanes.is_idle() && withheld.is_empty();
            let lack = match goal.judge(&view.snapshot, &plan, &belongings, is_idle) {
                Verdict::Met => {
                    return Ok(RunSummary {
                        passes,
                        actions: lanes.actions,
                        commits,
                        elapsed: clock.now().duration_since(started).unsigned_abs(),
                        snapshot: view.snapshot,
                    });
                }
                Verdict::Failed(error) => return Err(error),
                Verdict::Open(found) => {
                    self.tell_lack(goal, found.as_deref());
                    found
                }
            };
            if is_idle && let Some(error) = self.stuck(&belongings, &plan, &progress) {
                return Err(error);
            }
            if clock.now() >= ends {
                return Err(self.too_late(&belongings, &plan, lack, deadline));
            }
            let pause = self.pause(&memory, ends);
            // The plan takes its decisions for made; those that were withheld are not, so what follows from them waits.
            plan.steps.retain(|step| {
                (belongings.has_step(step) || belongings.is_tidying(step)) && !held.contains(&step.object)
            });
            lanes.start(&Arc::new(view.snapshot), &plan);
            lanes.wait(clock.sleep(pause)).await?;
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
    fn pause(&self, memory: &RunMemory, ends: Timestamp) -> Duration {
        let now = self.world.clock.now();
        let until = |time: Timestamp| time.duration_since(now).unsigned_abs();
        let retry = memory.retries.next(now).map_or(Duration::MAX, until);
        self.settings.poll_interval.min(retry).min(until(ends.max(now)))
    }

    /// Whether only a person can help: something is blocked, and nothing else can be done, or nothing moved for long.
    fn stuck(&self, belongings: &Belongings<'_>, plan: &Plan, progress: &Progress) -> Option<EngineError> {
        let steps: Vec<_> = belongings.steps(plan).collect();
        let blocks: Vec<BlockedStep> = steps
            .iter()
            .filter_map(|step| match &step.state {
                StepState::Blocked(block) => Some(BlockedStep {
                    object: step.object.clone(),
                    host: step.host.clone(),
                    reason: block.reason.clone(),
                    message: block.message.clone(),
                }),
                // Room comes from a person, or from another command, and this one cannot know of either.
                StepState::Waiting(wait) if wait.reason == "Unschedulable" => Some(BlockedStep {
                    object: step.object.clone(),
                    host: step.host.clone(),
                    reason: wait.reason.clone(),
                    message: format!("{}: {}", step.object, wait.message),
                }),
                StepState::Ready | StepState::Waiting(_) => None,
            })
            .collect();
        let is_blocked = |object: &ashlar_api::ObjectRef| blocks.iter().any(|block| block.object == *object);
        let can_move = steps.iter().any(|step| match step.state {
            StepState::Ready => true,
            StepState::Waiting(_) => !is_blocked(&step.object),
            StepState::Blocked(_) => false,
        });
        // A host that lets go of an image file takes it anew afterwards.
        let can_move = can_move
            || plan.steps.iter().any(|step| step.state == StepState::Ready && belongings.is_tidying(step));
        let patient = progress.quiet_for(self.world.clock.now()) < self.settings.blocked_patience;
        let is_stuck = !blocks.is_empty() && (!can_move || !patient);
        is_stuck.then_some(EngineError::Blocked { blocks })
    }

    fn too_late(
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
