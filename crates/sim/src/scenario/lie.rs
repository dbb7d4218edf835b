//! Commands for worlds that lie: what answers is not what it was, or says what is not so.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ashlar_api::NamespacedName;
use ashlar_plan::DomainState;
use uuid::Uuid;

use super::command::{Command, namespaced};
use super::hands::{domain_named, has_host};
use crate::host::Hidden;
use crate::{SimDomain, SimMember, SimPool, SimVolume, State};

/// Something that is not as it was, behind Ashlar's back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lie {
    Host {
        host: String,
        lie: HostLie,
    },
    Pool {
        host: String,
        lie: PoolLie,
    },
    /// The one file with the word in its name.
    Volume {
        host: String,
        word: String,
        lie: VolumeLie,
    },
    Domain {
        host: String,
        domain: String,
        lie: DomainLie,
    },
    Api {
        cluster: NamespacedName,
        lie: ApiLie,
    },
    Etcd {
        cluster: NamespacedName,
        lie: EtcdLie,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostLie {
    NewKey,
    NewUuid,
    /// Another disk in it: no domain, an empty pool with a UUID of its own, no lease.
    Wiped,
    UuidOf(String),
    KeyOf(String),
    /// Whoever asks for this host gets to these, in turn.
    Reaches(Vec<String>),
    /// As somebody else has enrolled it.
    AnotherInstallation,
    /// A process of this installation took it over, with a token that no store of ours knows.
    TakenOver,
    ForgetsLease,
    Renamed(String),
    Hides(Hidden),
    /// What it shows from now on is what it shows now.
    Stale,
    ShowsAll,
    LosesBridge(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PoolLie {
    /// Defined again: same name, same directory.
    NewUuid,
    /// Another file system is mounted there.
    Swapped,
    /// Somebody deleted everything in it.
    Emptied,
    /// Defined again over another directory, into which all but etcd's disks were copied.
    CopiedTo(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VolumeLie {
    Resized(u64),
    Corrupt,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum DomainLie {
    Renamed(String),
    /// Its mark names another installation.
    ForeignMark,
    MarkOf(String),
    MigratedTo {
        host: String,
        left: LeftBehind,
    },
    /// `virt-clone`: another name and UUID, and all of its metadata.
    ClonedAs(String),
    Paused,
    Crashed,
    /// Somebody else's domain is defined with its disk.
    DiskTakenBy(String),
    /// Its definition names another disk.
    OtherDisk,
    /// Gone, and somebody else's domain has its UUID under another name.
    UuidTakenBy(String),
}

/// What stays where a domain was that a person migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeftBehind {
    /// Nothing: somebody moved its disks and removed the old ones.
    Nothing,
    /// Its old disks (`--copy-storage-all --undefinesource`).
    Disks,
    /// Its disks and its definition, which is off: what `virsh migrate` does by default.
    Definition,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ApiLie {
    /// Another cluster's, with another CA, has its address.
    IsAnother,
    IsItself,
    LosesNode(String),
    LosesNodes,
    ProviderId {
        node: String,
        id: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EtcdLie {
    Gains(String),
    Loses(String),
    /// All members are others than they were.
    IsAnother,
    IsItself,
    /// Clients write so often, and each write is acknowledged.
    Writes(u64),
    KeepsDisk(String),
    /// The disk of a member is put back as it was when it was kept.
    TurnsBack(String),
}

/// Reads one of these commands, if it is one.
pub(super) fn parse(words: &[&str]) -> Option<Result<Command, String>> {
    let host = |host: &str, lie| Lie::Host { host: host.to_owned(), lie };
    let pool = |host: &str, lie| Lie::Pool { host: host.to_owned(), lie };
    let domain =
        |host: &str, domain: &str, lie| Lie::Domain { host: host.to_owned(), domain: domain.to_owned(), lie };
    let text = |word: &str| word.to_owned();
    let lie = match words {
        ["host", name, "has", "a", "new", "key"] => host(name, HostLie::NewKey),
        ["host", name, "has", "a", "new", "uuid"] => host(name, HostLie::NewUuid),
        ["host", name, "is", "wiped"] => host(name, HostLie::Wiped),
        ["host", name, "has", "the", "uuid", "of", other] => host(name, HostLie::UuidOf(text(other))),
        ["host", name, "has", "the", "key", "of", other] => host(name, HostLie::KeyOf(text(other))),
        ["host", name, "reaches", others @ ..] if !others.is_empty() => {
            host(name, HostLie::Reaches(others.iter().map(|other| text(other)).collect()))
        }
        ["host", name, "belongs", "to", "another"] => host(name, HostLie::AnotherInstallation),
        ["host", name, "is", "taken", "over"] => host(name, HostLie::TakenOver),
        ["host", name, "forgets", "its", "lease"] => host(name, HostLie::ForgetsLease),
        ["host", name, "is", "renamed", other] => host(name, HostLie::Renamed(text(other))),
        ["host", name, "hides", what] => {
            let hidden = match *what {
                "domains" => Hidden::Domains,
                "volumes" => Hidden::Volumes,
                "pools" => Hidden::Pools,
                other => return Some(Err(format!("`{other}` is nothing that a host hides"))),
            };
            host(name, HostLie::Hides(hidden))
        }
        ["host", name, "is", "stale"] => host(name, HostLie::Stale),
        ["host", name, "shows", "all"] => host(name, HostLie::ShowsAll),
        ["host", name, "loses", "bridge", bridge] => host(name, HostLie::LosesBridge(text(bridge))),
        ["pool", name, "has", "a", "new", "uuid"] => pool(name, PoolLie::NewUuid),
        ["pool", name, "is", "swapped"] => pool(name, PoolLie::Swapped),
        ["pool", name, "is", "emptied"] => pool(name, PoolLie::Emptied),
        ["pool", name, "is", "copied", "to", path] => pool(name, PoolLie::CopiedTo(text(path))),
        ["volume", name, word, "has", size] => match super::command::size_mib(size) {
            Ok(mib) => Lie::Volume { host: text(name), word: text(word), lie: VolumeLie::Resized(mib << 20) },
            Err(error) => return Some(Err(error)),
        },
        ["volume", name, word, "is", "corrupt"] => {
            Lie::Volume { host: text(name), word: text(word), lie: VolumeLie::Corrupt }
        }
        ["virsh", on, "rename", name, other] => domain(on, name, DomainLie::Renamed(text(other))),
        ["virsh", on, "foreign-mark", name] => domain(on, name, DomainLie::ForeignMark),
        ["virsh", on, "mark-of", name, other] => domain(on, name, DomainLie::MarkOf(text(other))),
        ["virsh", on, "migrate", name, to, how @ ..] => {
            let left = match how {
                [] => LeftBehind::Nothing,
                ["copying"] => LeftBehind::Disks,
                ["staying", "defined"] => LeftBehind::Definition,
                _ => return Some(Err("a domain migrates, `copying`, or `staying defined`".to_owned())),
            };
            domain(on, name, DomainLie::MigratedTo { host: text(to), left })
        }
        ["virsh", on, "clone", name, other] => domain(on, name, DomainLie::ClonedAs(text(other))),
        ["virsh", on, "pause", name] => domain(on, name, DomainLie::Paused),
        ["virsh", on, "crash", name] => domain(on, name, DomainLie::Crashed),
        ["virsh", on, "take-disk", name, other] => domain(on, name, DomainLie::DiskTakenBy(text(other))),
        ["virsh", on, "other-disk", name] => domain(on, name, DomainLie::OtherDisk),
        ["virsh", on, "take-uuid", name, other] => domain(on, name, DomainLie::UuidTakenBy(text(other))),
        ["api", cluster, rest @ ..] => {
            let lie = match rest {
                ["is", "another"] => ApiLie::IsAnother,
                ["is", "itself"] => ApiLie::IsItself,
                ["loses", "node", node] => ApiLie::LosesNode(text(node)),
                ["loses", "nodes"] => ApiLie::LosesNodes,
                ["node", node, "provider-id", id] => ApiLie::ProviderId { node: text(node), id: text(id) },
                _ => return None,
            };
            Lie::Api { cluster: namespaced(cluster), lie }
        }
        ["etcd", cluster, rest @ ..] => {
            let lie = match rest {
                ["gains", name] => EtcdLie::Gains(text(name)),
                ["loses", name] => EtcdLie::Loses(text(name)),
                ["is", "another"] => EtcdLie::IsAnother,
                ["is", "itself"] => EtcdLie::IsItself,
                ["takes", number, "writes"] => match super::command::count(number) {
                    Ok(number) => EtcdLie::Writes(number),
                    Err(error) => return Some(Err(error)),
                },
                ["keeps", "disk", node] => EtcdLie::KeepsDisk(text(node)),
                ["turns", "back", node] => EtcdLie::TurnsBack(text(node)),
                _ => return None,
            };
            Lie::Etcd { cluster: namespaced(cluster), lie }
        }
        _ => return None,
    };
    Some(Ok(Command::Lie(lie)))
}

impl Lie {
    /// From now on it is so.
    pub(super) fn happen(&self, state: &mut State) -> Result<(), String> {
        state.touched();
        match self {
            Lie::Host { host, lie } => on_host(state, host, lie),
            Lie::Pool { host, lie } => on_pool(state, host, lie.clone()),
            Lie::Volume { host, word, lie } => on_volume(state, host, word, *lie),
            Lie::Domain { host, domain, lie } => on_domain(state, host, domain, lie),
            Lie::Api { cluster, lie } => on_api(state, cluster, lie),
            Lie::Etcd { cluster, lie } => on_etcd(state, cluster, lie),
        }
    }
}

fn on_host(state: &mut State, name: &str, lie: &HostLie) -> Result<(), String> {
    has_host(state, name)?;
    match lie {
        HostLie::Reaches(others) => {
            for other in others {
                has_host(state, other)?;
            }
            state.routes.insert(name.to_owned(), others.clone());
            return Ok(());
        }
        HostLie::UuidOf(other) => {
            has_host(state, other)?;
            let uuid = state.hosts[other].host_uuid;
            return change(state, name, |host| host.host_uuid = uuid);
        }
        HostLie::KeyOf(other) => {
            has_host(state, other)?;
            let key = state.hosts[other].ssh_host_key.clone();
            return change(state, name, |host| host.ssh_host_key = key);
        }
        _ => {}
    }
    let now = state.now;
    change(state, name, |host| match lie {
        HostLie::NewKey => host.ssh_host_key += "-new",
        HostLie::NewUuid => host.host_uuid = changed(host.host_uuid),
        HostLie::Wiped => {
            host.domains.clear();
            host.networks.clear();
            host.lease = None;
            let pools = std::mem::take(&mut host.pools);
            for (uuid, mut pool) in pools {
                pool.volumes.clear();
                host.pools.insert(changed(uuid), pool);
            }
        }
        HostLie::AnotherInstallation => host.lease = Some((Uuid::from_u128(0xE15E), 1, now)),
        HostLie::TakenOver => {
            host.lease = host.lease.map(|(installation, token, _)| (installation, token + 1000, now));
        }
        HostLie::ForgetsLease => host.lease = None,
        HostLie::Renamed(other) => host.hostname.clone_from(other),
        HostLie::Hides(hidden) => drop(host.hides.insert(*hidden)),
        HostLie::Stale => host.stale = Some(Box::new(crate::hypervisor::world_of(host))),
        HostLie::ShowsAll => {
            host.hides.clear();
            host.stale = None;
        }
        HostLie::LosesBridge(bridge) => drop(host.bridges.remove(bridge)),
        HostLie::Reaches(_) | HostLie::UuidOf(_) | HostLie::KeyOf(_) => {}
    })
}

fn change(state: &mut State, host: &str, change: impl FnOnce(&mut crate::SimHost)) -> Result<(), String> {
    let host = state.hosts.get_mut(host).ok_or_else(|| format!("there is no host {host}"))?;
    change(host);
    Ok(())
}

/// Another UUID, the same for the same.
fn changed(uuid: Uuid) -> Uuid {
    Uuid::from_u128(uuid.as_u128() ^ 0xFACE)
}

fn on_pool(state: &mut State, name: &str, lie: PoolLie) -> Result<(), String> {
    change(state, name, |host| {
        let pools = std::mem::take(&mut host.pools);
        for (uuid, mut pool) in pools {
            match &lie {
                PoolLie::CopiedTo(path) => {
                    // What was there stays where it is, in a pool of another name.
                    let old = SimPool { name: format!("{}-old", pool.name), ..pool.clone() };
                    host.pools.insert(changed(uuid), old);
                    pool.volumes.retain(|name, _| !name.contains("-etcd-"));
                    pool.path.clone_from(path);
                    host.pools.insert(uuid, pool);
                }
                PoolLie::NewUuid => {
                    host.pools.insert(changed(uuid), pool);
                }
                PoolLie::Swapped => {
                    pool.volumes.clear();
                    pool.volumes.insert("theirs.img".to_owned(), SimVolume::foreign(1 << 30));
                    host.pools.insert(uuid, pool);
                }
                PoolLie::Emptied => {
                    pool.volumes.clear();
                    host.pools.insert(uuid, pool);
                }
            }
        }
    })
}

fn on_volume(state: &mut State, host: &str, word: &str, lie: VolumeLie) -> Result<(), String> {
    has_host(state, host)?;
    let pools = state.hosts.get_mut(host).into_iter().flat_map(|host| host.pools.values_mut());
    let files = pools.flat_map(|pool| &mut pool.volumes);
    let mut found: Vec<&mut SimVolume> =
        files.filter(|(name, _)| name.contains(word)).map(|(_, file)| file).collect();
    let [file] = found.as_mut_slice() else {
        return Err(format!("`{word}` is in the names of {} files on {host}", found.len()));
    };
    match lie {
        VolumeLie::Resized(bytes) => file.capacity_bytes = bytes,
        VolumeLie::Corrupt => file.arrived.rot(),
    }
    Ok(())
}

fn on_domain(state: &mut State, host: &str, name: &str, lie: &DomainLie) -> Result<(), String> {
    let (uuid, mark) = {
        let (uuid, domain) = domain_named(state, host, name)?;
        (uuid, domain.mark.clone())
    };
    let other_mark = match lie {
        DomainLie::MarkOf(other) => domain_named(state, host, other)?.1.mark.clone(),
        _ => None,
    };
    let (_, domain) = domain_named(state, host, name)?;
    let path = domain.disk_paths.iter().find(|path| path.contains("-root-")).cloned().unwrap_or_default();
    match lie {
        DomainLie::Renamed(other) => {
            domain.name.clone_from(other);
            if let Some(spec) = &mut domain.spec {
                spec.name.clone_from(other);
            }
        }
        DomainLie::ForeignMark | DomainLie::MarkOf(_) => {
            let mark = match lie {
                DomainLie::MarkOf(_) => other_mark,
                _ => {
                    mark.map(|mark| ashlar_plan::DomainMark { installation: Uuid::from_u128(0xE15E), ..mark })
                }
            };
            domain.mark.clone_from(&mark);
            domain.spec = None;
            state.disown_domain(host, uuid);
        }
        DomainLie::MigratedTo { host: to, left } => return migrate(state, host, to, uuid, *left),
        DomainLie::ClonedAs(other) => {
            let mut clone = SimDomain::foreign(other, &format!("/srv/{other}.img"));
            clone.state = DomainState::ShutOff;
            clone.mark = mark;
            state.add_foreign_domain(host, changed(uuid), clone);
        }
        DomainLie::Paused => domain.state = DomainState::Paused,
        DomainLie::Crashed => {
            domain.power_off();
            domain.state = DomainState::Crashed;
        }
        DomainLie::DiskTakenBy(other) => {
            let mut thief = SimDomain::foreign(other, &path);
            thief.state = DomainState::ShutOff;
            state.add_foreign_domain(host, changed(uuid), thief);
        }
        DomainLie::OtherDisk => {
            if let Some(disk) = domain.spec.as_mut().and_then(|spec| spec.disks.first_mut()) {
                disk.path = "/srv/other.img".to_owned();
            }
            if let Some(definition) = &mut domain.definition
                && let Some(disk) = std::sync::Arc::make_mut(definition).disks.first_mut()
            {
                disk.path = "/srv/other.img".to_owned();
            }
            if !domain.state.is_active() {
                domain.take_definition();
            }
        }
        DomainLie::UuidTakenBy(other) => {
            let taker = SimDomain::foreign(other, &format!("/srv/{other}.img"));
            state.add_foreign_domain(host, uuid, taker);
        }
    }
    Ok(())
}

/// The domain and its own files, or copies of them, go to another host, whose pool has the same path.
fn migrate(state: &mut State, from: &str, to: &str, uuid: Uuid, left: LeftBehind) -> Result<(), String> {
    has_host(state, to)?;
    let Some(source) = state.hosts.get_mut(from) else { return Ok(()) };
    let Some(domain) = source.domains.remove(&uuid) else { return Ok(()) };
    let is_its_own = |name: &str| domain.disk_paths.iter().any(|path| path.ends_with(&format!("/{name}")));
    let mut files = Vec::new();
    for pool in source.pools.values_mut() {
        let names: BTreeSet<String> = pool.volumes.keys().filter(|name| is_its_own(name)).cloned().collect();
        for name in names {
            let file = match left {
                LeftBehind::Nothing => pool.volumes.remove(&name),
                LeftBehind::Disks | LeftBehind::Definition => pool.volumes.get(&name).cloned(),
            };
            files.extend(file.map(|file| (name, file)));
        }
    }
    let base: Vec<(String, SimVolume)> = source
        .pools
        .values()
        .flat_map(|pool| pool.volumes.iter().map(|(name, file)| (name.clone(), file.clone())))
        .filter(|(_, file)| file.foreign || !file.arrived.is_empty())
        .collect();
    if left == LeftBehind::Definition {
        let mut stays = domain.clone();
        stays.power_off();
        stays.left_by_migration = true;
        source.domains.insert(uuid, stays);
    }
    if let Some(target) = state.hosts.get_mut(to) {
        if let Some(pool) = target.pools.values_mut().next() {
            for (name, file) in base {
                pool.volumes.entry(name).or_insert(file);
            }
            pool.volumes.extend(files);
        }
        target.domains.insert(uuid, domain);
    }
    Ok(())
}

fn on_api(state: &mut State, cluster: &NamespacedName, lie: &ApiLie) -> Result<(), String> {
    let world = state.clusters.get_mut(cluster).ok_or_else(|| format!("cluster {cluster} never answered"))?;
    match lie {
        ApiLie::IsAnother => world.impostor = true,
        ApiLie::IsItself => world.impostor = false,
        ApiLie::LosesNode(node) => {
            world.nodes.remove(node).ok_or_else(|| format!("there is no node {node}"))?;
        }
        ApiLie::LosesNodes => world.nodes.clear(),
        ApiLie::ProviderId { node, id } => {
            let node = world.nodes.get_mut(node).ok_or_else(|| format!("there is no node {node}"))?;
            node.provider_id.clone_from(id);
        }
    }
    Ok(())
}

fn on_etcd(state: &mut State, cluster: &NamespacedName, lie: &EtcdLie) -> Result<(), String> {
    match lie {
        EtcdLie::Writes(count) => {
            let written = (0..*count).map_while(|_| state.etcd_write(cluster)).count() as u64;
            let short = || format!("{written} of {count} writes were acknowledged");
            return (written == *count).then_some(()).ok_or_else(short);
        }
        EtcdLie::KeepsDisk(node) => {
            let log = state.etcd_log(cluster, node).cloned();
            let log = log.ok_or_else(|| format!("{node} is no member"))?;
            state.kept_logs.insert((cluster.clone(), node.clone()), log);
            return Ok(());
        }
        EtcdLie::TurnsBack(node) => {
            let log = state.kept_logs.get(&(cluster.clone(), node.clone())).cloned();
            state.turn_etcd_back(cluster, node, log.ok_or("nobody kept that disk")?);
            return Ok(());
        }
        _ => {}
    }
    let world = state.clusters.get_mut(cluster).ok_or_else(|| format!("cluster {cluster} never answered"))?;
    let etcd = &mut world.etcd;
    match lie {
        EtcdLie::Gains(name) => {
            let id = 0x57A6_0000 + etcd.members.len() as u64;
            let member = SimMember {
                name: name.clone(),
                machine: Uuid::from_u128(u128::from(id)),
                address: Ipv4Addr::new(10, 99, 0, 9),
                is_learner: false,
            };
            etcd.members.insert(id, member);
        }
        EtcdLie::Loses(name) => {
            let id = etcd.members.iter().find(|(_, member)| member.name == *name).map(|(id, _)| *id);
            let id = id.ok_or_else(|| format!("{name} is no member"))?;
            etcd.members.remove(&id);
            etcd.removed.insert(id);
        }
        EtcdLie::IsAnother => etcd.impostor = true,
        EtcdLie::IsItself => etcd.impostor = false,
        EtcdLie::Writes(_) | EtcdLie::KeepsDisk(_) | EtcdLie::TurnsBack(_) => {}
    }
    Ok(())
}
