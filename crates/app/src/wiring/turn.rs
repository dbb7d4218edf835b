//! Whose turn it is to work on the store: this process, or a daemon, here or on another machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ashlar_store::{
    Election as _, EngineLock, EtcdElection, EtcdStore, LockError, Role, SqliteStore, Store, Term,
};
use futures::executor::block_on;

use super::place::{Place, candidate};
use crate::daemon::Client;
use crate::failure::{Exit, Failure, Result};
use crate::output::elapsed;
use crate::settings::Settings;

/// How often the lock is asked for while another process holds it.
const LOCK_INTERVAL: Duration = Duration::from_millis(250);

/// The right to work on the store, given back when it is dropped.
pub(crate) struct Office {
    store: Arc<dyn Store>,
    term: Option<Term>,
    _lock: EngineLock,
}

impl Office {
    /// The store, as who may work on it has it.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Comes back when the right was lost.
    pub(crate) async fn ended(&self) {
        match &self.term {
            Some(term) => term.ended().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        if let Some(term) = &self.term {
            // Where etcd does not answer, the term ends by itself.
            let _ = block_on(term.resign());
        }
    }
}

/// Who does the work.
pub(super) enum Turn {
    /// This process.
    Own(Office),
    /// A daemon, which leads for as long as it runs.
    Daemon(Client),
}

/// The lock of this state directory for a daemon. Another daemon will not give it back.
pub(crate) fn lock_as_daemon(settings: &Settings) -> Result<EngineLock> {
    match take_lock(settings, false)? {
        Ok(lock) => Ok(lock),
        Err(client) => Err(Failure::new(format!(
            "{} works on {} already: a store has one",
            client.name,
            settings.state_dir.display()
        ))
        .hint("commands reach it by themselves; to run another one in its place, stop it first")),
    }
}

/// The lock for a command that nobody may work beside.
pub(crate) fn lock_alone(settings: &Settings) -> Result<EngineLock> {
    alone(settings, take_lock(settings, false)?)
}

/// The same, or an error: it waits for nobody.
pub(crate) fn lock_now(settings: &Settings) -> Result<EngineLock> {
    alone(settings, take_lock(settings, true)?)
}

fn alone(settings: &Settings, lock: Result<EngineLock, Client>) -> Result<EngineLock> {
    lock.map_err(|client| {
        Failure::new(format!("{} works on {}", client.name, settings.state_dir.display()))
            .hint("stop it first, and start it again afterwards")
    })
}

/// Waits for the turn, saying whose it is, or finds a daemon.
pub(super) fn take_turn(settings: &Settings, no_wait: bool) -> Result<Turn> {
    let place = Place::find(settings)?;
    let mailbox = match &place {
        Place::Sqlite(_) => None,
        Place::Etcd(_, store) => Some(store.clone()),
    };
    let lock = match take_lock(settings, no_wait)? {
        Ok(lock) => lock,
        Err(client) => return Ok(Turn::Daemon(client.or_by_mail(mailbox))),
    };
    match place {
        Place::Sqlite(path) => {
            let store = Arc::new(SqliteStore::open(path)?);
            Ok(Turn::Own(Office { store, term: None, _lock: lock }))
        }
        Place::Etcd(_, store) => lead(settings, &store, lock, no_wait),
    }
}

/// Waits until this command leads, or finds that a daemon does.
fn lead(settings: &Settings, store: &EtcdStore, lock: EngineLock, no_wait: bool) -> Result<Turn> {
    let election = EtcdElection::new(store, candidate(Role::Command, None));
    let mut waiting = Waiting::new(settings, no_wait, EtcdElection::INTERVAL);
    loop {
        if let Some(term) = block_on(election.stand())? {
            waiting.over();
            return Ok(Turn::Own(Office { store: Arc::clone(&term.store), term: Some(term), _lock: lock }));
        }
        match block_on(election.leader())? {
            Some(leader) if leader.candidate.role == Role::Daemon => {
                return Ok(Turn::Daemon(Client::by_mail(leader.to_string(), store.clone())));
            }
            Some(leader) => {
                waiting.pause(Failure::new(format!("{leader} is already working on the store")))?
            }
            // It ended just now.
            None => {}
        }
    }
}

/// Waits for the lock of this state directory, or finds the daemon that has it.
fn take_lock(settings: &Settings, no_wait: bool) -> Result<Result<EngineLock, Client>> {
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let mut waiting = Waiting::new(settings, no_wait, LOCK_INTERVAL);
    loop {
        let error = match EngineLock::try_acquire(&settings.state_dir, &command) {
            Ok(lock) => {
                waiting.over();
                return Ok(Ok(lock));
            }
            Err(LockError::Held { pid, socket: Some(socket), .. }) => {
                return Ok(Err(Client::new(&socket, pid)));
            }
            Err(error @ (LockError::Held { .. } | LockError::HeldByUnknown { .. })) => error,
            Err(error) => return Err(error.into()),
        };
        waiting.pause(error.into())?;
    }
}

/// A wait for one's turn.
struct Waiting<'a> {
    settings: &'a Settings,
    no_wait: bool,
    interval: Duration,
    began: Instant,
    told: String,
}

impl<'a> Waiting<'a> {
    fn new(settings: &'a Settings, no_wait: bool, interval: Duration) -> Self {
        Waiting { settings, no_wait, interval, began: Instant::now(), told: String::new() }
    }

    fn over(&self) {
        if !self.told.is_empty() {
            self.settings.printer.note(format!("going on after {}", elapsed(self.began.elapsed())));
        }
    }

    /// Says what is waited for, and waits a little.
    fn pause(&mut self, reason: Failure) -> Result<()> {
        if self.no_wait {
            return Err(reason.hint("without --no-wait this command waits for its turn"));
        }
        if self.settings.timeout.is_some_and(|timeout| self.began.elapsed() >= timeout) {
            return Err(Failure { exit: Exit::Timeout, ..reason });
        }
        // Ctrl-C ends the process here, by the default action: nothing was begun.
        let text = reason.chain.join(": ");
        if text != self.told {
            self.settings.printer.note(format!("waiting: {text}"));
            self.told = text;
        }
        std::thread::sleep(self.interval);
        Ok(())
    }
}
