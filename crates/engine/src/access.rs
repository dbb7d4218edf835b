//! The ways to hosts and clusters for commands that look inside: console, ssh, kubectl, proxy, kubeconfig.

use ashlar_api::{Cluster, Host, Kind, Machine, NamespacedName, ObjectRef, SecretSpec};
use ashlar_plan::{Snapshot, names};
use zeroize::Zeroizing;

use crate::{
    Engine, EngineError,
    effects::{DialTarget, HostTarget},
    objects, pki,
};

impl Engine {
    /// How to reach a host, with the lease that this engine holds (or the last one given out: enough for looking).
    pub fn host_target(&self, host: &Host) -> HostTarget {
        self.leases.target(host, &self.settings)
    }

    /// The way to a cluster's API server; none while it has no endpoint. Hosts that were seen go first.
    pub fn api_server(&self, snapshot: &Snapshot, cluster: &Cluster) -> Option<DialTarget> {
        let endpoint = cluster.record.endpoint.as_ref()?;
        Some(DialTarget {
            via: self.way_to(snapshot, cluster),
            network: cluster.spec.network.clone(),
            namespace: namespace_of(snapshot, &cluster.spec.network),
            address: endpoint.address,
            others: self.control_plane_addresses(snapshot, cluster),
            port: endpoint.port,
        })
    }

    /// The way to a port of a machine, through its own host.
    pub fn machine_port(&self, snapshot: &Snapshot, machine: &Machine, port: u16) -> Option<DialTarget> {
        let nic = machine.spec.nics.first()?;
        let host = snapshot.hosts.get(&machine.spec.host)?;
        Some(DialTarget {
            via: vec![self.host_target(host)],
            network: nic.network.clone(),
            namespace: namespace_of(snapshot, &nic.network),
            address: nic.address.addr(),
            others: Vec::new(),
            port,
        })
    }

    /// An administrator's kubeconfig with a certificate of 30 days. `server` is the URL to use in place of the
    /// cluster's own endpoint (a local proxy); the name in the certificate stays the endpoint's.
    ///
    /// # Errors
    /// There is no such cluster, it has no endpoint or certificates yet, or its secret cannot be opened.
    pub async fn kubeconfig(
        &self,
        cluster: &NamespacedName,
        server: Option<&str>,
    ) -> Result<Zeroizing<String>, EngineError> {
        let name = ObjectRef::new(Kind::Cluster, &cluster.namespace, &cluster.name);
        let object = objects::read::<ashlar_api::ClusterSpec>(self.store.as_ref(), &name)
            .await?
            .ok_or_else(|| EngineError::NoSuchObject(name))?;
        let not_yet = |what: &str| {
            EngineError::Refused(format!("cluster {cluster} has no {what} yet; wait until it is created"))
        };
        let endpoint = object.record.endpoint.as_ref().ok_or_else(|| not_yet("endpoint"))?;
        let secret = names::pki_secret(cluster);
        let secret = ObjectRef::new(Kind::Secret, &secret.namespace, &secret.name);
        let secret = objects::read::<SecretSpec>(self.store.as_ref(), &secret)
            .await?
            .ok_or_else(|| not_yet("certificates"))?;
        let values = self.vault.open_secret(&secret)?;
        let now = self.world.clock.now();
        let identity = pki::client_identity(&values, pki::Identity::Administrator, now)?;
        let own = format!("https://{}:{}", endpoint.address, endpoint.port);
        let address = endpoint.address.to_string();
        let tls_name = server.map(|_| address.as_str());
        Ok(pki::kubeconfig(cluster, server.unwrap_or(&own), tls_name, &pki::ca_pem(&values)?, &identity))
    }
}

/// The namespace that holds a network's gateway on each of its hosts; none for what is attached to the host itself.
fn namespace_of(snapshot: &Snapshot, network: &str) -> Option<String> {
    let network = snapshot.networks.get(network).filter(|network| network.spec.is_made_by_us())?;
    Some(ashlar_plan::network::names::namespace(network.metadata.uid?))
}
