//! A machine whose domain somebody moved to another host by hand runs nowhere else before that host was seen without it, or is proved
//! off; and what is known of that is forgotten for no other reason.

use std::collections::BTreeMap;

use ashlar_api::*;
use uuid::Uuid;

use super::{Findings, Projected};
use crate::{Action, Decision, DomainSeen, DomainState, HostSeen, Plan, Snapshot, StepState};

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, projected: &Projected<'_>, findings: &mut Findings) {
    let mut places = None;
    for step in plan.steps.iter().filter(|step| step.state == StepState::Ready) {
        let (name, moves) = match &step.action {
            Some(
                Action::DefineDomain { machine }
                | Action::RedefineDomain { machine }
                | Action::StartDomain { machine },
            ) => (machine, false),
            Some(Action::MigrateDomain { machine } | Action::ResumeDomain { machine }) => (machine, true),
            _ => continue,
        };
        let Some(machine) = projected.machines.get(name) else { continue };
        let places = places.get_or_insert_with(|| domains(snapshot));
        // A live migration goes on beside what one before it left, which does not run.
        let elsewhere = others(places, machine)
            .find(|(host, domain)| !moves || !is_left_over(snapshot, host, domain))
            .map(|(host, _)| host);
        if let Some(host) = elsewhere {
            findings.add("RunsOnce", &step.object, format!("its domain is on host {host}"));
        }
        if let Some(host) = remembered(snapshot, machine) {
            findings.add("RunsOnce", &step.object, format!("its domain was on host {host}, and may be"));
        }
        if !moves && has_left(snapshot, machine) {
            findings.add("RunsOnce", &step.object, "its guest went on at another host, as its own says");
        }
        if matches!(&step.action, Some(Action::DefineDomain { .. }))
            && machine.record.first_started_at.is_some()
            && let Some(host) = mute(snapshot, machine)
        {
            findings.add(
                "RunsOnce",
                &step.object,
                format!("its domain is gone, and may be on host {host}, which says nothing"),
            );
        }
    }
    for decision in plan.decisions.iter().flatten() {
        match decision {
            Decision::Update(Object::Machine(changed)) => {
                let Some(read) = snapshot.machines.get(&changed.key()) else { continue };
                let mut gone = read
                    .record
                    .seen_elsewhere
                    .iter()
                    .filter(|host| !changed.record.seen_elsewhere.contains(*host));
                let forgotten = gone.find(|host| {
                    !changed.hosts().any(|own| own == host.as_str()) && may_have(snapshot, read, host)
                });
                if let Some(host) = forgotten {
                    let message =
                        format!("that its domain was on host {host} is forgotten, and it may be there");
                    findings.add("RunsOnce", &changed.object_ref(), message);
                }
            }
            Decision::Remove { object, .. } if object.kind == Kind::Machine => {
                let Some(machine) = snapshot.machines.get(&object.key()) else { continue };
                let mut hosts = machine.record.seen_elsewhere.iter();
                let is_asked = |host: &&String| {
                    matches!(snapshot.observed.hosts.get(*host), Some(HostSeen::Seen(_)))
                        || !is_off(snapshot, host)
                };
                if let Some(host) = hosts.find(|host| {
                    snapshot.hosts.contains_key(*host) && is_asked(host) && may_have(snapshot, machine, host)
                }) {
                    findings.add("Removal", object, format!("its domain was on host {host}, and may be"));
                }
            }
            _ => {}
        }
    }
}

/// Domains that were seen, each with its hosts.
type Places<'s> = BTreeMap<Uuid, Vec<(&'s str, &'s DomainSeen)>>;

fn domains(snapshot: &Snapshot) -> Places<'_> {
    let mut places = Places::new();
    for (host, seen) in &snapshot.observed.hosts {
        let HostSeen::Seen(world) = seen else { continue };
        for (uuid, domain) in &world.domains {
            places.entry(*uuid).or_default().push((host, domain));
        }
    }
    places
}

/// Hosts other than the machine's that have its domain.
fn others<'p, 's>(
    places: &'p Places<'s>,
    machine: &'p Machine,
) -> impl Iterator<Item = (&'s str, &'s DomainSeen)> + use<'p, 's> {
    let hosts = places.get(&machine.spec.domain.uuid).into_iter().flatten().copied();
    hosts.filter(move |(host, _)| !machine.hosts().any(|own| own == *host))
}

/// Whether its host knows it as one that a live migration left, and it does not run.
fn is_left_over(snapshot: &Snapshot, host: &str, domain: &DomainSeen) -> bool {
    let runs = matches!(domain.state, DomainState::Running | DomainState::ShuttingDown);
    let host = snapshot.hosts.get(host);
    !runs && host.is_some_and(|host| host.record.left_domains.iter().any(|left| left.uuid == domain.uuid))
}

/// A host on which its domain was seen, and that was not seen without it.
fn remembered<'m>(snapshot: &Snapshot, machine: &'m Machine) -> Option<&'m str> {
    let mut hosts = machine.record.seen_elsewhere.iter().map(String::as_str);
    hosts.find(|host| !machine.hosts().any(|own| own == *host) && may_have(snapshot, machine, host))
}

/// Whether a host that once had the domain may have it, or the only copy of an etcd member's log that counts.
fn may_have(snapshot: &Snapshot, machine: &Machine, host: &str) -> bool {
    match snapshot.observed.hosts.get(host) {
        Some(HostSeen::Seen(world)) => world.domains.contains_key(&machine.spec.domain.uuid),
        _ => !is_off(snapshot, host) || machine.spec.role == MachineRole::ControlPlane,
    }
}

fn is_off(snapshot: &Snapshot, host: &str) -> bool {
    let is_silent = matches!(snapshot.observed.hosts.get(host), Some(HostSeen::Unreachable { .. }));
    is_silent && snapshot.hosts.get(host).is_some_and(|host| host.record.fence.is_some())
}

/// Whether its own host says that the guest went on elsewhere.
fn has_left(snapshot: &Snapshot, machine: &Machine) -> bool {
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(&machine.spec.host) else { return false };
    let domain = world.domains.get(&machine.spec.domain.uuid);
    domain.is_some_and(|domain| domain.left_by_migration && domain.state == DomainState::ShutOff)
}

/// A host that could have the machine's domain, did not say whether it does, and is not proved off.
fn mute<'s>(snapshot: &'s Snapshot, machine: &Machine) -> Option<&'s str> {
    let observed = &snapshot.observed.hosts;
    let mut hosts = snapshot
        .hosts
        .values()
        .filter(|host| host.record.host_uuid.is_some() || observed.contains_key(&host.metadata.name));
    let host = hosts.find(|host| {
        let name = host.metadata.name.as_str();
        let says = matches!(observed.get(name), Some(HostSeen::Seen(_)));
        let mut networks = machine.spec.nics.iter().filter_map(|nic| snapshot.networks.get(&nic.network));
        !says
            && !is_off(snapshot, name)
            && machine.hosts().all(|own| own != name)
            && networks.all(|network| network.spec.is_on(name))
    });
    host.map(|host| host.metadata.name.as_str())
}
