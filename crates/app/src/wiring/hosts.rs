//! The real hosts: libvirt, SSH, tunnels; and the ways through them to clusters and machines.

use std::sync::Arc;

use ashlar_api::{Cluster, Host, Kind, Machine, MachineRole, Object};
use ashlar_engine::effects::{Dial, DialTarget, HostTarget, ThisMachine, World};
use ashlar_kubeapi::{Clients, EtcdClients};
use ashlar_libvirt::{Hosts, PowerControl};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::{OsEntropy, SystemClock, installation};
use crate::failure::{Context, Failure, Result};
use crate::objects::{Reader, object_ref};
use crate::settings::Settings;

/// Hosts that are tried on the way to one address.
const VIA_LIMIT: usize = 3;

fn hosts(settings: &Settings) -> Result<Arc<Hosts>> {
    let run_dir = settings.state_dir.join("run");
    Hosts::new(ashlar_libvirt::Settings::new(&run_dir)).context(format!("cannot use {}", run_dir.display()))
}

/// Everything outside, as the engine gets it; and the hosts themselves, which count their calls.
pub(crate) fn real_world(settings: &Settings) -> Result<(World, Arc<Hosts>)> {
    let hosts = hosts(settings)?;
    let world = World {
        hypervisor: Arc::clone(&hosts) as _,
        shell: Arc::clone(&hosts) as _,
        files: Arc::new(ThisMachine),
        networks: Arc::clone(&hosts) as _,
        kube: Arc::new(Clients::new(Arc::clone(&hosts) as Arc<dyn Dial>)),
        etcd: Arc::new(EtcdClients::new(Arc::clone(&hosts) as Arc<dyn Dial>)),
        fencer: Arc::new(PowerControl::default()),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
    };
    Ok((world, hosts))
}

/// The way to hosts, clusters and machines, for commands that look and talk but plan nothing: no vault, no lock.
pub(crate) struct Reach {
    pub(crate) hosts: Arc<Hosts>,
    pub(crate) runtime: Runtime,
    installation: Uuid,
}

impl Reach {
    /// Opens it; nothing is connected yet.
    pub(crate) fn open(settings: &Settings) -> Result<Reach> {
        let installation = installation(&settings.state_dir)?;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let hosts = {
            let _inside = runtime.enter();
            hosts(settings)?
        };
        Ok(Reach { hosts, runtime, installation })
    }

    /// How to reach a host, as a visitor: what a person says to a cluster goes on while Ashlar works on its host.
    pub(crate) fn host(&self, host: &Host) -> HostTarget {
        HostTarget {
            name: host.metadata.name.clone(),
            uri: host.spec.uri.clone(),
            ssh_host_key: host.spec.ssh_host_key.clone(),
            ssh_key_path: host.spec.ssh_key_path.clone(),
            installation: self.installation,
            lease_token: None,
            host_uuid: host.record.host_uuid,
        }
    }

    /// The host that a machine is on.
    pub(crate) fn host_of(&self, reader: &Reader, machine: &Machine) -> Result<HostTarget> {
        match reader.object(&object_ref(Kind::Host, &machine.spec.host, ""))? {
            Object::Host(host) => Ok(self.host(&host)),
            other => Err(Failure::internal(format!("{} is not a host", other.object_ref()))),
        }
    }

    /// The way to a port of a machine: through its own host.
    pub(crate) fn machine(&self, reader: &Reader, machine: &Machine, port: u16) -> Result<DialTarget> {
        let name = machine.key();
        let nic = machine
            .spec
            .nics
            .first()
            .ok_or_else(|| Failure::new(format!("machine {name} has no address")))?;
        Ok(DialTarget {
            via: vec![self.host_of(reader, machine)?],
            network: nic.network.clone(),
            namespace: namespace(reader, &nic.network)?,
            address: nic.address.addr(),
            others: Vec::new(),
            port,
        })
    }

    /// The way to a cluster's API server: through the hosts of its control planes.
    pub(crate) fn cluster(&self, reader: &Reader, cluster: &Cluster) -> Result<DialTarget> {
        let name = cluster.key();
        let endpoint = cluster.record.endpoint.as_ref().ok_or_else(|| {
            Failure::new(format!("cluster {name} has no endpoint yet")).hint("`ashlar apply` works on it")
        })?;
        let (mut via, mut others) = (Vec::<HostTarget>::new(), Vec::new());
        for object in reader.objects(Kind::Machine, Some(&name.namespace))? {
            if let Object::Machine(machine) = object
                && machine.spec.cluster == name.name
                && machine.spec.role == MachineRole::ControlPlane
            {
                if machine.record.joined_at.is_some() {
                    others.extend(machine.spec.node_address());
                }
                if !via.iter().any(|host| host.name == machine.spec.host) && via.len() < VIA_LIMIT {
                    via.push(self.host_of(reader, &machine)?);
                }
            }
        }
        if via.is_empty() {
            return Err(Failure::new(format!("cluster {name} has no control plane yet")));
        }
        Ok(DialTarget {
            via,
            network: cluster.spec.network.clone(),
            namespace: namespace(reader, &cluster.spec.network)?,
            address: endpoint.address,
            others,
            port: endpoint.port,
        })
    }
}

/// The network's namespace on its hosts, where it has one.
fn namespace(reader: &Reader, network: &str) -> Result<Option<String>> {
    match reader.object(&object_ref(Kind::Network, network, ""))? {
        Object::Network(network) if network.spec.is_made_by_us() => {
            Ok(network.metadata.uid.map(ashlar_plan::network::names::namespace))
        }
        _ => Ok(None),
    }
}
