//! Asking whether an address is somebody else's before it is given out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use ashlar_api::{NamespacedName, Object, Resource};
use ashlar_plan::{Decision, Guard, Plan, Snapshot};
use futures::{StreamExt, stream::FuturesUnordered};

use crate::{Engine, EngineError, Scope, deadline::within, effects::MAX_ADDRESSES};

/// Plans in a row that may be given up because an address answered. A segment with so many strangers in the range
/// needs a person; the planner then goes on with what it has.
const ROUNDS: u32 = 8;

/// Network object and address.
type NetworkAddress = (String, Ipv4Addr);

/// What asking found out so far.
#[derive(Default)]
pub(crate) struct ForeignAddresses {
    answered: Mutex<BTreeSet<NetworkAddress>>,
    silent: Mutex<BTreeSet<NetworkAddress>>,
}

/// An address that a plan gives out, and where to ask.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    network: String,
    address: Ipv4Addr,
    bridge: String,
    host: String,
}

impl Engine {
    /// Plans with addresses that nobody answers for. An address that does is put into the snapshot, and it is planned
    /// again.
    pub(crate) async fn plan_with_free_addresses(
        &self,
        snapshot: &mut Snapshot,
        scope: &Scope,
    ) -> Result<Plan, EngineError> {
        let answered = self.foreign_addresses.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        snapshot.foreign_addresses.extend(answered);
        let mut plan = self.make_plan(snapshot)?;
        if !scope.asks_hosts() || !Guard::ForeignAddress.stands() {
            return Ok(plan);
        }
        for _ in 0..ROUNDS {
            let foreign = self.ask(snapshot, candidates(snapshot, &plan)).await;
            if foreign.is_empty() {
                break;
            }
            snapshot.foreign_addresses.extend(foreign);
            plan = self.make_plan(snapshot)?;
        }
        Ok(plan)
    }

    /// Which of the addresses answer. Each is asked about once, those of a host and bridge together: a session for each
    /// would keep a hundred new machines waiting. A host that cannot ask now does not hold anything up, since among our
    /// own machines the ledgers keep addresses apart.
    async fn ask(&self, snapshot: &Snapshot, candidates: BTreeSet<Candidate>) -> BTreeSet<NetworkAddress> {
        let silent = self.foreign_addresses.silent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut places: BTreeMap<(String, String), Vec<NetworkAddress>> = BTreeMap::new();
        for Candidate { network, address, bridge, host } in candidates {
            let key = (network, address);
            if !silent.contains(&key) {
                places.entry((host, bridge)).or_default().push(key);
            }
        }
        let mut asked: FuturesUnordered<_> = places
            .iter()
            .flat_map(|(place, keys)| keys.chunks(MAX_ADDRESSES).map(move |keys| (place, keys)))
            .map(|((host, bridge), keys)| self.ask_host(snapshot, host, bridge, keys))
            .collect();
        let mut foreign = BTreeSet::new();
        while let Some((keys, answered)) = asked.next().await {
            for key in keys {
                let answers = answered.contains(&key.1);
                let memory =
                    if answers { &self.foreign_addresses.answered } else { &self.foreign_addresses.silent };
                memory.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
                if answers {
                    foreign.insert(key.clone());
                }
            }
        }
        foreign
    }

    async fn ask_host<'k>(
        &self,
        snapshot: &Snapshot,
        host: &str,
        bridge: &str,
        keys: &'k [NetworkAddress],
    ) -> (&'k [NetworkAddress], BTreeSet<Ipv4Addr>) {
        let Some(host) = snapshot.hosts.get(host) else { return (keys, BTreeSet::new()) };
        let addresses: Vec<Ipv4Addr> = keys.iter().map(|(_, address)| *address).collect();
        let target = self.host_target(host);
        let what = format!("asking on host {} whether {} addresses are in use", target.name, addresses.len());
        let call = self.world.shell.addresses_answer(&target, bridge, &addresses);
        let limit = self.settings.observe_deadline;
        let answered = within(self.world.clock.as_ref(), limit, &what, call).await.unwrap_or_else(|error| {
            tracing::debug!(%error, ?addresses, "nobody could be asked about addresses");
            BTreeSet::new()
        });
        (keys, answered)
    }
}

/// Addresses that the plan gives out: of new machines, and of endpoints that were just chosen. An endpoint is asked
/// about from a host of one of its cluster's new machines.
fn candidates(snapshot: &Snapshot, plan: &Plan) -> BTreeSet<Candidate> {
    let mut candidates = BTreeSet::new();
    let mut clusters: BTreeMap<NamespacedName, NetworkAddress> = BTreeMap::new();
    for decision in plan.decisions.iter().flatten() {
        match decision {
            Decision::Create(Object::Cluster(cluster)) | Decision::Update(Object::Cluster(cluster)) => {
                let known =
                    snapshot.clusters.get(&cluster.key()).and_then(|old| old.record.endpoint.as_ref());
                if let (None, Some(endpoint)) = (known, &cluster.record.endpoint) {
                    clusters.insert(cluster.key(), (cluster.spec.network.clone(), endpoint.address));
                }
            }
            _ => {}
        }
    }
    for machine in plan.decisions.iter().flatten().filter_map(new_machine) {
        let cluster = NamespacedName::new(&machine.metadata.namespace, &machine.spec.cluster);
        for nic in &machine.spec.nics {
            let candidate = |network: &str, address| Candidate {
                network: network.to_owned(),
                address,
                bridge: nic.bridge.clone(),
                host: machine.spec.host.clone(),
            };
            candidates.insert(candidate(&nic.network, nic.address.addr()));
            let endpoint = clusters.get(&cluster).filter(|(network, _)| *network == nic.network);
            candidates.extend(endpoint.map(|(network, address)| candidate(network, *address)));
        }
    }
    candidates
}

fn new_machine(decision: &Decision) -> Option<&Resource<ashlar_api::MachineSpec>> {
    match decision {
        Decision::Create(Object::Machine(machine)) => Some(machine),
        _ => None,
    }
}
