//! Who does a command's work: the command itself, or the daemon that works here, which it then watches.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::enrol::{self, Enrolled, NewHost};
use ashlar_engine::{Goal, Scope, Wish};
use ashlar_plan::Snapshot;
use ashlar_store::Store;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use super::session::{DEFAULT_DEADLINE, explain, own_command};
use super::turn::{Turn, take_turn};
use super::{Session, installation, open_store};
use crate::cli::EngineArgs;
use crate::daemon::{Client, Done};
use crate::failure::{Context as _, Exit, Failure, Result};
use crate::interrupt::on_interrupt;
use crate::progress::{Progress, Told};
use crate::settings::Settings;

/// How much longer than the daemon a command waits for the answer that its time is up.
const GRACE: Duration = Duration::from_secs(60);

/// Who does the work.
pub(crate) enum Worker {
    /// This command.
    Own(Box<Session>),
    /// The daemon.
    Daemon(Box<Watcher>),
}

/// What a command needs that watches a daemon.
pub(crate) struct Watcher {
    client: Client,
    store: Arc<dyn Store>,
    progress: Progress,
    runtime: Runtime,
    deadline: Duration,
}

impl Worker {
    /// Takes the engine lock, waiting for other commands; where a daemon holds it, it does the work.
    pub(crate) fn open(settings: &Settings, args: &EngineArgs) -> Result<Worker> {
        match take_turn(settings, args.no_wait)? {
            Turn::Own(office) => Ok(Worker::Own(Box::new(Session::in_office(settings, args, office)?))),
            Turn::Daemon(client) => {
                installation(&settings.state_dir)?;
                Ok(Worker::Daemon(Box::new(Watcher {
                    client,
                    store: open_store(settings)?,
                    progress: Progress::plain(&settings.printer),
                    runtime: Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .context("cannot start the async runtime")?,
                    deadline: settings.timeout.unwrap_or(DEFAULT_DEADLINE),
                })))
            }
        }
    }

    /// Where to declare.
    pub(crate) fn store(&self) -> &dyn Store {
        match self {
            Worker::Own(session) => session.store.as_ref(),
            Worker::Daemon(watcher) => watcher.store.as_ref(),
        }
    }

    /// Works, or watches, until the goal is met.
    pub(crate) fn run(&self, settings: &Settings, scope: &Scope, goal: &Goal) -> Result<Done> {
        match self {
            Worker::Own(session) => Ok(Done::from(&session.run(settings, scope, goal)?)),
            Worker::Daemon(watcher) => watcher.run(settings, scope, goal),
        }
    }

    /// As [`run`](Self::run); what the cluster looks like then, too.
    pub(crate) fn run_and_look(
        &self,
        settings: &Settings,
        scope: &Scope,
        goal: &Goal,
    ) -> Result<(Done, Snapshot)> {
        match self {
            Worker::Own(session) => {
                let summary = session.run(settings, scope, goal)?;
                Ok((Done::from(&summary), summary.snapshot))
            }
            Worker::Daemon(watcher) => {
                let done = watcher.run(settings, scope, goal)?;
                let session = Session::open_to_look(settings)?;
                let snapshot = session.block_on(async { Ok(session.engine.snapshot(scope).await?) })?;
                session.progress.finish();
                Ok((done, snapshot))
            }
        }
    }

    /// Enrols a host.
    pub(crate) fn add_host(&self, new: &NewHost) -> Result<Enrolled> {
        match self {
            Worker::Own(session) => {
                let enrolled = session.block_on(async { Ok(enrol::add(&session.engine, new).await?) })?;
                session.progress.finish();
                Ok(enrolled)
            }
            Worker::Daemon(watcher) => watcher.block_on(watcher.client.add_host(new, |_| {})),
        }
    }

    /// Gives a host up.
    pub(crate) fn remove_host(&self, name: &str) -> Result<()> {
        match self {
            Worker::Own(session) => {
                session.block_on(async { Ok(enrol::remove(&session.engine, name).await?) })?;
                session.progress.finish();
                Ok(())
            }
            Worker::Daemon(watcher) => watcher.block_on(watcher.client.remove_host(name, |_| {})),
        }
    }

    /// Ends the display: there was nothing to work on.
    pub(crate) fn finish(&self) {
        if let Worker::Own(session) = self {
            session.progress.finish();
        }
    }
}

impl Watcher {
    fn run(&self, settings: &Settings, scope: &Scope, goal: &Goal) -> Result<Done> {
        settings.printer.note(format!("{} works on it", self.client.name));
        let outcome = self.block_on(async {
            // No kind has this name: only the revision is wanted, which holds all that was declared.
            let after = self.store.list_raw(Some("-"), None).await?.revision;
            let wish = Wish { scope: scope.clone(), goal: goal.clone(), after, deadline: self.deadline };
            let answer = self.client.wish(wish, |told: &Told| self.progress.show(told));
            match tokio::time::timeout(self.deadline + GRACE, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(Failure::timeout(format!("{} does not answer", self.client.name))
                    .hint("its log says what it does; /healthz whether it lives")),
            }
        })?;
        outcome.map_err(|report| {
            let told = self.progress.told();
            if report.failed_machines().next().is_none() {
                return report.into();
            }
            match Session::open_to_look(settings) {
                Ok(session) => explain(settings, &session, &told, report),
                Err(_) => report.into(),
            }
        })
    }

    /// Runs a future until it is done, or until Ctrl-C.
    fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let interrupted = Arc::new(Notify::new());
        let _guard = on_interrupt({
            let interrupted = Arc::clone(&interrupted);
            move || interrupted.notify_one()
        })?;
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = interrupted.notified() => Err(self.interrupted()),
            }
        })
    }

    fn interrupted(&self) -> Failure {
        Failure { exit: Exit::Interrupted, ..Failure::new("stopped by Ctrl-C") }
            .hint(format!("{} goes on with what was declared", self.client.name))
            .hint(format!("to watch it again, the same command again: {}", own_command()))
            .hint("`ashlar plan` shows what is left to do")
    }
}
