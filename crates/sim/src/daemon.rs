//! A daemon in the simulated world, and what people ask it for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_engine::effects::Clock as _;
use ashlar_engine::{
    ChoreDeed, Control, Engine, EngineError, Goal, PassReport, RunSummary, Scope, ServeObserver, Settings,
    Upkeep, Wish,
};
use ashlar_store::{Election as _, Revision};
use futures::future::{Either, select};
use jiff::SignedDuration;

use crate::election::{Leadership, Office, SimElection};
use crate::executor::{self, Ended};
use crate::fault::{CallFault, CrashPoint, Process};
use crate::{Outcome, Simulation, error_text};

/// How often a daemon that stands by asks whether somebody leads.
const STANDING_BY: Duration = Duration::from_millis(400);

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

/// What happens to one of two daemons.
#[derive(Clone, Debug)]
pub enum DaemonFault {
    /// It is killed.
    Kill(CrashPoint),
    /// It is frozen right before this effect, for so long.
    Sleep(u64, Duration),
    /// It cannot reach etcd, from then on, for so long.
    Cut(Duration, Duration),
    /// That goes wrong with this call.
    Call(u64, CallFault),
}

impl Simulation {
    /// Two daemons share the store for so long: the first to lead is daemon 0. Says who led when.
    pub fn serve_by_two(&self, time: Duration, faults: &[(usize, DaemonFault)]) -> Ended<Vec<Leadership>> {
        let office = Office::default();
        for (process, fault) in faults {
            let mut state = self.world.state();
            let now = state.now;
            let after = |time: Duration| {
                now.saturating_add(SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX))
                    .unwrap_or(now)
            };
            match fault {
                DaemonFault::Cut(from, lasts) => office.cut(*process, after(*from), after(*from + *lasts)),
                DaemonFault::Kill(point) => state.processes[*process].crash = Some(*point),
                DaemonFault::Sleep(effect, lasts) => {
                    let lasts = SignedDuration::try_from(*lasts).unwrap_or(SignedDuration::MAX);
                    state.processes[*process].freeze = Some((*effect, lasts));
                }
                DaemonFault::Call(number, fault) => {
                    state.processes[*process].faults.insert(*number, *fault);
                }
            }
        }
        self.world.state().oracle.watch_writers(true);
        let [one, other] = [0, 1].map(|process| {
            Process::new(self.world.as_process(process), self.stand_by_and_serve(process, office.clone()))
        });
        // Whoever is killed is not started again.
        let daemons = std::pin::pin!(futures::future::join(one, other));
        let ended = executor::run(&self.world, async {
            select(daemons, std::pin::pin!(self.world.sleep(time))).await;
        });
        self.world.state().oracle.watch_writers(false);
        self.world.state().end_processes();
        self.world.state().search_for_secrets();
        match ended {
            Ended::Done(()) => Ended::Done(office.leaderships()),
            Ended::Crashed => Ended::Crashed,
            Ended::Stuck => Ended::Stuck,
            Ended::Violated => Ended::Violated,
        }
    }

    /// A daemon, as `ashlar serve` is one: it leads, and ends its work when its term does.
    async fn stand_by_and_serve(&self, process: usize, office: Office) {
        let world = self.world.as_process(process);
        let election = SimElection { office, world: world.clone(), store: Arc::new(self.store().clone()) };
        loop {
            if let Ok(Some(term)) = election.stand().await {
                let settings = Settings { takes_hosts_over: true, ..self.settings().clone() };
                let engine = Engine::new(
                    Arc::clone(&term.store),
                    world.effects(),
                    self.shared_vault(),
                    settings,
                    self.sink(),
                );
                let (control, listener) = (Control::new(), Listener::default());
                let serving = std::pin::pin!(engine.serve(&control, &listener));
                select(std::pin::pin!(term.ended()), serving).await;
                world.state().note(format!("* daemon {process} no longer leads"));
            }
            world.sleep(STANDING_BY).await;
        }
    }

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
