//! The daemon's life: started, reloaded, stopped.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use ashlar_engine::effects::EtcdCopies;
use ashlar_engine::{Control, Engine, EventSink, Upkeep, enrol};
use ashlar_libvirt::Hosts;
use ashlar_store::{EngineLock, EtcdTerm, SqliteStore, Store, Tenure as _};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::config::Config;
use super::copies::CopiesDirectory;
use super::health::Health;
use super::lead::{Letters, Part, Stood};
use super::listener::Listener;
use super::logs::Logs;
use super::metrics::Metrics;
use super::protocol::{Done, Line, Request};
use super::s3::CopiesBucket;
use super::server;
use super::telling::Tellings;
use super::upkeep;
use crate::cli::ServeArgs;
use crate::failure::{Context as _, Exit, Failure, Result};
use crate::settings::Settings;
use crate::wiring::place::Place;
use crate::wiring::{engine_settings, lock_as_daemon, open_audit, open_vault, real_world};

/// Threads of the runtime: calls to hosts block on threads of their own.
const WORKER_THREADS: usize = 2;

/// What connections share with the loop.
pub(super) struct Shared {
    pub(super) listener: Arc<Listener>,
    /// Another one after each reload; none while another daemon leads.
    current: watch::Sender<Option<Current>>,
    /// The store is one that several daemons may share.
    has_others: bool,
}

/// The engine that works now.
#[derive(Clone)]
struct Current {
    engine: Arc<Engine>,
    control: Arc<Control>,
    hosts: Arc<Hosts>,
    upkeep: Arc<Upkeep>,
}

impl Shared {
    /// Calls of libvirt, by kind.
    pub(super) fn calls(&self) -> Vec<(&'static str, u64)> {
        let current = self.current.borrow();
        current
            .as_ref()
            .map(|current| current.hosts.counters().all().into_iter().collect())
            .unwrap_or_default()
    }

    /// Carries out a request; `None` if the daemon ends before it is done.
    pub(super) async fn work(&self, request: Request) -> Option<Line> {
        let mut changes = self.current.subscribe();
        let current = loop {
            let current = changes.borrow_and_update().clone();
            match current {
                Some(current) => break current,
                None if self.has_others => return self.not_leading(),
                // It has just been started.
                None => changes.changed().await.ok()?,
            }
        };
        let wish = match request {
            Request::Wish(wish) => wish,
            Request::AddHost(new) => {
                return Some(match enrol::add(&current.engine, &new).await {
                    Ok(enrolled) => Line::Enrolled(Box::new(enrolled)),
                    Err(error) => Line::Failed(error.into()),
                });
            }
            Request::RemoveHost(name) => {
                return Some(match enrol::remove(&current.engine, &name).await {
                    Ok(()) => Line::Removed,
                    Err(error) => Line::Failed(error.into()),
                });
            }
        };
        let mut control = current.control;
        loop {
            match control.wish(wish.clone()).await {
                Ok(Ok(summary)) => return Some(Line::Done(Done::from(&summary))),
                Ok(Err(error)) => return Some(Line::Failed(error.into())),
                // That engine has ended: a reload puts another one in its place.
                Err(_) => {
                    changes.changed().await.ok()?;
                    control = match changes.borrow_and_update().clone() {
                        Some(current) => current.control,
                        None => return self.not_leading(),
                    };
                }
            }
        }
    }

    /// Whoever asks goes on to the one that leads; where this one is alone, it ends.
    fn not_leading(&self) -> Option<Line> {
        (self.has_others && !self.listener.health.is_stopping()).then_some(Line::StandingBy)
    }
}

/// Runs the daemon.
pub(crate) fn serve(settings: &Settings, args: &ServeArgs) -> Result {
    settings.store_path()?;
    if let Some(address) = args.listen.filter(|address| !address.ip().is_loopback()) {
        return Err(Failure::new(format!(
            "--listen {address}: that is not an address of this machine alone"
        ))
        .hint("probes and figures need no login: listen on 127.0.0.1 or [::1], and put a proxy before it"));
    }
    let config = Config::read(args.config.as_deref())?;
    let mut lock = lock_as_daemon(settings)?;
    // What is wrong at the start is said as by every command; logs begin when it works.
    let place = Place::find(settings)?;
    drop(open_vault(settings)?);
    let name = place.name();
    let seat = match place {
        Place::Sqlite(path) => Seat::Own(Arc::new(SqliteStore::open(path)?)),
        Place::Etcd(place, _) => Seat::Shared(Part::new(&place.open()?, args.name.as_deref())),
    };
    let logs = Logs::start(args.log_format, &config.log)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let listener =
            Arc::new(Listener { health: Health::new(), metrics: Metrics::new(), tellings: Tellings::new() });
        let has_others = matches!(seat, Seat::Shared(_));
        let shared = Arc::new(Shared { listener, current: watch::Sender::new(None), has_others });
        let mut signals = Signals::open()?;
        let mut daemon = Daemon { settings, args, logs, config, shared: Arc::clone(&shared) };
        announce(settings, args, &mut lock, &shared).await?;
        tracing::info!(store = name, pid = std::process::id(), "serving");
        let served = daemon.serve(&seat, &mut signals).await;
        shared.current.send_replace(None);
        served?;
        tracing::info!("stopped");
        Ok(Exit::Success)
    })
}

/// With which right a daemon works.
enum Seat {
    /// The store's own lock, which it holds for as long as it lives.
    Own(Arc<dyn Store>),
    /// For as long as it leads.
    Shared(Part),
}

/// The daemon, between its terms and within them.
struct Daemon<'a> {
    settings: &'a Settings,
    args: &'a ServeArgs,
    logs: Logs,
    config: Config,
    shared: Arc<Shared>,
}

/// How a life of an engine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Stopped,
    Reloads,
    /// Another daemon may lead by now.
    Deposed,
}

impl Daemon<'_> {
    async fn serve(&mut self, seat: &Seat, signals: &mut Signals) -> Result<()> {
        let part = match seat {
            Seat::Own(store) => {
                self.shared.listener.metrics.leader(true, None);
                return self.one_term(store, None, signals).await.map(drop);
            }
            Seat::Shared(part) => part,
        };
        loop {
            match part.stand_by(self.settings, &self.shared, signals).await? {
                Stood::Asked(Asked::Stop) => return Ok(()),
                Stood::Asked(Asked::Reload) => match self.read_config() {
                    Ok(()) => tracing::info!("reloaded"),
                    Err(failure) => tracing::error!(error = failure.chain.join(": "), "not reloaded"),
                },
                Stood::Leads(term, store) => {
                    let letters = Letters::open(store.clone(), &self.shared);
                    let store = Arc::new(store) as Arc<dyn Store>;
                    let ended = self.one_term(&store, Some(&term), signals).await;
                    self.shared.current.send_replace(None);
                    drop(letters);
                    match ended {
                        Ok(Ended::Deposed) => {
                            tracing::error!(
                                daemon = part.name,
                                term = term.number,
                                "this daemon no longer leads"
                            );
                            self.shared.listener.health.failed("this daemon no longer leads".to_owned());
                            self.shared.listener.metrics.leader(false, None);
                        }
                        ended => {
                            // The next need not wait; where etcd does not answer, the term ends by itself.
                            if let Err(error) = term.resign().await {
                                tracing::warn!(%error, "the leadership could not be given up");
                            }
                            return ended.map(drop);
                        }
                    }
                }
            }
        }
    }

    /// Works for as long as it may.
    async fn one_term(
        &mut self,
        store: &Arc<dyn Store>,
        term: Option<&EtcdTerm>,
        signals: &mut Signals,
    ) -> Result<Ended> {
        let mut current = self.engine(store, term.is_some())?;
        self.shared.current.send_replace(Some(current.clone()));
        loop {
            let ended = one_life(&current, &self.shared, signals, term).await?;
            if ended != Ended::Reloads {
                return Ok(ended);
            }
            let reloaded = self.read_config().and_then(|()| self.engine(store, term.is_some()));
            current = match reloaded {
                Ok(new) => {
                    tracing::info!(config = ?self.config, "reloaded");
                    new
                }
                Err(failure) => {
                    tracing::error!(error = failure.chain.join(": "), "not reloaded: going on as before");
                    Current { control: Arc::new(Control::new()), ..current }
                }
            };
            self.shared.current.send_replace(Some(current.clone()));
            say(sd_notify::NotifyState::Ready);
        }
    }

    fn read_config(&mut self) -> Result<()> {
        let config = Config::read(self.args.config.as_deref())?;
        self.logs.set(&config.log)?;
        self.config = config;
        Ok(())
    }

    /// A new engine with the settings as they are now. Connections to hosts are made anew, with the keys that lie there now.
    fn engine(&self, store: &Arc<dyn Store>, takes_hosts_over: bool) -> Result<Current> {
        let (settings, config) = (self.settings, &self.config);
        let (world, hosts) = real_world(settings)?;
        let engine_settings = ashlar_engine::Settings {
            resync_period: config.period,
            blocked_rest: config.retry_blocked_after,
            stop_grace: config.stop_grace,
            upload_hosts: usize::from(config.upload_hosts),
            fence_max_percent: config.fence_max_percent,
            takes_hosts_over,
            ..engine_settings(settings)?
        };
        let engine = Engine::new(
            Arc::clone(store),
            world,
            open_vault(settings)?,
            engine_settings,
            Arc::clone(&self.shared.listener) as Arc<dyn EventSink>,
        )
        .with_audit(open_audit(settings)?);
        let copies = &config.etcd_snapshots;
        let place: Arc<dyn EtcdCopies> = match &copies.s3 {
            Some(bucket) => Arc::new(CopiesBucket::new(bucket, &settings.state_dir)?),
            None => Arc::new(CopiesDirectory::new(copies.directory(&settings.state_dir))),
        };
        let upkeep = Upkeep::new(copies.policy(), place);
        Ok(Current {
            engine: Arc::new(engine),
            control: Arc::new(Control::new()),
            hosts,
            upkeep: Arc::new(upkeep),
        })
    }
}

/// Serves until something is asked of the process and the calls under way have ended, or it may not any more.
async fn one_life(
    current: &Current,
    shared: &Shared,
    signals: &mut Signals,
    term: Option<&EtcdTerm>,
) -> Result<Ended> {
    let mut serving = std::pin::pin!(async {
        tokio::select! {
            () = current.engine.serve(&current.control, shared.listener.as_ref()) => {}
            () = upkeep::keep(&current.engine, &current.upkeep, &shared.listener) => {}
        }
    });
    let mut deposed = std::pin::pin!(async {
        match term {
            Some(term) => term.ended().await,
            None => std::future::pending().await,
        }
    });
    let mut asked = tokio::select! {
        // It ends when it is told to.
        () = &mut serving => return Ok(Ended::Stopped),
        () = &mut deposed => return Ok(Ended::Deposed),
        asked = signals.next() => asked,
    };
    loop {
        match asked {
            Asked::Stop => {
                tracing::info!("stopping: waiting for the calls under way");
                shared.listener.health.stopping();
                say(sd_notify::NotifyState::Stopping);
            }
            Asked::Reload => say(sd_notify::NotifyState::Reloading),
        }
        current.control.stop();
        tokio::select! {
            () = &mut serving => return Ok(match asked {
                Asked::Stop => Ended::Stopped,
                Asked::Reload => Ended::Reloads,
            }),
            () = &mut deposed => return Ok(match asked {
                Asked::Stop => Ended::Stopped,
                Asked::Reload => Ended::Deposed,
            }),
            more = signals.next() => match (asked, more) {
                (Asked::Stop, Asked::Stop) => {
                    return Err(Failure {
                        exit: Exit::Interrupted,
                        ..Failure::new("stopped at once: calls under way were abandoned")
                    });
                }
                (Asked::Reload, more) => asked = more,
                (Asked::Stop, Asked::Reload) => {}
            },
        }
    }
}

/// Tells systemd, where it listens.
fn say(state: sd_notify::NotifyState<'_>) {
    // Where nobody listens there is nobody to be told.
    let _ = sd_notify::notify(&[state]);
}

/// Opens the doors, and says where they are.
async fn announce(
    settings: &Settings,
    args: &ServeArgs,
    lock: &mut EngineLock,
    shared: &Arc<Shared>,
) -> Result<()> {
    let socket = match &args.socket {
        Some(path) => std::path::absolute(path)?,
        None => default_socket(settings),
    };
    if let Some(directory) = socket.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.context(format!("cannot make {}", directory.display()))?;
    }
    let listener = server::open_socket(&socket)?;
    if let Some(address) = args.listen {
        let listener = server::open_address(address).await?;
        let address = listener.local_addr()?;
        tracing::info!(%address, "probes and figures");
        tokio::spawn(server::serve_address(listener, Arc::clone(shared)));
    }
    tokio::spawn(server::serve_socket(listener, Arc::clone(shared)));
    lock.announce(&socket)?;
    say(sd_notify::NotifyState::Ready);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            loop {
                if shared.listener.health.lives().is_ok() {
                    say(sd_notify::NotifyState::Watchdog);
                }
                tokio::time::sleep(limit / 3).await;
            }
        });
    }
    Ok(())
}

fn default_socket(settings: &Settings) -> PathBuf {
    settings.state_dir.join("run").join("daemon.sock")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Stop,
    Reload,
}

/// What systemd, or a person, asks for.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn open() -> Result<Signals> {
        let open = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: open(SignalKind::terminate())?,
            interrupt: open(SignalKind::interrupt())?,
            hangup: open(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
