//! What people and the world do behind Ashlar's back.

use ashlar_api::NamespacedName;
use ashlar_engine::declare;
use futures::FutureExt as _;
use uuid::Uuid;

use ashlar_plan::DomainState;

use super::command::{EtcdWord, Foreign, HostState, PoolState, VirshVerb};
use super::trouble::Verb;
use crate::guest::power_cut;
use crate::{SimDomain, SimVolume, State, error_text};

/// Adds something that is not Ashlar's.
pub(super) fn add_foreign(state: &mut State, foreign: &Foreign, number: u128) -> Result<(), String> {
    let uuid = Uuid::from_u128(0xF0E1_0000_0000_0000 + number);
    match foreign {
        Foreign::Domain { host, name } => {
            has_host(state, host)?;
            let domain = SimDomain::foreign(name, &format!("/srv/{name}.img"));
            state.add_foreign_domain(host, uuid, domain);
        }
        Foreign::Volume { host, file } => {
            let pool = state.hosts.get(host).and_then(|host| host.pools.keys().next().copied());
            let pool = pool.ok_or_else(|| format!("there is no host {host}"))?;
            state.add_foreign_volume(host, pool, file, SimVolume::foreign(1 << 30));
        }
        // Needs the network's uid: see [`add_part`].
        Foreign::Part { host, .. } => has_host(state, host)?,
        Foreign::Address { bridge, address } => {
            state.foreign_addresses.insert((bridge.clone(), *address));
        }
    }
    Ok(())
}

pub(super) fn has_host(state: &State, host: &str) -> Result<(), String> {
    state.hosts.contains_key(host).then_some(()).ok_or_else(|| format!("there is no host {host}"))
}

pub(super) fn set_host(state: &mut State, name: &str, to: HostState) -> Result<(), String> {
    has_host(state, name)?;
    let loses_power = matches!(to, HostState::Off | HostState::Halted);
    if loses_power {
        power_cut(state, name);
    }
    if let Some(host) = state.hosts.get_mut(name) {
        host.off = loses_power || host.off && to == HostState::Down;
        host.standby = to == HostState::Halted || host.off && host.standby && to == HostState::Down;
        host.hung = to == HostState::Hung;
        host.reachable = matches!(to, HostState::Up | HostState::On | HostState::Hung);
    }
    state.touched();
    Ok(())
}

/// A host loses its power.
pub(crate) fn lose_power(state: &mut State, name: &str) -> Result<(), String> {
    set_host(state, name, HostState::Off)
}

impl State {
    /// A host loses its power, or gets it back.
    ///
    /// # Errors
    /// There is no such host.
    pub fn power(&mut self, host: &str, on: bool) -> Result<(), String> {
        set_host(self, host, if on { HostState::On } else { HostState::Off })
    }
}

/// A host is turned off, and its BMC goes on.
pub(crate) fn halt(state: &mut State, name: &str) -> Result<(), String> {
    set_host(state, name, HostState::Halted)
}

/// A person pauses a cluster, or resumes it, while Ashlar works.
pub(super) fn set_paused(state: &State, cluster: &NamespacedName, paused: bool) -> Result<(), String> {
    let store = state.oracle.truth().ok_or("there is no store")?;
    let done = declare::set_paused(store, cluster, paused).now_or_never();
    done.ok_or("the store in memory does not answer at once")?.map(drop).map_err(|error| error_text(&error))
}

pub(super) fn set_pool(state: &mut State, name: &str, to: PoolState) -> Result<(), String> {
    has_host(state, name)?;
    let pools = state.hosts.get_mut(name).into_iter().flat_map(|host| host.pools.values_mut());
    for pool in pools {
        match to {
            PoolState::Full => pool.capacity_mib = pool.used_mib(),
            PoolState::Unmounted => pool.active = false,
            PoolState::Hidden => pool.hidden = true,
            PoolState::CopiesOnWrite => pool.copies_on_write = true,
            PoolState::Mounted => {
                pool.active = true;
                pool.hidden = false;
            }
        }
    }
    state.touched();
    Ok(())
}

/// Deletes the one file whose name holds the word, whatever stands on it: a person at `rm`.
pub(super) fn lose(state: &mut State, host: &str, word: &str) -> Result<(), String> {
    has_host(state, host)?;
    let mut lost = Vec::new();
    for pool in state.hosts.get_mut(host).into_iter().flat_map(|host| host.pools.values_mut()) {
        let names: Vec<String> = pool.volumes.keys().filter(|name| name.contains(word)).cloned().collect();
        for name in names {
            pool.volumes.remove(&name);
            lost.push(name);
        }
    }
    state.touched();
    if lost.len() == 1 {
        Ok(())
    } else {
        Err(format!("`{word}` is in the names of {} files on {host}", lost.len()))
    }
}

/// An interface of somebody else's with the name that a network's bridge would get.
pub(super) fn add_part(state: &mut State, host: &str, network: Uuid) -> Result<(), String> {
    has_host(state, host)?;
    if let Some(host) = state.hosts.get_mut(host) {
        host.foreign_parts.insert(ashlar_plan::network::names::bridge(network));
    }
    Ok(())
}

/// A person removes a rule of a network, or all of it.
pub(super) fn break_network(state: &mut State, host: &str, network: Uuid, whole: bool) -> Result<(), String> {
    has_host(state, host)?;
    let networks = state.hosts.get_mut(host).map(|host| &mut host.networks);
    let networks = networks.filter(|networks| networks.contains_key(&network));
    let networks = networks.ok_or_else(|| format!("that network is not on {host}"))?;
    if whole {
        networks.remove(&network);
    } else if let Some(seen) = networks.get_mut(&network) {
        seen.intact = false;
    }
    Ok(())
}

/// The domain of that name on the host.
pub(super) fn domain_named<'s>(
    state: &'s mut State,
    host: &str,
    name: &str,
) -> Result<(Uuid, &'s mut SimDomain), String> {
    has_host(state, host)?;
    let domains = state.hosts.get_mut(host).into_iter().flat_map(|host| &mut host.domains);
    let mut found = domains.filter(|(_, domain)| domain.name == name);
    let found = found.next().map(|(uuid, domain)| (*uuid, domain));
    found.ok_or_else(|| format!("there is no domain {name} on {host}"))
}

/// A person at virsh.
pub(super) fn virsh(state: &mut State, host: &str, verb: VirshVerb, name: &str) -> Result<(), String> {
    has_host(state, host)?;
    if state.hosts.get(host).is_some_and(|host| host.off) {
        return Err(format!("host {host} has no power"));
    }
    let now = state.now;
    let domains = state.hosts.get_mut(host).map(|host| &mut host.domains);
    let found = domains.and_then(|domains| {
        let uuid = domains.iter().find(|(_, domain)| domain.name == name).map(|(uuid, _)| *uuid)?;
        Some((uuid, domains))
    });
    let (uuid, domains) = found.ok_or_else(|| format!("there is no domain {name} on {host}"))?;
    let domain = domains.get_mut(&uuid).ok_or("it went away")?;
    match verb {
        VirshVerb::Destroy => domain.power_off(),
        VirshVerb::Start => {
            domain.take_definition();
            (domain.state, domain.left_by_migration) = (DomainState::Running, false);
            domain.running.clone_from(&domain.definition);
            domain.started_at = Some(now);
            domain.has_run = true;
            domain.never_went_on = false;
            // What a person starts is what counts from then on.
            state.goes_on(host, uuid);
        }
        VirshVerb::Undefine => {
            domains.remove(&uuid);
        }
        VirshVerb::StripMark => {
            domain.mark = None;
            domain.spec = None;
            state.disown_domain(host, uuid);
        }
        VirshVerb::Replace => {
            let path = domain.disk_paths.iter().next().cloned().unwrap_or_default();
            domains.remove(&uuid);
            let mut other = SimDomain::foreign(name, &path);
            other.state = DomainState::ShutOff;
            let new = Uuid::from_u128(uuid.as_u128() ^ 1);
            state.add_foreign_domain(host, new, other);
        }
    }
    state.touched_by_hand(host, uuid);
    state.touched();
    Ok(())
}

/// A person at virsh, on whatever host the domain is.
pub(super) fn virsh_anywhere(state: &mut State, verb: Verb, name: &str) -> Result<(), String> {
    let renamed = format!("{name}{RENAMED}");
    let wanted = if verb == Verb::RenameBack { renamed.as_str() } else { name };
    let host = state.hosts.iter().find(|(_, host)| host.domains.values().any(|domain| domain.name == wanted));
    let host = host.map(|(host, _)| host.clone()).ok_or_else(|| format!("there is no domain {wanted}"))?;
    let rename = |state: &mut State, to: &str| {
        let (uuid, _) = domain_named(state, &host, wanted)?;
        let domain = state.hosts.get_mut(&host).and_then(|host| host.domains.get_mut(&uuid));
        domain.ok_or("it went away")?.name = to.to_owned();
        state.touched_by_hand(&host, uuid);
        Ok(())
    };
    match verb {
        Verb::Destroy => virsh(state, &host, VirshVerb::Destroy, name),
        Verb::Start => start_by_hand(state, &host, name),
        Verb::Undefine => virsh(state, &host, VirshVerb::Undefine, name),
        Verb::StripMark => virsh(state, &host, VirshVerb::StripMark, name),
        Verb::Replace => virsh(state, &host, VirshVerb::Replace, name),
        Verb::TakeDisk => {
            let (uuid, domain) = domain_named(state, &host, name)?;
            let path = domain.disk_paths.iter().find(|path| path.contains("-root-")).cloned();
            let mut thief = SimDomain::foreign(&format!("rescue-{name}"), &path.ok_or("it has no disk")?);
            thief.state = DomainState::ShutOff;
            state.add_foreign_domain(&host, Uuid::from_u128(uuid.as_u128() ^ 2), thief);
            Ok(())
        }
        Verb::Rename => rename(state, &renamed),
        Verb::RenameBack => rename(state, name),
    }
}

/// What a domain's name ends with once somebody renamed it.
const RENAMED: &str = "-old";

/// libvirt starts nothing whose files are not there.
fn start_by_hand(state: &mut State, host: &str, name: &str) -> Result<(), String> {
    let seen = state.hosts.get(host).ok_or("there is no such host")?;
    let domain = seen.domains.values().find(|domain| domain.name == name).ok_or("there is no such domain")?;
    if domain.state.is_active() {
        return Err("it runs".to_owned());
    }
    let disks = domain.spec.iter().flat_map(|spec| &spec.disks);
    let backing = disks.filter_map(|disk| disk.backing_path.as_ref());
    let medium = domain.spec.iter().filter_map(|spec| spec.seed_path.as_ref());
    let paths = domain.disk_paths.iter().chain(backing).chain(medium);
    if let Some(missing) = paths.into_iter().find(|path| seen.volume_at(path).is_none()) {
        return Err(format!("cannot access {missing}"));
    }
    virsh(state, host, VirshVerb::Start, name)
}

/// Renamed domains get their names back.
pub(super) fn rename_all_back(state: &mut State) {
    let mut renamed = Vec::new();
    for (name, host) in &mut state.hosts {
        for (uuid, domain) in &mut host.domains {
            if let Some(before) = domain.name.strip_suffix(RENAMED) {
                domain.name = before.to_owned();
                renamed.push((name.clone(), *uuid));
            }
        }
    }
    renamed.into_iter().for_each(|(host, uuid)| state.touched_by_hand(&host, uuid));
}

/// A machine's disks are gone, and it is off: nobody runs on a disk that is not there.
pub(super) fn disks_die(state: &mut State, machine: &str) -> Result<(), String> {
    for host in state.hosts.values_mut() {
        let Some(domain) =
            host.domains.values_mut().find(|domain| domain.name == machine && domain.spec.is_some())
        else {
            continue;
        };
        domain.power_off();
        let paths = domain.disk_paths.clone();
        for pool in host.pools.values_mut() {
            let directory = format!("{}/", pool.path);
            pool.volumes.retain(|file, _| !paths.contains(&format!("{directory}{file}")));
        }
        state.touched();
        return Ok(());
    }
    Err(format!("there is no domain {machine}"))
}

/// What a cluster's etcd is like from now on.
pub(super) fn set_etcd(state: &mut State, cluster: &NamespacedName, is: EtcdWord) -> Result<(), String> {
    let world = state.clusters.get_mut(cluster).ok_or_else(|| format!("there is no cluster {cluster}"))?;
    let etcd = &mut world.etcd;
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    match is {
        EtcdWord::MostlyRoom => {
            etcd.databases = etcd.members.keys().map(|id| (*id, (300 << 20, 20 << 20))).collect();
        }
        EtcdWord::DefragmentTakes(time) => etcd.defragment_s = seconds(time),
        EtcdWord::CopyTakes(time) => etcd.copy_s = seconds(time),
    }
    Ok(())
}

/// An app that is there gets other numbers; its pods stay.
pub(super) fn run_app(
    state: &mut State,
    cluster: &NamespacedName,
    name: &str,
    replicas: u32,
    min_available: Option<u32>,
    volumes: bool,
) -> Result<(), String> {
    let world = state.clusters.get_mut(cluster).ok_or_else(|| format!("there is no cluster {cluster}"))?;
    let app =
        world.apps.entry(name.to_owned()).or_insert_with(|| crate::SimApp::new(replicas, min_available));
    (app.replicas, app.min_available, app.volumes) = (replicas, min_available, volumes);
    state.touched();
    Ok(())
}
