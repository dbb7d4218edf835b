//! The hosts: per host a trunk, a control lane, a bulk lane and some work lanes, opened when they are first needed.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_engine::effects::{EffectError, EffectErrorKind, HostTarget};
use tokio::sync::{Notify, oneshot};

use crate::counters::Counters;
use crate::ffi::Connection;
use crate::known::Known;
use crate::lane::{CallError, Lane, Manners, Session};
use crate::pair::Pair;
use crate::settings::Settings;
use crate::ssh::{Ssh, Trunk};

/// A socket's path has 107 characters at most, and ssh appends 17 to it while it opens one.
const MAX_DIR: usize = 60;

/// Domains that start or end at the same time on one host. Ending one takes libvirt two seconds, of which it works for
/// few milliseconds: with one connection a hundred take minutes. libvirtd serves 20 workers at a time unless it is told
/// otherwise; some of them must stay for questions, and for other people.
const WORK_LANES: usize = 16;
/// After so long without work a work lane's connection is closed: a pool of a thousand hosts would have thousands.
const WORK_LANE_IDLE: Duration = Duration::from_secs(10);

/// A namespace of the host, if it is not the host's own, with an address and a port there.
pub(crate) type Destination = (Option<String>, Ipv4Addr, u16);

/// Real hosts: [`Hypervisor`](ashlar_engine::effects::Hypervisor), [`HostShell`](ashlar_engine::effects::HostShell)
/// and [`Dial`](ashlar_engine::effects::Dial) in one, since they share connections.
pub struct Hosts {
    pub(crate) settings: Settings,
    dir: PathBuf,
    _short_dir: Option<tempfile::TempDir>,
    entries: Mutex<BTreeMap<String, Arc<Entry>>>,
    counters: Arc<Counters>,
    /// Something happened to a domain on some host.
    pub(crate) stirred: Arc<Notify>,
    /// Namespace, address and port → the host through which it was last reached.
    pub(crate) good_ways: Mutex<BTreeMap<Destination, String>>,
}

/// The token with which the host may be changed: a visitor has none.
pub(crate) fn token_of(host: &HostTarget) -> Result<u64, EffectError> {
    host.lease_token.ok_or_else(|| {
        let message = format!("host {}: who comes without a lease changes nothing there", host.name);
        EffectError::new(EffectErrorKind::Refused, message)
    })
}

/// One host, as it is declared now.
pub(crate) struct Entry {
    pub(crate) ssh: Ssh,
    dir: PathBuf,
    counters: Arc<Counters>,
    stirred: Arc<Notify>,
    settings: Settings,
    trunk: tokio::sync::Mutex<Option<Trunk>>,
    control: Mutex<Option<Arc<Lane>>>,
    bulk: Mutex<Option<Arc<Lane>>>,
    work: Mutex<Vec<Arc<Lane>>>,
    work_manners: Manners,
    quiet: Mutex<Quiet>,
}

/// After a failure a host is left alone for a while.
#[derive(Default)]
struct Quiet {
    failures: u32,
    until: Option<(Instant, EffectError)>,
}

/// Which lane a call takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    /// Questions and short commands.
    Control,
    /// Transfers, and what keeps the host's disk busy.
    Bulk,
    /// What takes long and needs little: several at a time, each on a lane of its own.
    Work,
}

/// How long a call may take.
pub(crate) enum Patience {
    /// As a whole.
    Total(Duration),
    /// Between two steps; the call counts them.
    Stall(Duration, Arc<AtomicU64>),
}

impl Hosts {
    /// Makes the run directory; nothing is connected yet.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(settings: Settings) -> std::io::Result<Arc<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.run_dir)?;
        let long = settings.run_dir.as_os_str().len() > MAX_DIR;
        let short_dir = if long { Some(tempfile::Builder::new().prefix("ashlar-").tempdir()?) } else { None };
        let dir = short_dir.as_ref().map_or(settings.run_dir.as_path(), |dir| dir.path()).to_owned();
        sweep(&dir);
        Ok(Arc::new(Hosts {
            settings,
            dir,
            _short_dir: short_dir,
            entries: Mutex::default(),
            counters: Arc::default(),
            stirred: Arc::default(),
            good_ways: Mutex::default(),
        }))
    }

    /// How often libvirt was called, by kind.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The host as it is declared in the target: a changed declaration (a new token, address or key) gets new
    /// connections.
    pub(crate) fn entry(&self, target: &HostTarget) -> Result<Arc<Entry>, EffectError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&target.name)
            && entry.ssh.target == *target
        {
            return Ok(Arc::clone(entry));
        }
        let stem = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let entry = Arc::new(Entry {
            ssh: Ssh::new(target, &self.dir, &stem)?,
            dir: self.dir.clone(),
            counters: Arc::clone(&self.counters),
            stirred: Arc::clone(&self.stirred),
            settings: self.settings.clone(),
            trunk: tokio::sync::Mutex::default(),
            control: Mutex::default(),
            bulk: Mutex::default(),
            work: Mutex::default(),
            work_manners: Manners { idle_limit: Some(WORK_LANE_IDLE), ..Manners::default() },
            quiet: Mutex::default(),
        });
        entries.insert(target.name.clone(), Arc::clone(&entry));
        Ok(entry)
    }
}

impl std::fmt::Debug for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hosts").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Removes what processes that are gone left behind: names hold the process id.
fn sweep(dir: &Path) {
    for file in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let ours = ["t-", "l-", "known-hosts-"].iter().find_map(|prefix| name.strip_prefix(prefix));
        let pid = ours.and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        if let Some(pid) = pid
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            let _ = fs::remove_file(file.path());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ssh.remove_files();
    }
}

impl Entry {
    /// The trunk's socket, with the trunk connected.
    pub(crate) async fn trunk(&self) -> Result<PathBuf, EffectError> {
        let mut trunk = self.trunk.lock().await;
        if let Some(open) = trunk.as_mut()
            && open.is_alive()
        {
            return Ok(open.socket().to_owned());
        }
        *trunk = None;
        self.check_quiet()?;
        match Trunk::open(&self.ssh, &self.dir, self.settings.connect_timeout).await {
            Ok(opened) => {
                self.answered();
                let socket = opened.socket().to_owned();
                *trunk = Some(opened);
                Ok(socket)
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Gives the trunk up, for a connection that turned out to be dead.
    pub(crate) async fn drop_trunk(&self) {
        *self.trunk.lock().await = None;
    }

    /// Asks libvirt something on a lane. `doing` completes "cannot …".
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        via: Via,
        patience: Patience,
        doing: String,
        job: impl FnOnce(&Connection, &Counters, &mut Known) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, EffectError> {
        self.check_quiet()?;
        // Bulk transfers have a connection of their own: on the trunk they would be in everybody's way. So have work
        // lanes: sshd gives one connection ten sessions unless it is told otherwise.
        let trunk = match via {
            Via::Control => Some(self.trunk().await?),
            Via::Bulk | Via::Work => None,
        };
        let host = &self.ssh.target.name;
        let lane = self.lane(via)?;
        let (answer, mut answered) = oneshot::channel();
        let started = Arc::new(AtomicBool::new(false));
        let begun = Arc::clone(&started);
        let what = doing.clone();
        let queued = lane.submit(Box::new(move |session| {
            // Whoever asked has gone: nothing is done that nobody waits for.
            if answer.is_closed() {
                return;
            }
            begun.store(true, Ordering::SeqCst);
            let _ = answer.send(session.call(trunk.as_deref(), &what, job));
        }));
        if !queued {
            return Err(EffectError::new(
                EffectErrorKind::Busy,
                format!("host {host} cannot {doing}: too many calls wait for its libvirt already"),
            ));
        }
        let begin = Instant::now();
        let waited = loop {
            match wait(&mut answered, &patience).await {
                Err(_) if lane.is_describing() && begin.elapsed() < self.settings.slow_call_timeout => {}
                Err(_) => break Err(begin.elapsed()),
                Ok(result) => break Ok(result),
            }
        };
        match waited {
            Ok(result) => {
                match &result {
                    Err(error) if error.kind == EffectErrorKind::Unreachable => self.failed(error),
                    _ => self.answered(),
                }
                result
            }
            Err(waited) => {
                let seconds = waited.as_secs();
                if !started.load(Ordering::SeqCst) {
                    return Err(EffectError::new(
                        EffectErrorKind::Busy,
                        format!(
                            "host {host} cannot {doing}: other calls have kept its libvirt busy for {seconds} s"
                        ),
                    ));
                }
                self.give_up(via, &lane);
                let error = EffectError::new(
                    EffectErrorKind::Unreachable,
                    format!("no answer from host {host} within {seconds} s when asked to {doing}"),
                );
                self.failed(&error);
                Err(error)
            }
        }
    }

    /// Connections of their own to this host and another one, for a call that needs both on one thread.
    pub(crate) fn pair_with<T: Send + 'static>(
        &self,
        other: &Entry,
        job: impl FnOnce(&mut Session, &mut Session) -> Result<T, EffectError> + Send + 'static,
    ) -> Result<Pair<T>, EffectError> {
        self.check_quiet()?;
        other.check_quiet()?;
        let parts = |entry: &Entry| (entry.ssh.clone(), entry.dir.clone(), Arc::clone(&entry.counters));
        Pair::start(parts(self), parts(other), job).map_err(|error| {
            let name = &self.ssh.target.name;
            EffectError::new(
                EffectErrorKind::Exhausted,
                format!("host {name}: no thread for its connection: {error}"),
            )
        })
    }

    fn lane(&self, via: Via) -> Result<Arc<Lane>, EffectError> {
        let slot = match via {
            Via::Control => &self.control,
            Via::Bulk => &self.bulk,
            Via::Work => return self.work_lane(),
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = slot.as_ref() {
            return Ok(Arc::clone(lane));
        }
        let (name, stirred) = match via {
            Via::Control => ("ctl", Some(Arc::clone(&self.stirred))),
            Via::Bulk | Via::Work => ("bulk", None),
        };
        let lane = self.start_lane(name, Manners { stirred, ..Manners::default() })?;
        Ok(Arc::clone(slot.insert(lane)))
    }

    /// The work lane that has least to do; a new one while all are busy.
    fn work_lane(&self) -> Result<Arc<Lane>, EffectError> {
        let mut lanes = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        match lanes.iter().min_by_key(|lane| lane.load()) {
            Some(lane) if lane.load() == 0 || lanes.len() >= WORK_LANES => Ok(Arc::clone(lane)),
            _ => {
                let lane = self.start_lane("work", self.work_manners.clone())?;
                lanes.push(Arc::clone(&lane));
                Ok(lane)
            }
        }
    }

    fn start_lane(&self, kind: &str, manners: Manners) -> Result<Arc<Lane>, EffectError> {
        let host = &self.ssh.target.name;
        let (ssh, counters) = (self.ssh.clone(), Arc::clone(&self.counters));
        Lane::start(&format!("{kind}-{host}"), ssh, &self.dir, counters, manners).map(Arc::new).map_err(
            |error| {
                EffectError::new(
                    EffectErrorKind::Exhausted,
                    format!("host {host}: no thread for its connection: {error}"),
                )
            },
        )
    }

    fn give_up(&self, via: Via, lane: &Arc<Lane>) {
        lane.give_up();
        let slot = match via {
            Via::Control => &self.control,
            Via::Bulk => &self.bulk,
            Via::Work => {
                let mut lanes = self.work.lock().unwrap_or_else(PoisonError::into_inner);
                return lanes.retain(|other| !Arc::ptr_eq(other, lane));
            }
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, lane)) {
            *slot = None;
        }
    }

    fn check_quiet(&self) -> Result<(), EffectError> {
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        match &quiet.until {
            Some((until, error)) if Instant::now() < *until => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn answered(&self) {
        *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) = Quiet::default();
    }

    fn failed(&self, error: &EffectError) {
        if error.kind != EffectErrorKind::Unreachable {
            return;
        }
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = Duration::from_secs(1 << quiet.failures.min(10)).min(self.settings.max_backoff);
        quiet.failures = quiet.failures.saturating_add(1);
        quiet.until = Some((Instant::now() + pause, error.clone()));
    }
}

/// Waits for the answer, or tells for how long it did.
async fn wait<T>(
    answered: &mut oneshot::Receiver<Result<T, EffectError>>,
    patience: &Patience,
) -> Result<Result<T, EffectError>, Duration> {
    let gone = |_| {
        Err(EffectError::new(
            EffectErrorKind::Unreachable,
            "the connection's thread ended before it answered",
        ))
    };
    match patience {
        Patience::Total(limit) => match tokio::time::timeout(*limit, answered).await {
            Ok(result) => Ok(result.unwrap_or_else(gone)),
            Err(_) => Err(*limit),
        },
        Patience::Stall(limit, steps) => loop {
            let before = steps.load(Ordering::Relaxed);
            match tokio::time::timeout(*limit, &mut *answered).await {
                Ok(result) => return Ok(result.unwrap_or_else(gone)),
                Err(_) if steps.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(*limit),
            }
        },
    }
}
