//! One pass: observe, plan, check, commit. A run and the daemon do it again and again.

use std::{collections::BTreeSet, sync::Arc};

use ashlar_api::{Host, ObjectRef};
use ashlar_plan::{Action, Decision, Plan, Snapshot, Step, StepState, overwriting};

use crate::{
    Engine, EngineError, Scope,
    belongs::Belongings,
    commit::Committed,
    lanes::{Lanes, RunMemory},
    observe::Questions,
    read::StoreView,
};

/// Passes in a row that may decide something new. A plan decides all that it can at once, so that a handful suffices:
/// more means that it never comes to rest.
const DECIDING_PASSES: u32 = 50;

/// Passes in a row that may lose against other writers. One other writer writes once per command; losing so often
/// means that somebody works in the store without its lock.
const CONFLICTS: u32 = 10;

/// Whoever makes passes, with the lanes that go on between and during them.
pub(crate) struct Worker<'a> {
    engine: &'a Engine,
    scope: &'a Scope,
    memory: &'a RunMemory,
    pub(crate) lanes: Lanes<'a>,
    /// The daemon's passes do not wait for hosts that are late; a run waits for all.
    pub(crate) questions: Option<Questions>,
    pub(crate) passes: u32,
    pub(crate) commits: u32,
    conflicts: u32,
    deciding: u32,
    /// All hosts are still to be taken over.
    takes_over: bool,
    /// The last pass of a daemon found nothing to do: the next one may begin with a glance.
    pub(crate) is_calm: bool,
}

/// What a pass found.
pub(crate) struct Pass {
    pub(crate) view: StoreView,
    pub(crate) plan: Plan,
    /// It decided something, or took hosts' leases: the next pass sees that as a fact, and this one does nothing else.
    pub(crate) has_decided: bool,
    /// Decisions that have to wait for lanes under way.
    pub(crate) withheld: Vec<Vec<Decision>>,
    /// Objects that no step may be taken for as long as they do.
    held: BTreeSet<ObjectRef>,
}

impl Pass {
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.view.snapshot
    }

    /// The plan takes its decisions for made; those that were withheld or are not ours are not, so what follows from
    /// them waits.
    fn may_take(&self, belongings: &Belongings<'_>, step: &Step) -> bool {
        may_take(belongings, &self.held, step)
    }
}

fn may_take(belongings: &Belongings<'_>, held: &BTreeSet<ObjectRef>, step: &Step) -> bool {
    (belongings.has_step(step) || belongings.is_tidying(step))
        && !held.contains(&step.object)
        && !belongings.is_on_fenced(step)
}

impl<'a> Worker<'a> {
    pub(crate) fn new(engine: &'a Engine, scope: &'a Scope, memory: &'a RunMemory) -> Self {
        let lanes = Lanes::new(engine, memory);
        let takes_over = engine.settings.takes_hosts_over;
        Worker {
            engine,
            scope,
            memory,
            lanes,
            questions: None,
            passes: 0,
            commits: 0,
            conflicts: 0,
            deciding: 0,
            takes_over,
            is_calm: false,
        }
    }

    /// Observes, plans, checks, commits; where nothing was left to decide, writes statuses and tells what was found.
    pub(crate) async fn look(&mut self) -> Result<Pass, EngineError> {
        let (engine, scope, memory) = (self.engine, self.scope, self.memory);
        let clock = engine.world.clock.as_ref();
        let began = clock.now();
        self.passes = self.passes.saturating_add(1);
        let lanes = &mut self.lanes;
        lanes.begin_pass();
        let changed = lanes.take_changed_hosts();
        if let Some(questions) = &mut self.questions {
            questions.forget(&changed);
        }
        if self.takes_over {
            lanes.alongside(engine.take_all_leases()).await??;
            self.takes_over = false;
        }
        let is_glance = self.is_calm && self.questions.is_some();
        let (mut view, mut plan) = self.see(is_glance).await?;
        self.is_calm = self.lanes.is_idle() && has_nothing_to_do(&plan);
        if is_glance && !self.is_calm {
            // Nothing is done because of what may be some minutes old.
            (view, plan) = self.see(false).await?;
        }
        let lanes = &mut self.lanes;
        let belongings = Belongings::new(&view.snapshot, scope);
        let decisions = std::mem::take(&mut plan.decisions);
        let (in_scope, others): (Vec<_>, Vec<_>) =
            decisions.into_iter().partition(|commit| belongings.has_commit(commit));
        let (withheld, mut wanted): (Vec<_>, Vec<_>) = in_scope
            .into_iter()
            .partition(|commit| belongings.takes_away(commit, |object| lanes.is_touched(object)));
        let mut held = Belongings::carry_along(&mut wanted, &others);
        Belongings::carry_along(&mut wanted, &withheld);
        held.extend(belongings.subjects(&withheld));
        let under_way = lanes.overwriting();
        overwriting::in_turn(&mut plan, &view.snapshot, &under_way, |step| {
            may_take(&belongings, &held, step) && !lanes.is_touched(&step.object)
        });
        let has_decided = !wanted.is_empty();
        let committed = lanes.alongside(engine.commit(&view.snapshot, wanted)).await??;
        self.count(&committed)?;
        self.deciding = if has_decided { self.deciding + 1 } else { 0 };
        if self.deciding > DECIDING_PASSES {
            let violations = vec!["the rule that a plan comes to rest (Fixpoint)".to_owned()];
            return Err(EngineError::Violations { violations });
        }
        if !has_decided {
            let lanes = &mut self.lanes;
            // Before the statuses say it: an event says it once.
            let news = ashlar_plan::drift::news(&view.snapshot, &plan);
            lanes.alongside(engine.record_news(memory, &news)).await?;
            lanes.alongside(engine.write_statuses(&mut view.snapshot, &plan)).await??;
            let belongings = Belongings::new(&view.snapshot, scope);
            lanes.alongside(engine.publish(memory, &view, &plan, &belongings)).await?;
        }
        let mut pass = Pass { view, plan, has_decided, withheld, held };
        pass.has_decided |= !has_decided && self.take_leases(&pass).await?;
        self.lanes.looked_for = clock.now().duration_since(began).unsigned_abs();
        Ok(pass)
    }

    /// Observes and plans.
    async fn see(&mut self, is_glance: bool) -> Result<(StoreView, Plan), EngineError> {
        let (engine, scope, lanes) = (self.engine, self.scope, &mut self.lanes);
        if let Some(questions) = &mut self.questions {
            questions.is_glance = is_glance;
        }
        let mut view = lanes.alongside(engine.view(scope, self.questions.as_mut())).await??;
        lanes.recall(&view.snapshot);
        view.snapshot.under_way = lanes.touched_machines();
        let mut plan = lanes.alongside(engine.plan_with_free_addresses(&mut view.snapshot, scope)).await??;
        self.memory.retries.hold(&mut plan, engine.world.clock.now());
        Ok((view, plan))
    }

    /// Takes the leases of the hosts that would be changed now.
    async fn take_leases(&mut self, pass: &Pass) -> Result<bool, EngineError> {
        let snapshot = pass.snapshot();
        let belongings = Belongings::new(snapshot, self.scope);
        let changed: BTreeSet<&str> = pass
            .plan
            .steps
            .iter()
            .filter(|step| {
                step.state == StepState::Ready
                    && step.action.as_ref().is_some_and(Action::changes_host)
                    && pass.may_take(&belongings, step)
                    && !self.lanes.is_touched(&step.object)
            })
            .flat_map(|step| step.action.iter().flat_map(|action| action.hosts(&step.host, snapshot)))
            .collect();
        let hosts: Vec<&Host> = changed.into_iter().filter_map(|host| snapshot.hosts.get(host)).collect();
        self.lanes.alongside(self.engine.take_leases(&hosts)).await?
    }

    fn count(&mut self, committed: &Committed) -> Result<(), EngineError> {
        match committed {
            Committed::Nothing => self.conflicts = 0,
            Committed::Some(count) => {
                self.commits = self.commits.saturating_add(*count);
                self.conflicts = 0;
            }
            Committed::Conflict(count) => {
                self.commits = self.commits.saturating_add(*count);
                self.conflicts = if *count == 0 { self.conflicts + 1 } else { 0 };
                if self.conflicts >= CONFLICTS {
                    return Err(EngineError::Contended);
                }
            }
        }
        Ok(())
    }

    /// Begins what may begin; gives what was begun from.
    pub(crate) fn start(&mut self, pass: Pass) -> (Arc<Snapshot>, Plan) {
        let belongings = Belongings::new(pass.snapshot(), self.scope);
        let may_take: Vec<bool> =
            pass.plan.steps.iter().map(|step| pass.may_take(&belongings, step)).collect();
        let Pass { view, mut plan, .. } = pass;
        let mut may_take = may_take.into_iter();
        plan.steps.retain(|_| may_take.next() == Some(true));
        let snapshot = Arc::new(view.snapshot);
        self.lanes.start(&snapshot, &plan);
        (snapshot, plan)
    }

    /// After a failure the daemon goes on as a new run would.
    pub(crate) fn begin_anew(&mut self) {
        (self.conflicts, self.deciding) = (0, 0);
        self.is_calm = false;
    }
}

/// It decides nothing, and no step of it may be taken now.
fn has_nothing_to_do(plan: &Plan) -> bool {
    plan.decisions.is_empty() && !plan.steps.iter().any(|step| step.state == StepState::Ready)
}
