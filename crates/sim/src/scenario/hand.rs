//! Commands that only change the world's state, or one object in the store, and so may come at any moment of a run.

use super::command::{Command, Foreign, HostState};
use super::hands;
use crate::State;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Hand {
    pub(super) command: Command,
    /// As written.
    pub(super) text: String,
}

impl Hand {
    pub(crate) fn command(&self) -> &Command {
        &self.command
    }

    /// It happens; what has no object any more happens to nobody.
    pub(crate) fn happen(&self, state: &mut State) {
        match act(state, &self.command) {
            Some(Ok(())) => state.note(format!("* {}", self.text)),
            Some(Err(error)) => state.note(format!("* {}: {error}", self.text)),
            None => {}
        }
    }
}

/// A host is turned off in a moment.
pub(crate) fn halts(host: &str) -> Hand {
    let command = Command::HostIs { host: host.to_owned(), state: HostState::Halted };
    Hand { command, text: format!("host {host} halted") }
}

/// Whether it is one of them.
pub(super) fn is_hand(command: &Command) -> bool {
    matches!(
        command,
        Command::HostIs { .. }
            | Command::Pool { .. }
            | Command::Lose { .. }
            | Command::Virsh { .. }
            | Command::App { .. }
            | Command::FailBoot { .. }
            | Command::HangBoot(_)
            | Command::MendBoot(_)
            | Command::Trouble(_)
            | Command::Lie(_)
            | Command::ByHand(_)
            | Command::Foreign(Foreign::Address { .. })
            | Command::SetPaused { .. }
    )
}

/// Does it, if it is one of them.
pub(crate) fn act(state: &mut State, command: &Command) -> Option<Result<(), String>> {
    Some(match command {
        Command::HostIs { host, state: to } => hands::set_host(state, host, *to),
        Command::Pool { host, state: to } => hands::set_pool(state, host, *to),
        Command::Lose { host, word } => hands::lose(state, host, word),
        Command::Virsh { host, verb, domain } => hands::virsh(state, host, *verb, domain),
        Command::App { cluster, name, replicas, min_available, volumes } => {
            hands::run_app(state, cluster, name, *replicas, *min_available, *volumes)
        }
        Command::FailBoot { machine, phase, reason } => {
            state.failing_boots.insert(machine.clone(), (phase.clone(), reason.clone()));
            Ok(())
        }
        Command::HangBoot(machine) => {
            state.hanging_boots.insert(machine.clone());
            Ok(())
        }
        Command::MendBoot(machine) => {
            state.failing_boots.remove(machine);
            state.hanging_boots.remove(machine);
            state.touched();
            Ok(())
        }
        Command::Trouble(trouble) => trouble.happen(state),
        Command::Lie(lie) => lie.happen(state),
        Command::ByHand(edit) => edit.happen(state),
        Command::Foreign(foreign @ Foreign::Address { .. }) => hands::add_foreign(state, foreign, 0),
        Command::SetPaused { cluster, paused } => hands::set_paused(state, cluster, *paused),
        _ => return None,
    })
}
