//! Steps of one object, in order. All that can be done one after the other is Ready at once; the first that cannot
//! holds up the rest.

use ashlar_api::ObjectRef;

use crate::{Action, Block, Step, StepState, Wait};

/// Steps in the making.
pub(crate) struct Chain {
    object: ObjectRef,
    host: String,
    steps: Vec<Step>,
    hold: Option<StepState>,
}

impl Chain {
    pub(crate) fn new(object: ObjectRef, host: &str) -> Self {
        Chain { object, host: host.to_owned(), steps: Vec::new(), hold: None }
    }

    /// From here on nothing can be done; the first reason stays.
    pub(crate) fn hold(&mut self, state: StepState) {
        if self.hold.is_none() {
            self.hold = Some(state);
        }
    }

    /// Whether something holds already: what else would is not said.
    pub(crate) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    pub(crate) fn wait_for(&mut self, reason: &str, message: impl Into<String>) {
        self.hold(wait(reason, message));
    }

    /// Adds a step on the host.
    pub(crate) fn push(&mut self, action: Action, why: impl Into<String>) {
        let host = self.host.clone();
        self.add(Some(action), host, why.into());
    }

    /// Adds a step on another host.
    pub(crate) fn push_on(&mut self, host: &str, action: Action, why: impl Into<String>) {
        self.add(Some(action), host.to_owned(), why.into());
    }

    /// Adds a step in the store or at the cluster's API.
    pub(crate) fn push_elsewhere(&mut self, action: Action, why: impl Into<String>) {
        self.add(Some(action), String::new(), why.into());
    }

    /// Adds something to wait for, which holds up what comes after it.
    pub(crate) fn push_wait(&mut self, why: impl Into<String>, state: StepState) {
        self.hold(state);
        let host = self.host.clone();
        self.add(None, host, why.into());
    }

    fn add(&mut self, action: Option<Action>, host: String, why: String) {
        let state = match &self.hold {
            None => StepState::Ready,
            Some(hold) => {
                let state = hold.clone();
                // Said once; what comes after only waits for it.
                self.hold = Some(wait("EarlierStep", "comes after the step before it"));
                state
            }
        };
        self.steps.push(Step { object: self.object.clone(), host, action, state, why });
    }

    pub(crate) fn finish(self) -> Vec<Step> {
        self.steps
    }
}

pub(crate) fn wait(reason: &str, message: impl Into<String>) -> StepState {
    StepState::Waiting(Wait { reason: reason.to_owned(), message: message.into() })
}

pub(crate) fn block(reason: &str, message: impl Into<String>) -> StepState {
    StepState::Blocked(Block { reason: reason.to_owned(), message: message.into() })
}
