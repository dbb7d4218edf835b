//! Commands for what goes wrong beyond hosts that are up or down: with calls, clocks, processes, disks.

use std::time::Duration;

use jiff::SignedDuration;

use super::Hand;
use super::command::{Command, duration};
use super::sickness::Sickness;
use crate::api_use::ApiAsked;
use crate::fault::CallFault;
use crate::serving::Asking;
use crate::{BmcMood, SimBmc, State};

/// Something that goes wrong, or that a person does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trouble {
    Host {
        host: String,
        what: HostTrouble,
    },
    /// A host's BMC behaves so from now on.
    Bmc {
        host: String,
        mood: BmcMood,
    },
    /// What answers in the place of a host's BMC is another host's, or its own again.
    BmcIsOf {
        host: String,
        other: String,
    },
    /// Between two hosts packets get lost, both ways or one way only, or no longer.
    Link {
        from: String,
        to: String,
        cut: bool,
        one_way: bool,
    },
    /// Between a host and all others.
    LinksOf {
        host: String,
        cut: bool,
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
    /// From now on kubelets ask for the certificates that they serve with.
    KubeletsAsk,
    /// A kubelet asks, or somebody as if he were one.
    KubeletAsks {
        machine: String,
        asking: Asking,
    },
    ApiAsked(ApiAsked),
    /// What a cluster is made of falls ill.
    Sickness(Sickness),
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
    /// So many moves from now on end without their source hearing that all has arrived.
    UnheardMoves(u32),
    /// So many, and their targets fall silent for so long.
    SilencingMoves(u32, Duration),
    /// So many leave their definition at the source.
    KeepingMoves(u32),
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
    DiskSlow(u32),
    /// Overwriting a disk takes so long there.
    OverwritesIn(u32),
    Clock(i64),
    /// The image files on it rot.
    Rots,
    /// Somebody flushes the packet filters.
    LosesFilters,
    /// Its QEMU takes no guest that comes from another host, or does again.
    TakesGuests(bool),
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
    /// Somebody else's domain is defined with its disk.
    TakeDisk,
}

/// Reads one of these commands, if it is one.
pub(super) fn parse(words: &[&str]) -> Option<Result<Command, String>> {
    if let Some(sickness) = super::sickness::parse(words) {
        return Some(sickness.map(|sickness| Command::Trouble(Trouble::Sickness(sickness))));
    }
    let host = |host: &str, what| Trouble::Host { host: host.to_owned(), what };
    let trouble = match words {
        ["after", time, command @ ..] => return Some(after(time, command)),
        ["seed", number] => return Some(super::command::count(number).map(Command::Seed)),
        ["poll", time] => return Some(duration(time).map(Command::Poll)),
        ["gather", time] => return Some(duration(time).map(Command::Gather)),
        ["keep", "store"] => return Some(Ok(Command::KeepStore)),
        ["restore", "store"] => return Some(Ok(Command::RestoreStore)),
        ["host", name, "frozen"] => Ok(host(name, HostTrouble::Frozen)),
        ["host", name, "thawed"] => Ok(host(name, HostTrouble::Thawed { reversed: false })),
        ["host", name, "thawed", "reversed"] => Ok(host(name, HostTrouble::Thawed { reversed: true })),
        ["host", name, "mute"] => Ok(host(name, HostTrouble::Mute)),
        ["host", name, "heard"] => Ok(host(name, HostTrouble::Heard)),
        ["host", name, "restarts", "libvirtd"] => Ok(host(name, HostTrouble::RestartsLibvirtd)),
        ["host", name, "rots"] => Ok(host(name, HostTrouble::Rots)),
        ["host", name, "takes", "no", "guests"] => Ok(host(name, HostTrouble::TakesGuests(false))),
        ["host", name, "takes", "guests"] => Ok(host(name, HostTrouble::TakesGuests(true))),
        ["host", name, "loses", "filters"] => Ok(host(name, HostTrouble::LosesFilters)),
        ["host", name, "slow", time] => seconds(time).map(|time| host(name, HostTrouble::Slow(time))),
        ["host", name, "disk", "slow", time] => {
            seconds(time).map(|time| host(name, HostTrouble::DiskSlow(time)))
        }
        ["host", name, "overwrites", "in", time] => {
            seconds(time).map(|time| host(name, HostTrouble::OverwritesIn(time)))
        }
        ["bmc", "of", name, "is", other] => match other.strip_suffix("'s") {
            Some(other) => Ok(Trouble::BmcIsOf { host: (*name).to_owned(), other: other.to_owned() }),
            None => Err(format!("whose BMC is it? `bmc of {name} is OTHER's`")),
        },
        ["bmc", "of", name, mood @ ..] => {
            bmc_mood(mood).map(|mood| Trouble::Bmc { host: (*name).to_owned(), mood })
        }
        ["link", from, to, what] => link(from, to, what, false),
        ["link", from, "to", to, what] => link(from, to, what, true),
        ["links", "of", host, what] => {
            is_cut(what).map(|cut| Trouble::LinksOf { host: (*host).to_owned(), cut })
        }
        ["host", name, "clock", time] => error_s(time).map(|time| host(name, HostTrouble::Clock(time))),
        ["clock", time] => error_s(time).map(Trouble::Clock),
        ["virsh", "any", verb, domain] => {
            verb_of(verb).map(|verb| Trouble::Virsh { verb, domain: (*domain).to_owned() })
        }
        ["disks", "of", machine, "die"] => Ok(Trouble::DisksDie((*machine).to_owned())),
        ["kubelets", "ask", "for", "certificates"] => Ok(Trouble::KubeletsAsk),
        ["kubelet", "of", machine, "asks", how @ ..] => {
            Asking::parse(how).map(|asking| Trouble::KubeletAsks { machine: (*machine).to_owned(), asking })
        }
        ["api", "of", node, "was", "asked", "for", api @ ..] => {
            ApiAsked::parse(node, api).map(Trouble::ApiAsked)
        }
        ["call", number, fault @ ..] => call(number, fault),
        ["sleep", "at", "effect", number, "for", time] => super::command::count(number)
            .and_then(|effect| Ok(Trouble::Sleep { effect, time: duration(time)? })),
        ["next", number, "moves", "end", "unheard"] => moves(number).map(Trouble::UnheardMoves),
        ["next", number, "moves", "silence", "their", "targets", "for", time] => {
            moves(number).and_then(|number| Ok(Trouble::SilencingMoves(number, duration(time)?)))
        }
        ["next", number, "moves", "leave", "their", "definition"] => moves(number).map(Trouble::KeepingMoves),
        ["mend"] => Ok(Trouble::Mend),
        _ => return None,
    };
    Some(trouble.map(Command::Trouble))
}

fn moves(number: &str) -> Result<u32, String> {
    number.parse().map_err(|error| format!("`{number}` is no number: {error}"))
}

fn after(time: &str, command: &[&str]) -> Result<Command, String> {
    let text = command.join(" ");
    let command = super::command::parse(&text, None)?;
    if !super::hand::is_hand(&command) {
        return Err("only what people do by hand, and what fails, can come later".to_owned());
    }
    Ok(Command::After(duration(time)?, Box::new(Hand { command, text })))
}

fn bmc_mood(words: &[&str]) -> Result<BmcMood, String> {
    Ok(match words {
        ["answers"] => BmcMood::Answers,
        ["silent"] => BmcMood::Silent,
        ["refuses"] => BmcMood::Refuses,
        ["slow", time] => BmcMood::Slow(seconds(time)?),
        ["lies"] => BmcMood::Lies,
        ["idle"] => BmcMood::Idle,
        _ => return Err("a BMC answers, is silent, refuses, is slow T, lies, or is idle".to_owned()),
    })
}

/// `cut` or `whole`.
fn is_cut(what: &str) -> Result<bool, String> {
    match what {
        "cut" => Ok(true),
        "whole" => Ok(false),
        other => Err(format!("a link is cut or whole, and not `{other}`")),
    }
}

fn link(from: &str, to: &str, what: &str, one_way: bool) -> Result<Trouble, String> {
    Ok(Trouble::Link { from: from.to_owned(), to: to.to_owned(), cut: is_cut(what)?, one_way })
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
        "take-disk" => Ok(Verb::TakeDisk),
        other => Err(format!("`{other}` is nothing that is done by virsh here")),
    }
}

fn call(number: &str, words: &[&str]) -> Result<Trouble, String> {
    Ok(Trouble::Call { number: super::command::count(number)?, fault: call_fault(words)? })
}

pub(super) fn call_fault(words: &[&str]) -> Result<CallFault, String> {
    Ok(match words {
        ["lost"] => CallFault::Lost,
        ["cut"] => CallFault::Cut,
        ["unanswered"] => CallFault::Unanswered,
        ["failed"] => CallFault::Failed,
        ["twice"] => CallFault::Twice,
        ["damaged"] => CallFault::Damaged,
        ["slow", time] => CallFault::Slow(seconds(time)?),
        ["late", time] => CallFault::Late(seconds(time)?),
        ["answered", "late", time] => CallFault::AnsweredLate(seconds(time)?),
        _ => {
            return Err(
                "a call goes lost, cut, unanswered, failed, twice, damaged, slow T, late T, answered late T"
                    .to_owned(),
            );
        }
    })
}

impl Trouble {
    /// It happens.
    pub(crate) fn happen(&self, state: &mut State) -> Result<(), String> {
        state.touched();
        match self {
            Trouble::Host { host, what } => on_host(state, host, *what),
            Trouble::Bmc { host, mood } => {
                let seen = state.hosts.get_mut(host).ok_or_else(|| format!("there is no host {host}"))?;
                seen.bmc.mood = *mood;
                Ok(())
            }
            Trouble::BmcIsOf { host, other } => {
                super::hands::has_host(state, other)?;
                let seen = state.hosts.get_mut(host).ok_or_else(|| format!("there is no host {host}"))?;
                (seen.bmc.is_of, seen.bmc.cut_another) =
                    (Some(other.clone()).filter(|other| other != host), 0);
                Ok(())
            }
            Trouble::Link { from, to, cut, one_way } => {
                super::hands::has_host(state, from)?;
                super::hands::has_host(state, to)?;
                state.set_link(from, to, *cut, *one_way);
                Ok(())
            }
            Trouble::LinksOf { host, cut } => {
                super::hands::has_host(state, host)?;
                state.set_links_of(host, *cut);
                Ok(())
            }
            Trouble::Clock(seconds) => {
                state.set_clock_error(SignedDuration::from_secs(*seconds));
                Ok(())
            }
            Trouble::Virsh { verb, domain } => super::hands::virsh_anywhere(state, *verb, domain),
            Trouble::DisksDie(machine) => super::hands::disks_die(state, machine),
            Trouble::KubeletsAsk => {
                state.kubelets_ask = true;
                Ok(())
            }
            Trouble::KubeletAsks { machine, asking } => {
                state.kubelet_asks(machine, *asking);
                Ok(())
            }
            Trouble::ApiAsked(asked) => asked.happen(state),
            Trouble::Sickness(sickness) => {
                sickness.happen(state);
                Ok(())
            }
            Trouble::Call { number, fault } => {
                state.processes[0].faults.insert(*number, *fault);
                Ok(())
            }
            Trouble::Sleep { effect, time } => {
                let time = SignedDuration::try_from(*time).map_err(|error| error.to_string())?;
                state.processes[0].freeze = Some((*effect, time));
                Ok(())
            }
            Trouble::UnheardMoves(number) => {
                state.unheard_moves = *number;
                Ok(())
            }
            Trouble::SilencingMoves(number, time) => {
                state.silencing_moves = (*number > 0).then_some((*number, *time));
                Ok(())
            }
            Trouble::KeepingMoves(number) => {
                state.keeping_moves = *number;
                Ok(())
            }
            Trouble::Mend => {
                mend(state);
                Ok(())
            }
        }
    }
}

impl State {
    /// libvirtd of a host is started anew.
    ///
    /// # Errors
    /// There is no such host.
    pub fn restart_libvirtd(&mut self, host: &str) -> Result<(), String> {
        self.touched();
        on_host(self, host, HostTrouble::RestartsLibvirtd)
    }
}

fn on_host(state: &mut State, name: &str, what: HostTrouble) -> Result<(), String> {
    let now = state.now;
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
            // What is off is off for a reason that it does not know.
            host.domains.values_mut().for_each(|domain| domain.left_by_migration = false);
        }
        HostTrouble::Slow(seconds) => host.slow_s = seconds,
        HostTrouble::DiskSlow(seconds) => host.disk_slow_s = seconds,
        HostTrouble::OverwritesIn(seconds) => host.overwrite_s = seconds,
        HostTrouble::Clock(seconds) => host.clock_error_s = seconds,
        HostTrouble::Rots => {
            let files = host.pools.values_mut().flat_map(|pool| pool.volumes.values_mut());
            files.for_each(|file| file.arrived.rot());
        }
        HostTrouble::TakesGuests(takes) => host.refuses_guests = !takes,
        HostTrouble::LosesFilters => {
            host.filters_lost_at = Some(now);
            for network in host.networks.values_mut() {
                network.intact = false;
            }
        }
    }
    Ok(())
}

fn mend(state: &mut State) {
    state.processes = Default::default();
    state.set_clock_error(SignedDuration::ZERO);
    state.failing_boots.clear();
    state.upload_faults.clear();
    state.hanging_boots.clear();
    state.pods_down.clear();
    state.hung_controllers.clear();
    state.planned.clear();
    (state.unheard_moves, state.silencing_moves, state.keeping_moves) = (0, None, 0);
    state.broken_links.clear();
    let names: Vec<String> = state.hosts.keys().cloned().collect();
    for name in names {
        if let Some(host) = state.hosts.get_mut(&name) {
            (host.reachable, host.back_at) = (true, None);
            (host.off, host.standby) = (false, false);
            host.bmc = SimBmc::default();
            host.hung = false;
            host.frozen = false;
            host.mute = false;
            host.slow_s = 0;
            host.disk_slow_s = 0;
            host.overwrite_s = 0;
            host.clock_error_s = 0;
            host.hides.clear();
            host.stale = None;
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
