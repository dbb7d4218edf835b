//! The election of a store that several daemons share, with leases in virtual time, as etcd has them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ashlar_engine::effects::Clock as _;
use ashlar_store::{
    Candidate, Election, Key, Leader, Listing, RawChanges, RawListing, Revision, Role, Store, StoreError,
    Stored, Tenure, Term, Transaction, Watch,
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::daemons::NAMES;
use crate::{CrashingStore, SimWorld};

/// How long after its last sign of life a leader leads.
const TTL: SignedDuration = SignedDuration::from_secs(3);
/// How often it gives one.
const SIGN: Duration = Duration::from_secs(1);
/// How long somebody waits for an etcd that cannot be reached.
const SILENCE: Duration = Duration::from_secs(1);

/// A time in which a process led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Which process.
    pub process: usize,
    /// The term.
    pub term: u64,
    /// When it began.
    pub from: Timestamp,
    /// When etcd heard of the leader last.
    pub heard: Timestamp,
}

/// What etcd knows.
#[derive(Clone, Default)]
pub(crate) struct Office(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    leaderships: Vec<Leadership>,
    resigned: bool,
    /// When processes cannot reach etcd: which, from when, until when.
    cuts: Vec<(usize, Timestamp, Timestamp)>,
}

impl Office {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cut(&self, process: usize, from: Timestamp, until: Timestamp) {
        self.lock().cuts.push((process, from, until));
    }

    pub(crate) fn leaderships(&self) -> Vec<Leadership> {
        self.lock().leaderships.clone()
    }
}

impl Books {
    /// Who leads at this moment.
    fn leader(&self, now: Timestamp) -> Option<&Leadership> {
        let last = self.leaderships.last().filter(|_| !self.resigned)?;
        (now.duration_since(last.heard) < TTL).then_some(last)
    }

    /// Whether a process could not reach etcd at some moment of that time.
    fn was_cut(&self, process: usize, since: Timestamp, now: Timestamp) -> bool {
        self.cuts.iter().any(|(cut, from, until)| *cut == process && *from <= now && since < *until)
    }

    fn is_cut(&self, process: usize, now: Timestamp) -> bool {
        self.cuts.iter().any(|(cut, from, until)| *cut == process && *from <= now && now < *until)
    }
}

/// A process's part in it.
pub(crate) struct SimElection {
    pub(crate) office: Office,
    /// As its process.
    pub(crate) world: SimWorld,
    pub(crate) store: Arc<dyn Store>,
}

impl SimElection {
    /// etcd's own clock, which no process's error touches.
    fn now(&self) -> Timestamp {
        self.world.state().now
    }

    async fn reach(&self) -> Result<(), StoreError> {
        reach(&self.office, &self.world).await
    }
}

async fn reach(office: &Office, world: &SimWorld) -> Result<(), StoreError> {
    let now = world.state().now;
    if office.lock().is_cut(world.process, now) {
        world.sleep(SILENCE).await;
        return Err(StoreError::unavailable("etcd does not answer"));
    }
    Ok(())
}

#[async_trait]
impl Election for SimElection {
    async fn leader(&self) -> Result<Option<Leader>, StoreError> {
        self.reach().await?;
        let now = self.now();
        Ok(self.office.lock().leader(now).map(|leader| Leader {
            candidate: Candidate {
                name: format!("daemon-{}", leader.process),
                role: Role::Daemon,
                doing: String::new(),
            },
            since: leader.from,
        }))
    }

    async fn stand(&self) -> Result<Option<Term>, StoreError> {
        self.reach().await?;
        let (now, process) = (self.now(), self.world.process);
        let (number, before) = {
            let mut state = self.office.lock();
            if state.leader(now).is_some() {
                return Ok(None);
            }
            let before = state.leaderships.last().cloned();
            let term = before.as_ref().map_or(1, |last| last.term + 1);
            state.leaderships.push(Leadership { process, term, from: now, heard: now });
            state.resigned = false;
            let before = before.map(|last| (last.process, state.was_cut(last.process, last.heard, now)));
            (term, before)
        };
        {
            let mut state = self.world.state();
            state.note(format!("* daemon {} leads", NAMES[process]));
            if let Some((before, was_cut)) = before.filter(|(before, _)| *before != process) {
                state.cover_takeover(before, was_cut);
            }
        }
        let (office, world) = (self.office.clone(), self.world.clone());
        // Fenced inside of the crash point: a process that is frozen right before a commit makes it when it wakes.
        let fenced =
            Fenced { office: office.clone(), world: world.clone(), inner: Arc::clone(&self.store), number };
        let store = Arc::new(CrashingStore::new(world.clone(), Arc::new(fenced)));
        Ok(Some(Term::new(number, store, Arc::new(SimTenure { office, world, number }))))
    }
}

struct SimTenure {
    office: Office,
    world: SimWorld,
    number: u64,
}

#[async_trait]
impl Tenure for SimTenure {
    /// Gives signs of life, for as long as this is polled: a process that is frozen gives none.
    async fn ended(&self) {
        let mut heard = self.world.state().now;
        loop {
            self.world.sleep(SIGN).await;
            let now = self.world.state().now;
            let mut state = self.office.lock();
            if !state.is_cut(self.world.process, now) {
                match state.leader(now).map(|leader| leader.term) {
                    Some(term) if term == self.number => {
                        if let Some(last) = state.leaderships.last_mut() {
                            last.heard = now;
                        }
                        heard = now;
                    }
                    _ => return,
                }
            } else if now.duration_since(heard) >= TTL {
                return;
            }
        }
    }

    async fn resign(&self) -> Result<(), StoreError> {
        reach(&self.office, &self.world).await?;
        let mut state = self.office.lock();
        let is_ours = state.leaderships.last().is_some_and(|last| last.term == self.number);
        state.resigned |= is_ours;
        Ok(())
    }
}

/// A store whose commits depend on a term.
struct Fenced {
    office: Office,
    world: SimWorld,
    inner: Arc<dyn Store>,
    number: u64,
}

impl Fenced {
    async fn reach(&self) -> Result<(), StoreError> {
        reach(&self.office, &self.world).await
    }
}

#[async_trait]
impl Store for Fenced {
    async fn get(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        self.reach().await?;
        self.inner.get(key).await
    }

    async fn list(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<Listing, StoreError> {
        self.reach().await?;
        self.inner.list(kind, namespace).await
    }

    async fn list_raw(&self, kind: Option<&str>, namespace: Option<&str>) -> Result<RawListing, StoreError> {
        self.reach().await?;
        self.inner.list_raw(kind, namespace).await
    }

    async fn changes(&self, after: Revision) -> Result<Option<RawChanges>, StoreError> {
        self.reach().await?;
        self.inner.changes(after).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Revision, StoreError> {
        self.reach().await?;
        let now = self.world.state().now;
        let leader = self.office.lock().leader(now).map(|leader| leader.term);
        if leader != Some(self.number) {
            self.world.state().note("* a commit of who no longer leads is refused");
            return Err(StoreError::Deposed);
        }
        self.inner.commit(transaction).await
    }

    async fn watch(&self, kind: Option<&str>, from: Revision) -> Result<Watch, StoreError> {
        self.reach().await?;
        self.inner.watch(kind, from).await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.reach().await?;
        self.inner.compact(before).await
    }
}
