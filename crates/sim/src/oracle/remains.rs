//! What is left of a cluster, and what belongs to nothing, listed from the world.

use ashlar_api::NamespacedName;
use serde_json::Value;
use uuid::Uuid;

use super::{FileId, field, is_deleting};
use crate::State;
use crate::guest::cluster_of;

impl State {
    /// Everything in the world that was made for the cluster and is still there: domains, files, and what lies
    /// in the store under its name.
    pub fn remains(&self, cluster: &NamespacedName) -> Vec<String> {
        let mut found = Vec::new();
        for (host, world) in &self.hosts {
            for domain in world.domains.values() {
                let machine = domain.machine().or_else(|| domain.mark.as_ref()?.machine.as_deref());
                if machine.is_some_and(|machine| cluster_of(machine) == *cluster) {
                    found.push(format!("domain {} on {host}", domain.name));
                }
            }
        }
        let machines = self.oracle.machines_of(cluster);
        for (host, world) in &self.hosts {
            for network in world.networks.values() {
                let Some(applied) = &network.applied else {
                    found.push(format!("a half made network on {host}"));
                    continue;
                };
                if applied.taps.values().any(|tap| tap.cluster == cluster.to_string()) {
                    found.push(format!("filters in network {} on {host}", applied.name));
                } else if applied.taps.is_empty() {
                    found.push(format!("network {} on {host}", applied.name));
                }
            }
        }
        for (host, file) in self.files_of(cluster) {
            found.push(format!("file {file} on {host}"));
        }
        for (key, network) in self.oracle.stored("Network") {
            let made_for = network.pointer("/metadata/annotations/ashlar.dev~1network-of");
            if made_for.and_then(serde_json::Value::as_str) == Some(&cluster.to_string()) {
                found.push(format!("{key} in the store"));
            }
        }
        for kind in ["Cluster", "WorkerGroup", "Machine", "Volume", "Secret"] {
            for (key, value) in self.oracle.stored(kind) {
                let text = |pointer| field(&value, pointer);
                let machine = [text("/spec/content/machine"), text("/spec/purpose/machine")];
                let ours = key.namespace == cluster.namespace
                    && (kind == "Cluster" && key.name == cluster.name
                        || text("/spec/cluster") == cluster.name
                        || text("/spec/purpose/cluster") == cluster.name
                        || machine.iter().any(|machine| machines.contains(*machine)));
                if ours {
                    found.push(format!("{key} in the store"));
                }
            }
        }
        found
    }

    /// Domains that carry a machine's mark on a host where no machine of the store has them, and disks that no Volume of the store
    /// stands for, or one that was to be gone: cluster by cluster. When everything has come to rest there are none.
    pub fn orphans(&self) -> Vec<(NamespacedName, String)> {
        let mut found = Vec::new();
        for (host, world) in &self.hosts {
            for (uuid, domain) in &world.domains {
                let machine = domain.machine().or_else(|| domain.mark.as_ref()?.machine.as_deref());
                if let Some(machine) = machine
                    && !self.oracle.foreign_domains.contains_key(&(host.clone(), *uuid))
                    && !self.is_recorded_at(host, *uuid)
                {
                    found.push((cluster_of(machine), format!("domain {} on {host}", domain.name)));
                }
            }
        }
        for (id, owner) in &self.oracle.created {
            if self.is_there(id) && !self.oracle.foreign_volumes.contains_key(id) && !self.is_wanted(id) {
                let (host, _, file) = id;
                found.push((owner.cluster.clone(), format!("file {file} on {host}")));
            }
        }
        found
    }

    /// Whether a machine of the store has this domain on this host, now or at the end of its way.
    fn is_recorded_at(&self, host: &str, uuid: Uuid) -> bool {
        let uuid = uuid.to_string();
        let machine =
            self.oracle.truth.as_ref().and_then(|store| {
                store.find("Machine", |machine| field(machine, "/spec/domain/uuid") == uuid)
            });
        let is_its = |machine: &Value| {
            ["/spec/host", "/record/migration/to"].iter().any(|place| field(machine, place) == host)
        };
        machine.is_some_and(|machine| is_its(&machine))
    }

    /// Whether a Volume of the store stands for the file, and is not to be gone, or waits with its machine for that.
    fn is_wanted(&self, (host, pool, file): &FileId) -> bool {
        let volume = self.oracle.truth.as_ref().and_then(|store| {
            store.find("Volume", |volume| {
                field(volume, "/spec/fileName") == file
                    && field(volume, "/spec/host") == host
                    && field(volume, "/spec/poolUuid") == pool.to_string()
            })
        });
        let waits = |volume: &Value| {
            let machine = NamespacedName::new(
                field(volume, "/metadata/namespace"),
                field(volume, "/metadata/ownerReferences/0/name"),
            );
            self.stored_object("Machine", &machine).is_some_and(|machine| is_deleting(&machine))
        };
        volume.is_some_and(|volume| !is_deleting(&volume) || waits(&volume))
    }

    fn is_there(&self, (host, pool, file): &FileId) -> bool {
        let pool = self.hosts.get(host).and_then(|host| host.pools.get(pool));
        pool.is_some_and(|pool| pool.volumes.contains_key(file))
    }

    /// What a cluster that is ready must not have any more: seeds and tokens.
    pub fn leftover_secrets(&self, cluster: &NamespacedName) -> Vec<String> {
        let mut found = Vec::new();
        // One that has run out is removed by Kubernetes itself.
        let tokens = self.clusters.get(cluster).into_iter().flat_map(|world| world.tokens.values());
        let tokens = tokens.filter(|token| token.expires > self.now).count();
        if tokens > 0 {
            found.push(format!("{tokens} join tokens in the API server"));
        }
        for (host, world) in &self.hosts {
            for domain in world.domains.values() {
                let ours = domain.machine().is_some_and(|machine| cluster_of(machine) == *cluster);
                if ours && let Some(medium) = &domain.medium_path {
                    found.push(format!("{medium} in the drive of {} on {host}", domain.name));
                }
            }
        }
        let machines = self.oracle.machines_of(cluster);
        for (host, file) in self.files_of(cluster) {
            let pools = self.hosts.get(&host).into_iter().flat_map(|host| host.pools.values());
            if pools.filter_map(|pool| pool.volumes.get(&file)).any(|volume| volume.seed.is_some()) {
                found.push(format!("the seed {file} on {host}"));
            }
        }
        for (key, value) in self.oracle.stored("Secret") {
            let text = |pointer| field(&value, pointer);
            let ours = key.namespace == cluster.namespace && machines.contains(text("/spec/purpose/machine"));
            if ours && text("/spec/purpose/type") == "joinToken" {
                found.push(format!("{key} in the store"));
            }
        }
        found
    }

    /// Kubernetes versions of the cluster's machines, as they are recorded.
    pub(crate) fn recorded_versions(&self, cluster: &NamespacedName) -> Vec<String> {
        let machines = self.oracle.stored("Machine").into_iter();
        let own = machines.filter(|(key, machine)| {
            key.namespace == cluster.namespace && field(machine, "/spec/cluster") == cluster.name
        });
        own.map(|(_, machine)| field(&machine, "/spec/image/kubernetesVersion").to_owned()).collect()
    }

    /// Files that were made for the cluster and are still there: host and name.
    fn files_of(&self, cluster: &NamespacedName) -> Vec<(String, String)> {
        let created = self.oracle.created.iter();
        created
            .filter(|(id, owner)| owner.cluster == *cluster && self.is_there(id))
            .map(|((host, _, file), _)| (host.clone(), file.clone()))
            .collect()
    }
}
