//! The sum of claims on a host never passes what it offers, after no commit; each claim bumps the ledgers.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_api::*;

use super::Findings;
use crate::{Decision, Plan, Snapshot};

#[derive(Default)]
struct Claims {
    shared: u64,
    dedicated: u64,
    memory_mib: u64,
    disk_mib: BTreeMap<String, u64>,
}

impl Claims {
    fn machine(&mut self, spec: &MachineSpec, add: bool) {
        let vcpus = match spec.cpu_policy {
            CpuPolicy::Shared => &mut self.shared,
            CpuPolicy::Dedicated => &mut self.dedicated,
        };
        count(vcpus, u64::from(spec.vcpus), add);
        count(&mut self.memory_mib, spec.memory.0, add);
    }

    fn volume(&mut self, spec: &VolumeSpec, add: bool) {
        count(self.disk_mib.entry(spec.pool.clone()).or_default(), spec.capacity.0, add);
    }
}

fn count(sum: &mut u64, amount: u64, add: bool) {
    *sum = if add { *sum + amount } else { sum.saturating_sub(amount) };
}

pub(super) fn check(snapshot: &Snapshot, plan: &Plan, findings: &mut Findings) {
    if plan.decisions.is_empty() {
        return;
    }
    let mut claims: BTreeMap<&str, Claims> = BTreeMap::new();
    for machine in snapshot.machines.values() {
        claims.entry(&machine.spec.host).or_default().machine(&machine.spec, true);
    }
    for volume in snapshot.volumes.values() {
        claims.entry(&volume.spec.host).or_default().volume(&volume.spec, true);
    }
    for commit in &plan.decisions {
        // Only what grows can be this plan's fault: a host may have been made smaller by a person.
        let mut grown = BTreeSet::new();
        for decision in commit {
            match decision {
                Decision::Create(Object::Machine(machine)) => {
                    claims.entry(&machine.spec.host).or_default().machine(&machine.spec, true);
                    grown.insert(machine.spec.host.as_str());
                    ledgers(snapshot, commit, machine, findings);
                }
                Decision::Create(Object::Volume(volume)) => {
                    claims.entry(&volume.spec.host).or_default().volume(&volume.spec, true);
                    grown.insert(volume.spec.host.as_str());
                }
                Decision::Remove { object, .. } if object.kind == Kind::Machine => {
                    if let Some(machine) = snapshot.machines.get(&object.key()) {
                        claims.entry(&machine.spec.host).or_default().machine(&machine.spec, false);
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

fn host_holds(snapshot: &Snapshot, name: &str, claims: &Claims, findings: &mut Findings) {
    let object = ObjectRef::new(Kind::Host, "", name);
    let Some((host, capacity)) =
        snapshot.hosts.get(name).and_then(|host| Some((host, host.record.capacity.as_ref()?)))
    else {
        findings.add("Capacity", &object, "claims on a host that is not enrolled");
        return;
    };
    let threads = u64::from(capacity.threads).saturating_sub(u64::from(host.spec.reserved.threads));
    let shared_threads = claims.shared.div_ceil(u64::from(host.spec.cpu_overcommit.max(1)));
    if claims.dedicated + shared_threads > threads {
        findings.add(
            "Capacity",
            &object,
            format!(
                "{} dedicated and {} shared vCPUs claimed on {threads} threads",
                claims.dedicated, claims.shared
            ),
        );
    }
    let memory = capacity.memory.0.saturating_sub(host.spec.reserved.memory.0);
    if claims.memory_mib > memory {
        let claimed = claims.memory_mib;
        findings.add("Capacity", &object, format!("{claimed} MiB of memory claimed of {memory}"));
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

/// A machine's commit bumps the ledger of its host and of its networks, and stands on its cluster and group as read.
fn ledgers(snapshot: &Snapshot, commit: &[Decision], machine: &Machine, findings: &mut Findings) {
    let object = machine.object_ref();
    let bumped = commit.iter().any(|decision| match decision {
        Decision::Update(Object::Host(host)) => {
            host.metadata.name == machine.spec.host
                && snapshot
                    .hosts
                    .get(&machine.spec.host)
                    .is_some_and(|read| host.record.ledger_sequence > read.record.ledger_sequence)
        }
        _ => false,
    });
    if !bumped {
        findings.add("Ledger", &object, "its commit does not bump the ledger of its host");
    }
    for nic in &machine.spec.nics {
        let bumped = commit.iter().any(|decision| match decision {
            Decision::Update(Object::Network(network)) => {
                network.metadata.name == nic.network
                    && snapshot
                        .networks
                        .get(&nic.network)
                        .is_some_and(|read| network.record.ledger_sequence > read.record.ledger_sequence)
            }
            _ => false,
        });
        if !bumped {
            findings.add(
                "Ledger",
                &object,
                format!("its commit does not bump the ledger of network {}", nic.network),
            );
        }
    }
    let mut needed = vec![ObjectRef::new(Kind::Cluster, &machine.metadata.namespace, &machine.spec.cluster)];
    if machine.spec.role == MachineRole::Worker {
        needed.push(ObjectRef::new(Kind::WorkerGroup, &machine.metadata.namespace, &machine.spec.group));
    }
    for needed in needed {
        if !commit.iter().any(|decision| decision.object_ref() == needed) {
            findings.add("Precondition", &object, format!("its commit does not stand on {needed}"));
        }
    }
}
