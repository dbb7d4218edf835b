//! A lane: one connection to a host's libvirt, with a thread of its own. Control calls and bulk transfers of a host
//! have one each, so that an upload holds no question up; domains start and end on several.
//!
//! libvirt's calls block, and a hung daemon blocks them for long. Nobody waits for that: whoever asks has a deadline;
//! when it passes, the lane is given up, its `ssh` is killed (which ends the blocked call), and the next question
//! gets a new lane.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_engine::effects::{EffectError, EffectErrorKind};
use tokio::sync::Notify;

use crate::counters::{Counters, READ};
use crate::error::classify;
use crate::ffi::{Connection, LibvirtError};
use crate::known::Known;
use crate::ssh::{Ssh, failure};
use crate::xml;

/// Questions that may wait for one lane.
const QUEUE: usize = 64;
/// Probes of libvirt's own keepalive: seconds between two, and how many may stay unanswered.
const KEEP_ALIVE: (i32, u32) = (5, 5);

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// The handle of a lane. Dropping it ends the thread after what is queued.
pub(crate) struct Lane {
    jobs: SyncSender<Job>,
    process: Arc<Process>,
    load: Arc<AtomicUsize>,
}

/// How a lane treats its connection.
#[derive(Clone, Default)]
pub(crate) struct Manners {
    /// It is closed when nothing was asked for so long, and opened anew for the next question.
    pub(crate) idle_limit: Option<Duration>,
    /// Lanes that share this connect one after the other: sshd turns away whom it has no time for.
    pub(crate) turn: Arc<Mutex<()>>,
    /// Who is told of what happens to domains, if this lane's connection is the one that listens.
    pub(crate) stirred: Option<Arc<Notify>>,
}

/// The `ssh` under a lane's connection, within reach of those who give the lane up.
#[derive(Default)]
pub(crate) struct Process {
    child: Mutex<Option<Child>>,
    given_up: AtomicBool,
    /// libvirt answers, and is asked for the host's capabilities.
    describing: AtomicBool,
}

/// What a lane's thread works with.
pub(crate) struct Session {
    ssh: Ssh,
    dir: PathBuf,
    process: Arc<Process>,
    manners: Manners,
    connection: Option<Connection>,
    known: Known,
    pub(crate) counters: Arc<Counters>,
}

impl Lane {
    /// Starts the thread; it connects when it is first asked something.
    pub(crate) fn start(
        name: &str,
        ssh: Ssh,
        dir: &Path,
        counters: Arc<Counters>,
        manners: Manners,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = sync_channel(QUEUE);
        let process = Arc::new(Process::default());
        let dir = dir.to_owned();
        let shared = Arc::clone(&process);
        let load = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&load);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // libvirt's handles belong to this thread: the session is made here.
            run(Session::new(ssh, dir, shared, manners, counters), queue, &done);
        })?;
        Ok(Lane { jobs, process, load })
    }

    /// Queues a job; `false` if the queue is full.
    pub(crate) fn submit(&self, job: Job) -> bool {
        self.load.fetch_add(1, Ordering::SeqCst);
        match self.jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.load.fetch_sub(1, Ordering::SeqCst);
                false
            }
        }
    }

    /// Jobs that it has not done yet.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::SeqCst)
    }

    /// Whether libvirt answered on a new connection, and now says what the host is. That takes long once: where its
    /// cache is cold (a new host, a new QEMU) it starts each QEMU to see what it can do.
    pub(crate) fn is_describing(&self) -> bool {
        self.process.describing.load(Ordering::SeqCst)
    }

    /// Ends its `ssh`: a call that hangs comes back with an error, and the thread ends.
    pub(crate) fn give_up(&self) {
        self.process.give_up();
    }
}

impl Process {
    /// Ends it, and lets no other begin in its place.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
        self.kill();
    }

    fn kill(&self) {
        if let Some(child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = child.kill();
        }
    }

    /// Takes the child out, ended; gives its exit code if it ended by itself within the time.
    fn reap(&self, patience: Duration) -> Option<i32> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let until = Instant::now() + patience;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return status.code(),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
                _ => break,
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }
}

fn run(mut session: Session, queue: Receiver<Job>, load: &AtomicUsize) {
    while let Some(job) = next(&mut session, &queue) {
        job(&mut session);
        load.fetch_sub(1, Ordering::SeqCst);
        if session.process.given_up.load(Ordering::SeqCst) {
            break;
        }
    }
    session.disconnect();
}

/// What to do next; none when nobody can ask any more.
fn next(session: &mut Session, queue: &Receiver<Job>) -> Option<Job> {
    if let Some(limit) = session.manners.idle_limit {
        match queue.recv_timeout(limit) {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Timeout) => session.disconnect(),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    queue.recv().ok()
}

impl Session {
    /// One that connects when it is first asked something. libvirt's handles belong to the thread that asks.
    pub(crate) fn new(
        ssh: Ssh,
        dir: PathBuf,
        process: Arc<Process>,
        manners: Manners,
        counters: Arc<Counters>,
    ) -> Self {
        Session { ssh, dir, process, manners, connection: None, known: Known::default(), counters }
    }

    /// Runs a call over an open connection, connecting first where there is none. `doing` completes "cannot …".
    pub(crate) fn call<T>(
        &mut self,
        trunk: Option<&Path>,
        doing: &str,
        call: impl FnOnce(&Connection, &Counters, &mut Known) -> Result<T, CallError>,
    ) -> Result<T, EffectError> {
        if self.connection.as_ref().is_some_and(|connection| !connection.is_alive()) {
            self.disconnect();
        }
        if self.connection.is_none() {
            self.connection = Some(self.connect(trunk)?);
        }
        let host = self.ssh.target.name.clone();
        let Some(connection) = &self.connection else {
            return Err(EffectError::new(
                EffectErrorKind::Unreachable,
                format!("host {host}: no connection"),
            ));
        };
        let result = call(connection, &self.counters, &mut self.known);
        result.map_err(|error| match error {
            CallError::Libvirt(error) => {
                let alive = connection.is_alive();
                let kind = classify(&error, alive);
                let lost = if alive { "" } else { "the connection was lost: " };
                EffectError::new(kind, format!("host {host} cannot {doing}: {lost}{error}"))
            }
            CallError::Other(kind, message) => {
                EffectError::new(kind, format!("host {host} cannot {doing}: {message}"))
            }
        })
    }

    pub(crate) fn disconnect(&mut self) {
        self.known = Known::default();
        if self.connection.take().is_some() {
            self.process.reap(Duration::ZERO);
        }
    }

    /// Connects libvirt's library to a socket of ours whose other end is the standard input and output of an `ssh`
    /// that runs `virt-ssh-helper` behind the gate. Unlike libvirt's own ssh transport this pins the host key, and
    /// leaves us the process with its exit code and words.
    fn connect(&mut self, trunk: Option<&Path>) -> Result<Connection, EffectError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let turn = Arc::clone(&self.manners.turn);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let host = self.ssh.target.name.clone();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let socket = self.dir.join(format!("l-{}-{number}", std::process::id()));
        let broken = |error: std::io::Error| {
            EffectError::new(
                EffectErrorKind::Refused,
                format!("host {host}: ssh cannot be started on this machine: {error}"),
            )
        };
        let listener = UnixListener::bind(&socket).map_err(broken)?;
        let mut command = self.ssh.session(trunk, &["virt-ssh-helper", "qemu:///system"]);
        let process = Arc::clone(&self.process);
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let wire = std::thread::spawn(move || -> std::io::Result<Option<std::thread::JoinHandle<()>>> {
            let (stream, _) = listener.accept()?;
            let output = stream.try_clone()?;
            let mut slot = process.child.lock().unwrap_or_else(PoisonError::into_inner);
            if process.given_up.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let mut child = command
                .stdin(Stdio::from(std::os::fd::OwnedFd::from(stream)))
                .stdout(Stdio::from(std::os::fd::OwnedFd::from(output)))
                .stderr(Stdio::piped())
                .spawn()?;
            // The command holds this process's copies of the socket: only the child may keep it open.
            drop(command);
            let stderr = child.stderr.take();
            *slot = Some(child);
            Ok(stderr.map(|stderr| std::thread::spawn(move || listen(stderr, &heard))))
        });
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let opened = Connection::open(&uri);
        if opened.is_err() {
            // If libvirt never came to connect, this lets the other thread go on.
            drop(UnixStream::connect(&socket));
        }
        let _ = std::fs::remove_file(&socket);
        let wired = wire.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread panicked")));
        match (opened, wired) {
            (Ok(mut connection), Ok(_)) => match self.greet(&connection) {
                Ok(()) => {
                    if let Some(stirred) = &self.manners.stirred
                        && let Err(error) = connection.tell_of_domains(stirred)
                    {
                        tracing::debug!(host, %error, "libvirt tells of no events: the host is looked at from time to time");
                    }
                    Ok(connection)
                }
                Err(error) => {
                    drop(connection);
                    self.process.reap(Duration::ZERO);
                    Err(error)
                }
            },
            (_, Err(error)) => Err(broken(error)),
            (Err(error), Ok(listener)) => {
                let exit = self.process.reap(Duration::from_secs(1));
                if let Some(listener) = listener {
                    let _ = listener.join();
                }
                let said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(self.refusal(&error, exit, &said))
            }
        }
    }

    /// Why a connection did not come about.
    fn refusal(&self, error: &LibvirtError, exit: Option<i32>, said: &str) -> EffectError {
        let host = &self.ssh.target.name;
        if said.contains("Failed to connect")
            || said.contains("libvirt-sock")
            || said.contains("virtqemud-sock")
        {
            return EffectError::new(
                EffectErrorKind::Unreachable,
                format!(
                    "host {host} is reached over SSH, but libvirt does not run there ({}): start libvirtd, or \
                     virtqemud with virtproxyd",
                    said.trim()
                ),
            );
        }
        match exit {
            Some(0) | None if said.trim().is_empty() => EffectError::new(
                EffectErrorKind::Unreachable,
                format!("host {host}: no connection to libvirt: {error}"),
            ),
            exit => failure(&self.ssh, exit, said, "talk to libvirt"),
        }
    }

    /// Sets keepalive, and makes sure that it is the host that was enrolled.
    fn greet(&self, connection: &Connection) -> Result<(), EffectError> {
        let target = &self.ssh.target;
        let host = &target.name;
        let failed = |error: LibvirtError| {
            EffectError::new(
                EffectErrorKind::Unreachable,
                format!("host {host}: no connection to libvirt: {error}"),
            )
        };
        connection.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1).map_err(failed)?;
        let Some(enrolled) = target.host_uuid else { return Ok(()) };
        connection.libvirt_version().map_err(failed)?;
        self.counters.count(READ);
        self.process.describing.store(true, Ordering::SeqCst);
        let capabilities = connection.capabilities();
        self.process.describing.store(false, Ordering::SeqCst);
        let seen = xml::capabilities(&capabilities.map_err(failed)?)
            .map_err(|error| EffectError::new(EffectErrorKind::Refused, format!("host {host}: {error}")))?
            .host_uuid;
        if seen == enrolled {
            return Ok(());
        }
        Err(EffectError::new(
            EffectErrorKind::NotOurs,
            format!(
                "host {host} ({}) says that it is the host {seen}, and {enrolled} was enrolled: another machine has its \
                 address, or it was installed anew. Nothing is done there. If it is right, remove the host and add \
                 it again",
                self.ssh.address
            ),
        ))
    }
}

/// Keeps the last words of an `ssh`.
fn listen(mut stderr: std::process::ChildStderr, said: &Mutex<String>) {
    use std::io::Read;
    let mut buffer = [0; 4096];
    while let Ok(count) = stderr.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < 16 * 1024 {
            said.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }
}

/// What a call can fail with.
pub(crate) enum CallError {
    /// libvirt's error.
    Libvirt(LibvirtError),
    /// Ours.
    Other(EffectErrorKind, String),
}

impl From<LibvirtError> for CallError {
    fn from(error: LibvirtError) -> Self {
        CallError::Libvirt(error)
    }
}

impl From<xml::XmlError> for CallError {
    fn from(error: xml::XmlError) -> Self {
        CallError::Other(EffectErrorKind::Refused, error.to_string())
    }
}
