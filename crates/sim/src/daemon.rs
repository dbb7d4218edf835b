//! A daemon in the simulated world, and what people ask it for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ashlar_engine::effects::Clock as _;
use ashlar_engine::{
    ChoreDeed, Control, Engine, EngineError, Goal, PassReport, RunSummary, Scope, ServeObserver, Upkeep, Wish,
};
use ashlar_store::Revision;
use futures::future::{Either, select};

use crate::executor::{self, Ended};
use crate::fault::Process;
use crate::{Outcome, Simulation, error_text};

/// When a daemon looks after the clusters' etcd first, and how long after one round the next one begins: as the real one does.
const FIRST_ROUND: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_secs(60);

/// What a daemon told of itself.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Passes that ended well.
    pub passes: u64,
    /// The last pass in which a step was taken, or something decided.
    pub last_busy_pass: u64,
    /// Passes that failed.
    pub failures: u64,
    /// How the first of them did.
    pub first_failure: Option<String>,
}

#[derive(Default)]
struct Listener(Mutex<Served>);

impl ServeObserver for Listener {
    fn pass(&self, report: &PassReport<'_>) {
        let mut served = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        served.passes += 1;
        if report.has_decided || report.in_flight > 0 {
            served.last_busy_pass = served.passes;
        }
    }

    fn failed(&self, error: &EngineError, _: Duration) {
        let mut served = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        served.failures += 1;
        served.first_failure.get_or_insert_with(|| error_text(error));
    }
}

impl Simulation {
    /// A new daemon works for so long, and is told to stop.
    pub fn serve(&self, time: Duration) -> Ended<Served> {
        self.with_daemon(None, async |_: &Control| self.world.sleep(time).await)
    }

    /// A new daemon works, and looks after the clusters' etcd, until people have done what they do.
    pub fn serve_and_keep(&self, upkeep: &Upkeep, people: impl AsyncFnOnce()) -> Ended<Served> {
        self.with_daemon(Some(upkeep), async |_: &Control| people().await)
    }

    /// Rounds beside the passes, as a daemon makes them.
    async fn keep(&self, engine: &Engine, upkeep: Option<&Upkeep>) {
        let Some(upkeep) = upkeep else { return std::future::pending().await };
        self.world.sleep(FIRST_ROUND).await;
        loop {
            match engine.keep_etcd(upkeep).await {
                Ok(done) => {
                    for chore in done {
                        if let ChoreDeed::Failed { message } = chore.deed {
                            self.world.state().note(format!("* {}: {message}", chore.cluster));
                        }
                    }
                }
                Err(error) => self.world.state().note(format!("* no round: {}", error_text(&error))),
            }
            self.world.sleep(ROUND).await;
        }
    }

    /// A new daemon works; somebody declared something before, and waits for the goal as a command does.
    pub fn run_by_daemon(&self, scope: &Scope, goal: &Goal, deadline: Duration) -> Outcome {
        let after = Revision(self.revision().unwrap_or_default());
        let wish = Wish { scope: scope.clone(), goal: goal.clone(), after, deadline };
        let mut outcome: Option<Result<RunSummary, EngineError>> = None;
        let ended = self.with_daemon(None, async |control: &Control| {
            outcome = control.wish(wish).await.ok();
        });
        if let Some(Err(error)) = &outcome {
            self.heard(error);
        }
        match (ended, outcome) {
            (Ended::Done(_), Some(outcome)) => Ended::Done(outcome),
            (Ended::Done(_) | Ended::Crashed, _) => Ended::Crashed,
            (Ended::Stuck, _) => Ended::Stuck,
            (Ended::Violated, _) => Ended::Violated,
        }
    }

    /// Serves until the people's future ends or the daemon is killed.
    fn with_daemon(&self, upkeep: Option<&Upkeep>, people: impl AsyncFnOnce(&Control)) -> Ended<Served> {
        let (engine, control, listener) = (self.engine(), Control::new(), Listener::default());
        let daemon = Process::new(self.world.clone(), async {
            let serving = std::pin::pin!(engine.serve(&control, &listener));
            select(serving, std::pin::pin!(self.keep(&engine, upkeep))).await;
        });
        let work = async {
            let people = std::pin::pin!(async {
                people(&control).await;
                control.stop();
            });
            match select(daemon, people).await {
                Either::Left((stopped, _)) => stopped.is_some(),
                Either::Right(((), daemon)) => daemon.await.is_some(),
            }
        };
        let ended = executor::run(&self.world, work);
        self.world.state().end_processes();
        self.world.state().search_for_secrets();
        match ended {
            Ended::Done(false) | Ended::Crashed => Ended::Crashed,
            Ended::Done(true) => {
                Ended::Done(listener.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
            Ended::Stuck => Ended::Stuck,
            Ended::Violated => Ended::Violated,
        }
    }
}
