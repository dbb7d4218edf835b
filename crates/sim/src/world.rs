//! The world's whole state, and who may look at it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ashlar_api::NamespacedName;
use ashlar_engine::effects::{EffectError, EffectErrorKind, HostTarget, World};
use jiff::{SignedDuration, Timestamp};
use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;
use uuid::Uuid;

use crate::fault::{CallFault, CrashPoint, Late, Processes};
use crate::host::SimHost;
use crate::image::{UploadFault, UploadFaultKind};
use crate::oracle::Oracle;
use crate::record::Records;
use crate::whereabouts::Index;

/// A handle on one simulated world; clones share it.
#[derive(Clone)]
pub struct SimWorld {
    state: Arc<Mutex<State>>,
    /// Which of the Ashlars it is that sees the world through this handle.
    pub(crate) process: usize,
}

/// The truth about the simulated world.
#[derive(Clone)]
pub struct State {
    /// Virtual time.
    pub now: Timestamp,
    /// Hosts by name.
    pub hosts: BTreeMap<String, SimHost>,
    /// Whom one really gets to who asks for a host, where that is another one; several take turns.
    pub routes: BTreeMap<String, Vec<String>>,
    /// Links between hosts on which packets get lost.
    pub(crate) broken_links: crate::link::BrokenLinks,
    /// Etcd disks that somebody kept a copy of.
    pub(crate) kept_logs: BTreeMap<(NamespacedName, String), crate::MemberLog>,
    /// API servers (and what lies in their etcd) by cluster.
    pub clusters: BTreeMap<NamespacedName, SimCluster>,
    /// Addresses that somebody else uses: (bridge, address).
    pub foreign_addresses: BTreeSet<(String, Ipv4Addr)>,
    /// What happened, one line each, with the virtual time; the transcript of a scenario.
    pub trace: Vec<String>,
    /// Mutating calls that were made, by name.
    pub mutating_calls: BTreeMap<String, u64>,
    /// Calls that take something away which is no seed: domains that are ended or undefined, files, members, nodes,
    /// networks.
    pub destructive_calls: u64,
    /// Machines whose first boot fails, by name: phase and reason as the console would say.
    pub failing_boots: BTreeMap<String, (String, String)>,
    /// Machines whose guest hangs in its kernel, by name.
    pub hanging_boots: BTreeSet<String>,
    /// Machines whose kubelet is dead, by name: all else on them goes on, and no restart helps.
    pub dead_kubelets: BTreeSet<String>,
    /// Static pods that are not as they should be, by machine and pod.
    pub pods_down: BTreeMap<(String, &'static str), crate::PodTrouble>,
    /// Clusters whose controllers run and do nothing: nobody says of a node that it is not Ready.
    pub hung_controllers: BTreeSet<NamespacedName>,
    /// Kubelets ask for the certificates that they serve with when they join.
    pub kubelets_ask: bool,
    /// Files of images on the machine that runs Ashlar, by name, with their sizes.
    pub(crate) local_files: BTreeMap<String, u64>,
    /// What happens to uploads to a host.
    pub(crate) upload_faults: BTreeMap<String, UploadFault>,
    pub(crate) oracle: Oracle,
    /// By how much the clock of the machine that runs Ashlar is wrong.
    pub clock_error: SignedDuration,
    /// By how much it was wrong before that, and until when.
    pub(crate) clock_was: (SignedDuration, Timestamp),
    pub(crate) processes: Processes,
    /// Outside calls that may change something, and commits, of all processes that ended.
    pub(crate) effects: u64,
    /// When the last of them ended.
    pub(crate) ended_at: Option<Timestamp>,
    /// Calls on their way.
    pub(crate) late: Vec<Late>,
    /// What will happen by itself: when, and what.
    pub(crate) planned: Vec<(Timestamp, crate::scenario::Hand)>,
    /// What is written at this moment arrives damaged.
    pub(crate) damages: bool,
    /// So many moves from now on end without their source hearing that all has arrived.
    pub unheard_moves: u32,
    /// Disks that are being overwritten, by host and by the process that asked for it.
    pub(crate) overwriting: BTreeMap<(String, usize), usize>,
    /// So many do, and their targets answer nobody for so long after that.
    pub silencing_moves: Option<(u32, std::time::Duration)>,
    /// So many moves from now on leave their definition at the source: its libvirtd ends before it takes that away.
    pub keeping_moves: u32,
    /// What went wrong with which action, and how often.
    pub(crate) coverage: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Something changed since guests were last looked at.
    pub(crate) moved: bool,
    /// How often the world changed, or may have.
    pub(crate) changes: u64,
    /// Copies of the world at every crash point, while they are recorded.
    pub(crate) records: Option<Records>,
    /// Timers by number: when, and whom to wake.
    pub(crate) sleepers: BTreeMap<u64, (Timestamp, std::task::Waker)>,
    pub(crate) last_sleeper: u64,
    /// Where domains are; caught up with whenever somebody asks.
    pub(crate) whereabouts: Index,
    pub(crate) rng: ChaCha12Rng,
}

/// One cluster's API server.
#[derive(Clone, Debug, Default)]
pub struct SimCluster {
    /// Nodes by name.
    pub nodes: BTreeMap<String, SimNode>,
    /// Bootstrap tokens by id.
    pub tokens: BTreeMap<String, SimToken>,
    /// Applied objects: "kind/name" → add-on digest annotation, if it has one.
    pub objects: BTreeMap<String, Option<String>>,
    /// The version that kubeadm finds in the cluster's configuration.
    pub kubernetes_version: String,
    /// What people run in it, by name.
    pub apps: BTreeMap<String, crate::pods::SimApp>,
    /// Their pods, by name.
    pub pods: BTreeMap<String, crate::pods::SimPod>,
    /// Volumes of theirs that are attached to nodes: volume → node.
    pub attached: BTreeMap<String, String>,
    /// Requests for certificates that kubelets serve with, by name.
    pub csrs: BTreeMap<String, crate::SimCsr>,
    /// Deprecated APIs that the API servers were asked for, by node.
    pub deprecated: BTreeMap<String, BTreeSet<ashlar_plan::DeprecatedApi>>,
    /// Its etcd.
    pub etcd: crate::SimEtcd,
    /// The machine (its uid) on which `kubeadm init` ran.
    pub(crate) initialized_by: Option<Uuid>,
    /// Certificates of its CAs (PEM without line ends).
    pub(crate) certificates: BTreeSet<String>,
    /// Another cluster's API answers in its place.
    pub(crate) impostor: bool,
}

impl SimCluster {
    /// Certificates of its CAs.
    pub fn certificates_pem(&self) -> Vec<String> {
        let pem = |body: &String| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        self.certificates.iter().map(pem).collect()
    }
}

/// A bootstrap token in an API server.
#[derive(Clone, PartialEq, Eq)]
pub struct SimToken {
    /// When it ends.
    pub expires: Timestamp,
    pub(crate) secret: String,
    pub(crate) description: String,
}

impl std::fmt::Debug for SimToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A node in an API server.
#[derive(Clone, Debug, Default)]
pub struct SimNode {
    /// `spec.providerID`.
    pub provider_id: String,
    /// kubelet version.
    pub kubelet_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<ashlar_api::Taint>,
    /// Cordoned.
    pub unschedulable: bool,
    /// When its kubelet had renewed its lease, as it was last looked at.
    pub(crate) renewed_at: Option<Timestamp>,
    /// It was Ready then.
    pub(crate) was_ready: bool,
}

/// Start of virtual time: any fixed moment does.
const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);

impl SimWorld {
    /// An empty world.
    pub fn new(seed: u64) -> Self {
        let state = State {
            now: EPOCH,
            hosts: BTreeMap::new(),
            routes: BTreeMap::new(),
            broken_links: BTreeSet::new(),
            kept_logs: BTreeMap::new(),
            clusters: BTreeMap::new(),
            foreign_addresses: BTreeSet::new(),
            trace: Vec::new(),
            mutating_calls: BTreeMap::new(),
            destructive_calls: 0,
            failing_boots: BTreeMap::new(),
            hanging_boots: BTreeSet::new(),
            dead_kubelets: BTreeSet::new(),
            pods_down: BTreeMap::new(),
            hung_controllers: BTreeSet::new(),
            kubelets_ask: false,
            local_files: BTreeMap::new(),
            upload_faults: BTreeMap::new(),
            oracle: Oracle::default(),
            clock_error: SignedDuration::ZERO,
            clock_was: (SignedDuration::ZERO, EPOCH),
            processes: Processes::default(),
            effects: 0,
            ended_at: None,
            late: Vec::new(),
            planned: Vec::new(),
            damages: false,
            unheard_moves: 0,
            overwriting: BTreeMap::new(),
            silencing_moves: None,
            keeping_moves: 0,
            coverage: BTreeMap::new(),
            moved: true,
            changes: 0,
            records: None,
            sleepers: BTreeMap::new(),
            last_sleeper: 0,
            whereabouts: Index::default(),
            rng: ChaCha12Rng::seed_from_u64(seed),
        };
        SimWorld::from_state(state)
    }

    /// The state, to look at or to change by hand (as a person with virsh would).
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's view of this world.
    pub fn effects(&self) -> World {
        World {
            hypervisor: Arc::new(self.clone()),
            shell: Arc::new(self.clone()),
            files: Arc::new(self.clone()),
            networks: Arc::new(self.clone()),
            kube: Arc::new(self.clone()),
            etcd: Arc::new(self.clone()),
            fencer: Arc::new(self.clone()),
            clock: Arc::new(self.clone()),
            entropy: Arc::new(self.clone()),
        }
    }

    /// Another world in the given state.
    pub(crate) fn from_state(state: State) -> Self {
        SimWorld { state: Arc::new(Mutex::new(state)), process: 0 }
    }

    /// The world as another Ashlar sees it, at the same time.
    pub(crate) fn as_process(&self, process: usize) -> Self {
        SimWorld { state: Arc::clone(&self.state), process }
    }

    /// The next run is killed at the given point.
    pub fn crash_at(&self, point: Option<CrashPoint>) {
        self.state().processes[self.process].crash = point;
    }

    /// That goes wrong with every call of the next run.
    pub fn disturb_all_calls(&self, fault: Option<CallFault>) {
        self.state().processes[self.process].always = fault;
    }

    /// That goes wrong with single calls of the next run, by number.
    pub fn disturb_calls(&self, faults: impl IntoIterator<Item = (u64, CallFault)>) {
        self.state().processes[self.process].faults.extend(faults);
    }

    /// Outside calls and store commits of all runs that ended.
    pub fn effect_count(&self) -> u64 {
        self.state().effects
    }

    /// How many mutating calls were made so far.
    pub fn mutating_call_count(&self) -> u64 {
        self.state().mutating_calls.values().sum()
    }
}

impl State {
    /// Somebody sets the clock of the machine that runs Ashlar.
    pub(crate) fn set_clock_error(&mut self, error: SignedDuration) {
        self.clock_was = (self.clock_error, self.now);
        self.clock_error = error;
    }

    /// Virtual seconds since the beginning.
    pub fn elapsed_s(&self) -> i64 {
        self.now.duration_since(EPOCH).as_secs()
    }

    /// Writes a line into the transcript.
    pub fn note(&mut self, line: impl AsRef<str>) {
        if self.oracle.is_off {
            return;
        }
        let line = format!("{:>6}s {}", self.elapsed_s(), line.as_ref());
        self.oracle.hear("the trace", &line);
        self.trace.push(line);
    }

    pub(crate) fn count_mutation(&mut self, name: &str) {
        match self.mutating_calls.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.mutating_calls.insert(name.to_owned(), 1)),
        }
    }

    /// Name of the host that a target leads to.
    pub(crate) fn reached<'a>(&'a self, target: &'a HostTarget) -> &'a str {
        self.routes.get(&target.name).and_then(|hosts| hosts.first()).unwrap_or(&target.name)
    }

    /// The host that a target leads to, whatever it thinks of that.
    pub(crate) fn host_at(&self, target: &HostTarget) -> Option<&SimHost> {
        self.hosts.get(self.reached(target))
    }

    /// Hosts that a tunnel may lead over: those that answer.
    pub(crate) fn ways(&mut self, via: &[HostTarget]) -> Vec<String> {
        let answers: Vec<&HostTarget> = via.iter().filter(|host| self.host(host).is_ok()).collect();
        answers.into_iter().map(|host| self.reached(host).to_owned()).collect()
    }

    /// The next call gets to the next of them.
    pub(crate) fn turn(&mut self, target: &HostTarget) {
        if let Some(hosts) = self.routes.get_mut(&target.name) {
            hosts.rotate_left(1);
        }
    }

    /// The libvirt of the host behind a target, if it is there, answers and is ours, and is the host that was enrolled.
    pub(crate) fn host(&mut self, target: &HostTarget) -> Result<&mut SimHost, EffectError> {
        let host = self.host_by_ssh(target)?;
        match target.host_uuid {
            Some(enrolled) if enrolled != host.host_uuid => Err(EffectError::new(
                EffectErrorKind::NotOurs,
                format!(
                    "host {} says that it is the host {}, and {enrolled} was enrolled: another machine has its address, \
                     or it was installed anew. Nothing is done there. If it is right, remove the host and add it again",
                    target.name, host.host_uuid
                ),
            )),
            _ => Ok(host),
        }
    }

    /// A shell on it: as [`Self::host`], but nobody asks libvirt which host it is.
    pub(crate) fn host_by_ssh(&mut self, target: &HostTarget) -> Result<&mut SimHost, EffectError> {
        let (name, now) = (&target.name, self.now);
        let reached = self.reached(target).to_owned();
        let Some(host) = self.hosts.get_mut(&reached).filter(|host| host.reachable) else {
            return Err(EffectError::new(
                EffectErrorKind::Unreachable,
                format!("host {name}: no answer; check its network and that libvirtd runs"),
            ));
        };
        if host.ssh_host_key != target.ssh_host_key {
            return Err(EffectError::new(
                EffectErrorKind::NotOurs,
                format!("host {name}: its SSH host key is not the pinned one"),
            ));
        }
        if let Some((owner, token, since)) = host.lease {
            if owner != target.installation {
                return Err(EffectError::new(
                    EffectErrorKind::NotOurs,
                    format!("host {name} belongs to installation {owner}"),
                ));
            }
            if let Some(ours) = target.lease_token.filter(|ours| token > *ours) {
                return Err(EffectError::new(
                    EffectErrorKind::Fenced,
                    format!(
                        "host {name}: another Ashlar took this host over at {since} (its token is {token}, ours {ours})"
                    ),
                ));
            }
        }
        if let Some(ours) = target.lease_token
            && host.lease.is_none_or(|(_, token, _)| token < ours)
        {
            host.lease = Some((target.installation, ours, now));
        }
        Ok(host)
    }

    /// Moves time on, and lets everything happen that happens by itself until then.
    pub fn advance(&mut self, by: SignedDuration) {
        let until = self.now.saturating_add(by).unwrap_or(Timestamp::MAX);
        // In small strides while anything moves, so that what guests wait for from each other comes in the right order.
        let stride = SignedDuration::from_secs(1);
        while self.now < until {
            self.heed_silence();
            let moved = std::mem::take(&mut self.moved);
            self.changes += u64::from(moved);
            self.watch_nodes(moved);
            let next = if moved {
                self.now.saturating_add(stride).unwrap_or(until)
            } else {
                self.next_event().unwrap_or(until)
            };
            self.now = next.clamp(self.now, until);
            self.deliver();
            self.mend_links();
            self.end_defragmentations();
            self.let_happen();
            self.moved |= crate::guest::run_guests(self, moved);
            self.moved |= crate::pods::run(self);
            self.elect();
            self.check_step();
        }
    }

    /// When something happens next that is known already.
    fn next_event(&self) -> Option<Timestamp> {
        let planned = self.planned.iter().map(|(at, _)| *at);
        let mended = self.hosts.values().filter_map(|host| host.back_at);
        let databases = self.clusters.values().flat_map(|world| world.etcd.defragmenting.values().copied());
        planned.chain(self.late.iter().filter_map(|late| late.at)).chain(mended).chain(databases).min()
    }

    /// What was planned for now happens.
    fn let_happen(&mut self) {
        while let Some(index) = self.planned.iter().position(|(at, _)| *at <= self.now) {
            let (_, hand) = self.planned.remove(index);
            hand.happen(self);
        }
    }

    /// What happens to this chunk of an upload.
    pub(crate) fn upload_fault(&mut self, host: &str) -> Option<UploadFaultKind> {
        let fault = self.upload_faults.get_mut(host)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        self.upload_faults.remove(host).map(|fault| fault.what)
    }

    /// Cuts the link to a host for so long.
    pub(crate) fn cut(&mut self, host: &HostTarget, time: std::time::Duration) -> EffectError {
        let until = SignedDuration::try_from(time).ok().and_then(|time| self.now.checked_add(time).ok());
        if let Some(host) = self.hosts.get_mut(&host.name) {
            (host.reachable, host.back_at) = (false, until);
        }
        let message = format!("host {}: the connection was lost", host.name);
        EffectError::new(EffectErrorKind::Unreachable, message)
    }

    fn mend_links(&mut self) {
        let now = self.now;
        for host in self.hosts.values_mut().filter(|host| host.back_at.is_some_and(|at| at <= now)) {
            (host.reachable, host.back_at) = (true, None);
            self.moved = true;
        }
    }

    pub(crate) fn random(&mut self, buffer: &mut [u8]) {
        self.rng.fill_bytes(buffer);
    }
}
