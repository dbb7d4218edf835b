//! Steps under way: one lane for each object, in which its steps are taken one after the other.
//!
//! Lanes go on while the next passes observe and plan, so that a long upload to one host delays nobody else. An object
//! whose lane is busy gets no second one.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ashlar_api::{EventType, MachineRole, ObjectRef};
use ashlar_plan::{Action, Block, Plan, Snapshot, Step, StepState, Wait, network};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::{
    Engine, EngineError, EngineEvent,
    audit::Deed,
    effects::{EffectError, EffectErrorKind},
    exec::{Failure, Job, Networks},
    history::Told,
    retry::Retries,
};

/// How long after a pass its steps may be begun. What was seen may be otherwise by then, however the time went by (a long
/// upload, many lanes for one host, a process that was frozen): the next pass looks again.
const VIEW_LASTS: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// The same for what changes who votes in etcd.
const VOTES_LAST: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// Who waits for the end of one step never waits longer for those of others.
const GATHER_AT_MOST: Duration = Duration::from_secs(2);

/// How long a guest gets to follow a request to shut down before it is asked again.
const SHUTDOWN_REST: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// Bounds the calls on each host. The semaphore needs no runtime and serves in order of arrival.
#[derive(Default)]
pub(crate) struct HostLimits {
    hosts: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl HostLimits {
    pub(crate) fn of(&self, host: &str, limit: usize) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(limit.max(1)))).clone()
    }
}

/// What one run remembers.
#[derive(Default)]
pub(crate) struct RunMemory {
    pub(crate) retries: Retries,
    pub(crate) told: Told,
    /// No step is begun any more.
    pub(crate) stopping: AtomicBool,
}

/// How a lane ended.
struct LaneEnd {
    object: ObjectRef,
    actions: u32,
    result: Result<(), EngineError>,
}

/// A lane under way, seen from outside.
struct Busy {
    /// What its steps are for was to stay when it began.
    builds: bool,
    /// It takes no further step.
    recalled: Arc<AtomicBool>,
}

/// The lanes of a run.
pub(crate) struct Lanes<'a> {
    engine: &'a Engine,
    memory: &'a RunMemory,
    running: FuturesUnordered<BoxFuture<'a, LaneEnd>>,
    busy: BTreeMap<ObjectRef, Busy>,
    /// Actions that ended well.
    pub(crate) actions: u32,
    /// Objects whose lanes ended since the pass began: what it saw of them may be older than what the lane did.
    ended: BTreeSet<ObjectRef>,
    failed: Option<EngineError>,
    /// What the last pass took.
    pub(crate) looked_for: Duration,
}

impl<'a> Lanes<'a> {
    pub(crate) fn new(engine: &'a Engine, memory: &'a RunMemory) -> Self {
        Lanes {
            engine,
            memory,
            running: FuturesUnordered::new(),
            busy: BTreeMap::new(),
            actions: 0,
            ended: BTreeSet::new(),
            failed: None,
            looked_for: Duration::ZERO,
        }
    }

    /// A new pass looks at the world from now on.
    pub(crate) fn begin_pass(&mut self) {
        self.ended.clear();
    }

    /// Whether a lane of the object is under way, or ended after the pass began to look: what the pass knows about it
    /// may be out of date.
    pub(crate) fn is_touched(&self, object: &ObjectRef) -> bool {
        self.busy.contains_key(object) || self.ended.contains(object)
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether nothing is under way for the objects asked about.
    pub(crate) fn is_idle_for(&self, is_meant: impl Fn(&ObjectRef) -> bool) -> bool {
        !self.busy.keys().any(is_meant)
    }

    /// Lanes under way.
    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// Lanes that build something whose deletion was recorded meanwhile take no further step: an upload of minutes is
    /// not followed by a domain that nobody wants any more.
    pub(crate) fn recall(&self, snapshot: &Snapshot) {
        for (object, lane) in &self.busy {
            if lane.builds && snapshot.machine_goes(object) {
                lane.recalled.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Begins what is Ready, in the plan's order, for objects that no lane touched since the pass began.
    pub(crate) fn start(&mut self, snapshot: &Arc<Snapshot>, plan: &Plan) {
        let mut lanes: Vec<(ObjectRef, Vec<Step>)> = Vec::new();
        let mut places: BTreeMap<&ObjectRef, usize> = BTreeMap::new();
        for step in &plan.steps {
            let is_ready = step.state == StepState::Ready && step.action.is_some();
            if !is_ready || self.is_touched(&step.object) {
                continue;
            }
            match places.get(&step.object) {
                Some(place) => lanes[*place].1.push(step.clone()),
                None => {
                    places.insert(&step.object, lanes.len());
                    lanes.push((step.object.clone(), vec![step.clone()]));
                }
            }
        }
        let seen_at = self.engine.world.clock.now();
        let networks = Arc::new(networks_of(snapshot, lanes.iter().flat_map(|(_, steps)| steps)));
        for (object, steps) in lanes {
            let recalled = Arc::new(AtomicBool::new(false));
            let builds = !snapshot.machine_goes(&object);
            self.busy.insert(object.clone(), Busy { builds, recalled: Arc::clone(&recalled) });
            let view =
                LaneView { snapshot: snapshot.clone(), networks: Arc::clone(&networks), seen_at, recalled };
            let lane = run_lane(self.engine, self.memory, view, object, steps);
            self.running.push(lane.boxed());
        }
    }

    /// Does something while the lanes go on.
    pub(crate) async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, EngineError> {
        let mut work = pin!(work);
        loop {
            if self.running.is_empty() {
                return Ok(work.await);
            }
            match select(work.as_mut(), self.running.next()).await {
                Either::Left((done, _)) => return Ok(done),
                Either::Right((end, _)) => self.note(end)?,
            }
        }
    }

    /// Waits until a lane ends, or the given future does.
    pub(crate) async fn wait(&mut self, other: impl Future<Output = ()>) -> Result<(), EngineError> {
        if self.ended.is_empty() {
            if self.running.is_empty() {
                other.await;
                return Ok(());
            }
            match select(self.running.next(), pin!(other)).await {
                Either::Left((end, _)) => self.note(end)?,
                Either::Right(((), _)) => return Ok(()),
            }
        }
        self.gather().await
    }

    /// What ends at about the same time is looked at together: a pass over a large pool costs more than a moment. Where
    /// hosts take long to be looked at, they get twice that time for what they are to do: a host with a hundred VMs would
    /// else be asked about them all the time.
    async fn gather(&mut self) -> Result<(), EngineError> {
        let least = self.engine.settings.gather;
        if least.is_zero() {
            return Ok(());
        }
        let moment = least.max((self.looked_for * 2).min(GATHER_AT_MOST));
        let mut over = pin!(self.engine.world.clock.sleep(moment));
        while !self.running.is_empty() {
            match select(self.running.next(), over.as_mut()).await {
                Either::Left((end, _)) => self.note(end)?,
                Either::Right(((), _)) => break,
            }
        }
        Ok(())
    }

    /// Waits until all lanes have ended, or the given future has. How they end matters no more.
    pub(crate) async fn drain(&mut self, other: impl Future<Output = ()>) {
        let mut other = pin!(other);
        while !self.running.is_empty() {
            match select(self.running.next(), other.as_mut()).await {
                Either::Left((end, _)) => drop(self.note(end)),
                Either::Right(((), _)) => return,
            }
        }
    }

    fn note(&mut self, end: Option<LaneEnd>) -> Result<(), EngineError> {
        if let Some(end) = end {
            self.busy.remove(&end.object);
            self.actions += end.actions;
            self.ended.insert(end.object);
            if let Err(error) = end.result {
                self.failed.get_or_insert(error);
            }
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// What the steps make of networks on hosts.
fn networks_of<'s>(snapshot: &Snapshot, steps: impl Iterator<Item = &'s Step>) -> Networks {
    let mut networks = Networks::new();
    let mut committed = None;
    for step in steps {
        if let Some(Action::EnsureNetwork { network, host }) = &step.action {
            let committed = committed.get_or_insert_with(|| network::committed(snapshot));
            networks.insert((network.clone(), host.clone()), committed.desired(network, host));
        }
    }
    networks
}

/// What a lane's steps follow from.
struct LaneView {
    snapshot: Arc<Snapshot>,
    networks: Arc<Networks>,
    /// When the pass ended that saw it.
    seen_at: Timestamp,
    /// A later pass saw that what it builds is to go.
    recalled: Arc<AtomicBool>,
}

async fn run_lane(
    engine: &Engine,
    memory: &RunMemory,
    view: LaneView,
    object: ObjectRef,
    steps: Vec<Step>,
) -> LaneEnd {
    let mut actions = 0;
    for step in &steps {
        if memory.stopping.load(Ordering::Relaxed) || view.recalled.load(Ordering::Relaxed) {
            break;
        }
        match take_step(engine, memory, &view, step).await {
            Ok(true) => actions += 1,
            // What comes after depends on it.
            Ok(false) => break,
            Err(error) => return LaneEnd { object, actions, result: Err(error) },
        }
    }
    LaneEnd { object, actions, result: Ok(()) }
}

/// Takes one step; says whether the next one may follow.
async fn take_step(
    engine: &Engine,
    memory: &RunMemory,
    view: &LaneView,
    step: &Step,
) -> Result<bool, EngineError> {
    let snapshot = view.snapshot.as_ref();
    // Before the host's: who waits for the link must not keep others from the host.
    let _upload = engine.uploads.turn(snapshot, step).await;
    let limit = engine.host_limits.of(&step.host, engine.settings.calls_per_host);
    // Only a closed semaphore gives none, and nobody closes it.
    let _permit = if step.host.is_empty() { None } else { limit.acquire().await.ok() };
    let clock = engine.world.clock.as_ref();
    let started = clock.now();
    let lasts = if is_about_votes(snapshot, step) { VOTES_LAST } else { VIEW_LASTS };
    if started.duration_since(view.seen_at).abs() > lasts {
        tracing::debug!(object = %step.object, "what was seen is too old to act on: looking again");
        return Ok(false);
    }
    engine.sink.event(&EngineEvent::ActionStarted { step: step.clone() });
    if let Some(deed) = Deed::started(step, snapshot.now) {
        engine.audit.record(started, &deed)?;
    }
    let outcome = Job { engine, snapshot, networks: &view.networks, step }.run().await;
    let now = clock.now();
    if let Some(deed) = Deed::ended(step, outcome.as_ref().err().map(Failure::told)) {
        engine.audit.record(now, &deed)?;
    }
    let Err(failure) = outcome else {
        let elapsed = now.duration_since(started).unsigned_abs();
        engine.sink.event(&EngineEvent::ActionDone { step: step.clone(), elapsed });
        memory.retries.succeeded(step, now, &engine.settings);
        if matches!(step.action, Some(Action::ShutdownDomain { .. })) {
            let wait =
                Wait { reason: "ShuttingDown".to_owned(), message: "the guest is shutting down".to_owned() };
            memory.retries.rest(step, wait, now.checked_add(SHUTDOWN_REST).unwrap_or(now));
        }
        engine
            .record_event(&memory.told, &step.object, EventType::Normal, &done_reason(step), &step.why)
            .await;
        return Ok(true);
    };
    let (reason, message, will_retry) = match settle(failure)? {
        Failure::NotNow(message) => {
            let will_retry = memory.retries.failed(step, &message, now, &engine.settings);
            ("NotNow".to_owned(), message, will_retry)
        }
        Failure::Blocked { reason, message } => {
            let block = Block { reason: reason.to_owned(), message: message.clone() };
            memory.retries.blocked(step, block, now);
            (reason.to_owned(), message, false)
        }
        Failure::Effect(error) => note_effect_error(engine, memory, step, error),
        Failure::Engine(error) => return Err(error),
    };
    tracing::debug!(object = %step.object, reason, message, will_retry, "a step failed");
    engine.sink.event(&EngineEvent::ActionFailed { step: step.clone(), error: message.clone(), will_retry });
    if reason != "NotNow" {
        engine.record_event(&memory.told, &step.object, EventType::Warning, &reason, &message).await;
    }
    Ok(false)
}

/// Whether a step changes who votes in an etcd: a control plane that starts or goes, or a member.
fn is_about_votes(snapshot: &Snapshot, step: &Step) -> bool {
    match &step.action {
        Some(
            Action::StartDomain { machine }
            | Action::ShutdownDomain { machine }
            | Action::DestroyDomain { machine },
        ) => snapshot
            .machines
            .get(machine)
            .is_some_and(|machine| machine.spec.role == MachineRole::ControlPlane),
        Some(
            Action::PromoteEtcdMember { .. }
            | Action::RemoveEtcdMember { .. }
            | Action::MoveEtcdLeader { .. },
        ) => true,
        _ => false,
    }
}

/// Failures of the engine that concern this step alone: a secret that cannot be opened stops one cluster, not all.
fn settle(failure: Failure) -> Result<Failure, EngineError> {
    match failure {
        Failure::Engine(error @ (EngineError::Vault(_) | EngineError::Pki(_))) => {
            Ok(Failure::Blocked { reason: "SecretUnusable", message: crate::error::chain(&error) })
        }
        Failure::Engine(error @ (EngineError::Contended | EngineError::NoSuchObject(_))) => {
            Ok(Failure::NotNow(error.to_string()))
        }
        Failure::Engine(error) => Err(error),
        other => Ok(other),
    }
}

/// What a failed call means for the run: reason, message, and whether it is tried again by itself.
fn note_effect_error(
    engine: &Engine,
    memory: &RunMemory,
    step: &Step,
    error: EffectError,
) -> (String, String, bool) {
    let now = engine.world.clock.now();
    let EffectError { kind, message } = error;
    let reason = match kind {
        EffectErrorKind::Unreachable => "Unreachable",
        EffectErrorKind::Busy => "Busy",
        EffectErrorKind::NotFound => "NotFound",
        EffectErrorKind::AlreadyExists => "AlreadyExists",
        EffectErrorKind::Exhausted => "Exhausted",
        EffectErrorKind::Refused => "Refused",
        EffectErrorKind::Corrupt => "Corrupt",
        EffectErrorKind::Fenced => "Fenced",
        EffectErrorKind::NotOurs => "NotOurs",
    }
    .to_owned();
    let block = || Block { reason: reason.clone(), message: message.clone() };
    let will_retry = match kind {
        // What was looked at changed in between: the next pass sees how.
        EffectErrorKind::Unreachable
        | EffectErrorKind::Busy
        | EffectErrorKind::NotFound
        | EffectErrorKind::AlreadyExists => memory.retries.failed(step, &message, now, &engine.settings),
        EffectErrorKind::Exhausted | EffectErrorKind::Refused | EffectErrorKind::Corrupt => {
            memory.retries.blocked(step, block(), now);
            false
        }
        EffectErrorKind::Fenced | EffectErrorKind::NotOurs => {
            memory.retries.stop_host(&step.host, block(), now);
            false
        }
    };
    (reason, message, will_retry)
}

/// The reason of the event that tells of a success, one CamelCase word in the past tense.
fn done_reason(step: &Step) -> String {
    let reason = match step.action {
        None => "Done",
        Some(Action::CreateClusterPki { .. }) => "CreatedClusterPki",
        Some(Action::CreateJoinToken { .. }) => "CreatedJoinToken",
        Some(Action::CreateSshHostKey { .. }) => "CreatedSshHostKey",
        Some(Action::CreateVolume { .. }) => "CreatedVolume",
        Some(Action::FillVolume { .. }) => "FilledVolume",
        Some(Action::VerifyVolume { .. }) => "VerifiedVolume",
        Some(Action::DefineDomain { .. }) => "DefinedDomain",
        Some(Action::StartDomain { .. }) => "StartedDomain",
        Some(Action::ShutdownDomain { .. }) => "AskedToShutDown",
        Some(Action::DestroyDomain { .. }) => "StoppedDomain",
        Some(Action::UndefineDomain { .. } | Action::UndefineLeft { .. }) => "RemovedDomain",
        Some(Action::EjectSeed { .. }) => "EjectedSeed",
        Some(Action::WipeVolume { .. }) => "WipedVolume",
        Some(Action::DeleteVolume { .. }) => "DeletedVolume",
        Some(Action::PublishJoinToken { .. }) => "PublishedJoinToken",
        Some(Action::RevokeJoinToken { .. } | Action::RevokeStrayToken { .. }) => "RevokedJoinToken",
        Some(Action::ApplyAddon { .. }) => "AppliedAddon",
        Some(Action::PromoteEtcdMember { .. }) => "PromotedEtcdMember",
        Some(Action::MoveEtcdLeader { .. }) => "MovedEtcdLeader",
        Some(Action::RemoveEtcdMember { .. }) => "RemovedEtcdMember",
        Some(Action::ConfigureNode { .. }) => "ConfiguredNode",
        Some(Action::CordonNode { .. }) => "CordonedNode",
        Some(Action::EvictPod { .. }) => "EvictedPod",
        Some(Action::DeleteNode { .. }) => "DeletedNode",
        Some(Action::EnsureNetwork { .. }) => "AppliedNetwork",
        Some(Action::RemoveNetwork { .. }) => "RemovedNetwork",
    };
    reason.to_owned()
}
