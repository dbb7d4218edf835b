//! A working session: the store open for writing, the engine lock held, the engine wired to the real world.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_engine::effects::Entropy;
use ashlar_engine::vault::Vault;
use ashlar_engine::{Engine, EngineError, Goal, RunSummary, Scope};
use ashlar_libvirt::Hosts;
use ashlar_store::{EngineLock, LockError, SqliteStore, Store};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::{OsEntropy, installation, open_vault, real_world};
use crate::cli::EngineArgs;
use crate::failure::{Context, Exit, Failure, Result};
use crate::interrupt::{Guard, on_interrupt};
use crate::output::{Verbosity, elapsed};
use crate::progress::Progress;
use crate::settings::Settings;

/// How long a command works unless `--timeout` says otherwise. Under software emulation a node takes minutes; a pool
/// of machines on a busy host takes many of them.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(60 * 60);
/// How often the lock is asked for while another process holds it.
const LOCK_INTERVAL: Duration = Duration::from_millis(250);
/// Threads of the runtime: calls to hosts block on threads of their own, so few are enough for any pool.
const WORKER_THREADS: usize = 2;

/// The engine with all that it needs.
pub(crate) struct Session {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) progress: Arc<Progress>,
    hosts: Arc<Hosts>,
    runtime: Runtime,
    interrupted: Arc<Notify>,
    deadline: Duration,
    _guard: Guard,
    /// Released last.
    _lock: Option<EngineLock>,
}

impl Session {
    /// A session that changes things: it waits until no other engine works in this state directory.
    pub(crate) fn open(settings: &Settings, args: &EngineArgs) -> Result<Session> {
        // The path first: it says when a lab is not there.
        settings.store_path()?;
        let lock = acquire(settings, args.no_wait)?;
        let engine = ashlar_engine::Settings {
            upload_hosts: usize::from(args.upload_hosts),
            ..engine_settings(settings)?
        };
        Session::new(settings, open_vault(settings)?, Some(lock), engine)
    }

    /// A session that only looks, as `plan` does.
    pub(crate) fn open_to_look(settings: &Settings) -> Result<Session> {
        Session::new(settings, open_vault(settings)?, None, engine_settings(settings)?)
    }

    /// A session that asks nobody, and opens no secret: its vault has a key of the moment.
    pub(crate) fn open_offline(settings: &Settings) -> Result<Session> {
        let mut key = Zeroizing::new([0; 32]);
        OsEntropy.fill(key.as_mut());
        Session::new(settings, Vault::from_key(key), None, engine_settings(settings)?)
    }

    fn new(
        settings: &Settings,
        vault: Vault,
        lock: Option<EngineLock>,
        engine: ashlar_engine::Settings,
    ) -> Result<Session> {
        let store = Arc::new(SqliteStore::open(settings.store_path()?)?);
        let vault = Arc::new(vault);
        let interrupted = Arc::new(Notify::new());
        let guard = on_interrupt({
            let interrupted = Arc::clone(&interrupted);
            move || interrupted.notify_one()
        })?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let (world, hosts) = {
            let _inside = runtime.enter();
            real_world(settings)?
        };
        let progress = Progress::new(&settings.printer);
        let engine = Engine::new(
            Arc::clone(&store) as Arc<dyn Store>,
            world,
            vault,
            engine,
            Arc::clone(&progress) as Arc<dyn ashlar_engine::EventSink>,
        );
        let deadline = settings.timeout.unwrap_or(DEFAULT_DEADLINE);
        Ok(Session {
            engine,
            store,
            progress,
            hosts,
            runtime,
            interrupted,
            deadline,
            _guard: guard,
            _lock: lock,
        })
    }

    /// Runs a future until it is done, or until Ctrl-C.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = self.interrupted.notified() => Err(interrupted()),
            }
        })
    }

    /// Works until the goal is met.
    pub(crate) fn run(&self, settings: &Settings, scope: &Scope, goal: &Goal) -> Result<RunSummary> {
        let outcome = self.block_on(async { Ok(self.engine.run(scope, goal, self.deadline).await) });
        self.progress.finish();
        if matches!(settings.printer.verbosity(), Verbosity::Verbose(_)) {
            let all: u64 = self.hosts.counters().all().values().sum();
            let changing = self.hosts.counters().mutating();
            settings.printer.note(format!("libvirt calls: {} reading, {changing} changing", all - changing));
        }
        match outcome? {
            Ok(summary) => Ok(summary),
            Err(error) => Err(self.explain_failure(settings, error)),
        }
    }

    fn explain_failure(&self, settings: &Settings, error: EngineError) -> Failure {
        let prefix = settings.command_prefix();
        let failed = match &error {
            EngineError::NodeFailed { machine, phase, log_lines, .. } => {
                Some((machine.clone(), phase.clone(), log_lines.clone()))
            }
            _ => None,
        };
        let exit = match &error {
            EngineError::Deadline { .. } => Exit::Timeout,
            EngineError::Plan(_) | EngineError::Violations { .. } => Exit::Internal,
            _ => Exit::Failure,
        };
        let mut failure = Failure { exit, ..Failure::from(error) };
        if let Some((machine, phase, log_lines)) = failed {
            if !log_lines.is_empty() {
                let lines: Vec<String> = log_lines.iter().map(|line| format!("  | {line}")).collect();
                failure.chain.push(format!("last lines of phase {phase}:\n{}", lines.join("\n")));
            }
            failure = match crate::bundle::write(settings, self, &machine, &failure) {
                Ok(path) => failure.hint(format!("the evidence is in {}", path.display())),
                Err(error) => failure.hint(format!("no bundle could be written: {}", error.chain.join(": "))),
            };
            failure = failure
                .hint(format!(
                    "the machine is kept as it is: {prefix} console {machine}, {prefix} ssh {machine}"
                ))
                .hint(format!("to try again: {prefix} delete machine {machine}, then the same command"));
        }
        failure
    }
}

fn interrupted() -> Failure {
    Failure { exit: Exit::Interrupted, ..Failure::new("stopped by Ctrl-C") }
        .hint("what was done is recorded, and stays")
        .hint(format!("to go on from here, the same command again: {}", own_command()))
        .hint("`ashlar plan` shows what is left to do")
}

/// This process's command, to be typed again.
fn own_command() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args = shlex::try_join(args.iter().map(String::as_str)).unwrap_or_else(|_| args.join(" "));
    format!("ashlar {args}")
}

fn engine_settings(settings: &Settings) -> Result<ashlar_engine::Settings> {
    let installation = installation(&settings.state_dir)?;
    Ok(ashlar_engine::Settings {
        trust_clock: settings.trust_clock,
        ..ashlar_engine::Settings::new(installation)
    })
}

/// Waits for the lock, saying who holds it.
fn acquire(settings: &Settings, no_wait: bool) -> Result<EngineLock> {
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let began = Instant::now();
    let mut told = String::new();
    loop {
        let error = match EngineLock::try_acquire(&settings.state_dir, &command) {
            Ok(lock) => {
                if !told.is_empty() {
                    settings.printer.note(format!("going on after {}", elapsed(began.elapsed())));
                }
                return Ok(lock);
            }
            Err(error @ (LockError::Held { .. } | LockError::HeldByUnknown { .. })) => error,
            Err(error) => return Err(error.into()),
        };
        if no_wait {
            return Err(Failure::from(error).hint("without --no-wait this command waits for its turn"));
        }
        if settings.timeout.is_some_and(|timeout| began.elapsed() >= timeout) {
            return Err(Failure { exit: Exit::Timeout, ..Failure::from(error) });
        }
        // Ctrl-C ends the process here, by the default action: nothing was begun.
        let text = error.to_string();
        if text != told {
            settings.printer.note(format!("waiting: {text}"));
            told = text;
        }
        std::thread::sleep(LOCK_INTERVAL);
    }
}
