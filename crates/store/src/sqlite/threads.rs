//! The threads that wait for SQLite, so that no async runtime has to.
//!
//! One writer, which takes whatever has queued up as one group; a few readers. Their queues are bounded:
//! callers wait, asynchronously, when they are full.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    fault, file, schema,
    write::{self, Order, Verdict},
};
use crate::StoreError;

const QUEUE: usize = 1024;
/// Commits that share one wait for the disk, at most.
const GROUP: usize = 256;
const READERS: usize = 2;

/// Threads and the queue that feeds them. Dropping it finishes what is queued, then ends the threads.
struct Crew<T> {
    queue: Option<mpsc::Sender<T>>,
    threads: Vec<JoinHandle<()>>,
}

impl<T> Crew<T> {
    async fn send(&self, work: T) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or_else(fault::closed)?;
        queue.send(work).await.map_err(|_| fault::closed())
    }
}

impl<T> Drop for Crew<T> {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| StoreError::Unavailable {
        reason: "no thread could be started".to_owned(),
        source: Some(Arc::new(error)),
    })
}

type Job = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// The readers' threads.
pub(super) struct Readers {
    crew: Crew<Job>,
    path: PathBuf,
}

impl Readers {
    /// Starts the threads; each opens its own connection when it has something to read. `first` is a
    /// connection that is open already.
    pub(super) fn start(
        path: &Path,
        busy_timeout: Duration,
        first: Option<Connection>,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = mpsc::channel::<Job>(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        let mut crew = Crew { queue: Some(queue), threads: Vec::new() };
        let mut first = first;
        for _ in 0..READERS {
            let (jobs, path, mut connection) = (Arc::clone(&jobs), path.to_owned(), first.take());
            crew.threads.push(spawn("store-read", move || {
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    let Some(job) = job else { return };
                    if connection.is_none() {
                        match file::open_reader(&path, busy_timeout) {
                            Ok(opened) => connection = Some(opened),
                            Err(error) => {
                                job(Err(error));
                                continue;
                            }
                        }
                    }
                    job(connection.as_ref().ok_or_else(fault::closed));
                }
            })?);
        }
        Ok(Self { crew, path: path.to_owned() })
    }

    /// Runs `work` on a reader's thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Nobody listens any more if the caller was dropped.
            let _ = reply.send(connection.map(work));
        });
        self.crew.send(job).await?;
        let result = outcome.await.map_err(|_| fault::closed())??;
        result.map_err(|error| fault::from_sqlite(&self.path, error))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

struct Request {
    order: Order,
    reply: oneshot::Sender<Verdict>,
}

/// The writer's thread.
pub(super) struct Writer {
    crew: Crew<Request>,
}

impl Writer {
    /// Starts the thread. `changed` is told after each group that changed something.
    pub(super) fn start(
        path: &Path,
        connection: Connection,
        retained_revisions: u64,
        changed: Arc<Notify>,
    ) -> Result<Self, StoreError> {
        let (queue, mut requests) = mpsc::channel::<Request>(QUEUE);
        let mut connection = connection;
        let path = path.to_owned();
        let thread = spawn("store-write", move || {
            while let Some(first) = requests.blocking_recv() {
                let mut group = vec![first];
                while group.len() < GROUP
                    && let Ok(next) = requests.try_recv()
                {
                    group.push(next);
                }
                serve(&path, &mut connection, group, retained_revisions);
                changed.notify_waiters();
            }
        })?;
        Ok(Self { crew: Crew { queue: Some(queue), threads: vec![thread] } })
    }

    /// Has an order carried out, and waits until it is on disk.
    pub(super) async fn run(&self, order: Order) -> Verdict {
        let (reply, outcome) = oneshot::channel();
        self.crew.send(Request { order, reply }).await?;
        outcome.await.map_err(|_| fault::closed())?
    }
}

fn serve(path: &Path, connection: &mut Connection, group: Vec<Request>, retained_revisions: u64) {
    // It may have been moved since it was opened.
    if let Ok(schema::MOVED_ID) = schema::read_application_id(connection) {
        for request in group {
            let _ = request.reply.send(Err(fault::moved(path)));
        }
        return;
    }
    let orders: Vec<&Order> = group.iter().map(|request| &request.order).collect();
    let verdicts = match write::carry_out(connection, &orders, retained_revisions) {
        Ok(verdicts) => verdicts,
        // One commit that is too large must not fail its neighbours. Waiting for a lock again, once for each,
        // would help nobody.
        Err(error) if orders.len() > 1 && error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {
            orders.iter().map(|order| alone(path, connection, order, retained_revisions)).collect()
        }
        Err(error) => {
            let error = fault::from_sqlite(path, error);
            orders.iter().map(|_| Err(error.clone())).collect()
        }
    };
    for (request, verdict) in group.into_iter().zip(verdicts) {
        // Nobody listens any more if the caller was dropped; the commit stands.
        let _ = request.reply.send(verdict);
    }
}

fn alone(path: &Path, connection: &mut Connection, order: &Order, retained_revisions: u64) -> Verdict {
    let verdicts = write::carry_out(connection, &[order], retained_revisions);
    let first = verdicts.map(|verdicts| verdicts.into_iter().next());
    first.map_err(|error| fault::from_sqlite(path, error))?.unwrap_or_else(|| Err(fault::closed()))
}
