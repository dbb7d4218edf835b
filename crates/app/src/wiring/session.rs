//! A working session: the store open for writing, the engine lock held, the engine wired to the real world.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ashlar_engine::effects::Entropy;
use ashlar_engine::vault::Vault;
use ashlar_engine::{Engine, Goal, RunSummary, Scope};
use ashlar_libvirt::Hosts;
use ashlar_store::Store;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::turn::Office;
use super::{OsEntropy, installation, open_audit, open_store, open_vault, real_world};
use crate::cli::EngineArgs;
use crate::daemon::ErrorReport;
use crate::failure::{Context, Exit, Failure, Result};
use crate::interrupt::{Guard, on_interrupt};
use crate::output::Verbosity;
use crate::progress::Progress;
use crate::settings::Settings;

/// How long a command works unless `--timeout` says otherwise. Under software emulation a node takes minutes; a pool
/// of machines on a busy host takes many of them.
pub(super) const DEFAULT_DEADLINE: Duration = Duration::from_secs(60 * 60);
/// Threads of the runtime: calls to hosts block on threads of their own, so few are enough for any pool.
pub(super) const WORKER_THREADS: usize = 2;

/// The engine with all that it needs.
pub(crate) struct Session {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) progress: Arc<Progress>,
    hosts: Arc<Hosts>,
    runtime: Runtime,
    interrupted: Arc<Notify>,
    deadline: Duration,
    _guard: Guard,
    /// Released last.
    office: Option<Office>,
}

impl Session {
    /// A session that changes things: its process is the one engine of the state directory.
    pub(super) fn in_office(settings: &Settings, args: &EngineArgs, office: Office) -> Result<Session> {
        let engine = ashlar_engine::Settings {
            upload_hosts: usize::from(args.upload_hosts),
            ..engine_settings(settings)?
        };
        Session::new(settings, open_vault(settings)?, Some(office), engine)
    }

    /// A session that only looks, as `plan` does.
    pub(crate) fn open_to_look(settings: &Settings) -> Result<Session> {
        Session::new(settings, open_vault(settings)?, None, engine_settings(settings)?)
    }

    /// A session that asks nobody, and opens no secret: its vault has a key of the moment.
    pub(crate) fn open_offline(settings: &Settings) -> Result<Session> {
        let mut key = Zeroizing::new([0; 32]);
        OsEntropy.fill(key.as_mut());
        Session::new(settings, Arc::new(Vault::from_key(key)), None, engine_settings(settings)?)
    }

    fn new(
        settings: &Settings,
        vault: Arc<Vault>,
        office: Option<Office>,
        engine: ashlar_engine::Settings,
    ) -> Result<Session> {
        let store = match &office {
            Some(office) => office.store(),
            None => open_store(settings)?,
        };
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
            Arc::clone(&store),
            world,
            vault,
            engine,
            Arc::clone(&progress) as Arc<dyn ashlar_engine::EventSink>,
        );
        // Who only looks leaves no trace.
        let engine = match &office {
            Some(_) => engine.with_audit(open_audit(settings)?),
            None => engine,
        };
        let deadline = settings.timeout.unwrap_or(DEFAULT_DEADLINE);
        Ok(Session { engine, store, progress, hosts, runtime, interrupted, deadline, _guard: guard, office })
    }

    /// Runs a future until it is done, or until Ctrl-C.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = self.interrupted.notified() => Err(interrupted()),
                () = deposed(self.office.as_ref()) => Err(Failure::new(
                    "etcd has not heard of this command for some seconds, or it of etcd: another Ashlar may work by now",
                )
                .hint(format!("to go on from here, the same command again: {}", own_command()))),
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
            Err(error) => Err(explain(settings, self, &self.progress.told(), error.into())),
        }
    }
}

/// What a person is told of a failure; of nodes that did not come up, with the evidence of each in a file.
pub(super) fn explain(
    settings: &Settings,
    session: &Session,
    told: &[String],
    report: ErrorReport,
) -> Failure {
    let machines: Vec<ashlar_api::NamespacedName> = report.failed_machines().cloned().collect();
    let mut failure = Failure::from(report);
    let bundles: Vec<String> = machines
        .iter()
        .map(|machine| match crate::bundle::write(settings, session, told, machine, &failure) {
            Ok(path) => format!("the evidence of {machine} is in {}", path.display()),
            Err(error) => format!("no bundle of {machine} could be written: {}", error.chain.join(": ")),
        })
        .collect();
    failure.hints.extend(bundles);
    let prefix = settings.command_prefix();
    let name = match machines.as_slice() {
        [] => return failure,
        [one] => one.to_string(),
        _ => "MACHINE".to_owned(),
    };
    failure
        .hint(format!("what failed is kept as it is: {prefix} console {name}, {prefix} ssh {name}"))
        .hint(format!("to try again: {prefix} delete machine {name}, then the same command"))
}

async fn deposed(office: Option<&Office>) {
    match office {
        Some(office) => office.ended().await,
        None => std::future::pending().await,
    }
}

fn interrupted() -> Failure {
    Failure { exit: Exit::Interrupted, ..Failure::new("stopped by Ctrl-C") }
        .hint("what was done is recorded, and stays")
        .hint(format!("to go on from here, the same command again: {}", own_command()))
        .hint("`ashlar plan` shows what is left to do")
}

/// This process's command, to be typed again.
pub(crate) fn own_command() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args = shlex::try_join(args.iter().map(String::as_str)).unwrap_or_else(|_| args.join(" "));
    format!("ashlar {args}")
}

pub(crate) fn engine_settings(settings: &Settings) -> Result<ashlar_engine::Settings> {
    let installation = installation(&settings.state_dir)?;
    Ok(ashlar_engine::Settings {
        trust_clock: settings.trust_clock,
        ..ashlar_engine::Settings::new(installation)
    })
}
