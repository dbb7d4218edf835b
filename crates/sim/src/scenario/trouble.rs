//! Commands for what goes wrong beyond hosts that are up or down: with calls, clocks, processes, disks.

use std::time::Duration;

use jiff::SignedDuration;

use super::Hand;
use super::command::{Command, duration};
use crate::State;
use crate::fault::CallFault;

/// Something that goes wrong, or that a person does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trouble {
    Host {
        host: String,
        what: HostTrouble,
    },
    /// The clock of the machine that runs Ashlar is wrong by so many seconds.
    Clock(i64),
    /// A person at virsh, wherever the domain is.
    Virsh {
        verb: Verb,
        domain: String,
    },
    /// The disks of a machine are gone, and it is off.
    DisksDie(String),
    /// A call of the next run goes wrong.
    Call {
        number: u64,
        fault: CallFault,
    },
    /// The next run sleeps right before its effect of that number.
    Sleep {
        effect: u64,
        time: Duration,
    },
    /// Nothing is wrong any more, but for what cannot come back.
    Mend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostTrouble {
    Frozen,
    /// What was sent to it arrives now, in order or the last first.
    Thawed {
        reversed: bool,
    },
    Mute,
    Heard,
    /// libvirtd is started anew: connections break, domains go on.
    RestartsLibvirtd,
    Slow(u32),
    Clock(i64),
    /// The image files on it rot.
    Rots,
    /// Somebody flushes the packet filters.
    LosesFilters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Destroy,
    Start,
    Undefine,
    Rename,
    RenameBack,
    StripMark,
    /// Another domain of its name is there in its place, with its disk.
    Replace,
}

/// Reads one of these commands, if it is one.
pub(super) fn parse(words: &[&str]) -> Option<Result<Command, String>> {
    let host = |host: &str, what| Trouble::Host { host: host.to_owned(), what };
    let trouble = match words {
        ["after", time, command @ ..] => return Some(after(time, command)),
        ["seed", number] => return Some(super::command::count(number).map(Command::Seed)),
        ["poll", time] => return Some(duration(time).map(Command::Poll)),
        ["keep", "store"] => return Some(Ok(Command::KeepStore)),
        ["restore", "store"] => return Some(Ok(Command::RestoreStore)),
        ["host", name, "frozen"] => Ok(host(name, HostTrouble::Frozen)),
        ["host", name, "thawed"] => Ok(host(name, HostTrouble::Thawed { reversed: false })),
        ["host", name, "thawed", "reversed"] => Ok(host(name, HostTrouble::Thawed { reversed: true })),
        ["host", name, "mute"] => Ok(host(name, HostTrouble::Mute)),
        ["host", name, "heard"] => Ok(host(name, HostTrouble::Heard)),
        ["host", name, "restarts", "libvirtd"] => Ok(host(name, HostTrouble::RestartsLibvirtd)),
        ["host", name, "rots"] => Ok(host(name, HostTrouble::Rots)),
        ["host", name, "loses", "filters"] => Ok(host(name, HostTrouble::LosesFilters)),
        ["host", name, "slow", time] => seconds(time).map(|time| host(name, HostTrouble::Slow(time))),
        ["host", name, "clock", time] => error_s(time).map(|time| host(name, HostTrouble::Clock(time))),
        ["clock", time] => error_s(time).map(Trouble::Clock),
        ["virsh", "any", verb, domain] => {
            verb_of(verb).map(|verb| Trouble::Virsh { verb, domain: (*domain).to_owned() })
        }
        ["disks", "of", machine, "die"] => Ok(Trouble::DisksDie((*machine).to_owned())),
        ["call", number, fault @ ..] => call(number, fault),
        ["sleep", "at", "effect", number, "for", time] => super::command::count(number)
            .and_then(|effect| Ok(Trouble::Sleep { effect, time: duration(time)? })),
        ["mend"] => Ok(Trouble::Mend),
        _ => return None,
    };
    Some(trouble.map(Command::Trouble))
}

fn after(time: &str, command: &[&str]) -> Result<Command, String> {
    let text = command.join(" ");
    let command = super::command::parse(&text, None)?;
    if !super::hand::is_hand(&command) {
        return Err("only what people do by hand, and what fails, can come later".to_owned());
    }
    Ok(Command::After(duration(time)?, Box::new(Hand { command, text })))
}

fn seconds(text: &str) -> Result<u32, String> {
    u32::try_from(duration(text)?.as_secs()).map_err(|error| error.to_string())
}

/// `+1h`, `-90s`, `right`.
fn error_s(text: &str) -> Result<i64, String> {
    let bad = || format!("`{text}` is no error of a clock (`+1h`, `-90s`, `right`)");
    let (sign, time) = match text.split_at_checked(1) {
        _ if text == "right" => return Ok(0),
        Some(("+", time)) => (1, time),
        Some(("-", time)) => (-1, time),
        _ => return Err(bad()),
    };
    Ok(sign * i64::from(seconds(time)?))
}

fn verb_of(text: &str) -> Result<Verb, String> {
    match text {
        "destroy" => Ok(Verb::Destroy),
        "start" => Ok(Verb::Start),
        "undefine" => Ok(Verb::Undefine),
        "rename" => Ok(Verb::Rename),
        "rename-back" => Ok(Verb::RenameBack),
        "strip-mark" => Ok(Verb::StripMark),
        "replace" => Ok(Verb::Replace),
        other => Err(format!("`{other}` is nothing that is done by virsh here")),
    }
}

fn call(number: &str, words: &[&str]) -> Result<Trouble, String> {
    let fault = match words {
        ["lost"] => CallFault::Lost,
        ["cut"] => CallFault::Cut,
        ["unanswered"] => CallFault::Unanswered,
        ["failed"] => CallFault::Failed,
        ["twice"] => CallFault::Twice,
        ["damaged"] => CallFault::Damaged,
        ["slow", time] => CallFault::Slow(seconds(time)?),
        ["late", time] => CallFault::Late(seconds(time)?),
        _ => {
            return Err(
                "a call goes lost, cut, unanswered, failed, twice, damaged, slow T, late T".to_owned()
            );
        }
    };
    Ok(Trouble::Call { number: super::command::count(number)?, fault })
}

impl Trouble {
    /// It happens.
    pub(crate) fn happen(&self, state: &mut State) -> Result<(), String> {
        state.touched();
        match self {
            Trouble::Host { host, what } => on_host(state, host, *what),
            Trouble::Clock(seconds) => {
                state.clock_error = SignedDuration::from_secs(*seconds);
                Ok(())
            }
            Trouble::Virsh { verb, domain } => super::hands::virsh_anywhere(state, *verb, domain),
            Trouble::DisksDie(machine) => super::hands::disks_die(state, machine),
            Trouble::Call { number, fault } => {
                state.processes[0].faults.insert(*number, *fault);
                Ok(())
            }
            Trouble::Sleep { effect, time } => {
                let time = SignedDuration::try_from(*time).map_err(|error| error.to_string())?;
                state.processes[0].freeze = Some((*effect, time));
                Ok(())
            }
            Trouble::Mend => {
                mend(state);
                Ok(())
            }
        }
    }
}

fn on_host(state: &mut State, name: &str, what: HostTrouble) -> Result<(), String> {
    let host = state.hosts.get_mut(name).ok_or_else(|| format!("there is no host {name}"))?;
    match what {
        HostTrouble::Frozen => host.frozen = true,
        HostTrouble::Thawed { reversed } => {
            host.frozen = false;
            state.release_calls(name, reversed);
        }
        HostTrouble::Mute => host.mute = true,
        HostTrouble::Heard => host.mute = false,
        HostTrouble::RestartsLibvirtd => {
            host.daemon_starts += 1;
            host.hung = false;
        }
        HostTrouble::Slow(seconds) => host.slow_s = seconds,
        HostTrouble::Clock(seconds) => host.clock_error_s = seconds,
        HostTrouble::Rots => {
            let files = host.pools.values_mut().flat_map(|pool| pool.volumes.values_mut());
            files.for_each(|file| file.arrived.rot());
        }
        HostTrouble::LosesFilters => {
            for network in host.networks.values_mut() {
                network.intact = false;
            }
        }
    }
    Ok(())
}

fn mend(state: &mut State) {
    state.processes = Default::default();
    state.clock_error = SignedDuration::ZERO;
    state.failing_boots.clear();
    state.upload_faults.clear();
    state.hanging_boots.clear();
    state.planned.clear();
    let names: Vec<String> = state.hosts.keys().cloned().collect();
    for name in names {
        if let Some(host) = state.hosts.get_mut(&name) {
            (host.reachable, host.back_at) = (true, None);
            host.hung = false;
            host.frozen = false;
            host.mute = false;
            host.slow_s = 0;
            host.clock_error_s = 0;
            for pool in host.pools.values_mut() {
                pool.active = true;
                pool.hidden = false;
                pool.capacity_mib = pool.capacity_mib.max(2 << 20);
            }
        }
        state.release_calls(&name, false);
    }
    // What is still on its way arrives: nothing comes later any more.
    let now = state.now;
    for late in &mut state.late {
        late.at = Some(now);
    }
    state.deliver();
    super::hands::rename_all_back(state);
}
