//! A simulated world with a store, a vault and engines that work on it: what tests and scenarios drive.

use std::sync::Arc;
use std::time::Duration;

use ashlar_api::{
    Accelerator, DrainBy, Host, HostCapacity, HostFencing, HostRecord, HostReserve, HostSpec, Image,
    ImageFile, ImageSpec, ImageTags, IpmiFencing, IpmiPrivilege, Kind, Mebibytes, NamespacedName, Object,
    ObjectRef, PoolOnHost, PoolType, StoragePool, StoragePoolSpec,
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
use crate::fault::Process;
use crate::record::{Record, Records};
use crate::scenario::{Hand, MaintenanceVerb};
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
    /// For how long it may be silent before its BMC is asked to turn it off.
    pub fence_after_s: Option<u32>,
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
            fence_after_s: None,
        }
    }
}

/// A host's BMC, which is asked to turn it off.
fn fencing(host: &str, after_s: u32) -> HostFencing {
    let ipmi = IpmiFencing {
        address: format!("bmc-{host}"),
        port: 623,
        username: "ashlar".to_owned(),
        password_file: "/etc/ashlar/bmc-password".to_owned(),
        privilege: IpmiPrivilege::Operator,
        cipher_suite: None,
    };
    HostFencing { ipmi: Some(ipmi), command: Vec::new(), after_s: Some(after_s) }
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
    /// A copy of the store.
    kept: Vec<(Key, serde_json::Value)>,
}

/// What became of several Ashlars at once; none for one that was killed.
pub type Both = Ended<[Option<Result<RunSummary, EngineError>>; 2]>;

impl Simulation {
    /// A world without hosts, and an empty store.
    pub fn new(seed: u64) -> Self {
        let world = SimWorld::new(seed);
        let store = MemoryStore::new();
        world.state().oracle.set_truth(store.clone());
        // Keys of clusters come from the operating system; this one only has to be there.
        let vault = Vault::from_key(Zeroizing::new([7; 32]));
        let installation = Uuid::from_u128(0xA5_41A2);
        // Most scenarios are about something else: they see one call for each file.
        // A story tells the end of each step by itself: what would be gathered is looked at one after the other.
        let settings = Settings {
            upload_chunk_bytes: 1 << 40,
            gather: std::time::Duration::ZERO,
            ..Settings::new(installation)
        };
        Simulation { world, store, vault: Arc::new(vault), settings, kept: Vec::new() }
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
        self.engine_of(0)
    }

    fn engine_of(&self, process: usize) -> Engine {
        let world = self.world.as_process(process);
        let store = Arc::new(CrashingStore::new(world.clone(), Arc::new(self.store.clone())));
        Engine::new(store, world.effects(), Arc::clone(&self.vault), self.settings.clone(), self.sink())
    }

    /// An engine on another store than the simulation's own.
    pub(crate) fn engine_on(&self, store: Arc<dyn Store>, sink: Arc<dyn EventSink>) -> Engine {
        Engine::new(store, self.world.effects(), Arc::clone(&self.vault), self.settings.clone(), sink)
    }

    /// Where engines tell what they do.
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(Listener { world: self.world.clone() })
    }

    /// The vault of all engines.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Outside calls that may change something, and commits, of all processes that ended.
    pub fn effects(&self) -> u64 {
        self.world.state().effects
    }

    pub(crate) fn shared_vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
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
        let store = store_of(&record.stored)?;
        let world = SimWorld::from_state(record.state.clone());
        world.state().oracle.set_truth(store.clone());
        let (vault, settings) = (Arc::clone(&self.vault), self.settings.clone());
        Ok(Simulation { world, store, vault, settings, kept: Vec::new() })
    }

    /// Makes a copy of the store.
    ///
    /// # Errors
    /// The store failed.
    pub fn keep_store(&mut self) -> Result<(), SimulationError> {
        let listing = now(self.store.list(None, None))?.map_err(failed)?;
        self.kept = listing.items.into_iter().map(|stored| (stored.key, stored.value)).collect();
        Ok(())
    }

    /// Puts the copy back, as somebody does who restores an old file. What the judges call recorded is what stands in it.
    ///
    /// # Errors
    /// The copy cannot be stored.
    pub fn restore_store(&mut self) -> Result<(), SimulationError> {
        self.store = store_of(&self.kept)?;
        self.world.state().oracle.set_truth(self.store.clone());
        Ok(())
    }

    /// Something that happens by itself after a while.
    pub(crate) fn plan_hand(&self, after: Duration, hand: Hand) {
        let mut state = self.world.state();
        let after = jiff::SignedDuration::try_from(after).unwrap_or(jiff::SignedDuration::MAX);
        let at = state.now.saturating_add(after).unwrap_or(jiff::Timestamp::MAX);
        state.planned.push((at, hand));
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
            fencing: options.fence_after_s.map(|after_s| fencing(&options.name, after_s)),
            cordoned: false,
            draining: false,
            drain_by: DrainBy::default(),
        };
        let vcpus = u64::from(options.threads) * u64::from(spec.cpu_overcommit);
        let memory_mib = options.memory_mib.saturating_sub(spec.reserved.memory.0);
        let mut object = Host::new(&options.name, spec);
        object.record = HostRecord {
            capacity: Some(capacity),
            accelerator: Some(if options.kvm { Accelerator::Kvm } else { Accelerator::Emulated }),
            host_uuid: Some(host.host_uuid),
            hostname: host.hostname.clone(),
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
        for file in spec.disk.iter().chain([&spec.kernel, &spec.initrd]) {
            self.world.state().local_files.insert(file.file.clone(), file.size_bytes);
        }
        self.put_new(Image::new(version.replace('.', "-"), spec).into())
    }

    /// What `ashlar apply -f` does with a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn apply(&self, yaml: &str) -> Result<Declared, SimulationError> {
        let objects = read_manifest(yaml)?;
        self.check_clock()?;
        now(declare::apply(&self.store, &self.world, &self.world, objects, false))?.map_err(failed)
    }

    /// As the commands do before they write what people declare.
    fn check_clock(&self) -> Result<(), SimulationError> {
        now(ashlar_engine::check_clock(&self.store, ashlar_engine::effects::Clock::now(&self.world)))?
            .map_err(failed)
    }

    /// What `ashlar delete` does.
    ///
    /// # Errors
    /// There is no such object, or something uses it.
    pub fn delete(&self, object: &ObjectRef) -> Result<(), SimulationError> {
        self.check_clock()?;
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

    /// What `ashlar cluster pause` does, or `resume`.
    ///
    /// # Errors
    /// There is no such cluster.
    pub fn set_paused(&self, cluster: &NamespacedName, paused: bool) -> Result<(), SimulationError> {
        now(declare::set_paused(&self.store, cluster, paused))?.map(drop).map_err(failed)
    }

    /// What `ashlar machine replace` records.
    ///
    /// # Errors
    /// It cannot be replaced, or not now.
    pub fn replace_machine(&self, machine: &NamespacedName) -> Result<(), SimulationError> {
        self.check_clock()?;
        now(declare::replace_machine(&self.store, &self.world, machine))?.map_err(failed)
    }

    /// What `ashlar machine replace --cancel` takes back.
    ///
    /// # Errors
    /// It goes already.
    pub fn keep_machine(&self, machine: &NamespacedName) -> Result<bool, SimulationError> {
        now(declare::keep_machine(&self.store, machine))?.map_err(failed)
    }

    /// A host loses its power, and a person confirms it (`ashlar host fence`).
    ///
    /// # Errors
    /// There is no such host.
    pub fn lose_host(&self, host: &str) -> Result<(), SimulationError> {
        crate::scenario::lose_power(&mut self.world.state(), host).map_err(SimulationError)?;
        self.maintain(host, MaintenanceVerb::Fence)
    }

    /// People of these stories say that a host is off only when they have seen it.
    fn confirm_off(&self, host: &str) -> Result<(), SimulationError> {
        let is_off = self.world.state().hosts.get(host).is_some_and(|host| host.off);
        if is_off { Ok(()) } else { Err(SimulationError(format!("host {host} is not off"))) }
    }

    /// What `ashlar host cordon`, `drain`, `fence` or `uncordon` records.
    pub(crate) fn maintain(&self, host: &str, verb: MaintenanceVerb) -> Result<(), SimulationError> {
        match verb {
            MaintenanceVerb::Cordon => now(declare::cordon_host(&self.store, host))?.map(drop),
            MaintenanceVerb::Drain(by) => now(declare::drain_host(&self.store, host, by))?.map(drop),
            MaintenanceVerb::Fence => {
                self.confirm_off(host)?;
                let fenced = now(declare::fence_host(&self.store, &self.world, host, "a person"))?;
                self.world.state().oracle.losses.confirmed += u64::from(fenced.is_ok());
                fenced.map(drop)
            }
            MaintenanceVerb::Uncordon => now(declare::uncordon_host(&self.store, host))?.map(drop),
        }
        .map_err(failed)
    }

    /// Somebody edits an object in the store: a field, by its JSON pointer. What is no JSON is text.
    ///
    /// # Errors
    /// There is no such object, or no such field.
    pub fn edit(&self, object: &ObjectRef, pointer: &str, value: &str) -> Result<(), SimulationError> {
        let missing = |what: &str| SimulationError(format!("there is no {what}"));
        let mut stored = self.read(object)?.ok_or_else(|| missing(&object.to_string()))?;
        let (parent, field) = pointer.rsplit_once('/').ok_or_else(|| missing(pointer))?;
        let mut place = &mut stored;
        for name in parent.split('/').skip(1) {
            let holder = place.as_object_mut().ok_or_else(|| missing(pointer))?;
            // What is empty is not stored.
            place = holder.entry(name).or_insert_with(|| serde_json::json!({}));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        let holder = place.as_object_mut().ok_or_else(|| missing(pointer))?;
        holder.insert(field.replace("~1", "/"), value);
        let transaction = Transaction::new().put(key_of(object), stored, Precondition::Any);
        now(self.store.commit(transaction))?.map_err(failed)?;
        Ok(())
    }

    /// Objects are lost from the store: all of a kind, or one. Says how many.
    ///
    /// # Errors
    /// The store failed.
    pub fn lose_objects(&self, kind: Kind, name: Option<&NamespacedName>) -> Result<usize, SimulationError> {
        let listing = now(self.store.list(Some(kind.name()), None))?.map_err(failed)?;
        let is_lost = |key: &Key| name.is_none_or(|name| key.name == name.name);
        let lost: Vec<Key> = listing.items.into_iter().map(|stored| stored.key).filter(is_lost).collect();
        for key in &lost {
            let transaction = Transaction::new().delete(key.clone(), Precondition::Any);
            now(self.store.commit(transaction))?.map_err(failed)?;
        }
        Ok(lost.len())
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
        Ok(self.store.revision().0)
    }

    /// The revision of what is no Event.
    ///
    /// # Errors
    /// The store failed.
    pub fn revision_but_events(&self) -> Result<u64, SimulationError> {
        let listing = now(self.store.list(None, None))?.map_err(failed)?;
        let others = listing.items.iter().filter(|stored| stored.key.kind != Kind::Event.name());
        // One that is gone counts as well.
        Ok(others.map(|stored| stored.revision.0 + 1).sum())
    }

    /// Runs a new engine until the goal is met or it gives up.
    pub fn run(&self, scope: &Scope, goal: &Goal, deadline: Duration) -> Outcome {
        let engine = self.engine();
        let process = Process::new(self.world.clone(), engine.run(scope, goal, deadline));
        let ended = executor::run(&self.world, process);
        self.world.state().end_processes();
        let outcome = match ended {
            Ended::Done(Some(outcome)) => Ended::Done(outcome),
            Ended::Done(None) => Ended::Crashed,
            Ended::Crashed => Ended::Crashed,
            Ended::Stuck => Ended::Stuck,
            Ended::Violated => Ended::Violated,
        };
        if let Ended::Done(Err(error)) = &outcome {
            self.heard(error);
        }
        self.world.state().search_after_run();
        outcome
    }

    /// Runs two engines on the same store at once, as two commands that both got past the lock would: each in its scope.
    pub fn run_two(&self, scopes: [&Scope; 2], goal: &Goal, deadline: Duration) -> Both {
        let engines = [self.engine_of(0), self.engine_of(1)];
        let [one, other] = [0, 1].map(|number| {
            Process::new(self.world.as_process(number), engines[number].run(scopes[number], goal, deadline))
        });
        let ended = executor::run(&self.world, futures::future::join(one, other));
        self.world.state().end_processes();
        let both = match ended {
            Ended::Done((one, other)) => Ended::Done([one, other]),
            Ended::Crashed => Ended::Crashed,
            Ended::Stuck => Ended::Stuck,
            Ended::Violated => Ended::Violated,
        };
        if let Ended::Done(outcomes) = &both {
            for error in outcomes.iter().flatten().filter_map(|outcome| outcome.as_ref().err()) {
                self.heard(error);
            }
        }
        self.world.state().search_after_run();
        both
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

    /// What `ashlar host drain` shows before it asks.
    ///
    /// # Errors
    /// The host cannot be emptied.
    pub(crate) fn plan_drain(&self, host: &str, by: DrainBy) -> Result<Planned, SimulationError> {
        now(declare::may_drain_host(&self.store, host))?.map_err(failed)?;
        let engine = self.engine();
        Ok(executor::run(&self.world, engine.plan_drain(host, by)))
    }

    pub(crate) fn heard(&self, error: &EngineError) {
        self.world.state().oracle.hear("an error", &error_text(error));
    }

    /// Searches all of the store for the secrets that are known by now, and says how many are.
    pub fn search_store_for_secrets(&self) -> usize {
        let mut state = self.world.state();
        state.oracle.hear_store(&self.store);
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

/// A store with these objects.
fn store_of(objects: &[(Key, serde_json::Value)]) -> Result<MemoryStore, SimulationError> {
    let store = MemoryStore::new();
    for (key, value) in objects {
        let transaction = Transaction::new().put(key.clone(), value.clone(), Precondition::Absent);
        now(store.commit(transaction))?.map_err(failed)?;
    }
    Ok(store)
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
