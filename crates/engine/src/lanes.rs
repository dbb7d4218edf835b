//! Steps under way: one lane for each object, in which its steps are taken one after the other.
//!
//! Lanes go on while the next passes observe and plan, so that a long upload to one host delays nobody else. An object
//! whose lane is busy gets no second one.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ashlar_api::{Kind, NamespacedName, ObjectRef};
use ashlar_plan::{Action, Plan, Snapshot, Step, StepState, network, overwriting};
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use tokio::sync::Semaphore;

use crate::{
    Engine, EngineError,
    exec::Networks,
    history::Told,
    lane::{LaneEnd, LaneView, run_lane},
    retry::Retries,
};

/// Who waits for the end of one step never waits longer for those of others.
const GATHER_AT_MOST: Duration = Duration::from_secs(2);

/// Bounds the calls on each host. The semaphore needs no runtime and serves in order of arrival.
#[derive(Default)]
pub(crate) struct HostLimits {
    hosts: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

impl HostLimits {
    pub(crate) fn of(&self, host: &str, limit: usize) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(limit.max(1)))).clone()
    }
}

/// What one run remembers.
#[derive(Default)]
pub(crate) struct RunMemory {
    pub(crate) retries: Retries,
    pub(crate) told: Told,
    /// No step is begun any more.
    pub(crate) stopping: AtomicBool,
}

/// A lane under way, seen from outside.
struct Busy {
    /// What its steps are for was to stay when it began.
    builds: bool,
    /// It takes no further step.
    recalled: Arc<AtomicBool>,
    /// Where its steps are taken.
    hosts: BTreeSet<String>,
    /// Where it overwrites disks.
    overwrites: BTreeSet<String>,
}

/// The lanes of a run.
pub(crate) struct Lanes<'a> {
    engine: &'a Engine,
    memory: &'a RunMemory,
    running: FuturesUnordered<BoxFuture<'a, LaneEnd>>,
    busy: BTreeMap<ObjectRef, Busy>,
    /// Actions that ended well.
    pub(crate) actions: u32,
    /// Objects whose lanes ended since the pass began: what it saw of them may be older than what the lane did.
    ended: BTreeSet<ObjectRef>,
    /// Hosts of lanes that ended, until somebody asks.
    changed_hosts: BTreeSet<String>,
    failed: Option<EngineError>,
    /// What the last pass took.
    pub(crate) looked_for: Duration,
}

impl<'a> Lanes<'a> {
    pub(crate) fn new(engine: &'a Engine, memory: &'a RunMemory) -> Self {
        Lanes {
            engine,
            memory,
            running: FuturesUnordered::new(),
            busy: BTreeMap::new(),
            actions: 0,
            ended: BTreeSet::new(),
            changed_hosts: BTreeSet::new(),
            failed: None,
            looked_for: Duration::ZERO,
        }
    }

    /// A new pass looks at the world from now on.
    pub(crate) fn begin_pass(&mut self) {
        self.ended.clear();
    }

    /// Hosts on which lanes ended since this was asked last: what was asked of them before is out of date.
    pub(crate) fn take_changed_hosts(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed_hosts)
    }

    /// Whether a lane of the object is under way, or ended after the pass began to look: what the pass knows about it
    /// may be out of date.
    pub(crate) fn is_touched(&self, object: &ObjectRef) -> bool {
        self.busy.contains_key(object) || self.ended.contains(object)
    }

    /// Machines of which the same is true.
    pub(crate) fn touched_machines(&self) -> BTreeSet<NamespacedName> {
        let touched = self.busy.keys().chain(&self.ended);
        touched.filter(|object| object.kind == Kind::Machine).map(ObjectRef::key).collect()
    }

    /// Whoever overwrites disks, and on which hosts.
    pub(crate) fn overwriting(&self) -> BTreeMap<ObjectRef, BTreeSet<String>> {
        let overwriting = self.busy.iter().filter(|(_, lane)| !lane.overwrites.is_empty());
        overwriting.map(|(object, lane)| (object.clone(), lane.overwrites.clone())).collect()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether nothing is under way for the objects asked about.
    pub(crate) fn is_idle_for(&self, is_meant: impl Fn(&ObjectRef) -> bool) -> bool {
        !self.busy.keys().any(is_meant)
    }

    /// Lanes under way.
    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// Lanes that build something whose deletion was recorded meanwhile take no further step: an upload of minutes is
    /// not followed by a domain that nobody wants any more.
    pub(crate) fn recall(&self, snapshot: &Snapshot) {
        for (object, lane) in &self.busy {
            if lane.builds && snapshot.machine_goes(object) {
                lane.recalled.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Begins what is Ready, in the plan's order, for objects that no lane touched since the pass began.
    pub(crate) fn start(&mut self, snapshot: &Arc<Snapshot>, plan: &Plan) {
        let mut lanes: Vec<(ObjectRef, Vec<Step>)> = Vec::new();
        let mut places: BTreeMap<&ObjectRef, usize> = BTreeMap::new();
        for step in &plan.steps {
            let is_ready = step.state == StepState::Ready && step.action.is_some();
            if !is_ready || self.is_touched(&step.object) {
                continue;
            }
            match places.get(&step.object) {
                Some(place) => lanes[*place].1.push(step.clone()),
                None => {
                    places.insert(&step.object, lanes.len());
                    lanes.push((step.object.clone(), vec![step.clone()]));
                }
            }
        }
        let seen_at = self.engine.world.clock.now();
        let networks = Arc::new(networks_of(snapshot, lanes.iter().flat_map(|(_, steps)| steps)));
        for (object, steps) in lanes {
            let recalled = Arc::new(AtomicBool::new(false));
            let builds = !snapshot.machine_goes(&object);
            let hosts_of = |step: &Step| {
                let hosts = step.action.as_ref().map_or(vec![], |action| action.hosts(&step.host, snapshot));
                hosts.into_iter().map(str::to_owned).collect::<Vec<_>>()
            };
            let hosts = steps.iter().flat_map(hosts_of).collect();
            let overwrites = steps.iter().filter(|step| overwriting::is_overwriting(snapshot, step));
            let overwrites = overwrites.map(|step| step.host.clone()).collect();
            let busy = Busy { builds, recalled: Arc::clone(&recalled), hosts, overwrites };
            self.busy.insert(object.clone(), busy);
            let view =
                LaneView { snapshot: snapshot.clone(), networks: Arc::clone(&networks), seen_at, recalled };
            let lane = run_lane(self.engine, self.memory, view, object, steps);
            self.running.push(lane.boxed());
        }
    }

    /// Does something while the lanes go on.
    pub(crate) async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, EngineError> {
        let mut work = pin!(work);
        loop {
            if self.running.is_empty() {
                return Ok(work.await);
            }
            match select(work.as_mut(), self.running.next()).await {
                Either::Left((done, _)) => return Ok(done),
                Either::Right((end, _)) => self.note(end)?,
            }
        }
    }

    /// Waits until a lane ends, or the given future does.
    pub(crate) async fn wait(&mut self, other: impl Future<Output = ()>) -> Result<(), EngineError> {
        if self.ended.is_empty() {
            if self.running.is_empty() {
                other.await;
                return Ok(());
            }
            match select(self.running.next(), pin!(other)).await {
                Either::Left((end, _)) => self.note(end)?,
                Either::Right(((), _)) => return Ok(()),
            }
        }
        self.gather().await
    }

    /// What ends at about the same time is looked at together: a pass over a large pool costs more than a moment. Where
    /// hosts take long to be looked at, they get twice that time for what they are to do: a host with a hundred VMs would
    /// else be asked about them all the time.
    async fn gather(&mut self) -> Result<(), EngineError> {
        let least = self.engine.settings.gather;
        if least.is_zero() {
            return Ok(());
        }
        let moment = least.max((self.looked_for * 2).min(GATHER_AT_MOST));
        let mut over = pin!(self.engine.world.clock.sleep(moment));
        while !self.running.is_empty() {
            match select(self.running.next(), over.as_mut()).await {
                Either::Left((end, _)) => self.note(end)?,
                Either::Right(((), _)) => break,
            }
        }
        Ok(())
    }

    /// Waits until all lanes have ended, or the given future has. How they end matters no more.
    pub(crate) async fn drain(&mut self, other: impl Future<Output = ()>) {
        let mut other = pin!(other);
        while !self.running.is_empty() {
            match select(self.running.next(), other.as_mut()).await {
                Either::Left((end, _)) => drop(self.note(end)),
                Either::Right(((), _)) => return,
            }
        }
    }

    fn note(&mut self, end: Option<LaneEnd>) -> Result<(), EngineError> {
        if let Some(end) = end {
            if let Some(busy) = self.busy.remove(&end.object) {
                self.changed_hosts.extend(busy.hosts);
            }
            self.actions += end.actions;
            self.ended.insert(end.object);
            if let Err(error) = end.result {
                self.failed.get_or_insert(error);
            }
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// What the steps make of networks on hosts.
fn networks_of<'s>(snapshot: &Snapshot, steps: impl Iterator<Item = &'s Step>) -> Networks {
    let mut networks = Networks::new();
    let mut committed = None;
    for step in steps {
        if let Some(Action::EnsureNetwork { network, host }) = &step.action {
            let committed = committed.get_or_insert_with(|| network::committed(snapshot));
            networks.insert((network.clone(), host.clone()), committed.desired(network, host));
        }
    }
    networks
}
