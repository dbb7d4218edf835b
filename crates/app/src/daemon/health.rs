//! Whether the daemon lives, and whether it does its work.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::output::elapsed;

/// A pass asks hosts, consoles and clusters one after the other, each with a deadline of 20 s, and its calls to the store
/// are short: one that takes so long never ends.
const STALLED: Duration = Duration::from_secs(5 * 60);

/// What is known of the daemon's passes.
pub(super) struct Health {
    state: Mutex<State>,
}

struct State {
    /// When the loop came round last, well or not.
    moved: Instant,
    /// When a pass ended well last.
    passed: Option<Instant>,
    /// Why the last pass did not end well.
    error: Option<String>,
    /// Who leads, if it is another one.
    leader: Option<String>,
    is_stopping: bool,
}

/// An answer to a probe: whether it is well, and a sentence.
pub(super) type Verdict = Result<String, String>;

impl Health {
    pub(super) fn new() -> Self {
        let state =
            State { moved: Instant::now(), passed: None, error: None, leader: None, is_stopping: false };
        Health { state: Mutex::new(state) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pass ended well; says whether it is the first.
    pub(super) fn passed(&self) -> bool {
        let mut state = self.lock();
        let now = Instant::now();
        (state.moved, state.error) = (now, None);
        state.passed.replace(now).is_none()
    }

    /// A pass failed.
    pub(super) fn failed(&self, error: String) {
        let mut state = self.lock();
        (state.moved, state.error) = (Instant::now(), Some(error));
    }

    /// Another one leads: this one would take its place.
    pub(super) fn stands_by(&self, leader: String) {
        let mut state = self.lock();
        (state.moved, state.error, state.leader) = (Instant::now(), None, Some(leader));
    }

    /// This one leads; it has done nothing yet.
    pub(super) fn leads(&self) {
        let mut state = self.lock();
        (state.moved, state.error, state.leader, state.passed) = (Instant::now(), None, None, None);
    }

    /// It ends now.
    pub(super) fn stopping(&self) {
        self.lock().is_stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    /// `/healthz`: whether the process does anything at all. What does not is worth a restart.
    pub(super) fn lives(&self) -> Verdict {
        let state = self.lock();
        let moved = state.moved.elapsed();
        if let Some(leader) = state.leader.as_ref().filter(|_| moved < STALLED) {
            return Ok(format!("standing by: {leader} leads"));
        }
        let text = format!("the last pass ended {} ago", elapsed(moved));
        if moved < STALLED { Ok(text) } else { Err(text) }
    }

    /// `/readyz`: whether it keeps the world as the store says. A restart would help nothing where it does not.
    pub(super) fn is_ready(&self) -> Verdict {
        let state = self.lock();
        if state.is_stopping {
            return Err("it is being stopped".to_owned());
        }
        if let Some(error) = &state.error {
            let what = if state.leader.is_some() { "standing by" } else { "the last pass" };
            return Err(format!("{what} failed: {error}"));
        }
        if let Some(leader) = state.leader.as_ref().filter(|_| state.moved.elapsed() < STALLED) {
            return Ok(format!("standing by: {leader} leads"));
        }
        match state.passed.map(|passed| passed.elapsed()) {
            None => Err("no pass has ended yet".to_owned()),
            Some(ago) if ago >= STALLED => Err(format!("the last pass ended {} ago", elapsed(ago))),
            Some(ago) => Ok(format!("the last pass ended {} ago", elapsed(ago))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_that_the_last_pass_went_well() {
        let health = Health::new();
        assert!(health.lives().is_ok() && health.is_ready().is_err_and(|text| text.contains("no pass")));
        assert!(health.passed() && !health.passed());
        assert!(health.is_ready().is_ok());
        health.failed("the store is full".to_owned());
        assert!(health.is_ready().is_err_and(|text| text.contains("the store is full")));
        assert!(health.lives().is_ok(), "a restart would not help");
        health.passed();
        health.stopping();
        assert!(health.is_ready().is_err_and(|text| text.contains("being stopped")));
    }

    #[test]
    fn who_stands_by_is_ready_and_says_who_leads() {
        let health = Health::new();
        health.stands_by("daemon a".to_owned());
        assert_eq!(health.is_ready(), Ok("standing by: daemon a leads".to_owned()));
        health.failed("etcd does not answer".to_owned());
        assert!(health.is_ready().is_err_and(|text| text.contains("standing by failed: etcd")));
        health.leads();
        assert!(health.is_ready().is_err_and(|text| text.contains("no pass has ended yet")));
    }

    #[test]
    fn a_loop_that_does_not_come_round_is_neither_alive_nor_ready() {
        let health = Health::new();
        health.passed();
        let long_ago = Instant::now().checked_sub(STALLED);
        let mut state = health.lock();
        (state.moved, state.passed) = (long_ago.unwrap_or(state.moved), long_ago);
        drop(state);
        if long_ago.is_some() {
            assert!(health.lives().is_err() && health.is_ready().is_err());
        }
    }
}
