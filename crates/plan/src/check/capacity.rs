//! The sum of claims on a host never passes what it offers, after no commit; each claim bumps the ledgers.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;

use super::Findings;
use crate::{Decision, Guard, Plan, Snapshot};

#[derive(Default)]
struct Claims {
    shared_vcpus: u64,
    /// Ordinary memory.
    memory_mib: u64,
    /// NUMA node → memory that is bound to it, in ordinary and in huge pages.
    node_mib: BTreeMap<(u32, Option<HugepageSize>), u64>,
    /// Thread → machines that have it for themselves.
    own_cpus: BTreeMap<u32, u32>,
    disk_mib: BTreeMap<String, u64>,
}

impl Claims {
    fn machine(&mut self, spec: &MachineSpec, add: bool) {
        if spec.cpu_policy == CpuPolicy::Shared {
            count(&mut self.shared_vcpus, u64::from(spec.vcpus), add);
        }
        if spec.hugepages.is_none() {
            count(&mut self.memory_mib, spec.memory.0, add);
        }
        for cell in &spec.numa {
            let node = self.node_mib.entry((cell.host_node, spec.hugepages)).or_default();
            count(node, cell.memory.0, add);
            for cpu in &cell.cpus.0 {
                let holders = self.own_cpus.entry(*cpu).or_default();
                *holders = if add { *holders + 1 } else { holders.saturating_sub(1) };
            }
        }
    }

    fn volume(&mut self, spec: &VolumeSpec, add: bool) {
        count(self.disk_mib.entry(spec.pool.clone()).or_default(), spec.capacity.0, add);
    }
}

fn count(sum: &mut u64, amount: u64, add: bool) {
    *sum = if add { *sum + amount } else { sum.saturating_sub(amount) };
}

/// Where a machine takes CPUs and memory: nowhere, once nothing is left of it but disks.
fn claimed(machine: &Machine) -> impl Iterator<Item = &str> {
    machine.hosts().filter(move |_| !machine.record.disks_only)
}

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, findings: &mut Findings) {
    if plan.decisions.is_empty() {
        return;
    }
    let mut claims: BTreeMap<&str, Claims> = BTreeMap::new();
    let mut machines: BTreeMap<NamespacedName, &Machine> = BTreeMap::new();
    for machine in snapshot.machines.values() {
        for host in claimed(machine) {
            claims.entry(host).or_default().machine(&machine.spec, true);
        }
    }
    for volume in snapshot.volumes.values() {
        claims.entry(&volume.spec.host).or_default().volume(&volume.spec, true);
    }
    for commit in &plan.decisions {
        // Only what grows can be this plan's fault: a host may have been made smaller by a person.
        let mut grown = BTreeSet::new();
        let is_machine = |decision: &Decision| matches!(decision, Decision::Create(Object::Machine(_)));
        let grounds = commit.iter().any(is_machine).then(|| Grounds::new(snapshot, commit));
        for decision in commit {
            match decision {
                Decision::Create(Object::Machine(machine)) => {
                    claims.entry(&machine.spec.host).or_default().machine(&machine.spec, true);
                    grown.insert(machine.spec.host.as_str());
                    if let Some(grounds) = &grounds {
                        ledgers(grounds, machine, findings);
                    }
                    parts(snapshot, machine, findings);
                }
                Decision::Update(Object::Machine(machine)) => {
                    // One that moves has a claim at both ends of its way.
                    let read = machines.get(&machine.key()).copied();
                    let before = read.or_else(|| snapshot.machines.get(&machine.key()));
                    for host in before.into_iter().flat_map(claimed) {
                        claims.entry(host).or_default().machine(&machine.spec, false);
                    }
                    for host in claimed(machine) {
                        claims.entry(host).or_default().machine(&machine.spec, true);
                    }
                    let newly = before.is_some_and(|before| before.record.migration.is_none());
                    if let Some(migration) = machine.record.migration.as_ref().filter(|_| newly) {
                        grown.insert(migration.to.as_str());
                        target_ledgers(&Grounds::new(snapshot, commit), machine, &migration.to, findings);
                    }
                    machines.insert(machine.key(), machine);
                }
                Decision::Create(Object::Volume(volume)) => {
                    claims.entry(&volume.spec.host).or_default().volume(&volume.spec, true);
                    grown.insert(volume.spec.host.as_str());
                }
                Decision::Remove { object, .. } if object.kind == Kind::Machine => {
                    let changed = machines.get(&object.key()).copied();
                    for host in
                        changed.or_else(|| snapshot.machines.get(&object.key())).into_iter().flat_map(claimed)
                    {
                        if let Some(machine) = snapshot.machines.get(&object.key()) {
                            claims.entry(host).or_default().machine(&machine.spec, false);
                        }
                    }
                }
                Decision::Remove { object, .. } if object.kind == Kind::Volume => {
                    if let Some(volume) = snapshot.volumes.get(&object.key()) {
                        claims.entry(&volume.spec.host).or_default().volume(&volume.spec, false);
                    }
                }
                _ => {}
            }
        }
        for host in grown {
            if let Some(claims) = claims.get(host) {
                host_holds(snapshot, host, claims, findings);
            }
        }
    }
}

/// Threads that the host's owner set apart and that the host has.
fn apart(host: &Host, capacity: &HostCapacity) -> BTreeSet<u32> {
    let on_nodes: BTreeSet<u32> =
        capacity.numa.values().flat_map(|node| node.cpus.0.iter().copied()).collect();
    let is_there = |cpu: &u32| match capacity.numa.len() {
        _ if !on_nodes.is_empty() => on_nodes.contains(cpu),
        0 | 1 => *cpu < capacity.threads,
        _ => false,
    };
    host.spec.dedicated_cpus.0.iter().copied().filter(is_there).collect()
}

/// A machine's parts on NUMA nodes add up to it, and its threads are of the right sort.
fn parts(snapshot: &Snapshot, machine: &Machine, findings: &mut Findings) {
    let (object, spec) = (machine.object_ref(), &machine.spec);
    let Some((host, capacity)) =
        snapshot.hosts.get(&spec.host).and_then(|host| Some((host, host.record.capacity.as_ref()?)))
    else {
        return;
    };
    let apart = apart(host, capacity);
    if spec.shared_cpus.0.iter().any(|cpu| apart.contains(cpu))
        || (!apart.is_empty()
            && spec.shared_cpus.is_empty()
            && usize::try_from(capacity.threads).is_ok_and(|threads| apart.len() < threads))
    {
        findings.add("Numa", &object, "it may run on threads that are others' alone");
    }
    let is_bound = spec.cpu_policy == CpuPolicy::Dedicated || spec.hugepages.is_some();
    if is_bound == spec.numa.is_empty() {
        findings.add(
            "Numa",
            &object,
            "it is bound to NUMA nodes just if it has CPUs or huge pages of its own",
        );
    }
    if spec.numa.is_empty() {
        return;
    }
    let nodes: BTreeSet<u32> = spec.numa.iter().map(|cell| cell.host_node).collect();
    let vcpus: u32 = spec.numa.iter().map(|cell| cell.vcpus).sum();
    let memory: u64 = spec.numa.iter().map(|cell| cell.memory.0).sum();
    if nodes.len() != spec.numa.len() || vcpus != spec.vcpus || memory != spec.memory.0 {
        findings.add("Numa", &object, "its parts on NUMA nodes do not add up");
    }
    for cell in &spec.numa {
        let wanted = if spec.cpu_policy == CpuPolicy::Dedicated { cell.vcpus as usize } else { 0 };
        let node_has = |cpu: &u32| {
            let node = capacity.numa.get(&cell.host_node);
            apart.contains(cpu) && node.is_none_or(|node| node.cpus.is_empty() || node.cpus.0.contains(cpu))
        };
        if cell.cpus.0.len() != wanted || !cell.cpus.0.iter().all(node_has) {
            findings.add(
                "Numa",
                &object,
                format!(
                    "its threads on node {} are not as many as its vCPUs, not of that node, or not set apart",
                    cell.host_node
                ),
            );
        }
    }
}

fn host_holds(snapshot: &Snapshot, name: &str, claims: &Claims, findings: &mut Findings) {
    let object = ObjectRef::new(Kind::Host, "", name);
    let Some((host, capacity)) =
        snapshot.hosts.get(name).and_then(|host| Some((host, host.record.capacity.as_ref()?)))
    else {
        findings.add("Capacity", &object, "claims on a host that is not enrolled");
        return;
    };
    let apart = u64::try_from(apart(host, capacity).len()).unwrap_or(u64::MAX);
    let threads = u64::from(capacity.threads)
        .saturating_sub(u64::from(host.spec.reserved.threads))
        .saturating_sub(apart);
    let vcpus = threads * u64::from(host.spec.cpu_overcommit.max(1));
    if claims.shared_vcpus > vcpus {
        let claimed = claims.shared_vcpus;
        findings.add("Capacity", &object, format!("{claimed} vCPUs claimed of {vcpus} on {threads} threads"));
    }
    for (cpu, holders) in claims.own_cpus.iter().filter(|(_, holders)| **holders > 1) {
        findings.add("Capacity", &object, format!("{holders} machines have thread {cpu} for themselves"));
    }
    let huge =
        |node: &NumaNode| -> u64 { node.hugepages.iter().map(|(size, pages)| size.mib() * pages).sum() };
    let all_huge: u64 = capacity.numa.values().map(huge).sum();
    let memory = capacity.memory.0.saturating_sub(host.spec.reserved.memory.0).saturating_sub(all_huge);
    if claims.memory_mib > memory {
        let claimed = claims.memory_mib;
        findings.add("Capacity", &object, format!("{claimed} MiB of memory claimed of {memory}"));
    }
    for ((number, size), claimed) in &claims.node_mib {
        let node = capacity.numa.get(number);
        let offered = match (node, size) {
            (None, None) => capacity.memory.0,
            (None, Some(_)) => 0,
            (Some(node), None) => node.memory.0.saturating_sub(huge(node)),
            (Some(node), Some(size)) => node.hugepages.get(size).copied().unwrap_or_default() * size.mib(),
        };
        if *claimed > offered {
            findings.add(
                "Capacity",
                &object,
                format!("{claimed} MiB of NUMA node {number} claimed of {offered}"),
            );
        }
    }
    for (pool_name, claimed) in &claims.disk_mib {
        let offered = snapshot.pools.get(pool_name).and_then(|pool| {
            let on_host = pool.record.hosts.get(name)?;
            Some(on_host.capacity_mib * u64::from(pool.spec.max_fill_percent) / 100)
        });
        if offered.is_none_or(|offered| *claimed > offered) {
            findings.add(
                "Capacity",
                &object,
                format!("{claimed} MiB of pool {pool_name} claimed of {}", offered.unwrap_or(0)),
            );
        }
    }
}

/// What a commit bumps and stands on.
struct Grounds<'c> {
    hosts: BTreeSet<&'c str>,
    networks: BTreeSet<&'c str>,
    objects: BTreeSet<ObjectRef>,
}

impl<'c> Grounds<'c> {
    fn new(snapshot: &Snapshot, commit: &'c [Decision]) -> Self {
        let mut grounds =
            Grounds { hosts: BTreeSet::new(), networks: BTreeSet::new(), objects: BTreeSet::new() };
        for decision in commit {
            match decision {
                Decision::Update(Object::Host(host)) => {
                    let name = host.metadata.name.as_str();
                    let read = snapshot.hosts.get(name);
                    if read.is_some_and(|read| host.record.ledger_sequence > read.record.ledger_sequence) {
                        grounds.hosts.insert(name);
                    }
                }
                Decision::Update(Object::Network(network)) => {
                    let name = network.metadata.name.as_str();
                    let read = snapshot.networks.get(name);
                    if read.is_some_and(|read| network.record.ledger_sequence > read.record.ledger_sequence) {
                        grounds.networks.insert(name);
                    }
                }
                _ => {}
            }
            grounds.objects.insert(decision.object_ref());
        }
        grounds
    }
}

/// The commit that sends a machine to a host bumps that host's ledger, and those of the networks that come along.
fn target_ledgers(grounds: &Grounds<'_>, machine: &Machine, to: &str, findings: &mut Findings) {
    let is_bumped = grounds.hosts.contains(to)
        && machine.spec.nics.iter().all(|nic| grounds.networks.contains(nic.network.as_str()));
    if !is_bumped && Guard::Ledger.stands() {
        let message = format!("it is sent to {to}, and the ledgers there are not bumped");
        findings.add("Ledger", &machine.object_ref(), message);
    }
}

/// A machine's commit bumps the ledger of its host and of its networks, and stands on its cluster and group as read.
fn ledgers(grounds: &Grounds<'_>, machine: &Machine, findings: &mut Findings) {
    let object = machine.object_ref();
    if !Guard::Ledger.stands() {
        return;
    }
    if !grounds.hosts.contains(machine.spec.host.as_str()) {
        findings.add("Ledger", &object, "its commit does not bump the ledger of its host");
    }
    for nic in &machine.spec.nics {
        if !grounds.networks.contains(nic.network.as_str()) {
            let message = format!("its commit does not bump the ledger of network {}", nic.network);
            findings.add("Ledger", &object, message);
        }
    }
    let mut needed = vec![ObjectRef::new(Kind::Cluster, &machine.metadata.namespace, &machine.spec.cluster)];
    if machine.spec.role == MachineRole::Worker {
        needed.push(ObjectRef::new(Kind::WorkerGroup, &machine.metadata.namespace, &machine.spec.group));
    }
    for needed in needed.iter().filter(|needed| !grounds.objects.contains(needed)) {
        findings.add("Precondition", &object, format!("its commit does not stand on {needed}"));
    }
}
