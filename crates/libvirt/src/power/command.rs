//! A user's own command. Its exit codes are those of fence agents (ClusterLabs' FenceAgentAPI), so that those may stand there.

use ashlar_engine::effects::{EffectError, EffectErrorKind, PowerState};

use super::{Ask, Ended, Program, last_words, refused};

/// Exit codes.
const DONE: i32 = 0;
const STATUS_OFF: i32 = 2;

/// The command with what it is asked and for which host.
pub(super) fn program(
    command: &[String],
    ask: Ask,
    host: &str,
    address: &str,
) -> Result<Program, EffectError> {
    let Some(name) = command.first().filter(|name| name.starts_with('/')) else {
        return Err(refused("spec.fencing.command is not an absolute path"));
    };
    let action = match ask {
        Ask::Status => "status",
        Ask::Off => "off",
    };
    let fill = |argument: &String| {
        argument.replace("{action}", action).replace("{host}", host).replace("{address}", address).into()
    };
    let mut argv = vec![name.into()];
    argv.extend(command[1..].iter().map(fill));
    if !command.iter().skip(1).any(|argument| argument.contains("{action}")) {
        argv.push(action.into());
    }
    let env = vec![
        ("ASHLAR_FENCE_ACTION", action.to_owned()),
        ("ASHLAR_FENCE_HOST", host.to_owned()),
        ("ASHLAR_FENCE_ADDRESS", address.to_owned()),
    ];
    Ok(Program { argv, env, missing: "spec.fencing.command of the host names it".to_owned() })
}

/// What its end means.
pub(super) fn judge(ask: Ask, ended: &Ended) -> Result<PowerState, EffectError> {
    let failed = |what: String| {
        let message = format!("it ended {what}: {}", last_words(ended));
        Err(EffectError::new(EffectErrorKind::Busy, message))
    };
    match (ask, ended.exit) {
        (Ask::Status, Some(DONE)) => Ok(PowerState::On),
        (Ask::Status, Some(STATUS_OFF)) | (Ask::Off, Some(DONE)) => Ok(PowerState::Off),
        (_, Some(126 | 127)) => Err(refused(format!("it cannot be run: {}", last_words(ended)))),
        (Ask::Status, Some(code)) => {
            failed(format!("with exit code {code}, which is neither on (0) nor off (2)"))
        }
        (Ask::Off, Some(code)) => failed(format!("with exit code {code}, and not with 0")),
        (_, None) => failed("by a signal".to_owned()),
    }
}
