//! How far machines of a kind stay from each other.

use std::collections::BTreeMap;

use super::packer::{HostNumber, Packer};

/// The machines that a new one keeps away from, and how many may be together.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Host → machines there.
    pub hosts: BTreeMap<HostNumber, u32>,
    /// A host that has so many takes no more.
    pub host_limit: u32,
    /// The same of a rack.
    pub rack_limit: u32,
    /// The same of a zone.
    pub zone_limit: u32,
}

impl Default for Peers {
    fn default() -> Self {
        Peers { hosts: BTreeMap::new(), host_limit: u32::MAX, rack_limit: u32::MAX, zone_limit: u32::MAX }
    }
}

/// Machines by host, rack and zone. Few: they are searched from end to end.
pub(crate) struct Counts {
    pub(crate) hosts: Vec<(HostNumber, u32)>,
    racks: Vec<(u32, u32)>,
    zones: Vec<(u32, u32)>,
}

fn count(list: &[(u32, u32)], of: u32) -> u32 {
    list.iter().find(|(number, _)| *number == of).map_or(0, |(_, count)| *count)
}

fn add(list: &mut Vec<(u32, u32)>, of: u32, count: u32) {
    match list.iter_mut().find(|(number, _)| *number == of) {
        Some((_, sum)) => *sum += count,
        None => list.push((of, count)),
    }
}

impl Counts {
    pub(crate) fn on_host(&self, host: HostNumber) -> u32 {
        count(&self.hosts, host)
    }
    pub(crate) fn in_rack(&self, rack: u32) -> u32 {
        count(&self.racks, rack)
    }
    pub(crate) fn in_zone(&self, zone: u32) -> u32 {
        count(&self.zones, zone)
    }
}

impl Peers {
    pub(crate) fn counts(&self, packer: &Packer) -> Counts {
        let mut counts = Counts { hosts: Vec::new(), racks: Vec::new(), zones: Vec::new() };
        for (host, machines) in &self.hosts {
            let (rack, zone) = packer.place_of(*host);
            counts.hosts.push((*host, *machines));
            add(&mut counts.racks, rack, *machines);
            add(&mut counts.zones, zone, *machines);
        }
        counts
    }
}

/// The least limit with which so many machines find a place, if each place takes at most its capacity; none if they
/// find no place at all.
pub(crate) fn least_limit(machines: u32, capacities: impl Iterator<Item = u32> + Clone) -> Option<u32> {
    (1..=machines).find(|limit| {
        let places: u64 = capacities.clone().map(|capacity| u64::from(capacity.min(*limit))).sum();
        places >= u64::from(machines)
    })
}

#[cfg(test)]
mod tests {
    use super::least_limit;

    #[test]
    fn limits_are_as_strict_as_the_places_allow() {
        for (machines, capacities, limit) in [
            (3, vec![5, 5, 5], Some(1)),
            (3, vec![5, 5], Some(2)),
            (5, vec![9, 9, 9], Some(2)),
            (5, vec![1, 9, 9], Some(2)),
            (5, vec![1, 9], Some(4)),
            (5, vec![1, 1], None),
            (1, vec![1], Some(1)),
            (3, vec![], None),
        ] {
            assert_eq!(
                least_limit(machines, capacities.iter().copied()),
                limit,
                "{machines} on {capacities:?}"
            );
        }
    }
}
