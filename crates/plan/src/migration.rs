//! Live migration: where a machine is that is on its way, and which machines can be moved alive.
//!
//! A migration is one call of libvirt's, made by Ashlar with a connection to each of the two hosts. It ends with the guest standing
//! still at the target: libvirt would let it go on there and, where the answer to that got lost, at the source too. So Ashlar
//! lets it go on itself. Until then the machine's spec names the host that it leaves, and that host has the truth: what has come to the
//! target may be older than what the source did after it. It becomes the machine only if it is certain that the source did nothing any
//! more, and that stands in the record (`arrivedAt`) before it goes on there. Where nobody knows, the source's disks are the machine.

use ashlar_api::*;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{DomainSeen, DomainState, Guard, HostSeen, Snapshot, fence, health, network};

/// Attempts after which a machine is replaced instead.
pub const ATTEMPTS: u32 = 3;

/// Pause before it is tried again; twice that after the next failure.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// When a move that failed is tried again.
pub(crate) fn tried_again_at(migration: &Migration) -> Option<Timestamp> {
    let pause = PAUSE * i32::try_from(migration.failures.max(1)).unwrap_or(i32::MAX);
    migration.failed_at?.checked_add(pause).ok()
}

/// Where the guest of a machine is that is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// Where it was, and nothing of it is at the target that counts.
    Source,
    /// The call is under way.
    UnderWay,
    /// Where it was; what is of it at the target never ran, and is of no use.
    HalfThere,
    /// It stands still at the source, and nothing of it is at the target: it goes on at the source.
    StoppedAtSource,
    /// All of it is at the target, where it stands still, and its source ran no more after that: it goes on at the target.
    Arrived,
    /// At the target, for good.
    Target,
    /// This host did not answer, and it may be there.
    Unknown(String),
    /// All of it may be at the target, where it stands still. Its source is proved off, and may have gone on after that.
    Unproved,
    /// Neither host has its domain.
    Nowhere,
    /// A domain of its UUID is at the target that is not Ashlar's.
    Foreign,
    /// It was let go on, and not by Ashlar, as this says.
    Strange(String),
}

/// What one of the two hosts says of the domain.
enum Side<'s> {
    Silent,
    /// Proved to have no power: nothing runs there.
    Off,
    Without,
    With(&'s DomainSeen),
}

fn side<'s>(snapshot: &'s Snapshot, host: &str, domain: Uuid) -> Side<'s> {
    if fence::proof(snapshot, host).is_some() {
        return Side::Off;
    }
    match snapshot.observed.hosts.get(host) {
        Some(HostSeen::Seen(world)) => world.domains.get(&domain).map_or(Side::Without, Side::With),
        _ => Side::Silent,
    }
}

/// Whether the call may be under way. Those of a process that ended are over: their connections ended with it, or were ended by
/// whoever took the host's lease.
pub(crate) fn is_calling(snapshot: &Snapshot, machine: &Machine) -> bool {
    snapshot.under_way.contains(&machine.key())
}

fn is_ours(snapshot: &Snapshot, machine: &Machine, domain: &DomainSeen) -> bool {
    domain.mark.as_ref().is_some_and(|mark| {
        mark.installation == snapshot.installation && Some(mark.machine_uid) == machine.metadata.uid
    })
}

/// What the host that it leaves has of it.
enum Left<'s> {
    Silent,
    /// The host is proved to have no power.
    Off,
    /// A process.
    Running(&'s DomainSeen),
    /// Disks that it may have written after all had come to the target.
    Defined,
    /// It gave it away.
    Gone {
        defined: bool,
    },
}

fn left<'s>(source: Side<'s>, migration: &Migration) -> Left<'s> {
    match source {
        Side::Silent => Left::Silent,
        Side::With(here) if here.state.is_active() => Left::Running(here),
        Side::With(_) | Side::Off if !Guard::CertainArrival.stands() => Left::Gone { defined: true },
        Side::Off => Left::Off,
        // Whoever undefined it where it went on, or made the host anew: no move did.
        Side::Without | Side::With(_) if migration.went_on_at.is_some() => Left::Defined,
        Side::Without => Left::Gone { defined: false },
        Side::With(here) if here.left_by_migration => Left::Gone { defined: true },
        Side::With(_) => Left::Defined,
    }
}

/// Whether it is seen to run at its source while its target does not tell, or has the half of a call that failed; none where that
/// is not seen.
pub(crate) fn goes_on_beside(snapshot: &Snapshot, machine: &Machine) -> Option<bool> {
    let migration = machine.record.migration.as_ref()?;
    let uuid = machine.spec.domain.uuid;
    let runs =
        matches!(side(snapshot, &machine.spec.host, uuid), Side::With(here) if here.state.is_running());
    let is_seen = runs && !is_calling(snapshot, machine) && migration.arrived_at.is_none();
    is_seen.then(|| !matches!(side(snapshot, &migration.to, uuid), Side::Without))
}

/// Where the machine is; none if it is on no way.
pub(crate) fn whereabouts(snapshot: &Snapshot, machine: &Machine) -> Option<Whereabouts> {
    let migration = machine.record.migration.as_ref()?;
    let (from, to, uuid) = (&machine.spec.host, &migration.to, machine.spec.domain.uuid);
    let target = side(snapshot, to, uuid);
    if let Side::With(there) = &target
        && !is_ours(snapshot, machine, there)
    {
        return Some(Whereabouts::Foreign);
    }
    let runs = |seen: &HostSeen| matches!(seen, HostSeen::Seen(world) if world.domains.get(&uuid).is_some_and(|it| it.state.is_running()));
    let mut others = snapshot.observed.hosts.iter().filter(|(host, _)| *host != from && *host != to);
    if let Some((other, _)) = others.find(|(_, seen)| runs(seen)) {
        return Some(Whereabouts::Strange(format!("it runs on {other}")));
    }
    let left = left(side(snapshot, from, uuid), migration);
    let found = match migration.arrived_at {
        Some(_) => after_arrival(machine, migration, left, target),
        None => before_arrival(machine, migration, left, target),
    };
    // What a call in this very moment does is no end of it.
    Some(match found {
        Whereabouts::HalfThere
        | Whereabouts::StoppedAtSource
        | Whereabouts::Arrived
        | Whereabouts::Unproved
        | Whereabouts::Nowhere
            if is_calling(snapshot, machine) =>
        {
            Whereabouts::UnderWay
        }
        found => found,
    })
}

/// What has come to the target is the machine.
fn after_arrival(machine: &Machine, migration: &Migration, left: Left<'_>, target: Side<'_>) -> Whereabouts {
    let (from, to) = (&machine.spec.host, &migration.to);
    match (left, target) {
        // Somebody ended what had come to the target, and let it go on where it was.
        (Left::Running(here), Side::Without) if here.state.is_running() => Whereabouts::Source,
        (Left::Running(_), _) => {
            Whereabouts::Strange(format!("its process on {from}, which it had left, is there again"))
        }
        (_, Side::With(there)) if there.state == DomainState::Paused => match there.persistent {
            true => Whereabouts::Arrived,
            false => Whereabouts::Strange(format!("somebody undefined it on {to}")),
        },
        (_, Side::With(_) | Side::Off) => Whereabouts::Target,
        (_, Side::Without) => Whereabouts::Nowhere,
        (_, Side::Silent) => Whereabouts::Unknown(to.clone()),
    }
}

/// Nobody has let go on what is at the target, or that would stand in the record.
fn before_arrival(machine: &Machine, migration: &Migration, left: Left<'_>, target: Side<'_>) -> Whereabouts {
    let (from, to) = (&machine.spec.host, &migration.to);
    match (left, target) {
        // The hosts were not asked at the same moment: it may have moved in between. Looked at again.
        (Left::Running(_), Side::With(there)) if there.state.is_running() => Whereabouts::UnderWay,
        (Left::Running(_), Side::With(_)) => Whereabouts::HalfThere,
        (Left::Running(here), _) if !here.paused_by_migration => Whereabouts::Source,
        (Left::Running(_), Side::Without | Side::Off) => Whereabouts::StoppedAtSource,
        (Left::Gone { .. }, Side::With(there)) => match there.state {
            DomainState::Running | DomainState::ShuttingDown => Whereabouts::Target,
            // Its memory did not arrive whole, and is nowhere else.
            _ if !there.persistent => Whereabouts::HalfThere,
            DomainState::Paused => Whereabouts::Arrived,
            _ => Whereabouts::Target,
        },
        (Left::Gone { defined: false }, Side::Without) => Whereabouts::Nowhere,
        (Left::Defined | Left::Off, Side::With(there)) if there.state.is_running() => {
            Whereabouts::Strange(format!("it runs on {to}, and what {from} has of it may be newer"))
        }
        (Left::Off, Side::With(there)) if there.persistent && !machine.metadata.is_deleting() => {
            Whereabouts::Unproved
        }
        (Left::Defined | Left::Off, Side::With(_)) => Whereabouts::HalfThere,
        (Left::Gone { .. }, Side::Off) if !Guard::CertainArrival.stands() => Whereabouts::Target,
        (Left::Gone { .. } | Left::Off, Side::Without | Side::Off) | (Left::Defined, _) => {
            Whereabouts::Source
        }
        (_, Side::Silent) => Whereabouts::Unknown(to.clone()),
        (Left::Silent, _) => Whereabouts::Unknown(from.clone()),
    }
}

/// Why a machine on a host that is being emptied is replaced and not moved alive; none if it is moved. What passes by
/// itself (a host that is silent for a while, a domain that is off) is no reason: that is waited for.
pub(crate) fn obstacle(snapshot: &Snapshot, machine: &Machine) -> Option<String> {
    let (spec, record) = (&machine.spec, &machine.record);
    let host = snapshot.hosts.get(&spec.host)?;
    if host.spec.drain_by == DrainBy::Replacement {
        return Some("its host is emptied by replacement".to_owned());
    }
    if let Some(before) = record.not_migrated.as_ref().filter(|before| before.from == spec.host) {
        return Some(format!("it could not be moved alive: {}", before.message));
    }
    if record.joined_at.is_none() {
        return Some("it has not joined yet".to_owned());
    }
    if health::is_sick(machine) {
        return Some("it is not well".to_owned());
    }
    if !spec.numa.is_empty() || spec.hugepages.is_some() || spec.cpu_policy == CpuPolicy::Dedicated {
        return Some("it is bound to CPUs, huge pages or NUMA nodes of its host".to_owned());
    }
    if let Some(disk) = attached(snapshot, machine) {
        return Some(format!("{disk} is attached to it, which Ashlar did not do: it cannot be moved along"));
    }
    let class = snapshot.classes.get(&spec.class)?;
    if spec.vcpus != class.spec.vcpus || spec.memory != class.spec.memory {
        return Some(format!("its class {} has changed since it was made", spec.class));
    }
    let size = |role| {
        let key = NamespacedName::new(&machine.metadata.namespace, spec.volume(role)?);
        Some(snapshot.volumes.get(&key)?.spec.capacity)
    };
    let is_resized = size(MachineVolumeRole::Root).is_some_and(|size| size != class.spec.root_disk)
        || size(MachineVolumeRole::Etcd).is_some_and(|size| size != class.spec.etcd_disk);
    if is_resized {
        return Some(format!("the disks of its class {} have changed since it was made", spec.class));
    }
    let is_fit = |other: &&Host| {
        let name = &other.metadata.name;
        let is_open = !other.spec.cordoned && !other.spec.draining && !other.metadata.is_deleting();
        let networks = spec
            .nics
            .iter()
            .all(|nic| snapshot.networks.get(&nic.network).is_some_and(|network| network.spec.is_on(name)));
        *name != spec.host && is_open && networks && unlike(host, other, machine).is_none()
    };
    if !snapshot.hosts.values().any(|other| is_fit(&other)) {
        return Some(
            "no other host that takes machines has its networks, and the zone, rack, CPU and QEMU that it needs to go on"
                .to_owned(),
        );
    }
    None
}

/// Whether a machine on a host that is being emptied is replaced, since it cannot be moved alive or is not to be.
pub(crate) fn is_replaced(snapshot: &Snapshot, machine: &Machine) -> bool {
    let is_emptied = snapshot.hosts.get(&machine.spec.host).is_some_and(|host| host.spec.draining);
    is_emptied && obstacle(snapshot, machine).is_some()
}

/// A file that the domain has beside its own.
fn attached(snapshot: &Snapshot, machine: &Machine) -> Option<String> {
    let Some(HostSeen::Seen(world)) = snapshot.observed.hosts.get(&machine.spec.host) else { return None };
    let domain = world.domains.get(&machine.spec.domain.uuid)?;
    let own: Vec<String> = machine
        .spec
        .volumes
        .iter()
        .filter_map(|volume| {
            let key = NamespacedName::new(&machine.metadata.namespace, &volume.name);
            Some(snapshot.volumes.get(&key)?.spec.path())
        })
        .collect();
    domain.disk_paths.iter().chain(&domain.medium_path).find(|path| !own.contains(path)).cloned()
}

/// Why a running guest cannot go on at another host as it is: what it was told at its start does not change while it runs.
pub(crate) fn unlike(from: &Host, to: &Host, machine: &Machine) -> Option<String> {
    if (&from.spec.zone, &from.spec.rack) != (&to.spec.zone, &to.spec.rack) {
        return Some("it is in another zone or rack, which the node's labels would go on denying".to_owned());
    }
    if to.record.accelerator != Some(machine.spec.accelerator) {
        return Some("guests run in another way there (KVM or emulated)".to_owned());
    }
    if from.record.architecture != to.record.architecture {
        return Some("it has another architecture".to_owned());
    }
    let model = |host: &Host| host.record.capacity.as_ref().map(|capacity| capacity.cpu_model.clone());
    if machine.spec.accelerator == Accelerator::Kvm && model(from) != model(to) {
        return Some("it has another CPU model".to_owned());
    }
    if network::underlay(to).is_none() {
        return Some("no IPv4 address of it is known (spec.underlayAddress)".to_owned());
    }
    if version(&to.record.qemu_version) < version(&from.record.qemu_version) {
        return Some(format!(
            "its QEMU {} is older than {}",
            to.record.qemu_version, from.record.qemu_version
        ));
    }
    None
}

/// Numbers of a version, to compare them.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map_while(|part| part.parse().ok()).collect()
}
