//! The commands.

use std::net::Ipv4Addr;
use std::time::Duration;

use ashlar_api::{DrainBy, Mebibytes, NamespacedName};

use crate::image::{UploadFault, UploadFaultKind};
use crate::{CrashPoint, DaemonFault, HostOptions, Moment, fixtures};

/// One command of a scenario.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Host(HostOptions),
    HostIs {
        host: String,
        state: HostState,
    },
    Pool {
        host: String,
        state: PoolState,
    },
    Lose {
        host: String,
        word: String,
    },
    Image(String),
    /// Image files are sent in chunks of so many MiB.
    Chunks(u64),
    UploadFault {
        host: String,
        fault: UploadFault,
    },
    Apply(String),
    Plan(Option<String>),
    PreviewDrain {
        host: String,
        by: DrainBy,
    },
    Run {
        goal: GoalWord,
        cluster: Option<NamespacedName>,
        /// Of two engines, the second looks after this one.
        other: Option<NamespacedName>,
        deadline: Duration,
        worker: WorkerWord,
    },
    /// A daemon works for so long.
    Serve(Duration),
    /// Two daemons share the store for so long.
    ServeByTwo {
        time: Duration,
        faults: Vec<(usize, DaemonFault)>,
    },
    /// It looks after the clusters' etcd, too.
    ServeAndKeep(Duration),
    /// What a cluster's etcd is like, for who looks after it.
    Etcd {
        cluster: NamespacedName,
        is: EtcdWord,
    },
    Delete {
        kind: String,
        name: NamespacedName,
    },
    SetStopped {
        cluster: NamespacedName,
        stopped: bool,
        force: bool,
    },
    SetPaused {
        cluster: NamespacedName,
        paused: bool,
    },
    ReplaceMachine(NamespacedName),
    KeepMachine(NamespacedName),
    Maintain {
        host: String,
        verb: MaintenanceVerb,
    },
    Status,
    Foreign(Foreign),
    /// People run an app in a cluster, or change it.
    App {
        cluster: NamespacedName,
        name: String,
        replicas: u32,
        min_available: Option<u32>,
        volumes: bool,
    },
    Virsh {
        host: String,
        verb: VirshVerb,
        domain: String,
    },
    /// Something lies.
    Lie(super::lie::Lie),
    /// People change a definition or a node.
    ByHand(super::drift::Edit),
    /// Rows of the store are lost: all of a kind, or one.
    LoseObjects {
        kind: String,
        name: Option<NamespacedName>,
    },
    /// A person edits a row of the store.
    Edit {
        kind: String,
        name: NamespacedName,
        pointer: String,
        value: String,
    },
    /// Destructive calls are counted from here on.
    Watch,
    /// A person removes a rule of a network, or all of it.
    BreakNetwork {
        host: String,
        network: String,
        whole: bool,
    },
    FailBoot {
        machine: String,
        phase: String,
        reason: String,
    },
    HangBoot(String),
    MendBoot(String),
    Crash(CrashPoint),
    Expect(Expectation),
    Trace(bool),
    Wait(Duration),
    /// The world's dice.
    Seed(u64),
    /// How often an engine looks.
    Poll(Duration),
    /// How long an engine waits after one end for others, before it looks again.
    Gather(Duration),
    KeepStore,
    /// An old copy of the store is put back.
    RestoreStore,
    Trouble(super::trouble::Trouble),
    /// It happens by itself after a while, in the middle of whatever goes on.
    After(Duration, Box<super::Hand>),
}

/// What a person says to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MaintenanceVerb {
    Cordon,
    Drain(DrainBy),
    /// People say so only of a host that has no power.
    Fence,
    Uncordon,
}

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerWord {
    /// A command of its own.
    Command,
    /// Two at once, as two commands that both got past the lock would.
    TwoCommands,
    /// A daemon, which a command watches.
    Daemon,
}

/// What a cluster's etcd is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EtcdWord {
    /// The databases of all members.
    MostlyRoom,
    DefragmentTakes(Duration),
    CopyTakes(Duration),
}

/// What becomes of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostState {
    Down,
    Up,
    Off,
    /// Without power, but for its BMC.
    Halted,
    On,
    Hung,
}

/// What becomes of a host's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolState {
    Full,
    Unmounted,
    Hidden,
    Mounted,
    CopiesOnWrite,
}

/// What is not Ashlar's.
#[derive(Clone, Debug)]
pub(crate) enum Foreign {
    Domain {
        host: String,
        name: String,
    },
    Volume {
        host: String,
        file: String,
    },
    Address {
        bridge: String,
        address: Ipv4Addr,
    },
    /// An interface with the name of the bridge that the network would get.
    Part {
        host: String,
        network: String,
    },
}

/// What a person does with virsh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VirshVerb {
    Destroy,
    Undefine,
    Start,
    StripMark,
    Replace,
}

/// What a run is to bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GoalWord {
    Ready,
    Gone,
    Stopped,
    Started,
    Settled,
}

/// What must hold.
#[derive(Clone, Debug)]
pub(crate) enum Expectation {
    /// Requests for serving certificates: approved, denied, undecided.
    Csrs {
        cluster: NamespacedName,
        counts: (usize, usize, usize),
    },
    Idle,
    Gone(NamespacedName),
    Ready(NamespacedName),
    Domains {
        host: String,
        count: usize,
    },
    Networks {
        host: String,
        count: usize,
    },
    Voters {
        cluster: NamespacedName,
        count: usize,
    },
    Api {
        cluster: NamespacedName,
        answers: bool,
    },
    Error(String),
    /// No destructive call since the last `watch`.
    NoDestruction,
    /// Nothing of ours is on a host that belongs to nothing.
    NoOrphans,
    Condition {
        reason: String,
        kind: String,
        name: NamespacedName,
    },
}

/// Reads one command.
pub(super) fn parse(text: &str, document: Option<String>) -> Result<Command, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let has_document = document.is_some();
    if let Some(command) = super::trouble::parse(&words) {
        return command;
    }
    if !has_document && let Some(daemons) = super::daemons::parse(&words) {
        return daemons;
    }
    if !has_document && let Some(edit) = super::drift::parse(&words) {
        return edit;
    }
    if !has_document && let Some(lie) = super::lie::parse(&words) {
        return lie;
    }
    let command = match (words.as_slice(), document) {
        (["apply"], Some(yaml)) => Command::Apply(yaml),
        (["plan"], yaml) => Command::Plan(yaml),
        (_, Some(_)) => return Err(format!("`{text}` takes no document after `<<`")),
        (["host", host, state @ ("down" | "up" | "off" | "halted" | "on" | "hung")], None) => {
            let state = match *state {
                "down" => HostState::Down,
                "up" => HostState::Up,
                "off" => HostState::Off,
                "halted" => HostState::Halted,
                "on" => HostState::On,
                _ => HostState::Hung,
            };
            Command::HostIs { host: (*host).to_owned(), state }
        }
        (["host", name, options @ ..], None) => Command::Host(host(name, options)?),
        (["pool", host, "copies", "on", "write"], None) => {
            Command::Pool { host: (*host).to_owned(), state: PoolState::CopiesOnWrite }
        }
        (["pool", host, state], None) => {
            let state = match *state {
                "full" => PoolState::Full,
                "unmounted" => PoolState::Unmounted,
                "hidden" => PoolState::Hidden,
                "mounted" => PoolState::Mounted,
                other => return Err(unknown("state of a pool", other, "full, unmounted, hidden, mounted")),
            };
            Command::Pool { host: (*host).to_owned(), state }
        }
        (["lose", "volume", host, word], None) => {
            Command::Lose { host: (*host).to_owned(), word: (*word).to_owned() }
        }
        (["standard", "objects"], None) => Command::Apply(fixtures::POOL_OBJECTS.to_owned()),
        (["network", name, cidr, options @ ..], None) => Command::Apply(network(name, cidr, options)?),
        (["class", name, options @ ..], None) => Command::Apply(class(name, options)?),
        (["image", version], None) => Command::Image((*version).to_owned()),
        (["chunks", "of", size], None) => Command::Chunks(size_mib(size)?),
        (["damage", "upload", number, "to", host], None) => {
            upload_fault(host, number, UploadFaultKind::Damage)?
        }
        (["cut", "upload", number, "to", host, "for", time], None) => {
            upload_fault(host, number, UploadFaultKind::Cut(duration(time)?))?
        }
        (["cluster", name, options @ ..], None) => Command::Apply(cluster(name, options)?),
        (["run", "until", rest @ ..], None) => run(rest)?,
        (["delete", kind, name], None) => {
            Command::Delete { kind: (*kind).to_owned(), name: namespaced(name) }
        }
        ([verb @ ("stop" | "start"), "cluster", name], None) => {
            Command::SetStopped { cluster: namespaced(name), stopped: *verb == "stop", force: false }
        }
        ([verb @ ("pause" | "resume"), "cluster", name], None) => {
            Command::SetPaused { cluster: namespaced(name), paused: *verb == "pause" }
        }
        (["replace", "machine", name], None) => Command::ReplaceMachine(namespaced(name)),
        (["replace", "machine", name, "cancel"], None) => Command::KeepMachine(namespaced(name)),
        ([verb @ ("cordon" | "drain" | "fence" | "uncordon"), "host", host], None) => {
            let verb = match *verb {
                "cordon" => MaintenanceVerb::Cordon,
                "drain" => MaintenanceVerb::Drain(DrainBy::Migration),
                "fence" => MaintenanceVerb::Fence,
                _ => MaintenanceVerb::Uncordon,
            };
            Command::Maintain { host: (*host).to_owned(), verb }
        }
        (["drain", "host", host, "by", "replacement"], None) => {
            Command::Maintain { host: (*host).to_owned(), verb: MaintenanceVerb::Drain(DrainBy::Replacement) }
        }
        (["preview", "drain", "host", host], None) => {
            Command::PreviewDrain { host: (*host).to_owned(), by: DrainBy::Migration }
        }
        (["preview", "drain", "host", host, "by", "replacement"], None) => {
            Command::PreviewDrain { host: (*host).to_owned(), by: DrainBy::Replacement }
        }
        (["stop", "cluster", name, "by", "force"], None) => {
            Command::SetStopped { cluster: namespaced(name), stopped: true, force: true }
        }
        (["app", name, "on", cluster, "replicas", replicas, budget @ ..], None) => {
            app(name, cluster, replicas, budget)?
        }
        (["status"], None) => Command::Status,
        (["foreign", "domain", host, name], None) => {
            Command::Foreign(Foreign::Domain { host: (*host).to_owned(), name: (*name).to_owned() })
        }
        (["foreign", "volume", host, file], None) => {
            Command::Foreign(Foreign::Volume { host: (*host).to_owned(), file: (*file).to_owned() })
        }
        (["foreign", "address", bridge, address], None) => Command::Foreign(Foreign::Address {
            bridge: (*bridge).to_owned(),
            address: address.parse().map_err(|_| format!("`{address}` is no IPv4 address"))?,
        }),
        (["virsh", host, verb, domain], None) => {
            let verb = match *verb {
                "destroy" => VirshVerb::Destroy,
                "undefine" => VirshVerb::Undefine,
                "start" => VirshVerb::Start,
                "strip-mark" => VirshVerb::StripMark,
                "replace" => VirshVerb::Replace,
                other => {
                    return Err(unknown(
                        "virsh verb",
                        other,
                        "destroy, undefine, start, strip-mark, replace",
                    ));
                }
            };
            Command::Virsh { host: (*host).to_owned(), verb, domain: (*domain).to_owned() }
        }
        (["fail", "boot", machine, phase, reason], None) => Command::FailBoot {
            machine: (*machine).to_owned(),
            phase: (*phase).to_owned(),
            reason: (*reason).to_owned(),
        },
        (["hang", "boot", machine], None) => Command::HangBoot((*machine).to_owned()),
        (["mend", "boot", machine], None) => Command::MendBoot((*machine).to_owned()),
        (["crash", "at", "effect", number, when @ ("before" | "after")], None) => {
            Command::Crash(CrashPoint { effect: count(number)?, moment: moment(when) })
        }
        (["expect", "idle"], None) => Command::Expect(Expectation::Idle),
        (["expect", "gone", "cluster", name], None) => Command::Expect(Expectation::Gone(namespaced(name))),
        (["expect", "ready", "cluster", name], None) => Command::Expect(Expectation::Ready(namespaced(name))),
        (["expect", "domains", host, number], None) => {
            Command::Expect(Expectation::Domains { host: (*host).to_owned(), count: count(number)? as usize })
        }
        (["expect", "networks", host, number], None) => Command::Expect(Expectation::Networks {
            host: (*host).to_owned(),
            count: count(number)? as usize,
        }),
        (["break", "network", name, "on", host], None) => {
            Command::BreakNetwork { host: (*host).to_owned(), network: (*name).to_owned(), whole: false }
        }
        (["remove", "network", name, "on", host], None) => {
            Command::BreakNetwork { host: (*host).to_owned(), network: (*name).to_owned(), whole: true }
        }
        (["foreign", "part", host, "of", network], None) => {
            Command::Foreign(Foreign::Part { host: (*host).to_owned(), network: (*network).to_owned() })
        }
        (["expect", "voters", cluster, number], None) => Command::Expect(Expectation::Voters {
            cluster: namespaced(cluster),
            count: count(number)? as usize,
        }),
        (["expect", "csrs", cluster, "approved", approved, "denied", denied, "open", open], None) => {
            Command::Expect(Expectation::Csrs {
                cluster: namespaced(cluster),
                counts: (count(approved)? as usize, count(denied)? as usize, count(open)? as usize),
            })
        }
        (["expect", "api", cluster, state @ ("answers" | "silent")], None) => {
            let answers = *state == "answers";
            Command::Expect(Expectation::Api { cluster: namespaced(cluster), answers })
        }
        (["expect", "error", words @ ..], None) if !words.is_empty() => {
            Command::Expect(Expectation::Error(words.join(" ")))
        }
        (["lose", "objects", kind], None) => Command::LoseObjects { kind: (*kind).to_owned(), name: None },
        (["lose", "objects", kind, name], None) => {
            Command::LoseObjects { kind: (*kind).to_owned(), name: Some(namespaced(name)) }
        }
        (["edit", kind, name, pointer, value @ ..], None) if !value.is_empty() => Command::Edit {
            kind: (*kind).to_owned(),
            name: namespaced(name),
            pointer: (*pointer).to_owned(),
            value: value.join(" "),
        },
        (["watch"], None) => Command::Watch,
        (["expect", "no", "destruction"], None) => Command::Expect(Expectation::NoDestruction),
        (["expect", "no", "orphans"], None) => Command::Expect(Expectation::NoOrphans),
        (["expect", "condition", reason, "on", kind, name], None) => {
            Command::Expect(Expectation::Condition {
                reason: (*reason).to_owned(),
                kind: (*kind).to_owned(),
                name: namespaced(name),
            })
        }
        (["trace", state @ ("on" | "off")], None) => Command::Trace(*state == "on"),
        (["wait", time], None) => Command::Wait(duration(time)?),
        (["serve", "for", time], None) => Command::Serve(duration(time)?),
        (["serve", "for", time, "with", "upkeep"], None) => Command::ServeAndKeep(duration(time)?),
        (["etcd", cluster, "is", "mostly", "room"], None) => {
            Command::Etcd { cluster: namespaced(cluster), is: EtcdWord::MostlyRoom }
        }
        (["etcd", cluster, "takes", time, "to", "defragment"], None) => {
            Command::Etcd { cluster: namespaced(cluster), is: EtcdWord::DefragmentTakes(duration(time)?) }
        }
        (["etcd", cluster, "takes", time, "to", "copy"], None) => {
            Command::Etcd { cluster: namespaced(cluster), is: EtcdWord::CopyTakes(duration(time)?) }
        }
        _ => return Err(format!("`{text}` is no command; see crates/sim/README.md")),
    };
    if matches!(command, Command::Apply(_)) && text == "apply" && !has_document {
        return Err("`apply <<` takes YAML up to a line `end`".to_owned());
    }
    Ok(command)
}

fn app(name: &str, cluster: &str, replicas: &str, budget: &[&str]) -> Result<Command, String> {
    let number = |text: &str| u32::try_from(count(text)?).map_err(|error| error.to_string());
    let (budget, volumes) = match budget {
        [rest @ .., "with", "volumes"] => (rest, true),
        rest => (rest, false),
    };
    let min_available = match budget {
        [] => None,
        ["min-available", least] => Some(number(least)?),
        _ => {
            return Err(
                "an app is `app NAME on CLUSTER replicas N [min-available N] [with volumes]`".to_owned()
            );
        }
    };
    let (name, cluster) = (name.to_owned(), namespaced(cluster));
    Ok(Command::App { cluster, name, replicas: number(replicas)?, min_available, volumes })
}

/// What happens to the n-th chunk from now on, counted from 1.
fn upload_fault(host: &str, number: &str, what: UploadFaultKind) -> Result<Command, String> {
    let after = count(number)?.checked_sub(1).ok_or("chunks are counted from 1")?;
    Ok(Command::UploadFault { host: host.to_owned(), fault: UploadFault { after, what } })
}

fn unknown(what: &str, word: &str, known: &str) -> String {
    format!("`{word}` is no {what}; there are {known}")
}

pub(super) fn namespaced(text: &str) -> NamespacedName {
    match text.split_once('/') {
        Some((namespace, name)) => NamespacedName::new(namespace, name),
        None => NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, text),
    }
}

/// `before`, or `after`.
pub(super) fn moment(text: &str) -> Moment {
    if text == "before" { Moment::Before } else { Moment::After }
}

pub(super) fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

pub(super) fn size_mib(text: &str) -> Result<u64, String> {
    text.parse::<Mebibytes>().map(|size| size.0).map_err(|_| format!("`{text}` is no size (`4Gi`)"))
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no time (`20ms`, `30s`, `20m`, `2h`)");
    if let Some(number) = text.strip_suffix("ms") {
        return number.parse().map(Duration::from_millis).map_err(|_| bad());
    }
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(bad()),
    }
}

fn host(name: &str, words: &[&str]) -> Result<HostOptions, String> {
    let mut options = HostOptions::big(name);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("`{word}` takes a value"));
        match *word {
            "threads" => {
                options.threads = u32::try_from(count(value()?)?).map_err(|error| error.to_string())?;
            }
            "memory" => options.memory_mib = size_mib(value()?)?,
            "pool" => options.pool_mib = size_mib(value()?)?,
            "rack" => options.rack = (*value()?).to_owned(),
            "fencing" => {
                let after = duration(value()?)?.as_secs();
                options.fence_after_s = Some(u32::try_from(after).map_err(|error| error.to_string())?);
            }
            "no-kvm" => options.kvm = false,
            "no-vxlan" => options.vxlan = false,
            "mtu" => {
                options.underlay_mtu = u16::try_from(count(value()?)?).map_err(|error| error.to_string())?;
            }
            other => {
                let known = "threads, memory, pool, rack, fencing, no-kvm, no-vxlan, mtu";
                return Err(unknown("option of a host", other, known));
            }
        }
    }
    Ok(options)
}

fn network(name: &str, cidr: &str, words: &[&str]) -> Result<String, String> {
    let net: Vec<&str> = cidr.split('.').collect();
    let [a, b, ..] = net.as_slice() else { return Err(format!("`{cidr}` is no CIDR")) };
    let mut attachment = "bridge: br0".to_owned();
    let mut more = String::new();
    let mut range = (format!("{a}.{b}.1.1"), format!("{a}.{b}.1.250"));
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` takes a value"))?;
        match *word {
            "bridge" => attachment = format!("bridge: {value}"),
            "vxlan" => attachment = format!("vxlan: {{vni: {value}}}"),
            "nat" => attachment = format!("nat: {{}}, hosts: [{value}]"),
            "mtu" => more += &format!("  mtu: {value}\n"),
            "egress" => more += &format!("  egress: {value}\n"),
            "range" => {
                let (first, last) = value.split_once('-').ok_or("a range is FIRST-LAST")?;
                range = (first.to_owned(), last.to_owned());
            }
            other => {
                return Err(unknown("option of a network", other, "bridge, vxlan, nat, mtu, egress, range"));
            }
        }
    }
    Ok(format!(
        "apiVersion: ashlar.dev/v1alpha1\nkind: Network\nmetadata: {{name: {name}}}\nspec:\n  \
         attachment: {{{attachment}}}\n{more}  cidrs: [{cidr}]\n  gateway: {a}.{b}.0.1\n  \
         ranges: [{{first: {}, last: {}}}]\n",
        range.0, range.1
    ))
}

fn class(name: &str, words: &[&str]) -> Result<String, String> {
    let (mut vcpus, mut memory, mut root, mut etcd) = ("2", "2Gi", "10Gi", "4Gi");
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` takes a value"))?;
        match *word {
            "vcpus" => vcpus = value,
            "memory" => memory = value,
            "root-disk" => root = value,
            "etcd-disk" => etcd = value,
            other => {
                return Err(unknown("option of a class", other, "vcpus, memory, root-disk, etcd-disk"));
            }
        }
    }
    Ok(format!(
        "apiVersion: ashlar.dev/v1alpha1\nkind: MachineClass\nmetadata: {{name: {name}}}\n\
         spec: {{vcpus: {vcpus}, memory: {memory}, rootDisk: {root}, etcdDisk: {etcd}}}\n"
    ))
}

fn cluster(name: &str, words: &[&str]) -> Result<String, String> {
    let (mut control_planes, mut workers, mut network) = ("1", "1", "lab");
    let (mut version, mut spread) = (fixtures::VERSION, "preferred");
    let (mut class, mut worker_class) = ("small", "small");
    let (mut address, mut timeout, mut admission, mut label, mut drift) = (None, None, None, None, None);
    let mut wipe_disks = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{word}` takes a value"))?;
        match *word {
            "control-planes" => control_planes = value,
            "workers" => workers = value,
            "network" => network = value,
            "version" => version = value,
            "spread" => spread = value,
            "label" => label = value.split_once('='),
            "admission" => admission = Some(*value),
            "drift" => drift = Some(*value),
            "wipe-disks" => wipe_disks = Some(*value),
            "class" => class = value,
            "worker-class" => worker_class = value,
            "address" => address = Some(*value),
            "startup-timeout" => timeout = Some(duration(value)?.as_secs()),
            other => {
                let known = "control-planes, workers, network, version, spread, class, worker-class, address, \
                             startup-timeout, admission, drift, label, wipe-disks";
                return Err(unknown("option of a cluster", other, known));
            }
        }
    }
    // `own` is what a cluster gets that names none.
    let network = if network == "own" { String::new() } else { format!("  network: {network}\n") };
    let named = namespaced(name);
    let endpoint = address.map(|address| format!("  endpoint: {{address: {address}}}\n")).unwrap_or_default();
    let timeout = timeout.map(|seconds| format!("  nodeStartupTimeoutS: {seconds}\n")).unwrap_or_default();
    let admission = admission.map(|admission| format!("  admission: {admission}\n")).unwrap_or_default();
    let drift = drift.map(|policy| format!("  drift: {{policy: {policy}}}\n")).unwrap_or_default();
    let wipe_disks = wipe_disks.map(|what| format!("  wipeDisks: {what}\n")).unwrap_or_default();
    let label = label.map(|(key, value)| format!(", labels: {{{key}: \"{value}\"}}")).unwrap_or_default();
    Ok(format!(
        "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {}, namespace: {}}}\nspec:\n  \
         kubernetesVersion: {version}\n{network}{endpoint}{timeout}{admission}{drift}{wipe_disks}  \
         controlPlane: {{replicas: {control_planes}, class: {class}, spread: {spread}}}\n  \
         workers: [{{name: wkr, class: {worker_class}, replicas: {workers}{label}}}]\n",
        named.name, named.namespace
    ))
}

fn run(words: &[&str]) -> Result<Command, String> {
    let mut deadline = Duration::from_secs(20 * 60);
    let mut worker = WorkerWord::Command;
    let mut words = words;
    loop {
        words = match words {
            [rest @ .., "within", time] => {
                deadline = duration(time)?;
                rest
            }
            [rest @ .., "by", "two", "engines"] => {
                worker = WorkerWord::TwoCommands;
                rest
            }
            [rest @ .., "by", "the", "daemon"] => {
                worker = WorkerWord::Daemon;
                rest
            }
            _ => break,
        };
    }
    let mut other = None;
    let (goal, cluster) = match words {
        ["settled"] => (GoalWord::Settled, None),
        ["clusters", name, "and", another, "settled"] => {
            worker = WorkerWord::TwoCommands;
            other = Some(namespaced(another));
            (GoalWord::Settled, Some(namespaced(name)))
        }
        ["cluster", name, goal] => {
            let goal = match *goal {
                "ready" => GoalWord::Ready,
                "gone" => GoalWord::Gone,
                "stopped" => GoalWord::Stopped,
                "started" => GoalWord::Started,
                other => return Err(unknown("goal", other, "ready, gone, stopped, started")),
            };
            (goal, Some(namespaced(name)))
        }
        _ => return Err("run until what? `cluster NAME ready|gone|stopped|started`, `clusters ONE and ANOTHER settled` or `settled`".to_owned()),
    };
    Ok(Command::Run { goal, cluster, other, deadline, worker })
}
