//! What is claimed on each host.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;

use super::request::Request;
use super::rules::{missing_image_mib, soon_mib};
use crate::draft::{Draft, cluster_of};

/// Claims on one host: of every Machine and Volume in the store, those being deleted too, until they are proved gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostUsage {
    /// vCPUs of machines that share threads.
    pub shared_vcpus: u64,
    /// vCPUs of machines with threads of their own.
    pub dedicated_vcpus: u64,
    /// Memory.
    pub memory_mib: u64,
    /// StoragePool → capacity of the volumes there.
    pub disk_mib: BTreeMap<String, u64>,
    /// Machines.
    pub machines: u32,
    /// (cluster, group) → machines; control planes have the empty group.
    pub(crate) groups: BTreeMap<(NamespacedName, String), u32>,
    /// Names of the domains of these machines.
    pub(crate) domain_names: BTreeSet<String>,
    /// StoragePool → what this plan will write there at once.
    pub(crate) soon_mib: BTreeMap<String, u64>,
}

/// Host → claims. Hosts without claims are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// By host.
    pub hosts: BTreeMap<String, HostUsage>,
}

impl Usage {
    /// Sums up all claims.
    pub fn of<'o>(
        machines: impl Iterator<Item = &'o Machine>,
        volumes: impl Iterator<Item = &'o Volume>,
    ) -> Self {
        let mut usage = Usage::default();
        machines.for_each(|machine| usage.add_machine(machine));
        volumes.for_each(|volume| usage.add_volume(volume));
        usage
    }

    pub(crate) fn add_machine(&mut self, machine: &Machine) {
        let spec = &machine.spec;
        let host = self.hosts.entry(spec.host.clone()).or_default();
        match spec.cpu_policy {
            CpuPolicy::Shared => host.shared_vcpus += u64::from(spec.vcpus),
            CpuPolicy::Dedicated => host.dedicated_vcpus += u64::from(spec.vcpus),
        }
        host.memory_mib += spec.memory.0;
        host.machines += 1;
        *host.groups.entry((cluster_of(machine), spec.group.clone())).or_default() += 1;
        host.domain_names.insert(spec.domain.name.clone());
    }

    pub(crate) fn add_volume(&mut self, volume: &Volume) {
        let spec = &volume.spec;
        let host = self.hosts.entry(spec.host.clone()).or_default();
        *host.disk_mib.entry(spec.pool.clone()).or_default() += spec.capacity.0;
    }

    /// Adds what a machine would claim, without making it: to try several together.
    pub(crate) fn claim(&mut self, draft: &Draft<'_>, host: &str, request: &Request<'_>) {
        let image_mib = missing_image_mib(draft, host, request);
        let usage = self.hosts.entry(host.to_owned()).or_default();
        let vcpus = u64::from(request.class.spec.vcpus);
        match request.class.spec.cpu_policy {
            CpuPolicy::Shared => usage.shared_vcpus += vcpus,
            CpuPolicy::Dedicated => usage.dedicated_vcpus += vcpus,
        }
        usage.memory_mib += request.class.spec.memory.0;
        usage.machines += 1;
        *usage.groups.entry((request.cluster.key(), request.group.to_owned())).or_default() += 1;
        usage.domain_names.insert(request.domain_name.clone());
        let pool = &request.pool.metadata.name;
        // The image is counted with each machine: rather too much than too little.
        *usage.disk_mib.entry(pool.clone()).or_default() += request.disks_mib() + image_mib;
        *usage.soon_mib.entry(pool.clone()).or_default() += soon_mib(request, image_mib);
    }
}

/// What a host offers to machines, after its reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Hardware threads.
    pub threads: u64,
    /// vCPUs that share them, if no machine has threads of its own.
    pub vcpus: u64,
    /// Memory.
    pub memory_mib: u64,
}

/// What a host offers; none if it is not enrolled.
pub fn offer(host: &Host) -> Option<Offer> {
    let capacity = host.record.capacity.as_ref()?;
    let threads = u64::from(capacity.threads.saturating_sub(host.spec.reserved.threads));
    Some(Offer {
        threads,
        vcpus: threads * u64::from(host.spec.cpu_overcommit.max(1)),
        memory_mib: capacity.memory.0.saturating_sub(host.spec.reserved.memory.0),
    })
}

/// What a pool on a host offers to volumes: its capacity up to the watermark.
pub fn pool_offer_mib(pool: &StoragePool, host: &str) -> Option<u64> {
    let on_host = pool.record.hosts.get(host)?;
    Some(on_host.capacity_mib / 100 * u64::from(pool.spec.max_fill_percent.min(100)))
}
