//! Judges of the ten invariants (design §3). They look at the world's own truth after every step: which file exists,
//! which domain runs with which disk, what an API server was given. Of the store they believe one thing only: that
//! what stands in it was recorded, which is what "recorded intent" means.

mod fencing;
mod files;
mod host_loss;
mod illness;
mod intent;
mod migration;
mod remains;
mod remediation;
mod secrets;
mod upkeep;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ashlar_api::NamespacedName;
use ashlar_engine::effects::HostTarget;
use ashlar_store::{Key, MemoryStore};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::fault::Fate;
use crate::host::{SimDomain, SimVolume};
use crate::{SimHost, State};
pub use host_loss::HostLosses;
use secrets::Canaries;

/// A file on a host: host, pool, file name.
pub(crate) type FileId = (String, Uuid, String);

/// What the judges keep.
#[derive(Clone, Default)]
pub(crate) struct Oracle {
    /// The store behind all engines, read without passing a crash point.
    truth: Option<MemoryStore>,
    /// Limits of hosts: vCPUs and MiB that all domains together may have.
    limits: BTreeMap<String, (u64, u64)>,
    foreign_domains: BTreeMap<(String, Uuid), ForeignDomain>,
    foreign_volumes: BTreeMap<FileId, SimVolume>,
    /// Files that were created for machines, with whose the store said they were.
    created: BTreeMap<FileId, FileOwner>,
    canaries: Canaries,
    /// How often domains went on, wherever they were.
    went_on: BTreeMap<Uuid, u64>,
    /// Since when nodes work, or do not.
    nodes: illness::Nodes,
    violations: Vec<String>,
    /// A call takes effect that was asked for earlier: whether it was right to ask was judged then.
    pub(crate) forgiving: bool,
    /// When the call was asked for that takes effect now, on a host that takes its time.
    pub(crate) asked_at: Option<Timestamp>,
    /// Who voted then, as [`State::etcd_votes`] tells it.
    pub(crate) asked_votes: BTreeMap<NamespacedName, (usize, usize)>,
    /// Something changed since the world was judged.
    pub(crate) dirty: bool,
    /// Nobody judges, and nobody listens: a fleet is measured.
    pub(crate) is_off: bool,
    /// Secrets are looked for when all is over, not after each run: the same are found, in one search.
    pub(crate) searches_late: bool,
    /// Whether each host gives answers, and since when.
    heard: BTreeMap<String, (bool, Timestamp)>,
    /// What became of those that gave none.
    pub(crate) losses: HostLosses,
    /// While several daemons share the store: who changed each host last, and with which token.
    writers: Option<BTreeMap<String, (u64, usize)>>,
}

#[derive(Clone)]
struct FileOwner {
    machine: String,
    cluster: NamespacedName,
}

#[derive(Clone, PartialEq)]
struct ForeignDomain {
    name: String,
    state: ashlar_plan::DomainState,
    disk_paths: BTreeSet<String>,
    medium_path: Option<String>,
    /// When it became somebody else's, if it was ours.
    disowned_at: Option<Timestamp>,
}

impl ForeignDomain {
    /// Whether the domain is still as it was.
    fn is_as_before(&self, domain: &SimDomain) -> bool {
        ForeignDomain { disowned_at: self.disowned_at, ..ForeignDomain::of(domain) } == *self
    }

    fn of(domain: &SimDomain) -> Self {
        ForeignDomain {
            name: domain.name.clone(),
            state: domain.state,
            disk_paths: domain.disk_paths.clone(),
            medium_path: domain.medium_path.clone(),
            disowned_at: None,
        }
    }
}

impl Oracle {
    pub(crate) fn set_truth(&mut self, store: MemoryStore) {
        self.truth = Some(store);
    }

    /// What lies behind all engines.
    pub(crate) fn truth(&self) -> Option<&MemoryStore> {
        self.truth.as_ref()
    }

    pub(crate) fn set_limits(&mut self, host: &str, vcpus: u64, memory_mib: u64) {
        self.limits.insert(host.to_owned(), (vcpus, memory_mib));
    }

    /// Begins, or ends, to judge who changes hosts.
    pub(crate) fn watch_writers(&mut self, does: bool) {
        self.writers = does.then(BTreeMap::new);
    }

    /// A process changed a host with a token: never with an older one than somebody before, and each has its own.
    pub(crate) fn hear_writer(&mut self, host: &str, token: u64, process: usize) {
        let Some(writers) = &mut self.writers else { return };
        let before = writers.insert(host.to_owned(), (token, process));
        if let Some((last, other)) = before
            && (token < last || (token == last && process != other))
        {
            self.violated(
                "one writer",
                format!(
                    "daemon {process} changed host {host} with token {token} after daemon {other} with {last}"
                ),
            );
        }
    }

    /// Machines that the cluster ever had files for, by name.
    fn machines_of(&self, cluster: &NamespacedName) -> BTreeSet<String> {
        let owners = self.created.values().filter(|owner| owner.cluster == *cluster);
        owners.map(|owner| owner.machine.clone()).collect()
    }

    /// All stored objects of a kind.
    fn stored(&self, kind: &str) -> Vec<(Key, Arc<Value>)> {
        self.truth.as_ref().map(|store| store.peek_kind(kind)).unwrap_or_default()
    }

    fn violated(&mut self, invariant: &str, what: String) {
        let line = format!("{invariant}: {what}");
        if !self.violations.contains(&line) {
            self.violations.push(line);
        }
    }
}

impl State {
    /// What the judges found so far. Empty is what everybody hopes for.
    pub fn violations(&self) -> &[String] {
        &self.oracle.violations
    }

    /// A domain that is not Ashlar's: from now on it must stay as it is.
    pub fn add_foreign_domain(&mut self, host: &str, uuid: Uuid, domain: SimDomain) {
        self.oracle.foreign_domains.insert((host.to_owned(), uuid), ForeignDomain::of(&domain));
        self.with_host(host, |host| host.domains.insert(uuid, domain));
    }

    /// A file that is not Ashlar's: from now on it must stay as it is.
    pub fn add_foreign_volume(&mut self, host: &str, pool: Uuid, file_name: &str, volume: SimVolume) {
        self.oracle.foreign_volumes.insert((host.to_owned(), pool, file_name.to_owned()), volume.clone());
        self.with_host(host, |host| {
            host.pools.get_mut(&pool).and_then(|pool| pool.volumes.insert(file_name.to_owned(), volume))
        });
    }

    /// A domain that is ours becomes somebody else's as it is now: its mark was taken off, say.
    pub fn disown_domain(&mut self, host: &str, uuid: Uuid) {
        let domain = self.hosts.get(host).and_then(|host| host.domains.get(&uuid)).map(ForeignDomain::of);
        if let Some(domain) = domain {
            let domain = ForeignDomain { disowned_at: Some(self.now), ..domain };
            self.oracle.foreign_domains.insert((host.to_owned(), uuid), domain);
        }
    }

    /// A person, its host or its guest did something to a domain: if it is nobody's that we know, from now on it must stay as it is now.
    pub(crate) fn touched_by_hand(&mut self, host: &str, uuid: Uuid) {
        let key = (host.to_owned(), uuid);
        let domain = self.hosts.get(host).and_then(|host| host.domains.get(&uuid)).map(ForeignDomain::of);
        let Some(before) = self.oracle.foreign_domains.get_mut(&key) else { return };
        match domain {
            Some(domain) => *before = ForeignDomain { disowned_at: before.disowned_at, ..domain },
            None => drop(self.oracle.foreign_domains.remove(&key)),
        }
    }

    /// A judge that holds a host for smaller than it is: what tests of the adversary need to be broken.
    pub fn limit_capacity(&mut self, host: &str, vcpus: u64, memory_mib: u64) {
        self.oracle.set_limits(host, vcpus, memory_mib);
    }

    /// The world was changed by hand: it is judged again at the next step.
    pub fn touched(&mut self) {
        self.oracle.dirty = true;
        self.moved = true;
    }

    /// A plan that was shown to somebody.
    pub fn hear_plan(&mut self, text: &str) {
        self.oracle.hear("a plan", text);
    }

    /// Whether the host lets the caller change anything. One that does not answer, is another one, or obeys a newer Ashlar
    /// refuses, and what was asked of it harms nobody. Where nobody judges, nobody asks.
    pub(crate) fn takes_calls(&self, target: &HostTarget) -> bool {
        if self.oracle.is_off {
            return false;
        }
        let Some(host) = self.host_at(target) else { return false };
        host.reachable
            && host.ssh_host_key == target.ssh_host_key
            && target.host_uuid.is_none_or(|enrolled| enrolled == host.host_uuid)
            && host.lease.is_none_or(|(owner, token, _)| {
                owner == target.installation && target.lease_token.is_none_or(|ours| token <= ours)
            })
    }

    /// When was decided what is done now: Who sleeps right before a call makes it when he wakes, and a slow host takes its
    /// time.
    fn decided_at(&self) -> Timestamp {
        let asked_at = self.oracle.asked_at.unwrap_or(self.now);
        self.who_just_woke().filter_map(|process| process.asleep_since).min().unwrap_or(asked_at)
    }

    fn who_just_woke(&self) -> impl Iterator<Item = &Fate> {
        let asked_at = self.oracle.asked_at.unwrap_or(self.now);
        self.processes.iter().filter(move |process| process.woke_at == Some(asked_at))
    }

    /// Whether an object's deletion was recorded when the call was asked for that takes effect now. What was recorded while
    /// a slow host had the call could not be known.
    fn was_deleting(&self, object: &Value) -> bool {
        let recorded = field(object, "/metadata/deletionTimestamp").parse::<Timestamp>();
        let recorded = recorded.ok().map(|at| at.saturating_sub(self.clock_error).unwrap_or(at));
        is_deleting(object) && self.oracle.asked_at.is_none_or(|asked| recorded.is_none_or(|at| at < asked))
    }

    /// A promise was broken.
    pub(crate) fn oracle_violated(&mut self, promise: &str, what: String) {
        if !self.oracle.is_off {
            self.oracle.violated(promise, what);
        }
    }

    /// The uid of an object in the store.
    pub(crate) fn stored_uid(&self, kind: &str, name: &NamespacedName) -> Option<Uuid> {
        field(&*self.stored_object(kind, name)?, "/metadata/uid").parse().ok()
    }

    fn with_host<T>(&mut self, host: &str, change: impl FnOnce(&mut SimHost) -> T) -> Option<T> {
        self.oracle.dirty = true;
        self.hosts.get_mut(host).map(change)
    }

    /// Looks for secrets when a run has ended.
    pub(crate) fn search_after_run(&mut self) {
        if !self.oracle.searches_late {
            self.search_for_secrets();
        }
    }

    /// Looks for secrets in all that was said and stored. Done when a run ends, or later: it is too slow for every step.
    pub fn search_for_secrets(&mut self) {
        for what in self.oracle.canaries.search() {
            self.oracle.violated("secrets", what);
        }
    }

    /// Judges the world, if anything changed since it was judged last.
    pub(crate) fn check_step(&mut self) {
        if std::mem::take(&mut self.oracle.dirty) {
            self.moved = true;
            let found = if self.oracle.is_off { Vec::new() } else { world::judge(self) };
            for (invariant, what) in found {
                self.oracle.violated(invariant, what);
            }
        }
    }
}

/// A field of a stored object.
fn field<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn is_deleting(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
}
