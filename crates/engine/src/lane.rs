//! One lane: an object's steps, taken one after the other, and what becomes of those that fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ashlar_api::{EventType, MachineRole, ObjectRef};
use ashlar_plan::{Action, Block, Snapshot, Step, Wait, defragmentation};
use jiff::Timestamp;

use crate::{
    Engine, EngineError, EngineEvent,
    audit::Deed,
    effects::{EffectError, EffectErrorKind},
    exec::{Failure, Job, Networks},
    lanes::RunMemory,
};

/// How long after a pass its steps may be begun. What was seen may be otherwise by then, however the time went by (a long
/// upload, many lanes for one host, a process that was frozen): the next pass looks again.
const VIEW_LASTS: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// The same for what changes who votes in etcd, and for what turns hosts off.
const VOTES_LAST: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// A step that met a defragmentation of etcd is begun no sooner: the next passes see it in the store.
const DEFRAGMENTATION_REST: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// How long a guest gets to follow a request to shut down before it is asked again.
const SHUTDOWN_REST: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// How a lane ended.
pub(crate) struct LaneEnd {
    pub(crate) object: ObjectRef,
    /// Actions that ended well.
    pub(crate) actions: u32,
    pub(crate) result: Result<(), EngineError>,
}

/// What a lane's steps follow from.
pub(crate) struct LaneView {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) networks: Arc<Networks>,
    /// When the pass ended that saw it.
    pub(crate) seen_at: Timestamp,
    /// A later pass saw that what it builds is to go.
    pub(crate) recalled: Arc<AtomicBool>,
}

pub(crate) async fn run_lane(
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
    let is_urgent = is_about_votes(snapshot, step) || matches!(step.action, Some(Action::FenceHost { .. }));
    let lasts = if is_urgent { VOTES_LAST } else { VIEW_LASTS };
    if started.duration_since(view.seen_at).abs() > lasts {
        tracing::debug!(object = %step.object, "what was seen is too old to act on: looking again");
        return Ok(false);
    }
    let disturbed = defragmentation::disturbed_by(snapshot, step);
    let disruption = disturbed.as_ref().map(|cluster| engine.disruptions.step(cluster));
    if matches!(disruption, Some(None)) {
        let message = "a member of its cluster's etcd is about to be defragmented".to_owned();
        let wait = Wait { reason: "EtcdDefragmenting".to_owned(), message };
        memory.retries.rest(step, wait, started.checked_add(DEFRAGMENTATION_REST).unwrap_or(started));
        return Ok(false);
    }
    engine.sink.event(&EngineEvent::ActionStarted { step: step.clone() });
    if let Some(deed) = Deed::started(step, snapshot.now) {
        engine.audit.record(started, &deed)?;
    }
    let outcome = Job { engine, snapshot, networks: &view.networks, step }.run().await;
    drop(disruption);
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
            | Action::DestroyDomain { machine }
            | Action::MigrateDomain { machine },
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
        Some(Action::RedefineDomain { .. }) => "RedefinedDomain",
        Some(Action::StartDomain { .. }) => "StartedDomain",
        Some(Action::ShutdownDomain { .. }) => "AskedToShutDown",
        Some(Action::DestroyDomain { .. }) => "StoppedDomain",
        Some(Action::UndefineDomain { .. } | Action::UndefineLeft { .. }) => "RemovedDomain",
        Some(Action::MigrateDomain { .. }) => "MigratedDomain",
        Some(Action::ResumeDomain { .. }) => "ResumedDomain",
        Some(Action::DropArrival { .. }) => "RemovedDomain",
        Some(Action::EjectSeed { .. }) => "EjectedSeed",
        Some(Action::WipeVolume { .. }) => "WipedVolume",
        Some(Action::DeleteVolume { .. }) => "DeletedVolume",
        Some(Action::PublishJoinToken { .. }) => "PublishedJoinToken",
        Some(Action::ApproveServingCsr { .. }) => "ApprovedServingCertificate",
        Some(Action::DenyServingCsr { .. }) => "DeniedServingCertificate",
        Some(Action::RevokeJoinToken { .. } | Action::RevokeStrayToken { .. }) => "RevokedJoinToken",
        Some(Action::ApplyAddon { .. }) => "AppliedAddon",
        Some(Action::PromoteEtcdMember { .. }) => "PromotedEtcdMember",
        Some(Action::MoveEtcdLeader { .. }) => "MovedEtcdLeader",
        Some(Action::RemoveEtcdMember { .. }) => "RemovedEtcdMember",
        Some(Action::ConfigureNode { .. }) => "ConfiguredNode",
        Some(Action::CordonNode { .. }) => "CordonedNode",
        Some(Action::EvictPod { .. }) => "EvictedPod",
        Some(Action::TaintOutOfService { .. }) => "TaintedOutOfService",
        Some(Action::DeleteNode { .. }) => "DeletedNode",
        Some(Action::EnsureNetwork { .. }) => "AppliedNetwork",
        Some(Action::RemoveNetwork { .. }) => "RemovedNetwork",
        Some(Action::FenceHost { .. }) => "FencedHost",
    };
    reason.to_owned()
}
