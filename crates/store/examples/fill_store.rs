//! Fills a new store with typed objects of a large pool, for `cargo xtask bench get`.
//!
//! `fill_store FILE OBJECTS machines|mixed`: all machines, or the objects that clusters of three machines come with
//! (one Cluster, three Machines, four Volumes, four Secrets each). Both come with as many Hosts as carry them.

use std::{
    error::Error,
    future::Future,
    net::Ipv4Addr,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use ashlar_api::{
    Accelerator, AllocatedEndpoint, Bootstrap, Cluster, Cni, Condition, ConditionStatus, CpuPolicy,
    DomainIdentity, Host, HostCapacity, ImageTags, Machine, MachineImage, MachineRole, MachineSpec,
    MachineVolume, MachineVolumeRole, Mebibytes, Nic, NodeConfig, Object, ReclaimPolicy, Secret,
    SecretPurpose, SecretSpec, Volume, VolumeContent, VolumeFormat, VolumeSpec,
};
use ashlar_store::{Key, Precondition, Revision, SqliteStore, Store, Transaction};
use ipnet::Ipv4Net;
use uuid::Uuid;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const MACHINES_PER_CLUSTER: u64 = 3;
const MACHINES_PER_HOST: u64 = 33;
const DIGEST: &str = "sha256:4b0f8e6d0c3c8f3f0f7a3b0f8e6d0c3c8f3f0f7a3b0f8e6d0c3c8f3f0f7a3b0f";
const KUBERNETES: &str = "v1.37.2";
const CREATED: &str = "2026-08-01T12:00:00Z";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: fill_store FILE OBJECTS machines|mixed";
    let [file, objects, mix] = arguments.as_slice() else { return Err(usage.into()) };
    let wanted: usize = objects.parse()?;
    let mut objects = match mix.as_str() {
        "machines" => (0..wanted as u64).map(machine).collect::<Result<Vec<Object>>>()?,
        "mixed" => mixed(wanted)?,
        _ => return Err(usage.into()),
    };
    objects.truncate(wanted);
    let machines = objects.iter().filter(|object| matches!(object, Object::Machine(_))).count() as u64;
    for n in 0..machines.div_ceil(MACHINES_PER_HOST) {
        objects.push(host(n)?);
    }
    write(Path::new(file), objects)
}

fn mixed(wanted: usize) -> Result<Vec<Object>> {
    let mut objects = Vec::with_capacity(wanted + 16);
    let mut n = 0_u64;
    while objects.len() < wanted {
        if n.is_multiple_of(MACHINES_PER_CLUSTER) {
            let cluster = n / MACHINES_PER_CLUSTER;
            objects.push(self::cluster(cluster)?);
            objects.push(secret(
                &format!("{}-pki", cluster_name(cluster)),
                SecretPurpose::ClusterPki { cluster: cluster_name(cluster) },
                8,
            ));
            objects.push(volume(n, MachineVolumeRole::Etcd));
        }
        objects.push(machine(n)?);
        objects.push(volume(n, MachineVolumeRole::Root));
        let machine = machine_name(n);
        objects.push(secret(&format!("{machine}-ssh"), SecretPurpose::MachineSshHostKey { machine }, 2));
        n += 1;
    }
    Ok(objects)
}

fn write(file: &Path, objects: Vec<Object>) -> Result<()> {
    let store = SqliteStore::open(file)?;
    for chunk in objects.chunks(100) {
        let mut transaction = Transaction::new();
        for object in chunk {
            let mut object = object.clone();
            let metadata = object.metadata_mut();
            metadata.generation = 1;
            metadata.creation_timestamp = Some(CREATED.parse()?);
            let name = object.object_ref();
            let key = Key::new(name.kind.name(), name.namespace, name.name);
            transaction = transaction.put(key, object.to_value()?, Precondition::Absent);
        }
        wait_for(store.commit(transaction))?;
    }
    // As after a while of use: without the history that a fill leaves.
    wait_for(store.compact(Revision(u64::MAX)))?;
    Ok(())
}

fn cluster_name(n: u64) -> String {
    format!("cluster-{n:04}")
}

fn machine_name(n: u64) -> String {
    let cluster = cluster_name(n / MACHINES_PER_CLUSTER);
    match n % MACHINES_PER_CLUSTER {
        0 => format!("{cluster}-ctrl-1"),
        number => format!("{cluster}-wkr-{number}"),
    }
}

fn host_name(n: u64) -> String {
    format!("host-{:03}", n / MACHINES_PER_HOST)
}

/// Different for each kind and number; nothing here needs it to be random.
fn uuid(kind: u16, n: u64) -> Uuid {
    Uuid::from_fields(0x6f2c_0e1a, kind, 0x4000, &(0x8000_0000_0000_0000 | n).to_be_bytes())
}

fn address(n: u64) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 88, 1, 0)) + u32::try_from(n % 60_000).unwrap_or_default())
}

fn endpoint(cluster: u64) -> AllocatedEndpoint {
    AllocatedEndpoint {
        address: address(30_000 + cluster),
        port: 6443,
        vrrp_id: u8::try_from(cluster % 255).unwrap_or_default() + 1,
    }
}

fn condition(kind: &str, reason: &str) -> Result<Condition> {
    Ok(Condition {
        kind: kind.to_owned(),
        status: ConditionStatus::True,
        reason: reason.to_owned(),
        message: String::new(),
        last_transition_time: CREATED.parse()?,
        observed_generation: 1,
    })
}

fn cluster(n: u64) -> Result<Object> {
    let spec = serde_json::json!({
        "kubernetesVersion": KUBERNETES, "network": "lab",
        "controlPlane": {"replicas": 1, "class": "ctrl"},
        "workers": [{"name": "wkr", "class": "wkr", "replicas": 2}],
    });
    let mut cluster = Cluster::new(cluster_name(n), serde_json::from_value(spec)?);
    cluster.metadata.uid = Some(uuid(1, n));
    cluster.record.endpoint = Some(endpoint(n));
    cluster.record.image = "node-v1.37.2-4b0f8e6d0c3c".to_owned();
    cluster.record.initialized = true;
    cluster.status.conditions = vec![condition("Ready", "AllMachinesReady")?];
    (cluster.status.machines, cluster.status.ready_machines) = (3, 3);
    Ok(cluster.into())
}

fn machine(n: u64) -> Result<Object> {
    let (cluster, name, is_first) =
        (n / MACHINES_PER_CLUSTER, machine_name(n), n.is_multiple_of(MACHINES_PER_CLUSTER));
    let image_volume = |part: &str| format!("image-4b0f8e6d0c3c-{}-{part}", host_name(n));
    let machine_volume =
        |role: MachineVolumeRole| MachineVolume { name: format!("{name}-{}", role.serial()), role };
    let mut volumes = vec![machine_volume(MachineVolumeRole::Root)];
    if is_first {
        volumes.push(machine_volume(MachineVolumeRole::Etcd));
    }
    let uid = uuid(2, n);
    let mut machine = Machine::new(
        name.clone(),
        MachineSpec {
            cluster: cluster_name(cluster),
            role: if is_first { MachineRole::ControlPlane } else { MachineRole::Worker },
            group: if is_first { String::new() } else { format!("{}-wkr", cluster_name(cluster)) },
            class: if is_first { "ctrl" } else { "wkr" }.to_owned(),
            bootstrap: if is_first { Bootstrap::Init } else { Bootstrap::Join },
            host: host_name(n),
            domain: DomainIdentity { uuid: uuid(3, n), name: name.clone() },
            vcpus: if is_first { 8 } else { 16 },
            memory: Mebibytes::from_gib(if is_first { 16 } else { 64 }),
            cpu_policy: CpuPolicy::Shared,
            shared_cpus: Default::default(),
            hugepages: None,
            numa: Vec::new(),
            accelerator: Accelerator::Kvm,
            machine_type: "pc-q35-7.2".to_owned(),
            virtual_time: false,
            image: MachineImage {
                name: "node-v1.37.2-4b0f8e6d0c3c".to_owned(),
                digest: DIGEST.to_owned(),
                kubernetes_version: KUBERNETES.to_owned(),
                tags: ImageTags {
                    etcd: "3.7.0-0".to_owned(),
                    coredns: "v1.14.6".to_owned(),
                    pause: "3.10.2".to_owned(),
                    flannel: "v0.28.10".to_owned(),
                },
                command_line: "root=LABEL=ashlar-root ro console=ttyS0 net.ifnames=0".to_owned(),
                disk_volume: image_volume("disk"),
                kernel_volume: image_volume("kernel"),
                initrd_volume: image_volume("initrd"),
            },
            nics: vec![Nic {
                network: "lab".to_owned(),
                bridge: "br-nodes".to_owned(),
                mac: format!("52:54:00:{:02x}:{:02x}:{:02x}", (n >> 16) & 255, (n >> 8) & 255, n & 255),
                address: Ipv4Net::new(address(n), 16)?,
                gateway: Ipv4Addr::new(10, 88, 0, 1),
                dns: Vec::new(),
                mtu: 1500,
                vlan: None,
            }],
            volumes,
            node: NodeConfig {
                name,
                provider_id: format!("ashlar://{}/{uid}", uuid(0, 0)),
                endpoint: endpoint(cluster),
                extra_sans: Vec::new(),
                pod_cidr: "10.244.0.0/16".parse()?,
                service_cidr: "10.96.0.0/16".parse()?,
                dns_domain: "cluster.local".to_owned(),
                cni: Cni::Flannel,
                labels: [("topology.kubernetes.io/zone".to_owned(), format!("zone-{}", n % 3))].into(),
                taints: Vec::new(),
                ssh_authorized_keys: vec![
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINvGeQzQENtKaCTIs6G858oIvYxKqNm6ACwoVr38JZ9Y ops"
                        .to_owned(),
                ],
                ntp_servers: Vec::new(),
                startup_timeout_s: 900,
            },
        },
    );
    machine.metadata.uid = Some(uid);
    machine.metadata.labels = [("ashlar.dev/cluster".to_owned(), cluster_name(cluster))].into();
    machine.metadata.finalizers = vec!["ashlar.dev/cleanup".to_owned()];
    machine.record.first_started_at = Some(CREATED.parse()?);
    machine.record.joined_at = Some(CREATED.parse()?);
    machine.status.phase = "Ready".to_owned();
    machine.status.conditions =
        vec![condition("Ready", "NodeReady")?, condition("DomainRunning", "Running")?];
    Ok(machine.into())
}

fn volume(n: u64, role: MachineVolumeRole) -> Object {
    let is_root = role == MachineVolumeRole::Root;
    let machine = machine_name(n);
    let name = format!("{machine}-{}", role.serial());
    let id = uuid(if is_root { 4 } else { 5 }, n);
    let spec = VolumeSpec {
        host: host_name(n),
        pool: "images".to_owned(),
        pool_uuid: uuid(6, n / MACHINES_PER_HOST),
        pool_path: "/var/lib/libvirt/images".to_owned(),
        file_name: format!("ashlar-{name}-{id}.{}", if is_root { "qcow2" } else { "raw" }),
        format: if is_root { VolumeFormat::Qcow2 } else { VolumeFormat::Raw },
        capacity: Mebibytes::from_gib(if is_root { 40 } else { 4 }),
        content: VolumeContent::MachineDisk {
            machine,
            role,
            backing: is_root.then(|| format!("image-4b0f8e6d0c3c-{}-disk", host_name(n))),
        },
        reclaim: ReclaimPolicy::Delete,
    };
    let mut volume = Volume::new(name, spec);
    volume.metadata.uid = Some(id);
    volume.into()
}

/// Sealed values of the size of real ones; what they hold does not matter to a listing.
fn secret(name: &str, purpose: SecretPurpose, values: usize) -> Object {
    let sealed = (0..values).map(|n| (format!("value-{n}"), "A".repeat(900))).collect();
    let spec = SecretSpec {
        purpose,
        key_id: "file-1".to_owned(),
        sealed_data_key: "A".repeat(96),
        sealed,
        next_seal: None,
    };
    Secret::new(name, spec).into()
}

fn host(n: u64) -> Result<Object> {
    let spec = serde_json::json!({
        "uri": format!("qemu+ssh://root@10.77.{}.{}/system", n / 250, n % 250 + 1),
        "sshHostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK/lXhWQQp5hJ4wInm5+nOCQPYUYzZ+CB5QtF60tWLp9",
        "rack": format!("rack-{}", n / 20), "zone": format!("zone-{}", n % 3),
    });
    let mut host = Host::new(format!("host-{n:03}"), serde_json::from_value(spec)?);
    host.metadata.uid = Some(uuid(7, n));
    host.record.capacity = Some(HostCapacity {
        threads: 128,
        cores: 64,
        sockets: 2,
        memory: Mebibytes::from_gib(512),
        cpu_model: "EPYC-Milan".to_owned(),
        ..HostCapacity::default()
    });
    host.record.accelerator = Some(Accelerator::Kvm);
    host.record.libvirt_version = "9.0.0".to_owned();
    host.record.qemu_version = "7.2.0".to_owned();
    host.status.conditions = vec![condition("Ready", "Reachable")?];
    Ok(host.into())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The stores need no async runtime.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
