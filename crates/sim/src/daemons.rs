//! Two daemons on one store: one leads, the other stands by and takes over when it has to.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ashlar_engine::effects::Clock as _;
use ashlar_engine::{Control, Engine, EngineError, PassReport, ServeObserver, Settings};
use ashlar_store::Election as _;
use futures::future::{join, select};
use jiff::SignedDuration;

use crate::election::{Leadership, Office, SimElection};
use crate::executor::{self, Ended};
use crate::fault::{CallFault, CrashPoint, Process};
use crate::{SimWorld, Simulation, error_text};

/// How often a daemon that stands by asks whether somebody leads.
const STANDING_BY: Duration = Duration::from_millis(400);

/// What the two are called.
pub(crate) const NAMES: [&str; 2] = ["one", "two"];

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

/// What became of two daemons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedByTwo {
    /// Who led when.
    pub led: Vec<Leadership>,
    /// How many were killed.
    pub killed: u32,
    /// Why a pass failed, if one did for a reason that there must never be, whatever goes wrong.
    pub broken: Option<String>,
}

/// Listens to both.
struct Listener {
    world: SimWorld,
    broken: Mutex<Option<String>>,
}

impl ServeObserver for Listener {
    fn pass(&self, _: &PassReport<'_>) {}

    fn failed(&self, error: &EngineError, _: Duration) {
        let text = error_text(error);
        {
            let mut state = self.world.state();
            state.oracle.hear("an error", &text);
            state.note(format!("ashlar: a pass failed: {text}"));
        }
        // An etcd that is silent, a clock that is wrong, somebody else who writes: that happens.
        let must_never_be = matches!(
            error,
            EngineError::Violations { .. }
                | EngineError::Unreadable { .. }
                | EngineError::Plan(_)
                | EngineError::Vault(_)
                | EngineError::Pki(_)
        );
        if must_never_be {
            self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        }
    }
}

impl Simulation {
    /// Two daemons share the store for so long: the first to lead is daemon one, as a rule. What is to go wrong with the next
    /// run goes wrong with daemon one.
    pub fn serve_by_two(&self, time: Duration, faults: &[(usize, DaemonFault)]) -> Ended<ServedByTwo> {
        let office = Office::default();
        for (process, fault) in faults {
            self.expect_fault(&office, *process, fault);
        }
        self.world.state().oracle.watch_writers(true);
        let listener = Listener { world: self.world.clone(), broken: Mutex::default() };
        let killed = Cell::new(0);
        let [one, other] = [0, 1].map(|process| {
            let serving = self.stand_by_and_serve(process, office.clone(), &listener);
            let daemon = Process::new(self.world.as_process(process), serving);
            let killed = &killed;
            async move {
                if daemon.await.is_none() {
                    killed.set(killed.get() + 1);
                    self.world.state().note(format!("* daemon {} is killed", NAMES[process]));
                }
            }
        });
        // Whoever is killed is not started again.
        let daemons = join(one, other);
        // Whoever is under way when the time is up ends there, as by a kill of its machine.
        let ended = executor::run(&self.world, async move {
            select(std::pin::pin!(daemons), std::pin::pin!(self.world.sleep(time))).await;
        });
        self.world.state().oracle.watch_writers(false);
        self.world.state().end_processes();
        self.world.state().search_after_run();
        let broken = listener.broken.into_inner().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ended::Done(()) => {
                Ended::Done(ServedByTwo { led: office.leaderships(), killed: killed.get(), broken })
            }
            Ended::Crashed => Ended::Crashed,
            Ended::Stuck => Ended::Stuck,
            Ended::Violated => Ended::Violated,
        }
    }

    /// A fault will happen to one of the daemons that begin now.
    fn expect_fault(&self, office: &Office, process: usize, fault: &DaemonFault) {
        let mut state = self.world.state();
        let now = state.now;
        let long = |time: Duration| SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        let after = |time: Duration| now.saturating_add(long(time)).unwrap_or(now);
        match fault {
            DaemonFault::Cut(from, lasts) => office.cut(process, after(*from), after(*from + *lasts)),
            DaemonFault::Kill(point) => state.processes[process].crash = Some(*point),
            DaemonFault::Sleep(effect, lasts) => {
                state.processes[process].freeze = Some((*effect, long(*lasts)));
            }
            DaemonFault::Call(number, fault) => {
                state.processes[process].faults.insert(*number, *fault);
            }
        }
    }

    /// A daemon, as `ashlar serve` is one: it leads, and ends its work when its term does.
    async fn stand_by_and_serve(&self, process: usize, office: Office, listener: &Listener) {
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
                let control = Control::new();
                let serving = std::pin::pin!(engine.serve(&control, listener));
                // Who wakes goes on from where it was, and only then learns that somebody else leads.
                select(serving, std::pin::pin!(term.ended())).await;
                world.state().note(format!("* daemon {} no longer leads", NAMES[process]));
            }
            world.sleep(STANDING_BY).await;
        }
    }
}
