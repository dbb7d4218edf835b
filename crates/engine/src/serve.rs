//! The daemon: passes without end, woken by what changes in the store, by steps that end, and by time.
//!
//! It differs from a run in what it never does: it does not give up. What blocks it is tried again after a rest, what
//! fails (a full disk, an unreadable object, a wrong clock) is told and tried again, and neither stops the steps under
//! way of other objects.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ashlar_api::Kind;
use ashlar_plan::{Block, HostSeen, Plan, Snapshot};
use ashlar_store::{Revision, StoreError, Watch};
use futures::{
    FutureExt,
    channel::oneshot,
    future::{Either, select},
};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{
    Engine, EngineError, Scope, Wish,
    lanes::RunMemory,
    observe::Questions,
    pass::{Pass, Worker},
    progress::Progress,
    wish::{Outcome, Pending},
};

/// After so long without any movement the world is looked at by the resync period, however much is still waited for.
const QUIET: Duration = Duration::from_secs(60);

/// Changes of the store that come together are looked at together.
const GATHER: Duration = Duration::from_millis(200);

/// What was told is news again when it has not been so for this long.
const TELL_AGAIN: Duration = Duration::from_secs(10 * 60);

/// What others say to a daemon.
#[derive(Default)]
pub struct Control {
    stopping: AtomicBool,
    said: Notify,
    wishes: Mutex<Vec<Pending>>,
}

impl Control {
    /// Nothing was said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins nothing new, waits for the calls under way (no longer than `stop_grace`), and ends.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Stored if nobody waits just now.
        self.said.notify_one();
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Looks now, and tries what is held back at once, as a command without a daemon would. The outcome comes when the
    /// wish came about, cannot, or is late; a receiver that is dropped ends it.
    pub fn wish(&self, wish: Wish) -> oneshot::Receiver<Outcome> {
        let (pending, outcome) = Pending::new(wish);
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner).push(pending);
        self.said.notify_one();
        outcome
    }

    fn has_wishes(&self) -> bool {
        !self.wishes.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn take_wishes(&self) -> Vec<Pending> {
        std::mem::take(&mut *self.wishes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a pass of the daemon found.
#[derive(Clone, Copy, Debug)]
pub struct PassReport<'a> {
    /// How long it took.
    pub elapsed: Duration,
    /// What it saw.
    pub snapshot: &'a Snapshot,
    /// What follows from that; its decisions are committed.
    pub plan: &'a Plan,
    /// Whether it decided something, and left all else to the next one.
    pub has_decided: bool,
    /// Steps under way after it.
    pub in_flight: usize,
}

/// Whoever wants to know how a daemon fares. Called from its own task: it must not block.
pub trait ServeObserver: Send + Sync {
    /// A pass ended well.
    fn pass(&self, report: &PassReport<'_>);
    /// A pass failed; it is tried again after the pause.
    fn failed(&self, error: &EngineError, pause: Duration);
}

impl Engine {
    /// Keeps the world as the store says, until it is told to stop.
    ///
    /// The future may be dropped at any await point, as that of [`run`](Self::run).
    pub async fn serve(&self, control: &Control, observer: &dyn ServeObserver) {
        self.leases.clear();
        let memory = RunMemory::default();
        let scope = Scope::All;
        let mut worker = Worker::new(self, &scope, &memory);
        worker.questions = Some(Questions::default());
        let mut serving = Serving {
            engine: self,
            control,
            memory: &memory,
            progress: Progress::new(self.world.clock.now()),
            news: None,
            pending: Vec::new(),
            failures: 0,
        };
        while !control.is_stopping() {
            serving.one_pass(&mut worker, observer).await;
        }
        memory.stopping.store(true, Ordering::Relaxed);
        worker.lanes.drain(self.world.clock.sleep(self.settings.stop_grace)).await;
        // Who waits learns by the end of the wish that nobody works on it any more.
        drop(control.take_wishes());
    }
}

struct Serving<'a> {
    engine: &'a Engine,
    control: &'a Control,
    memory: &'a RunMemory,
    progress: Progress,
    news: Option<Watch>,
    pending: Vec<Pending>,
    /// Passes that failed in a row.
    failures: u32,
}

impl Serving<'_> {
    async fn one_pass(&mut self, worker: &mut Worker<'_>, observer: &dyn ServeObserver) {
        let clock = self.engine.world.clock.as_ref();
        let began = clock.now();
        self.begin(began, worker);
        let looked = {
            let control = self.control;
            let stopped = pin!(async move {
                while !control.is_stopping() {
                    control.said.notified().await;
                }
            });
            // Looking changes nothing that must be ended: a stop does not wait for hosts that hang.
            match select(pin!(worker.look()), stopped).await {
                Either::Left((looked, _)) => looked,
                Either::Right(((), _)) => return,
            }
        };
        let pause = match looked {
            Ok(pass) => {
                self.failures = 0;
                self.note_fenced(&pass, clock.now());
                self.engine.judge_wishes(&mut self.pending, worker, &pass);
                let pause = self.pause(worker, &pass);
                let elapsed = clock.now().duration_since(began).unsigned_abs();
                let has_decided = pass.has_decided;
                let (snapshot, plan) =
                    if has_decided { (Arc::new(pass.view.snapshot), pass.plan) } else { worker.start(pass) };
                let in_flight = worker.lanes.len();
                observer.pass(&PassReport {
                    elapsed,
                    snapshot: &snapshot,
                    plan: &plan,
                    has_decided,
                    in_flight,
                });
                if has_decided {
                    return;
                }
                pause
            }
            Err(error) => {
                worker.begin_anew();
                self.failures = self.failures.saturating_add(1);
                let settings = &self.engine.settings;
                let factor = 1u32 << (self.failures - 1).min(16);
                let pause = settings.backoff_first.saturating_mul(factor).min(settings.backoff_limit);
                observer.failed(&error, pause);
                pause
            }
        };
        self.rest(worker, pause, observer).await;
    }

    /// Forgets what is old, and everything that is held back when somebody asks for something.
    fn begin(&mut self, now: Timestamp, worker: &mut Worker<'_>) {
        let (engine, memory) = (self.engine, self.memory);
        let mut new = self.control.take_wishes();
        new.iter_mut().for_each(|wish| wish.begin(now, worker));
        let rest = engine.settings.blocked_rest;
        let mut freed = memory.retries.forget_older(rest, now, &engine.settings);
        if !new.is_empty() {
            freed.extend(memory.retries.forget_all());
            engine.last_told.forget_older(Duration::ZERO, now);
        }
        for host in freed {
            engine.leases.forget(&host);
        }
        memory.told.forget_older(TELL_AGAIN, now);
        engine.last_told.forget_older(TELL_AGAIN, now);
        self.pending.extend(new);
        // Whoever waits for something is told what is true now.
        worker.is_calm &= self.pending.is_empty();
    }

    /// A host that somebody else took over is left alone for a rest; then a new token is taken.
    fn note_fenced(&self, pass: &Pass, now: Timestamp) {
        for (host, seen) in &pass.snapshot().observed.hosts {
            if let HostSeen::Fenced { reason, .. } = seen {
                let block = Block { reason: "Fenced".to_owned(), message: reason.clone() };
                self.memory.retries.stop_host(host, block, now);
            }
        }
    }

    fn pause(&mut self, worker: &Worker<'_>, pass: &Pass) -> Duration {
        let now = self.engine.world.clock.now();
        self.progress.look(pass.snapshot(), &pass.plan, now);
        let settings = &self.engine.settings;
        let waits = !pass.plan.steps.is_empty() || !worker.lanes.is_idle() || !self.pending.is_empty();
        let is_moving = waits && self.progress.quiet_for(now) < QUIET;
        let interval = if is_moving { settings.poll_interval } else { settings.resync_period };
        self.engine.pause(self.memory, interval, Timestamp::MAX)
    }

    /// Waits for the time to come, for a step to end, or for news.
    async fn rest(&mut self, worker: &mut Worker<'_>, pause: Duration, observer: &dyn ServeObserver) {
        let clock = self.engine.world.clock.as_ref();
        let control = self.control;
        if control.has_wishes() {
            return;
        }
        let news = pin!(changed(self.engine, &mut self.news));
        let said = pin!(control.said.notified());
        // Domains that end one after the other (a host is shut down) are looked at together.
        let stirred = pin!(async {
            self.engine.world.hypervisor.stirred().await;
            clock.sleep(GATHER).await;
        });
        let (engine, questions) = (self.engine, &mut worker.questions);
        let answered = pin!(async move {
            match questions {
                Some(questions) => questions.answered(engine).await,
                None => std::future::pending().await,
            }
        });
        let woken = select(select(news, said), select(stirred, answered));
        let rest = async {
            select(clock.sleep(pause), woken).await;
        };
        if let Err(error) = worker.lanes.wait(rest).await {
            observer.failed(&error, Duration::ZERO);
        }
    }
}

/// Comes back when the store has changed. Events are nobody's business here: the engine writes them itself.
async fn changed(engine: &Engine, news: &mut Option<Watch>) {
    let clock = engine.world.clock.as_ref();
    loop {
        let outcome = match news {
            Some(watch) => watch.next().await.map(|change| change.key.kind != Kind::Event.name()),
            None => match newest(engine).await {
                Ok(watch) => {
                    *news = Some(watch);
                    // What changed until now may not have been seen.
                    Ok(true)
                }
                Err(error) => Err(error),
            },
        };
        match outcome {
            Ok(false) => {}
            Ok(true) => {
                clock.sleep(GATHER).await;
                if let Some(watch) = news {
                    while let Some(Ok(_)) = watch.next().now_or_never() {}
                }
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "changes of the store cannot be followed");
                // Compacted, or the store is another one now: from where it is.
                *news = None;
                clock.sleep(engine.settings.backoff_limit).await;
            }
        }
    }
}

async fn newest(engine: &Engine) -> Result<Watch, StoreError> {
    // No kind has this name: only the revision is wanted.
    let revision: Revision = engine.store.list_raw(Some("-"), None).await?.revision;
    engine.store.watch(None, revision).await
}
