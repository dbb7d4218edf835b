//! Domains that somebody moved to another host by hand (`virsh migrate`). The old disks stay where the machine was made, and
//! perhaps its definition: started there, too, the guest would run twice. Where the domain was seen stands in the machine's record
//! (`seenElsewhere`), and so outlives looks in which that host is late, and restarts. What nobody could record is the first look
//! after a restart: there, silence counts against a domain that is gone.

use ashlar_api::*;

use crate::machine::{block, wait};
use crate::{DomainSeen, HostSeen, Snapshot, StepState, fence};

/// A host beside the machine's own that has its domain, or had it when it was heard last.
pub(crate) struct Elsewhere<'s> {
    host: &'s str,
    stand: Stand<'s>,
}

/// What is known of that host now.
enum Stand<'s> {
    /// It shows the domain.
    Shows,
    /// It gives no answer.
    Silent,
    /// It is proved off, and holds the newest log of an etcd member: what is older must not speak for it.
    Off,
    /// It answers, and is not believed, or obeys another process.
    Doubted(&'s str),
    /// It is not in the store any more.
    Unknown,
}

/// Where else the machine's domain is, as far as is known: what a host shows counts before what is recorded.
pub(crate) fn of<'s>(snapshot: &'s Snapshot, machine: &'s Machine) -> Option<Elsewhere<'s>> {
    if let Some((host, _)) = shown(snapshot, machine).find(|(host, domain)| !is_rest(snapshot, host, domain))
    {
        return Some(shows(host));
    }
    recorded(snapshot, machine)
}

fn recorded<'s>(snapshot: &'s Snapshot, machine: &'s Machine) -> Option<Elsewhere<'s>> {
    machine.record.seen_elsewhere.iter().find_map(|host| {
        let stand = stand(snapshot, machine, host)?;
        Some(Elsewhere { host, stand })
    })
}

/// A host that shows the domain.
pub(crate) fn shows(host: &str) -> Elsewhere<'_> {
    Elsewhere { host, stand: Stand::Shows }
}

/// Where a live migration of Ashlar's left something of the machine that does not run.
pub(crate) fn rest<'s>(snapshot: &'s Snapshot, machine: &'s Machine) -> Option<(&'s str, &'s DomainSeen)> {
    shown(snapshot, machine).find(|(host, domain)| is_rest(snapshot, host, domain))
}

/// Hosts beside its own that show a domain of the machine's UUID.
fn shown<'s>(
    snapshot: &'s Snapshot,
    machine: &'s Machine,
) -> impl Iterator<Item = (&'s str, &'s DomainSeen)> {
    let domain = &machine.spec.domain.uuid;
    snapshot.observed.hosts.iter().filter_map(move |(host, seen)| {
        let HostSeen::Seen(world) = seen else { return None };
        let seen = world.domains.get(domain)?;
        (!is_own(machine, host)).then_some((host.as_str(), seen))
    })
}

fn is_own(machine: &Machine, host: &str) -> bool {
    machine.hosts().any(|own| own == host)
}

/// Whether it is what a live migration of Ashlar's left there, which goes by itself.
fn is_rest(snapshot: &Snapshot, host: &str, domain: &DomainSeen) -> bool {
    let left = snapshot.hosts.get(host).map_or(&[][..], |host| &host.record.left_domains);
    !domain.state.is_running() && left.iter().any(|left| domain.is_left(snapshot.installation, left))
}

/// Whether a domain that a host shows says that its machine was moved there by hand.
pub(crate) fn counts(snapshot: &Snapshot, machine: &Machine, host: &str, domain: &DomainSeen) -> bool {
    !is_own(machine, host) && !is_rest(snapshot, host, domain)
}

/// Whether that the domain was seen on a host says nothing any more.
pub(crate) fn is_over(snapshot: &Snapshot, machine: &Machine, host: &str) -> bool {
    match snapshot.observed.hosts.get(host) {
        _ if is_own(machine, host) => true,
        Some(HostSeen::Seen(world)) => !world.domains.contains_key(&machine.spec.domain.uuid),
        _ => fence::proof(snapshot, host).is_some() && machine.spec.role == MachineRole::Worker,
    }
}

/// How a host stands on which the domain was seen; none if it is of no matter.
fn stand<'s>(snapshot: &'s Snapshot, machine: &Machine, host: &str) -> Option<Stand<'s>> {
    if is_over(snapshot, machine, host) {
        return None;
    }
    // Who wants it gone needs neither what is off, nor what nobody can ask.
    let goes = machine.metadata.is_deleting();
    match snapshot.observed.hosts.get(host) {
        _ if !snapshot.hosts.contains_key(host) => (!goes).then_some(Stand::Unknown),
        _ if fence::proof(snapshot, host).is_some() => (!goes).then_some(Stand::Off),
        Some(HostSeen::Seen(_)) => Some(Stand::Shows),
        Some(HostSeen::NotOurs { reason } | HostSeen::Fenced { reason, .. }) => Some(Stand::Doubted(reason)),
        Some(HostSeen::Unreachable { .. }) | None => Some(Stand::Silent),
    }
}

impl Elsewhere<'_> {
    /// Why the machine is left as it is, and what a person can do.
    pub(crate) fn hold(&self, machine: &Machine) -> StepState {
        let (object, name) = (machine.object_ref(), &machine.spec.domain.name);
        let (home, host) = (&machine.spec.host, self.host);
        let was = format!(
            "domain {name} of {object} was last seen on host {host}, and was made on {home}: somebody migrated it"
        );
        match self.stand {
            Stand::Shows => block(
                DOMAIN_ELSEWHERE,
                format!(
                    "domain {name} of {object} is on host {host}, and was made on {home}: somebody migrated it. It is neither \
                     started nor deleted here; move it back with its disks (`virsh migrate`), or undefine it on {host}"
                ),
            ),
            Stand::Silent => wait(
                DOMAIN_ELSEWHERE,
                format!(
                    "{was}. {host} does not answer now, and it may run there: it is neither started nor deleted here before \
                     {host} has answered. If {host} is off, say so: `ashlar host fence {host}`"
                ),
            ),
            Stand::Off => block(
                DOMAIN_ELSEWHERE,
                format!(
                    "{was}. {host} is off, and has the newest log of this member of etcd: what is on {home} is older, and must not \
                     vote. Turn {host} on again, or have another made: `ashlar machine replace {}`",
                    machine.metadata.name
                ),
            ),
            Stand::Doubted(reason) => block(
                DOMAIN_ELSEWHERE,
                format!(
                    "{was}. What {host} has cannot be seen: {reason}. It is neither started nor deleted here before {host} has \
                     answered; see `ashlar host check {host}`"
                ),
            ),
            Stand::Unknown => block(
                DOMAIN_ELSEWHERE,
                format!(
                    "{was}. {host} is not in the store any more, so that nobody can ask it: add it again (`ashlar host add {host}`), \
                     or have another made (`ashlar machine replace {}`)",
                    machine.metadata.name
                ),
            ),
        }
    }
}

const DOMAIN_ELSEWHERE: &str = "DomainElsewhere";

/// Of a machine whose domain is off because its guest went on at another host, as libvirt says, and is shown by none: why it is not
/// started.
pub(crate) fn went_away(snapshot: &Snapshot, machine: &Machine, domain: &DomainSeen) -> Option<StepState> {
    if !domain.left_by_migration || domain.state.is_active() {
        return None;
    }
    let (name, home) = (&domain.name, &machine.spec.host);
    let state = silent(snapshot, machine, &format!("was migrated from {home} by hand, perhaps to"));
    state.or_else(|| {
        Some(block(
            DOMAIN_ELSEWHERE,
            format!(
                "domain {name} of {} was migrated away from {home} by hand (`virsh domstate --reason {name}` there), and no host \
                 of Ashlar's has it: it may run on another, and is not started here. If what is on {home} is to go on, start it \
                 there: `virsh start {name}`",
                machine.object_ref()
            ),
        ))
    })
}

/// Of a machine whose domain is gone from where it is, and was started once: why it is not made again yet. Whoever undefines a domain
/// leaves it nowhere, and whoever migrates it leaves it on another host, which may be the one that gives no answer: to wait costs time, to
/// start an old disk beside the new one costs data. Hosts that are proved off, and those without its networks, are not waited for.
pub(crate) fn unheard(snapshot: &Snapshot, machine: &Machine) -> Option<StepState> {
    machine.record.first_started_at?;
    let home = &machine.spec.host;
    silent(snapshot, machine, &format!("is gone from {home}, and somebody may have migrated it to"))
}

/// Waits for hosts that give no answer and could have the domain.
fn silent(snapshot: &Snapshot, machine: &Machine, what: &str) -> Option<StepState> {
    let may_have_it = |(name, host): &(&String, &Host)| {
        let has_networks =
            machine.spec.nics.iter().all(|nic| {
                snapshot.networks.get(&nic.network).is_none_or(|network| network.spec.is_on(name))
            });
        let is_silent = match snapshot.observed.hosts.get(*name) {
            Some(HostSeen::Seen(_)) => false,
            Some(_) => true,
            // Who was never enrolled is nobody's, and never asked.
            None => host.record.host_uuid.is_some(),
        };
        is_silent && has_networks && !is_own(machine, name) && fence::proof(snapshot, name).is_none()
    };
    let silent: Vec<&str> =
        snapshot.hosts.iter().filter(may_have_it).map(|(name, _)| name.as_str()).collect();
    let (home, first) = (&machine.spec.host, silent.first()?);
    let mut named = silent[..silent.len().min(TOLD)].join(", ");
    if silent.len() > TOLD {
        named.push_str(&format!(" and {} more", silent.len() - TOLD));
    }
    Some(wait(
        "DomainMayBeElsewhere",
        format!(
            "domain {} of {} {what} a host that gives no answer ({named}): it is not started on {home} before that has answered. \
             Of one that is off, say so: `ashlar host fence {first}`",
            machine.spec.domain.name,
            machine.object_ref(),
        ),
    ))
}

/// Whether the machine, whose domain is so or gone on its own host, may be on another.
pub(crate) fn may_be(snapshot: &Snapshot, machine: &Machine, here: Option<&DomainSeen>) -> bool {
    match here {
        Some(here) if here.state.is_active() => false,
        // What is seen is recorded first: all hosts need not be looked at for each that is off.
        Some(here) => recorded(snapshot, machine).is_some() || went_away(snapshot, machine, here).is_some(),
        None => of(snapshot, machine).is_some() || unheard(snapshot, machine).is_some(),
    }
}

/// Hosts that are named; of more there is their number.
const TOLD: usize = 3;
