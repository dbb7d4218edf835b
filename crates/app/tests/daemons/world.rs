//! A lab, three members of etcd and three daemons. What there is to do is on its first host.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use ashlar_lab::{HostDescription, Lab, LabDescription, Place as Where};
use ashlar_store::{
    Candidate, Election as _, EtcdElection, EtcdStore, Key, Precondition, Role, Store as _, Transaction,
};
use futures::executor::block_on;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::Place;
use crate::members::{Cluster, Fsync, Seat};
use crate::network::Netns;
use crate::oracle::{Oracle, wait};
use crate::seed;

/// What is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The daemon; its ssh processes go on for as long as they can.
    Process,
    /// With all its processes, as if its machine stood still.
    Machine,
}

pub(crate) struct Daemon {
    pub(crate) netns: Netns,
    state: PathBuf,
    child: Child,
}

impl Daemon {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal, who: Who) {
        match who {
            Who::Process => kill(self.pid(), signal).unwrap(),
            Who::Machine => killpg(self.pid(), signal).unwrap(),
        }
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.state.join("log")).unwrap_or_default()
    }

    /// Deletions that it began and whose end it did not see, as its audit says.
    pub(crate) fn under_way(&self) -> usize {
        let text = std::fs::read_to_string(self.state.join("audit.jsonl")).unwrap_or_default();
        let count = |deed: &str| {
            let deed = format!("\"deed\":\"{deed}\",\"action\":\"deleteVolume\"");
            text.lines().filter(|line| line.contains(&deed)).count()
        };
        count("started").saturating_sub(count("done") + count("failed"))
    }
}

pub(crate) struct World<'l> {
    pub(crate) oracle: Oracle<'l>,
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) members: Vec<Netns>,
    _cluster: Cluster,
    host: &'l HostDescription,
    store: EtcdStore,
    pool: String,
    place: Place,
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            killpg(daemon.pid(), Signal::SIGKILL).ok();
            daemon.child.wait().ok();
        }
    }
}

impl<'l> World<'l> {
    /// To be called in the lab's control namespace.
    pub(crate) fn start(lab: &'l Lab, description: &'l LabDescription) -> Self {
        let host = &description.hosts[0];
        let oracle = Oracle::install(lab, host);
        let members: Vec<Netns> =
            (1..=3).map(|n| Netns::add(description, &format!("e{n}"), 200 + n)).collect();
        let seat = |netns: &Netns| Seat { address: netns.address, netns: Some(netns.name.clone()) };
        let cluster = Cluster::start_on(members.iter().map(seat).collect(), Fsync::Off, &[]);
        let pools: Vec<String> = description.hosts.iter().map(|host| pool_uuid(lab, host)).collect();
        let place = Place::with(&objects(description, &pools));
        let options = cluster.options();
        place.file("etcd/ca.crt", &options.ca_pem);
        place.file("etcd/client.crt", &options.certificate_pem);
        place.file("etcd/client.key", &options.key_pem);
        let file = place.file(
            "etcd.yaml",
            &format!(
                "endpoints: [{}]\nprefix: {}\nca: etcd/ca.crt\ncertificate: etcd/client.crt\nkey: etcd/client.key\n",
                options.endpoints.join(", "),
                options.prefix
            ),
        );
        let migrated = place.run(&["store", "migrate", "--to-etcd", &file]);
        assert!(migrated.starts_with("exit 0"), "{migrated}");
        place.file("serve.yaml", "period: 3s\nretryBlockedAfter: 3s\n");
        let store = EtcdStore::open(&options).unwrap();
        let recorded = block_on(store.record()).unwrap().unwrap();
        let mut world = World {
            oracle,
            daemons: Vec::new(),
            members,
            _cluster: cluster,
            host,
            store: store.under(&recorded),
            pool: pools[0].clone(),
            place,
        };
        for number in 1..=3 {
            let netns = Netns::add(description, &format!("d{number}"), 210 + number);
            let state = world.place.path().join(format!("d{number}"));
            let shown = state.display().to_string();
            let used = world.place.run(&["store", "use", &file, "--state-dir", &shown]);
            assert!(used.starts_with("exit 0"), "{used}");
            let child = world.spawn(&netns, &state);
            world.daemons.push(Daemon { netns, state, child });
        }
        world
    }

    fn spawn(&self, netns: &Netns, state: &std::path::Path) -> Child {
        let name = state.file_name().unwrap().to_str().unwrap();
        let state_dir = state.display().to_string();
        let inner = self.place.command(&[
            "serve",
            "--name",
            name,
            "--config",
            &self.place.path().join("serve.yaml").display().to_string(),
            "--state-dir",
            &state_dir,
        ]);
        let mut command = netns.command(inner.get_program());
        command.args(inner.get_args());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        for (name, value) in inner.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let log = File::options().create(true).append(true).open(state.join("log")).unwrap();
        command
            .current_dir(self.place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap()
    }

    /// Kills a daemon, or its machine.
    pub(crate) fn kill(&mut self, number: usize, who: Who) {
        self.daemons[number].signal(Signal::SIGKILL, who);
        self.daemons[number].child.wait().unwrap();
    }

    /// Starts one again that was killed.
    pub(crate) fn start_again(&mut self, number: usize) {
        let child = self.spawn(&self.daemons[number].netns, &self.daemons[number].state);
        self.daemons[number].child = child;
    }

    /// Who leads, as etcd says.
    pub(crate) fn leader(&self) -> usize {
        let candidate =
            Candidate { name: "test".to_owned(), role: Role::Command, doing: "a test".to_owned() };
        let election = EtcdElection::new(&self.store, candidate);
        wait("nobody leads", || {
            let leader = block_on(election.leader()).ok()??;
            leader.candidate.name[1..].parse::<usize>().ok().map(|number| number - 1)
        })
    }

    /// Files that are to go, and the volumes that say so.
    pub(crate) fn give_work(&self, trial: usize, count: usize) -> Vec<String> {
        let files: Vec<String> = (0..count).map(|n| format!("ashlar-test-{trial}-{n}.raw")).collect();
        self.oracle.make(&files);
        let mut transaction = Transaction::new();
        for file in &files {
            let volume = self.volume(file);
            let key = Key::new("Volume", ashlar_api::SYSTEM_NAMESPACE, file.trim_end_matches(".raw"));
            transaction = transaction.put(key, volume, Precondition::Any);
        }
        wait("the work cannot be declared", || block_on(self.store.commit(transaction.clone())).ok());
        files
    }

    fn volume(&self, file: &str) -> Value {
        let then = "2024-01-01T00:00:00Z";
        json!({
            "apiVersion": "ashlar.dev/v1alpha1", "kind": "Volume",
            "metadata": {
                "name": file.trim_end_matches(".raw"), "namespace": ashlar_api::SYSTEM_NAMESPACE,
                "uid": uuid::Uuid::new_v4(), "generation": 1, "creationTimestamp": then, "deletionTimestamp": then,
            },
            "spec": {
                "host": self.host.name, "pool": "images", "poolUuid": self.pool, "poolPath": self.host.pool_path,
                "fileName": file, "format": "raw", "capacity": "1Mi", "reclaim": "delete",
                "content": {
                    "type": "imageFile", "image": "gone", "digest": format!("sha256:{}", "cd".repeat(32)),
                    "part": "disk", "sha256": "ab".repeat(32), "sizeBytes": 20,
                },
            },
            "record": {"filled": true, "unusedSince": then},
        })
    }

    /// Waits until the store knows no volume any more: each was seen to be gone.
    pub(crate) fn wait_until_done(&self) {
        let ends = std::time::Instant::now() + crate::oracle::DEADLINE;
        loop {
            match block_on(self.store.list(Some("Volume"), None)) {
                Ok(listing) if listing.items.is_empty() => return,
                other => assert!(
                    std::time::Instant::now() < ends,
                    "the work is not done: {:?}\n{}",
                    other.map(|listing| listing.items.len()),
                    self.daemons.iter().map(Daemon::log).collect::<Vec<_>>().join("\n---\n")
                ),
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

fn pool_uuid(lab: &Lab, host: &HostDescription) -> String {
    let argv = ["virsh", "-q", "pool-uuid", &host.pool_name];
    let output = lab.output(&Where::Host(host.name.clone()), &argv, Duration::from_secs(30)).unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The hosts as enrolment would have left them, and their pool.
fn objects(lab: &LabDescription, pool_uuids: &[String]) -> Vec<Value> {
    let names: Vec<&str> = lab.hosts.iter().map(|host| host.name.as_str()).collect();
    let mut pool = seed::pool(&names);
    pool["spec"]["libvirtName"] = lab.hosts[0].pool_name.clone().into();
    let mut objects = Vec::new();
    for (number, (described, pool_uuid)) in lab.hosts.iter().zip(pool_uuids).enumerate() {
        let mut host = seed::host(&described.name, u32::try_from(number).unwrap() + 1);
        host["spec"]["uri"] = format!(
            "qemu+ssh://{}@{}:{}/system",
            described.ssh_user, described.ssh_address, described.ssh_port
        )
        .into();
        host["spec"]["sshHostKey"] = described.known_hosts_line.split_once(' ').unwrap().1.into();
        host["spec"]["sshKeyPath"] = lab.client_key.display().to_string().into();
        host["record"]["hostUuid"] = described.host_uuid.to_string().into();
        pool["record"]["hosts"][&described.name]["uuid"] = pool_uuid.as_str().into();
        pool["record"]["hosts"][&described.name]["path"] = described.pool_path.display().to_string().into();
        objects.push(host);
    }
    objects.push(pool);
    objects
}
