//! A fleet to be measured: the production engine and planner, unchanged, on simulated hosts, with a store on disk.
//!
//! Nobody judges this world, and nothing of it is told line by line: both would be measured with it. That what is
//! measured is right is proved elsewhere, and its end is looked at here.

mod disk;
mod idle;
mod lost;
mod measure;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ashlar_api::{NamespacedName, Object};
use ashlar_engine::declare;
use ashlar_engine::{Engine, EngineError, EngineEvent, EventSink, Goal, RunSummary, Scope, Settings};

pub use idle::Idle;
pub use lost::{Loss, Steady};
pub use measure::{Measured, Spent, peak_mib, processor_s, thread_processor_s};

use crate::executor::{self, Ended};
use crate::{HostOptions, Simulation, SimulationError, guest};
use disk::DiskStore;

/// Clusters on one bridge: VRRP tells 255 virtual addresses apart.
const CLUSTERS_OF_BRIDGE: usize = 200;

/// Virtual time within which a fleet is up.
const DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

/// How big a fleet is.
#[derive(Clone, Copy, Debug)]
pub struct FleetSize {
    /// Hosts, each of 64 threads and 512 GiB.
    pub hosts: usize,
    /// Clusters of one control plane each.
    pub clusters: usize,
    /// Workers of each.
    pub workers: usize,
}

/// A world, and the store and the engine's settings of an installation.
pub struct Fleet {
    pub(crate) simulation: Simulation,
    pub(crate) store: Arc<DiskStore>,
    size: FleetSize,
    events: Arc<Counter>,
}

#[derive(Default)]
struct Counter(AtomicU64);

impl EventSink for Counter {
    fn event(&self, _: &EngineEvent) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Fleet {
    /// Enrolled hosts, an image, networks and a class, in a new store at `path`; no cluster yet.
    ///
    /// # Errors
    /// The store cannot be made, or what is declared is refused.
    pub fn new(size: FleetSize, path: &Path) -> Result<Self, SimulationError> {
        let mut simulation = Simulation::new(1);
        simulation.world.state().oracle.is_off = true;
        let bridges = size.clusters.div_ceil(CLUSTERS_OF_BRIDGE).max(1);
        for number in 1..=size.hosts {
            let rack = format!("r{}", number % 25 + 1);
            simulation.add_host(&HostOptions { rack, ..HostOptions::big(&format!("h{number}")) })?;
        }
        simulation.add_image(crate::fixtures::VERSION)?;
        for host in simulation.world.state().hosts.values_mut() {
            host.bridges = (0..bridges).map(|number| format!("br{number}")).collect();
        }
        let store = Arc::new(DiskStore::create(path, simulation.store())?);
        // What production does, but for how often image files are sent: they are no part of what is measured.
        let installation = simulation.settings_mut().installation;
        *simulation.settings_mut() = Settings { upload_chunk_bytes: 1 << 40, ..Settings::new(installation) };
        let fleet = Fleet { simulation, store, size, events: Arc::default() };
        let networks: Vec<String> = (0..bridges).map(network).collect();
        fleet.apply(read(&format!("{CLASS}---\n{}", networks.join("---\n")))?)?;
        Ok(fleet)
    }

    /// An engine of a new process.
    pub fn engine(&self) -> Engine {
        let (store, events) = (Arc::clone(&self.store), Arc::clone(&self.events));
        self.simulation.engine_on(store, events)
    }

    /// Declares objects, as `ashlar apply` does.
    fn apply(&self, objects: Vec<Object>) -> Result<(), SimulationError> {
        let world = &self.simulation.world;
        let applied = self.run(declare::apply(self.store.as_ref(), world, world, objects, false))?;
        applied.map(drop).map_err(|error| SimulationError(crate::error_text(&error)))
    }

    /// Runs something until it is done; the virtual time stands still while it waits for the disk.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> Result<T, SimulationError> {
        match executor::run_beside(&self.simulation.world, future, || self.store.is_busy()) {
            Ended::Done(done) => Ok(done),
            Ended::Crashed | Ended::Stuck | Ended::Violated => {
                Err(SimulationError("the fleet waits for what never comes".to_owned()))
            }
        }
    }

    /// Declares all clusters at once, and has an engine make them, until nothing is left to do.
    ///
    /// # Errors
    /// It does not come to that.
    pub fn bring_up(&self, engine: &Engine) -> Result<RunSummary, SimulationError> {
        let clusters: Vec<String> = (0..self.size.clusters).map(|number| self.cluster(number)).collect();
        self.apply(read(&clusters.join("---\n"))?)?;
        self.work(engine, DEADLINE)?.map_err(|error| SimulationError(crate::error_text(&error)))
    }

    pub(crate) fn work(
        &self,
        engine: &Engine,
        deadline: Duration,
    ) -> Result<Result<RunSummary, EngineError>, SimulationError> {
        self.run(engine.run(&Scope::All, &Goal::Settled, deadline))
    }

    /// All nodes of all clusters are Ready, and no seed and no join token is left.
    ///
    /// # Errors
    /// Something is not as it should be.
    pub fn look_at_end(&self) -> Result<(), SimulationError> {
        let state = self.simulation.world.state();
        let nodes = guest::running_nodes(&state);
        let is_ready = |cluster: &NamespacedName| {
            let world = state.clusters.get(cluster);
            nodes.get(cluster).is_some_and(|nodes| nodes.len() == 1 + self.size.workers)
                && world.is_some_and(|world| world.tokens.is_empty() && !world.objects.is_empty())
        };
        let ready = self.clusters().filter(is_ready).count();
        let pools = state.hosts.values().flat_map(|host| host.pools.values());
        let seeds =
            pools.flat_map(|pool| pool.volumes.values()).filter(|volume| volume.seed.is_some()).count();
        if ready != self.size.clusters || seeds > 0 {
            let message =
                format!("{ready} of {} clusters are ready, {seeds} seeds are left", self.size.clusters);
            return Err(SimulationError(message));
        }
        Ok(())
    }

    fn cluster(&self, number: usize) -> String {
        let (version, workers) = (crate::fixtures::VERSION, self.size.workers);
        format!(
            "apiVersion: ashlar.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: c{number}}}\nspec:\n  \
             kubernetesVersion: {version}\n  network: lan{}\n  controlPlane: {{replicas: 1, class: node}}\n  \
             workers: [{{name: wkr, class: node, replicas: {workers}}}]\n",
            number / CLUSTERS_OF_BRIDGE
        )
    }

    /// What was done so far.
    pub fn spent(&self) -> Spent {
        Spent {
            commits: self.store.commits(),
            events: self.events.0.load(Ordering::Relaxed),
            calls: self.simulation.world.mutating_call_count(),
            virtual_s: self.simulation.world.state().elapsed_s(),
        }
    }

    /// Keys of all clusters.
    pub fn clusters(&self) -> impl Iterator<Item = NamespacedName> {
        (0..self.size.clusters)
            .map(|number| NamespacedName::new(ashlar_api::DEFAULT_NAMESPACE, format!("c{number}")))
    }
}

const CLASS: &str = "\
apiVersion: ashlar.dev/v1alpha1
kind: MachineClass
metadata: {name: node}
spec: {vcpus: 2, memory: 4Gi, rootDisk: 20Gi}
";

fn network(number: usize) -> String {
    let net = format!("10.{}", 100 + number);
    format!(
        "apiVersion: ashlar.dev/v1alpha1\nkind: Network\nmetadata: {{name: lan{number}}}\nspec:\n  \
         attachment: {{bridge: br{number}}}\n  cidrs: [{net}.0.0/16]\n  gateway: {net}.0.1\n  \
         ranges: [{{first: {net}.1.1, last: {net}.250.250}}]\n"
    )
}

fn read(yaml: &str) -> Result<Vec<Object>, SimulationError> {
    ashlar_api::manifest::read(yaml, "fleet").map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        SimulationError(lines.join("\n"))
    })
}
