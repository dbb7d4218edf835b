//! A lab of one host, enrolled, with a network, classes and the image that halts.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ashlar_api::{Kind, NamespacedName, Object, ObjectRef};
use ashlar_engine::enrol::{self, NewHost};
use ashlar_engine::vault::Vault;
use ashlar_engine::{Engine, Goal, Scope, Settings, declare};
use ashlar_lab::{HostDescription, Lab, LabDescription};
use ashlar_libvirt::Hosts;
use ashlar_store::{Key, Precondition, SqliteStore, Store, Transaction};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};
use zeroize::Zeroizing;

use crate::image::{self, VERSION, object};
use crate::world::{Log, RealTime, world};

const INSTALLATION: Uuid = uuid!("a5a5a5a5-0000-4000-8000-00000000be4c");
pub(crate) const NAMESPACE: &str = "default";
pub(crate) const CLUSTER: &str = "bench";
pub(crate) const GROUP: &str = "bench-wkr";
/// Until all that was asked for is there.
const DEADLINE: Duration = Duration::from_secs(3600);

/// It goes with the value that made it.
pub(crate) struct Rig {
    pub(crate) lab: Lab,
    description: LabDescription,
    pub(crate) dir: PathBuf,
    /// Whose it is; nothing where another process made it.
    owned: Option<tempfile::TempDir>,
}

impl Rig {
    pub(crate) fn up() -> Self {
        let dir = tempfile::Builder::new().prefix("ashlar-bench-").tempdir_in("/var/tmp").unwrap();
        // QEMU runs as a user of its own, and has to get to its disks.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let lab =
            Lab::with_state_dir(&format!("bench{}", std::process::id()), &dir.path().join("lab")).unwrap();
        lab.up(1, &|_| {}).unwrap();
        let description = lab.description().unwrap().unwrap();
        Rig { lab, description, dir: dir.path().to_owned(), owned: Some(dir) }
    }

    /// What another process made, and will take away.
    pub(crate) fn of(lab: &str, dir: &Path) -> Self {
        let lab = Lab::with_state_dir(lab, &dir.join("lab")).unwrap();
        let description = lab.description().unwrap().unwrap();
        Rig { lab, description, dir: dir.to_owned(), owned: None }
    }

    pub(crate) fn host(&self) -> &HostDescription {
        &self.description.hosts[0]
    }

    pub(crate) fn store(&self) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(self.dir.join("store.db")).unwrap())
    }

    /// A new engine with no connection yet, wired as the program's.
    pub(crate) fn engine(&self) -> (Engine, Arc<SqliteStore>, Arc<Log>) {
        let hosts = Hosts::new(ashlar_libvirt::Settings::new(self.dir.join("run"))).unwrap();
        let (store, log) = (self.store(), Arc::new(Log::default()));
        let vault = Arc::new(Vault::from_key(Zeroizing::new([7; 32])));
        let settings = Settings::new(INSTALLATION);
        let engine =
            Engine::new(Arc::clone(&store) as _, world(&hosts), vault, settings, Arc::clone(&log) as _);
        (engine, store, log)
    }

    /// Runs a future in the lab's control namespace, on a runtime as the program's.
    pub(crate) fn inside<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> T {
        let namespace = PathBuf::from("/run/netns").join(&self.description.control_namespace);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = std::fs::File::open(namespace).unwrap();
                nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                runtime.worker_threads(2).enable_all().build().unwrap().block_on(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Host, network, classes, image, and a cluster whose one control plane runs and counts as joined.
    ///
    /// The host is recorded as bigger than it is: a thousand machines that are off, or whose guests halt, need nothing of it.
    pub(crate) async fn prepare(&self, joined: bool) {
        let (engine, store, log) = self.engine();
        let host = self.host();
        let spec = json!({
            "uri": format!("qemu+ssh://{}@{}:{}/system", host.ssh_user, host.ssh_address, host.ssh_port),
            "sshHostKey": host.known_hosts_line.split_once(' ').unwrap().1,
            "sshKeyPath": self.description.client_key,
            "cpuOvercommit": 64,
        });
        let Object::Host(declared) = object(Kind::Host, "", &host.name, spec) else { unreachable!() };
        let pools = vec![host.pool_name.clone()];
        let new = NewHost { name: host.name.clone(), spec: declared.spec, pools, test_image: None };
        enrol::add(&engine, &new).await.unwrap();
        edit(store.as_ref(), &Key::new("Host", "", &host.name), |value| {
            value["record"]["accelerator"] = json!("emulated");
            value["record"]["capacity"]["memory"] = json!("1Ti");
            value["record"]["capacity"]["threads"] = json!(1024);
        })
        .await;
        let nodes = &self.description.nodes;
        let network = json!({
            "attachment": {"bridge": host.bridge}, "cidrs": [nodes.cidr], "gateway": nodes.gateway,
            "mtu": nodes.mtu, "ranges": nodes.ranges,
        });
        let class = |vcpus: u32, memory: &str| json!({"vcpus": vcpus, "memory": memory, "rootDisk": "64Mi", "etcdDisk": "512Mi"});
        let files = self.dir.join("image");
        std::fs::create_dir(&files).unwrap();
        let objects = vec![
            object(Kind::Network, "", "lab", network),
            object(Kind::MachineClass, "", "ctrl", class(2, "1700Mi")),
            object(Kind::MachineClass, "", "wkr", class(1, "128Mi")),
            image::make(&files),
            object(
                Kind::Cluster,
                NAMESPACE,
                CLUSTER,
                json!({
                    "kubernetesVersion": VERSION, "network": "lab", "podCidr": "172.16.0.0/12", "cni": "none", "admission": "none",
                    "controlPlane": {"replicas": 1, "class": "ctrl", "spread": "preferred"},
                }),
            ),
        ];
        declare::apply(store.as_ref(), &RealTime, &RealTime, objects, false).await.unwrap();
        self.work(&engine, &log, "StartDomain", 1).await;
        if joined {
            let now = json!(jiff::Timestamp::now());
            let machine = self.names(store.as_ref(), Kind::Machine).await.remove(0);
            let set = |value: &mut Value| value["record"]["joinedAt"] = now.clone();
            edit(store.as_ref(), &Key::new("Machine", NAMESPACE, &machine.name), set).await;
            let set = |value: &mut Value| value["record"]["initialized"] = json!(true);
            edit(store.as_ref(), &Key::new("Cluster", NAMESPACE, CLUSTER), set).await;
        }
    }

    /// Asks for so many workers.
    pub(crate) async fn want_workers(&self, store: &dyn Store, count: usize) {
        let spec = json!({"cluster": CLUSTER, "class": "wkr", "replicas": count});
        let group = object(Kind::WorkerGroup, NAMESPACE, GROUP, spec);
        declare::apply(store, &RealTime, &RealTime, vec![group], false).await.unwrap();
    }

    /// Lets the engine work until so many actions of a kind ended well; the run is then dropped, as by a crash.
    pub(crate) async fn work(
        &self,
        engine: &Engine,
        log: &Log,
        action: &str,
        count: usize,
    ) -> std::time::Instant {
        tokio::select! {
            ended = engine.run(&Scope::All, &Goal::Settled, DEADLINE) => {
                panic!("the engine ended before {count} × {action}: {:?}\n{}", ended.map(|run| run.passes), log.take())
            }
            at = log.reached(action, count) => at,
        }
    }

    pub(crate) async fn names(&self, store: &dyn Store, kind: Kind) -> Vec<ObjectRef> {
        let listing = store.list_raw(Some(kind.name()), None).await.unwrap();
        listing.items.iter().map(|item| ObjectRef::new(kind, &item.key.namespace, &item.key.name)).collect()
    }

    pub(crate) fn cluster(&self) -> NamespacedName {
        NamespacedName::new(NAMESPACE, CLUSTER)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.owned.is_none() {
            return;
        }
        if let Err(error) = self.lab.down(&|_| {}) {
            eprintln!("lab {} is not gone: {error}", self.lab.name());
        }
    }
}

/// Changes an object as no person can.
async fn edit(store: &dyn Store, key: &Key, change: impl Fn(&mut Value)) {
    let stored = store.get(key).await.unwrap().unwrap();
    let mut value = stored.value;
    change(&mut value);
    let transaction = Transaction::new().put(key.clone(), value, Precondition::Revision(stored.revision));
    store.commit(transaction).await.unwrap();
}
