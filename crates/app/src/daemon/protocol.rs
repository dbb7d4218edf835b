//! What commands and the daemon say to each other: one request of JSON, then lines of JSON until the outcome.

use std::time::Duration;

use ashlar_api::NamespacedName;
use ashlar_engine::enrol::{EnrolError, Enrolled, NewHost};
use ashlar_engine::{EngineError, FailedNode, RunSummary, Wish};
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};
use crate::progress::Told;

/// Where requests go. The version changes when the messages do: another Ashlar is told apart by 404.
pub(super) const PATH: &str = "/v2/work";

/// What a command asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Work until a goal is met. What it needs was declared before.
    Wish(Wish),
    /// Enrol a host.
    AddHost(Box<NewHost>),
    /// Give a host up.
    RemoveHost(String),
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Line {
    /// Something happened.
    Told(Told),
    /// The goal is met. The last line.
    Done(Done),
    /// A host was enrolled. The last line.
    Enrolled(Box<Enrolled>),
    /// A host was given up. The last line.
    Removed,
    /// It failed. The last line.
    Failed(ErrorReport),
    /// This daemon does not lead, or not any more: ask the one that does. The last line.
    StandingBy,
}

impl Line {
    pub(super) fn is_standing_by(&self) -> bool {
        matches!(self, Line::StandingBy)
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Actions that ended well.
    pub(crate) actions: u32,
    /// Commits of decisions.
    pub(crate) commits: u32,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

impl Done {
    /// Whether nothing was changed at all.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.actions == 0 && self.commits == 0
    }
}

impl From<&RunSummary> for Done {
    fn from(summary: &RunSummary) -> Self {
        Done { actions: summary.actions, commits: summary.commits, elapsed: summary.elapsed }
    }
}

/// How the engine's work ended badly, as far as it is told to people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ErrorReport {
    kind: Kind,
    chain: Vec<String>,
    /// The machines that did not come up, where that is it.
    nodes: Vec<FailedNode>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Kind {
    Failure,
    Timeout,
    Internal,
}

impl ErrorReport {
    /// The machines that did not come up.
    pub(crate) fn failed_machines(&self) -> impl Iterator<Item = &NamespacedName> {
        self.nodes.iter().map(|node| &node.machine)
    }
}

impl From<EngineError> for ErrorReport {
    fn from(error: EngineError) -> Self {
        let kind = match &error {
            EngineError::Deadline { .. } => Kind::Timeout,
            EngineError::Plan(_) | EngineError::Violations { .. } => Kind::Internal,
            _ => Kind::Failure,
        };
        let nodes = match &error {
            EngineError::NodesFailed { nodes, .. } => nodes.clone(),
            _ => Vec::new(),
        };
        ErrorReport { kind, chain: Failure::from(error).chain, nodes }
    }
}

impl From<EnrolError> for ErrorReport {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Engine(error) => error.into(),
            error => {
                ErrorReport { kind: Kind::Failure, chain: Failure::from(error).chain, nodes: Vec::new() }
            }
        }
    }
}

impl From<ErrorReport> for Failure {
    fn from(report: ErrorReport) -> Self {
        let exit = match report.kind {
            Kind::Failure => Exit::Failure,
            Kind::Timeout => Exit::Timeout,
            Kind::Internal => Exit::Internal,
        };
        let mut failure = Failure { exit, chain: report.chain, hints: Vec::new() };
        for FailedNode { machine, phase, log_lines, .. } in &report.nodes {
            if !log_lines.is_empty() {
                let lines: Vec<String> = log_lines.iter().map(|line| format!("  | {line}")).collect();
                failure.chain.push(format!("last lines of {machine}, phase {phase}:\n{}", lines.join("\n")));
            }
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use ashlar_engine::BlockedStep;

    use super::*;

    #[test]
    fn every_failed_node_is_told_with_its_lines() {
        let node = |machine: &str, phase: &str, lines: &[&str]| FailedNode {
            machine: NamespacedName::new("default", machine),
            phase: phase.to_owned(),
            message: format!("why {machine} failed"),
            log_lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let nodes = vec![node("red-ctrl-1", "images", &["no such tag"]), node("blue-wkr-2", "endpoint", &[])];
        let block = BlockedStep {
            object: ashlar_api::ObjectRef::new(ashlar_api::Kind::WorkerGroup, "default", "big"),
            host: String::new(),
            reason: "Unschedulable".to_owned(),
            message: "no host has room for big-1".to_owned(),
        };
        let report = ErrorReport::from(EngineError::NodesFailed { nodes, blocks: vec![block] });
        let text = serde_json::to_string(&report).unwrap();
        let heard: ErrorReport = serde_json::from_str(&text).unwrap();
        assert_eq!(heard.failed_machines().count(), 2);
        let failure = Failure::from(heard);
        assert_eq!(failure.exit, Exit::Failure);
        let wanted = [
            "machine red-ctrl-1 did not come up (phase images): why red-ctrl-1 failed\n\
             machine blue-wkr-2 did not come up (phase endpoint): why blue-wkr-2 failed\n\
             no host has room for big-1",
            "last lines of red-ctrl-1, phase images:\n  | no such tag",
        ];
        assert_eq!(failure.chain, wanted);
    }
}
