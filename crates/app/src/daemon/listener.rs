//! Where the engine tells what it does: to logs, figures, health, and the commands that wait.

use std::time::Duration;

use ashlar_engine::{EngineError, EngineEvent, EventSink, PassReport, ServeObserver};

use super::health::Health;
use super::metrics::Metrics;
use super::telling::Tellings;

/// All that listens to the engine; it outlives each of them.
pub(super) struct Listener {
    pub(super) health: Health,
    pub(super) metrics: Metrics,
    pub(super) tellings: Tellings,
}

impl EventSink for Listener {
    fn event(&self, event: &EngineEvent) {
        log(event);
        self.metrics.event(event);
        self.tellings.tell(event);
    }
}

impl ServeObserver for Listener {
    fn pass(&self, report: &PassReport<'_>) {
        self.metrics.pass(report);
        if self.health.passed() {
            tracing::info!(elapsed_ms = millis(report.elapsed), "the first pass is over");
        }
        tracing::debug!(
            elapsed_ms = millis(report.elapsed),
            steps = report.plan.steps.len(),
            in_flight = report.in_flight,
            has_decided = report.has_decided,
            "pass"
        );
    }

    fn failed(&self, error: &EngineError, pause: Duration) {
        let text = chain(error);
        tracing::error!(error = text, again_in_s = pause.as_secs(), "a pass failed");
        self.metrics.pass_failed();
        self.health.failed(text);
    }
}

fn chain(error: &EngineError) -> String {
    let mut texts = vec![error.to_string()];
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    texts.dedup();
    texts.join(": ")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn log(event: &EngineEvent) {
    match event {
        EngineEvent::Committed { writes } => {
            for write in writes {
                tracing::info!(object = %write.object, verb = write.verb.word(), "decided");
            }
        }
        EngineEvent::ActionStarted { step } => {
            tracing::debug!(object = %step.object, host = step.host, why = step.why, "a step begins");
        }
        EngineEvent::ActionDone { step, elapsed } => {
            let elapsed_ms = millis(*elapsed);
            tracing::info!(object = %step.object, host = step.host, why = step.why, elapsed_ms, "done");
        }
        EngineEvent::ActionFailed { step, error, will_retry } => {
            tracing::warn!(object = %step.object, host = step.host, why = step.why, error, will_retry, "failed");
        }
        EngineEvent::Transferred(transfer) => {
            let (done_bytes, size_bytes) = (transfer.done_bytes, transfer.size_bytes);
            tracing::debug!(object = %transfer.volume, host = transfer.host, done_bytes, size_bytes, "sent");
        }
        EngineEvent::MachinePhase { machine, phase } => tracing::info!(%machine, phase, "phase"),
        EngineEvent::Waiting { object, reason, message } => {
            tracing::info!(%object, reason, message, "waiting");
        }
        EngineEvent::Blocked { object, reason, message } => {
            tracing::warn!(%object, reason, message, "blocked");
        }
        EngineEvent::HostUnreachable { host, reason } => tracing::warn!(host, reason, "host unreachable"),
        EngineEvent::HostReachable { host } => tracing::info!(host, "host answers again"),
        EngineEvent::Notice(note) => {
            tracing::info!(object = %note.object, reason = note.reason, message = note.message, "notice");
        }
    }
}
