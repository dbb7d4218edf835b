//! `serve by two`: two daemons on one store for a while, and what happens to each of them.

use super::command::{Command, count, duration, moment};
use super::trouble::call_fault;
use crate::daemons::NAMES;
use crate::{CrashPoint, DaemonFault, ServedByTwo, State};

/// Reads the command, if it is it: `serve by two for 8m, one killed at effect 40 after, two cut off at 2m for 60s`.
pub(super) fn parse(words: &[&str]) -> Option<Result<Command, String>> {
    let ["serve", "by", "two", "for", rest @ ..] = words else { return None };
    let text = rest.join(" ");
    let mut parts = text.split(',').map(str::trim);
    let time = duration(parts.next().unwrap_or_default());
    Some(time.and_then(|time| {
        let faults = parts.map(fault).collect::<Result<Vec<_>, String>>()?;
        Ok(Command::ServeByTwo { time, faults })
    }))
}

fn fault(text: &str) -> Result<(usize, DaemonFault), String> {
    let words: Vec<&str> = text.split(' ').collect();
    let (who, what) = words.split_first().ok_or("which daemon?")?;
    let process = NAMES.iter().position(|name| name == who);
    let process = process.ok_or_else(|| format!("there are daemons one and two, and none `{who}`"))?;
    let fault = match what {
        ["killed", "at", "effect", number, when @ ("before" | "after")] => {
            DaemonFault::Kill(CrashPoint { effect: count(number)?, moment: moment(when) })
        }
        ["asleep", "at", "effect", number, "for", lasts] => {
            DaemonFault::Sleep(count(number)?, duration(lasts)?)
        }
        ["cut", "off", "at", from, "for", lasts] => DaemonFault::Cut(duration(from)?, duration(lasts)?),
        ["call", number, fault @ ..] => DaemonFault::Call(count(number)?, call_fault(fault)?),
        _ => {
            return Err("a daemon is `killed at effect N before|after`, `asleep at effect N for T`, `cut off at T for T`, or \
                        `call N` of it goes wrong"
                .to_owned());
        }
    };
    Ok((process, fault))
}

/// Who led when, in a line.
pub(super) fn told(served: &ServedByTwo, state: &State) -> String {
    let begins = |led: &crate::Leadership| {
        let second = state.elapsed_s() - state.now.duration_since(led.from).as_secs();
        format!("daemon {} led from {second} s", NAMES[led.process])
    };
    let led: Vec<String> = served.led.iter().map(begins).collect();
    if led.is_empty() { "nobody led".to_owned() } else { led.join(", ") }
}
