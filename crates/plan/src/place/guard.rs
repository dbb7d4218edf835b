//! `admission: n+1`: any one host may die, and its machines find room on the others.
//!
//! For each host that has machines the guard keeps a *witness*: where each of them would go. A witness that stands is a
//! proof. Placing a machine touches the witnesses that count on its host, and the host's own; only these are made anew,
//! and only where they do not stand any more. Room is all that counts here: after a death, rules about distance give
//! way to what there is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::packer::{Claim, HostNumber, PackedHost};
use super::room::{Demand, Room};

/// Where each machine of one host would go.
#[derive(Clone, Debug, Default)]
struct Witness {
    /// Host → what would come there.
    targets: BTreeMap<HostNumber, Vec<Demand>>,
}

/// Proofs for all hosts. A copy shares what does not change after it: each new control plane is tried as a whole, and the
/// state before comes back, which must not cost a copy of every proof in the pool.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// By host; none if its machines would not find room.
    witnesses: Vec<Option<Arc<Witness>>>,
    /// By host: the hosts whose witnesses count on it.
    counted_on_by: Vec<Arc<BTreeSet<HostNumber>>>,
    /// Open hosts by ordinary memory that is left.
    by_memory: BTreeSet<(i64, HostNumber)>,
    /// Hosts whose machines would not find room.
    broken: BTreeSet<HostNumber>,
    /// Witnesses that a claim changes, between `take` and `taken`.
    pending: Vec<(HostNumber, Option<Witness>)>,
}

/// Takes the demand if it fits.
fn try_take(room: &mut Room, demand: &Demand) -> bool {
    if room.fits(demand, 0).is_err() {
        return false;
    }
    let nodes = if demand.nodes > 0 { room.choose_nodes(demand) } else { Vec::new() };
    room.take(demand, &nodes);
    true
}

/// A host's room after so many demands; none if they do not fit together.
fn room_after<'d>(room: &Room, demands: impl Iterator<Item = &'d Demand>) -> Option<Room> {
    let mut room = room.clone();
    for demand in demands {
        if !try_take(&mut room, demand) {
            return None;
        }
    }
    Some(room)
}

impl Guard {
    pub(crate) fn new(hosts: &[PackedHost]) -> Self {
        let mut guard = Guard {
            witnesses: vec![Some(Arc::default()); hosts.len()],
            counted_on_by: vec![Arc::default(); hosts.len()],
            by_memory: BTreeSet::new(),
            broken: BTreeSet::new(),
            pending: Vec::new(),
        };
        for (number, host) in numbered(hosts) {
            if host.is_open {
                guard.by_memory.insert((host.room.memory_mib, number));
            }
        }
        for (number, host) in numbered(hosts) {
            if !host.claims.is_empty() {
                let witness = guard.witness(hosts, number, None);
                guard.set(number, witness);
            }
        }
        guard
    }

    /// Some host may not die even now.
    pub(crate) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Whether any one host may still die once the demand is on the host; else which may not.
    pub(crate) fn admits(
        &self,
        hosts: &[PackedHost],
        host: HostNumber,
        demand: &Demand,
    ) -> Result<(), HostNumber> {
        if let Some(broken) = self.broken.first() {
            return Err(*broken);
        }
        self.changes(hosts, host, demand).map(|_| ())
    }

    /// The witnesses that have to be made anew for the demand to come to the host, or the first that cannot.
    fn changes(
        &self,
        hosts: &[PackedHost],
        host: HostNumber,
        demand: &Demand,
    ) -> Result<Vec<(HostNumber, Witness)>, HostNumber> {
        let new = Some((host, demand));
        let mut changes = Vec::new();
        let after = room_after(&hosts[host as usize].room, std::iter::once(demand)).ok_or(host)?;
        for other in self.counted_on_by[host as usize].iter() {
            let Some(witness) = &self.witnesses[*other as usize] else { continue };
            let comes = witness.targets.get(&host).into_iter().flatten();
            if room_after(&after, comes).is_none() {
                changes.push((*other, self.witness(hosts, *other, new).ok_or(*other)?));
            }
        }
        let own = match &self.witnesses[host as usize] {
            Some(witness) => self.extended(hosts, host, witness, demand),
            None => None,
        };
        let own = own.or_else(|| self.witness(hosts, host, new)).ok_or(host)?;
        changes.push((host, own));
        Ok(changes)
    }

    /// The witness with one machine more, if it fits beside the others.
    fn extended(
        &self,
        hosts: &[PackedHost],
        dies: HostNumber,
        witness: &Witness,
        demand: &Demand,
    ) -> Option<Witness> {
        // The emptiest hosts will do, or the witness is made anew.
        let target =
            self.by_memory.iter().rev().map(|(_, host)| *host).filter(|host| *host != dies).take(4).find(
                |target| {
                    let there = witness.targets.get(target).into_iter().flatten();
                    room_after(&hosts[*target as usize].room, there.chain(std::iter::once(demand))).is_some()
                },
            )?;
        let mut witness = witness.clone();
        witness.targets.entry(target).or_default().push(demand.clone());
        Some(witness)
    }

    /// Finds room for all machines of a host that dies, with a new machine beside those that are there.
    fn witness(
        &self,
        hosts: &[PackedHost],
        dies: HostNumber,
        new: Option<(HostNumber, &Demand)>,
    ) -> Option<Witness> {
        let mut demands: Vec<&Demand> =
            hosts[dies as usize].claims.values().map(|claim| &claim.demand).collect();
        let mut rooms: BTreeMap<HostNumber, Room> = BTreeMap::new();
        if let Some((host, demand)) = new {
            if host == dies {
                demands.push(demand);
            } else {
                rooms.insert(host, room_after(&hosts[host as usize].room, std::iter::once(demand))?);
            }
        }
        // The biggest first: the small ones fit into what is left.
        demands
            .sort_by_key(|demand| Reverse((demand.memory_mib, demand.vcpus, demand.nodes, demand.disk_mib)));
        let emptiest = self.by_memory.iter().rev();
        fill(hosts, dies, &demands, rooms.clone(), emptiest).or_else(|| {
            let fullest = self.by_memory.iter();
            fill(hosts, dies, &demands, rooms, fullest)
        })
    }

    fn set(&mut self, host: HostNumber, witness: Option<Witness>) {
        if let Some(old) = self.witnesses[host as usize].take() {
            for target in old.targets.keys() {
                Arc::make_mut(&mut self.counted_on_by[*target as usize]).remove(&host);
            }
        }
        match &witness {
            Some(new) => {
                for target in new.targets.keys() {
                    Arc::make_mut(&mut self.counted_on_by[*target as usize]).insert(host);
                }
                self.broken.remove(&host);
            }
            None => _ = self.broken.insert(host),
        }
        self.witnesses[host as usize] = witness.map(Arc::new);
    }

    /// A claim is about to be taken.
    pub(crate) fn take(&mut self, hosts: &[PackedHost], host: HostNumber, claim: &Claim) {
        self.pending = match self.changes(hosts, host, &claim.demand) {
            Ok(changes) => changes.into_iter().map(|(host, witness)| (host, Some(witness))).collect(),
            Err(broken) => vec![(broken, None)],
        };
        self.by_memory.remove(&(hosts[host as usize].room.memory_mib, host));
    }

    /// The claim has been taken.
    pub(crate) fn taken(&mut self, hosts: &[PackedHost], host: HostNumber) {
        let entry = &hosts[host as usize];
        if entry.is_open {
            self.by_memory.insert((entry.room.memory_mib, host));
        }
        for (host, witness) in std::mem::take(&mut self.pending) {
            self.set(host, witness);
        }
    }
}

fn numbered(hosts: &[PackedHost]) -> impl Iterator<Item = (HostNumber, &PackedHost)> {
    hosts.iter().enumerate().map(|(number, host)| (u32::try_from(number).unwrap_or(u32::MAX), host))
}

/// Puts each demand on the first host in the order that still has room for it.
fn fill<'h>(
    hosts: &[PackedHost],
    dies: HostNumber,
    demands: &[&Demand],
    mut rooms: BTreeMap<HostNumber, Room>,
    order: impl Iterator<Item = &'h (i64, HostNumber)> + Clone,
) -> Option<Witness> {
    let mut witness = Witness::default();
    for demand in demands {
        let target = order.clone().map(|(_, host)| *host).filter(|host| *host != dies).find(|host| {
            match rooms.get_mut(host) {
                Some(room) => try_take(room, demand),
                None => {
                    let entry = &hosts[*host as usize];
                    if entry.room.fits(demand, 0).is_err() {
                        return false;
                    }
                    let mut room = entry.room.clone();
                    let fits = try_take(&mut room, demand);
                    rooms.insert(*host, room);
                    fits
                }
            }
        })?;
        witness.targets.entry(target).or_default().push((*demand).clone());
    }
    Some(witness)
}
