//! Scenarios: text files that say what there is, what people do, and what goes wrong. See the crate's README.

mod command;
mod daemons;
mod drift;
mod hand;
mod hands;
mod lie;
mod runner;
mod sickness;
mod trouble;

pub(crate) use command::{Command, MaintenanceVerb, WorkerWord};
pub(crate) use hand::halts;
pub(crate) use hand::{Hand, act};
pub(crate) use hands::{halt, lose_power};
pub(crate) use runner::object_named;
pub(crate) use sickness::{Sickness, workers};
pub(crate) use trouble::{Trouble, Verb};

use crate::SimulationError;

/// A command of a scenario with its place.
#[derive(Clone, Debug)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// As written, without what stands around it.
    pub text: String,
    /// What it means.
    pub(crate) command: Command,
}

/// Reads a scenario.
///
/// # Errors
/// The first line that is no command, by number.
pub fn parse(text: &str) -> Result<Vec<Line>, SimulationError> {
    let mut lines = Vec::new();
    let mut rest = text.lines().enumerate();
    while let Some((index, raw)) = rest.next() {
        let number = index + 1;
        let text = raw.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let at = |error: String| SimulationError(format!("line {number}: {error}"));
        let (head, document) = match text.strip_suffix("<<") {
            None => (text, None),
            Some(head) => {
                let mut document = String::new();
                loop {
                    match rest.next() {
                        Some((_, line)) if line.trim() == "end" => break,
                        Some((_, line)) => {
                            document.push_str(line);
                            document.push('\n');
                        }
                        None => return Err(at("`<<` without a line `end` after it".to_owned())),
                    }
                }
                (head.trim(), Some(document))
            }
        };
        let command = command::parse(head, document).map_err(at)?;
        lines.push(Line { number, text: head.to_owned(), command });
    }
    Ok(lines)
}

/// Runs a scenario and gives its transcript: each command after a `>`, then what came of it. The same scenario gives
/// the same transcript. An invariant that is violated ends the transcript with what the judges found.
///
/// # Errors
/// A line is no command, or an expectation did not hold.
pub fn run(text: &str) -> Result<String, Failed> {
    let lines = parse(text).map_err(|error| Failed { transcript: String::new(), error: error.0 })?;
    runner::run(&lines)
}

/// A scenario that did not go as it says.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{transcript}{error}")]
pub struct Failed {
    /// What happened until then.
    pub transcript: String,
    /// What did not hold, with the line.
    pub error: String,
}
