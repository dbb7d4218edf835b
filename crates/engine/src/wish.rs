//! What people wait for while the daemon works: goals that its passes are judged by, as a run's own would be.

use std::time::Duration;

use ashlar_store::Revision;
use futures::channel::oneshot;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Engine, EngineError, Goal, RunSummary, Scope,
    belongs::Belongings,
    goal::Verdict,
    pass::{Pass, Worker},
    progress::Progress,
};

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Which part of the world it is about.
    pub scope: Scope,
    /// What is to come about.
    pub goal: Goal,
    /// What was declared for it: a pass that read less than this says nothing.
    pub after: Revision,
    /// How long.
    pub deadline: Duration,
}

/// How it ended.
pub(crate) type Outcome = Result<RunSummary, EngineError>;

/// A wish, and who waits.
pub(crate) struct Pending {
    wish: Wish,
    reply: oneshot::Sender<Outcome>,
    /// How the daemon stood when it heard of it.
    since: Option<Since>,
}

struct Since {
    at: Timestamp,
    passes: u32,
    actions: u32,
    commits: u32,
    progress: Progress,
}

impl Pending {
    pub(crate) fn new(wish: Wish) -> (Self, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        (Pending { wish, reply, since: None }, outcome)
    }

    /// The daemon hears of it: from here on time runs, and what is done counts.
    pub(crate) fn begin(&mut self, now: Timestamp, worker: &Worker<'_>) {
        self.since = Some(Since {
            at: now,
            passes: worker.passes,
            actions: worker.lanes.actions,
            commits: worker.commits,
            progress: Progress::new(now),
        });
    }
}

impl Engine {
    /// Judges a pass for each of the wishes; those that ended are answered and gone.
    pub(crate) fn judge_wishes(&self, pending: &mut Vec<Pending>, worker: &Worker<'_>, pass: &Pass) {
        for mut one in std::mem::take(pending) {
            if one.reply.is_canceled() {
                continue;
            }
            match self.judge_wish(&mut one, worker, pass) {
                None => pending.push(one),
                Some(outcome) => drop(one.reply.send(outcome)),
            }
        }
    }

    fn judge_wish(&self, one: &mut Pending, worker: &Worker<'_>, pass: &Pass) -> Option<Outcome> {
        let now = self.world.clock.now();
        let since = one.since.as_mut()?;
        let Wish { scope, goal, after, deadline } = &one.wish;
        let belongings = Belongings::new(pass.snapshot(), scope);
        let is_late = now.duration_since(since.at).unsigned_abs() >= *deadline;
        if pass.has_decided || pass.view.revision < *after {
            return is_late.then(|| Err(self.too_late(&belongings, &pass.plan, None, *deadline)));
        }
        since.progress.look(pass.snapshot(), &pass.plan, now);
        let is_idle = worker.lanes.is_idle_for(|object| belongings.has(object))
            && !pass.withheld.iter().any(|commit| belongings.has_commit(commit));
        let lack = match goal.judge(pass.snapshot(), &pass.plan, &belongings, is_idle) {
            Verdict::Met => {
                return Some(Ok(RunSummary {
                    passes: worker.passes - since.passes,
                    actions: worker.lanes.actions - since.actions,
                    commits: worker.commits - since.commits,
                    elapsed: now.duration_since(since.at).unsigned_abs(),
                    snapshot: pass.snapshot().clone(),
                }));
            }
            Verdict::Failed(error) => return Some(Err(error)),
            Verdict::Open(found) => {
                self.tell_lack(goal, found.as_deref());
                found
            }
        };
        if is_idle && let Some(error) = self.stuck(&belongings, &pass.plan, &since.progress) {
            return Some(Err(error));
        }
        is_late.then(|| Err(self.too_late(&belongings, &pass.plan, lack, *deadline)))
    }
}
