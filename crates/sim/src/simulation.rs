//! A simulated world with a store, a vault and engines that work on it: what tests and scenarios drive.

use std::sync::Arc;
use std::time::Duration;

use ashlar_api::{
    Accelerator, Host, HostCapacity, HostRecord, HostReserve, HostSpec, Image, ImageFile, ImageSpec,
    ImageTags, Kind, Mebibytes, NamespacedName, Object, ObjectRef, PoolOnHost, PoolType, StoragePool,
    StoragePoolSpec,
};
use ashlar_engine::declare::{self, Declared};
use ashlar_engine::vault::Vault;
use ashlar_engine::{Engine, EngineError, EngineEvent, EventSink, Goal, RunSummary, Scope, Settings};
use ashlar_plan::{Plan, Snapshot};
use ashlar_store::{Key, MemoryStore, Precondition, Store, Transaction};
use futures::FutureExt as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::executor::{self, Ended};
use crate::record::{Record, Records};
use crate::{CrashingStore, SimHost, SimWorld};

/// Pool that every simulated host has.
pub const POOL: &str = "images";

/// What went wrong with the simulation itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SimulationError(pub String);

/// A host to add.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Name.
    pub name: String,
    /// Hardware threads.
    pub threads: u32,
    /// Memory.
    pub memory_mib: u64,
    /// Size of its pool.
    pub pool_mib: u64,
    /// Whether KVM works.
    pub kvm: bool,
    /// Rack.
    pub rack: String,
    /// Whether its kernel has VXLAN.
    pub vxlan: bool,
    /// MTU between hosts.
    pub underlay_mtu: u16,
}

impl HostOptions {
    /// A big host: 64 threads, 512 GiB, a pool of 2 TiB, KVM.
    pub fn big(name: &str) -> Self {
        HostOptions {
            name: name.to_owned(),
            threads: 64,
            memory_mib: 512 << 10,
            pool_mib: 2 << 20,
            kvm: true,
            rack: String::new(),
            vxlan: true,
            underlay_mtu: 1500,
        }
    }
}

/// How a run of the engine ended.
pub type Outcome = Ended<Result<RunSummary, EngineError>>;

/// How planning ended.
pub type Planned = Ended<Result<(Snapshot, Plan), EngineError>>;

/// A world, a store, and engines.
pub struct Simulation {
    /// The world.
    pub world: SimWorld,
    store: MemoryStore,
    vault: Arc<Vault>,
    settings: Settings,
}

impl Simulation {
    /// A world without hosts, and an empty store.
    pub fn new(seed: u64) -> Self {
        let world = SimWorld::new(seed);
        let store = MemoryStore::new();
        world.state().oracle.set_truth(Arc::new(store.clone()));
        // Keys of clusters come from the operating system; this one only has to be there.
        let vault = Vault::from_key(Zeroizing::new([7; 32]));
        let installation = Uuid::from_u128(0xA5_41A2);
        Simulation { world, store, vault: Arc::new(vault), settings: Settings::new(installation) }
    }

    /// A world of big hosts `h1`, `h2`, … with an image, a network and classes: see [`crate::fixtures`].
    ///
    /// # Errors
    /// The fixtures are no longer valid.
    pub fn with_pool(seed: u64, hosts: u32) -> Result<Self, SimulationError> {
        let simulation = Simulation::new(seed);
        for number in 1..=hosts {
            simulation.add_host(&HostOptions::big(&format!("h{number}")))?;
        }
        simulation.add_image(crate::fixtures::VERSION)?;
        simulation.apply(crate::fixtures::POOL_OBJECTS)?;
        Ok(simulation)
    }

    /// An engine, as a new process of Ashlar would make it.
    pub fn engine(&self) -> Engine {
        let store = Arc::new(CrashingStore::new(self.world.clone(), Arc::new(self.store.clone())));
        Engine::new(store, self.world.effects(), Arc::clone(&self.vault), self.settings.clone(), self.sink())
    }

    /// Where engines tell what they do.
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(Listener { world: self.world.clone() })
    }

    /// The vault of all engines.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// From now on the world and the store are copied at every crash point, for [`Self::take_records`].
    pub fn record(&self) {
        self.world.state().records = Some(Records::new(Arc::new(self.store.clone())));
    }

    /// The copies made since [`Self::record`]; no more are made.
    pub fn take_records(&self) -> Vec<Record> {
        self.world.state().records.take().map(Records::into_vec).unwrap_or_default()
    }

    /// A simulation that goes on from a copy: Ashlar was killed there, and its process is gone.
    ///
    /// # Errors
    /// The copy cannot be stored.
    pub fn resume(&self, record: &Record) -> Result<Simulation, SimulationError> {
        let store = MemoryStore::new();
        for (key, value) in &record.stored {
            let transaction = Transaction::new().put(key.clone(), value.clone(), Precondition::Absent);
            now(store.commit(transaction))?.map_err(failed)?;
        }
        let world = SimWorld::from_state(record.state.clone());
        world.state().oracle.set_truth(Arc::new(store.clone()));
        Ok(Simulation { world, store, vault: Arc::clone(&self.vault), settings: self.settings.clone() })
    }

    /// The store, past all crash points.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// Limits and deadlines of the engines made from now on.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Adds a host, enrolled: as `host add` leaves it.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add_host(&self, options: &HostOptions) -> Result<(), SimulationError> {
        let capacity = HostCapacity {
            threads: options.threads,
            cores: options.threads,
            sockets: 1,
            memory: Mebibytes(options.memory_mib),
            ..HostCapacity::default()
        };
        let number = u32::try_from(self.world.state().hosts.len() + 1).unwrap_or(u32::MAX);
        let mut host = SimHost::new(&options.name, number, capacity.clone(), options.pool_mib);
        host.kvm_works = options.kvm;
        host.vxlan = options.vxlan;
        host.underlay_mtu = options.underlay_mtu;
        let spec = HostSpec {
            uri: format!("qemu+ssh://root@{}/system", options.name),
            ssh_host_key: host.ssh_host_key.clone(),
            ssh_key_path: None,
            underlay_address: Some(
                [10, 77, u8::try_from(number >> 8).unwrap_or(0), number.to_be_bytes()[3]].into(),
            ),
            rack: options.rack.clone(),
            zone: String::new(),
            reserved: HostReserve::default(),
            cpu_overcommit: 4,
            dedicated_cpus: Default::default(),
            cordoned: false,
        };
        let vcpus = u64::from(options.threads) * u64::from(spec.cpu_overcommit);
        let memory_mib = options.memory_mib.saturating_sub(spec.reserved.memory.0);
        let mut object = Host::new(&options.name, spec);
        object.record = HostRecord {
            capacity: Some(capacity),
            accelerator: Some(if options.kvm { Accelerator::Kvm } else { Accelerator::Emulated }),
            host_uuid: Some(host.host_uuid),
            machine_type: "pc-q35-7.2".to_owned(),
            libvirt_version: "9.0.0".to_owned(),
            qemu_version: "7.2.0".to_owned(),
            ..HostRecord::default()
        };
        let there = PoolOnHost {
            uuid: host.pools.keys().next().copied().unwrap_or_default(),
            path: host.pools.values().next().map(|pool| pool.path.clone()).unwrap_or_default(),
            capacity_mib: options.pool_mib,
        };
        self.put_new(object.into())?;
        self.edit_pool(|pool| {
            pool.record.hosts.insert(options.name.clone(), there);
        })?;
        let mut state = self.world.state();
        state.oracle.set_limits(&options.name, vcpus, memory_mib);
        state.hosts.insert(options.name.clone(), host);
        Ok(())
    }

    fn edit_pool(&self, change: impl FnOnce(&mut StoragePool)) -> Result<(), SimulationError> {
        let key = Key::cluster_scoped(Kind::StoragePool.name(), POOL);
        let mut pool = match self.read(&ObjectRef::new(Kind::StoragePool, "", POOL))? {
            Some(value) => serde_json::from_value(value).map_err(failed)?,
            None => {
                let spec = StoragePoolSpec {
                    pool_type: PoolType::Dir,
                    libvirt_name: POOL.to_owned(),
                    hosts: Vec::new(),
                    max_fill_percent: 90,
                };
                let mut pool = StoragePool::new(POOL, spec);
                pool.metadata.uid = Some(Uuid::from_u128(0x9001));
                pool.metadata.generation = 1;
                pool
            }
        };
        change(&mut pool);
        let value = serde_json::to_value(&pool).map_err(failed)?;
        now(self.store.commit(Transaction::new().put(key, value, Precondition::Any)))?.map_err(failed)?;
        Ok(())
    }

    /// Stores an object as it is, with a uid.
    fn put_new(&self, mut object: Object) -> Result<(), SimulationError> {
        let name = object.object_ref();
        let mut uid = [0; 16];
        self.world.state().random(&mut uid);
        object.metadata_mut().uid = Some(uuid::Builder::from_random_bytes(uid).into_uuid());
        object.metadata_mut().generation = 1;
        object.metadata_mut().creation_timestamp = Some(self.world.state().now);
        let value = object.to_value().map_err(failed)?;
        let transaction = Transaction::new().put(key_of(&name), value, Precondition::Absent);
        now(self.store.commit(transaction))?
            .map_err(|_| SimulationError(format!("there is already a {name}")))?;
        Ok(())
    }

    /// Adds an image of a Kubernetes version. Its files are named by their digests, as the simulated hosts expect.
    ///
    /// # Errors
    /// The name is taken.
    pub fn add_image(&self, version: &str) -> Result<(), SimulationError> {
        // Digests of nothing in particular, other ones for every version.
        let digest = |part: u64| {
            let mut number = part + 1;
            for byte in version.bytes() {
                number = number.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
            }
            format!("{number:016x}").repeat(4)
        };
        let file =
            |part: u64, size_bytes: u64| ImageFile { file: digest(part), sha256: digest(part), size_bytes };
        let spec = ImageSpec {
            digest: format!("sha256:{}", digest(0)),
            architecture: "amd64".to_owned(),
            os: "Debian 13 (simulated)".to_owned(),
            kubernetes_version: version.to_owned(),
            tags: ImageTags { flannel: "v0.27.0".to_owned(), ..ImageTags::default() },
            directory: "/simulated/images".to_owned(),
            disk: Some(file(1, 1 << 30)),
            kernel: file(2, 12 << 20),
            initrd: file(3, 20 << 20),
            command_line: "root=/dev/sda1 console=ttyS0".to_owned(),
            virtual_size: Mebibytes::from_gib(10),
            unused_grace_s: None,
        };
        self.put_new(Image::new(version.replace('.', "-"), spec).into())
    }

    /// What `ashlar apply -f` does with a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn apply(&self, yaml: &str) -> Result<Declared, SimulationError> {
        let objects = read_manifest(yaml)?;
        now(declare::apply(&self.store, &self.world, &self.world, objects, false))?.map_err(failed)
    }

    /// What `ashlar delete` does.
    ///
    /// # Errors
    /// There is no such object, or something uses it.
    pub fn delete(&self, object: &ObjectRef) -> Result<(), SimulationError> {
        let deleted = now(declare::delete(&self.store, &self.world, std::slice::from_ref(object)))?;
        deleted.map(|_| ()).map_err(failed)
    }

    /// What `ashlar cluster stop` does, or `start`.
    ///
    /// # Errors
    /// There is no such cluster.
    pub fn set_stopped(
        &self,
        cluster: &NamespacedName,
        stopped: bool,
        force: bool,
    ) -> Result<(), SimulationError> {
        if stopped {
            now(declare::stop_cluster(&self.store, cluster, force))?.map_err(failed)?;
        } else {
            now(declare::start_cluster(&self.store, cluster))?.map_err(failed)?;
        }
        Ok(())
    }

    /// An object's stored JSON.
    ///
    /// # Errors
    /// The store failed.
    pub fn read(&self, name: &ObjectRef) -> Result<Option<serde_json::Value>, SimulationError> {
        Ok(now(self.store.get(&key_of(name)))?.map_err(failed)?.map(|stored| stored.value))
    }

    /// Everything in the store: key and JSON.
    ///
    /// # Errors
    /// The store failed.
    pub fn stored(&self) -> Result<Vec<(String, serde_json::Value)>, SimulationError> {
        let listing = now(self.store.list(None, None))?.map_err(failed)?;
        Ok(listing.items.into_iter().map(|stored| (stored.key.to_string(), stored.value)).collect())
    }

    /// The store's revision: it only stays the same if nothing was written.
    ///
    /// # Errors
    /// The store failed.
    pub fn revision(&self) -> Result<u64, SimulationError> {
        Ok(now(self.store.list(None, None))?.map_err(failed)?.revision.0)
    }

    /// Runs a new engine until the goal is met or it gives up.
    pub fn run(&self, scope: &Scope, goal: &Goal, deadline: Duration) -> Outcome {
        let engine = self.engine();
        self.heard(executor::run(&self.world, engine.run(scope, goal, deadline)))
    }

    /// Runs two engines on the same store at once, as two commands that both got past the lock would.
    pub fn run_two(
        &self,
        scope: &Scope,
        goal: &Goal,
        deadline: Duration,
    ) -> Ended<[Result<RunSummary, EngineError>; 2]> {
        let (one, other) = (self.engine(), self.engine());
        let both = futures::future::join(one.run(scope, goal, deadline), other.run(scope, goal, deadline));
        match executor::run(&self.world, both) {
            Ended::Done((one, other)) => Ended::Done([one, other]),
            Ended::Crashed => Ended::Crashed,
            Ended::Stuck => Ended::Stuck,
            Ended::Violated => Ended::Violated,
        }
    }

    /// Plans as `ashlar plan` does.
    pub fn plan(&self, scope: &Scope) -> Planned {
        let engine = self.engine();
        executor::run(&self.world, engine.plan(scope))
    }

    /// Plans as `ashlar plan -f FILE` does.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn plan_with(&self, yaml: &str, scope: &Scope) -> Result<Planned, SimulationError> {
        let engine = self.engine();
        Ok(executor::run(&self.world, engine.plan_with(read_manifest(yaml)?, scope)))
    }

    fn heard(&self, outcome: Outcome) -> Outcome {
        if let Ended::Done(Err(error)) = &outcome {
            self.world.state().oracle.hear("an error", &error_text(error));
        }
        self.world.state().search_for_secrets();
        outcome
    }

    /// Searches all of the store for the secrets that are known by now, and says how many are.
    pub fn search_store_for_secrets(&self) -> usize {
        let stored = self.stored().unwrap_or_default();
        let mut state = self.world.state();
        for (_, value) in stored {
            state.oracle.hear("the store", &value.to_string());
        }
        state.search_for_secrets();
        state.oracle.known_secrets()
    }
}

/// An error with all its causes.
pub fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn read_manifest(yaml: &str) -> Result<Vec<Object>, SimulationError> {
    ashlar_api::manifest::read(yaml, "scenario").map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        SimulationError(lines.join("\n"))
    })
}

fn key_of(name: &ObjectRef) -> Key {
    Key::new(name.kind.name(), &name.namespace, &name.name)
}

fn failed(error: impl std::error::Error) -> SimulationError {
    SimulationError(error_text(&error))
}

/// A future of the store in memory: ready at once.
fn now<T>(future: impl Future<Output = T>) -> Result<T, SimulationError> {
    future
        .now_or_never()
        .ok_or_else(|| SimulationError("the store in memory does not answer at once".to_owned()))
}

/// Writes what the engine tells into the transcript, and lets the judges read all of it.
struct Listener {
    world: SimWorld,
}

impl EventSink for Listener {
    fn event(&self, event: &EngineEvent) {
        let line = match event {
            EngineEvent::ActionFailed { step, error, will_retry } => Some(format!(
                "{}: failed ({}): {error}",
                step.object,
                if *will_retry { "again later" } else { "for good" }
            )),
            EngineEvent::MachinePhase { machine, phase } => Some(format!("machine {machine}: {phase}")),
            EngineEvent::Blocked { object, reason, message } => {
                Some(format!("{object}: blocked, {reason}: {message}"))
            }
            EngineEvent::HostUnreachable { host, reason } => {
                Some(format!("host {host} does not answer: {reason}"))
            }
            EngineEvent::HostReachable { host } => Some(format!("host {host} answers again")),
            _ => None,
        };
        let mut state = self.world.state();
        state.oracle.hear("an event", &format!("{event:?}"));
        if let Some(line) = line {
            state.note(format!("ashlar: {line}"));
        }
    }
}
